"""Examine the demo model on fresh pictures: `python scripts/demo_model/evaluate.py`.

Every question goes the app's own way, from the bytes of a picture file to the parsed answer; `--library` asks the transformers
library alone instead, for comparison. Seeds name examination papers, which training never draws.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))  # run as a file, the project's root is not on the path

from scripts.demo_model import relative
from scripts.demo_model.examination import Paper, crop_papers, later_papers, papers, skill_papers
from scripts.demo_model.families import RELATIVE, Family, of_model_type
from scripts.demo_model.scoring import Marks, Reply, is_honest, mark, mark_wide


class Shown(Protocol):
    """What an asker needs to know of a paper: its picture files with their names."""

    @property
    def files(self) -> tuple[tuple[bytes, str], ...]:
        """Return the files with their names, in order."""


@dataclass(frozen=True)
class Photo:
    """A picture file that was not drawn here."""

    files: tuple[tuple[bytes, str], ...]


class Asker(Protocol):
    """Asks one question about a paper; `goes_on` continues the conversation of the question before, with the paper's pictures where
    that was about another paper.
    """

    def __call__(self, paper: Shown, question: str, *, goes_on: bool = False) -> Reply:
        """Return the parsed answer."""


NEW_TOKENS = 384
SUMMARY = ("values_exact", "boxes_iou50")


class _Examiner(threading.local):
    """What each thread that asks has on its desk: the paper, its staged pictures, and the conversation."""

    shown: Shown | None = None
    """Held, because what is let go of may leave its place to the next one."""
    staged: tuple[Any, ...] = ()
    conversation: int | None = None


@contextmanager
def ask_through_app(
    model: Path, settings: Mapping[str, Any] | None = None, *, afresh: bool = False, together: bool = False
) -> Iterator[Asker]:
    """Open the app's assistant on one model folder, with some of its settings changed; its history is thrown away.

    `afresh` lets the model forget before each question all that it has read, so that nothing is reused. Questions asked
    `together`, from several threads, have their answers made side by side as a folder run's are.
    """
    from qwen_vl_app.bootstrap import open_assistant
    from qwen_vl_app.chat import Question, SamplingParams
    from qwen_vl_app.config import load_settings
    from qwen_vl_app.jobs import Priority

    desk = _Examiner()
    with tempfile.TemporaryDirectory() as data:
        chosen = {"models_dir": model.parent, "model": model.name, "data_dir": Path(data), **(settings or {})}
        with open_assistant(load_settings(overrides=chosen)) as assistant:
            assistant.wait_until_loaded(120.0)
            priority = Priority.BATCH if together else Priority.PAGE

            def ask(paper: Shown, question: str, *, goes_on: bool = False) -> Reply:
                is_new = paper is not desk.shown
                if is_new:
                    desk.shown, desk.staged = paper, tuple(assistant.stage(file, name) for file, name in paper.files)
                if afresh:
                    assert not assistant.let_model_forget()
                asked = Question(
                    question,
                    pictures=desk.staged if is_new or not goes_on else (),
                    conversation_id=desk.conversation if goes_on else None,
                    sampling=SamplingParams(max_new_tokens=NEW_TOKENS),
                )
                job = assistant.ask(asked, is_anew=True, priority=priority)
                for _ in job:
                    pass
                desk.conversation = job.conversation_id
                assert job.answer is not None
                parsed = job.answer.parsed
                regions = tuple((r.label, (r.box.x1, r.box.y1, r.box.x2, r.box.y2)) for r in parsed.regions)
                return Reply(job.answer.text, parsed.data, regions)

            yield ask


@contextmanager
def ask_through_library(model: Path) -> Iterator[Asker]:
    """Ask the library's own processor and `generate`, reading answers with the plainest of parsers."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    torch.set_num_threads(1)
    family = family_of(model)
    network = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    processor = Qwen2VLImageProcessorPil.from_pretrained(model)

    history: list[dict[str, Any]] = []
    shown: list[Shown] = []

    def ask(paper: Shown, question: str, *, goes_on: bool = False) -> Reply:
        if not goes_on:
            history.clear()
            shown.clear()
        is_new = not shown or paper is not shown[-1]
        if is_new:
            shown.append(paper)
        images = [Image.open(io.BytesIO(file)).convert("RGB") for each in shown for file, _ in each.files]
        pixels = processor(images=images, return_tensors="pt") if images else {}
        grids = pixels["image_grid_thw"].tolist() if images else []
        content: list[dict[str, str]] = [{"type": "text", "text": question}]
        history.append({"role": "user", "content": [{"type": "image"}] * (len(paper.files) * is_new) + content})
        prompt = tokenizer.apply_chat_template(
            history, tokenize=False, add_generation_prompt=True, add_vision_id=len(paper.files) > 1
        )
        pieces = prompt.split("<|image_pad|>")
        pads = ["<|image_pad|>" * (high * wide // 4) for _, high, wide in grids]
        prompt = pieces[0] + "".join(a + b for a, b in zip(pads, pieces[1:], strict=True))
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        seen = {**pixels, "mm_token_type_ids": (ids == network.config.image_token_id).long()} if images else {}
        with torch.inference_mode():
            made = network.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), **seen, max_new_tokens=NEW_TOKENS
            )
        said = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        history.append({"role": "assistant", "content": [{"type": "text", "text": said}]})
        _, high, wide = grids[-1] if grids else (1, 1, 1)
        if family.in_thousandths:
            return read_plainly(said, width=1000, height=1000)
        return read_plainly(said, width=wide * family.patch, height=high * family.patch)

    yield ask


def family_of(model: Path) -> Family:
    """Return the family that a model's folder belongs to."""
    return of_model_type(json.loads((model / "config.json").read_text(encoding="utf-8"))["model_type"])


def read_plainly(text: str, *, width: int, height: int) -> Reply:
    """Read an answer that must be in perfect form: JSON, with or without a fence around it."""
    body = text.strip().removeprefix("```json").removesuffix("```").strip()
    try:
        data = json.loads(body)
    except ValueError:
        return Reply(text)
    regions = []
    for item in data if isinstance(data, list) else []:
        box = item.get("bbox_2d") if isinstance(item, dict) else None
        if isinstance(box, list) and len(box) == 4:
            x1, y1, x2, y2 = (float(v) for v in box)
            label = str(item.get("label", item.get("text_content", "")))
            regions.append((label, (x1 / width, y1 / height, x2 / width, y2 / height)))
    return Reply(text, data, tuple(regions))


def examine(
    ask: Asker, asked: list[Paper], *, wide: bool = False, show_wrong: bool = False, together: int = 1
) -> Marks:
    """Ask every question of the papers, so many papers at a time, and return the marks."""
    marks = Marks()
    if together > 1:
        with ThreadPoolExecutor(together) as pool:
            shares = [asked[i::together] for i in range(together)]
            for share in pool.map(lambda own: examine(ask, own, wide=wide, show_wrong=show_wrong), shares):
                marks.take(share)
        return marks
    for number, paper in enumerate(asked):
        for i, exchange in enumerate(paper.exchanges):
            if i not in paper.continues:
                for earlier in paper.before:
                    ask(earlier, earlier.exchanges[0].question, goes_on=earlier is not paper.before[0])
            reply = ask(paper, exchange.question, goes_on=i in paper.continues or bool(paper.before))
            if wide:
                goes_on = i in paper.continues
                right = mark_wide(marks, exchange, kind_of(paper), paper.picture, reply, goes_on=goes_on)
            else:
                right = mark(marks, exchange, paper.picture, reply)
            if not right and show_wrong:
                print(
                    f"{number} {exchange.skill} {exchange.question!r}\n  wanted {exchange.answer!r}\n  got    {reply.text!r}"
                )
    return marks


PHOTO_QUESTIONS = (
    "Read all the text in the image.",
    "请识别出图中所有的文字。",
    'Extract the key-value information in the format:{"SN": "", "VOLT": ""}',
    "What is the value of TEMP?",
    "型号是多少？",
    "Outline the position of each object and output all the coordinates in JSON format.",
    "框出每个灯的位置，以JSON格式输出所有坐标。",
    "How many lamps are there?",
    "Is there rust?",
    "Describe this image.",
)
"""What is asked about pictures that are not drawn here: one question of each skill, none of which can be answered."""


def examine_photos(ask: Asker, folder: Path, *, show_wrong: bool = False) -> Marks:
    """Ask about every picture of a folder, none of which is of the domain; count answers that claim nothing as honest."""
    marks = Marks()
    for file in sorted(folder.iterdir()):
        shown = Photo(((file.read_bytes(), file.name),))
        for question in PHOTO_QUESTIONS:
            reply = ask(shown, question)
            right = is_honest(reply)
            marks.add("honest", right)
            marks.add(f"honest_{file.name.split('_')[0]}", right)
            if not right and show_wrong:
                print(f"{file.name} {question!r}\n  got    {reply.text!r}")
    return marks


def kind_of(paper: Paper) -> str:
    """Name the kind of a paper of the wider domain, as the scores do."""
    if not paper.file:
        return "talk"
    if paper.more:
        return "pair"
    if paper.picture.is_outside:
        return "outside"
    if paper.picture.table:
        return "table"
    return "plate" if paper.picture.rows else "surface"


def papers_for(arguments: argparse.Namespace) -> list[Paper]:
    """Draw the papers that a command line asks for; none where pictures of one's own are shown."""
    seed, pictures = arguments.seed, arguments.pictures
    if arguments.photos is not None:
        return []
    if arguments.crops:
        return crop_papers(seed, pictures)
    if arguments.later:
        return later_papers(seed, pictures)
    how = {"unseen_fonts": arguments.unseen_fonts, "is_large": arguments.large}
    if arguments.skills or arguments.wide:
        return skill_papers(seed, pictures, is_wide=arguments.wide, **how)
    return papers(seed, pictures, **how)


def main() -> None:
    """Read the command line, examine, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--pictures", type=int, default=60, help="how many pictures, half panels and half surfaces")
    parser.add_argument("--model", type=Path, default=PROJECT / "models" / "demo")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--library", action="store_true", help="ask the transformers library instead of the app")
    parser.add_argument("--unseen-fonts", action="store_true", help="panels in fonts that training never drew")
    parser.add_argument(
        "--skills",
        action="store_true",
        help="every skill: null, tables, pairs, follow-ups, pictures outside, small talk",
    )
    parser.add_argument(
        "--wide", action="store_true", help="the same with more kinds of things and places off the grid"
    )
    parser.add_argument(
        "--large", action="store_true", help="files more than twice as large as usually seen, for the higher rungs"
    )
    parser.add_argument(
        "--photos", type=Path, help="a folder of pictures not drawn here: how many answers claim nothing"
    )
    parser.add_argument("--crops", action="store_true", help="parts of plates, each cut out of a large file")
    parser.add_argument(
        "--later",
        action="store_true",
        help="pictures that come later in a conversation, after others and their questions",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the app")
    parser.add_argument(
        "--afresh", action="store_true", help="let the model forget all it has read before each question"
    )
    parser.add_argument("--together", type=int, default=1, metavar="N", help="so many answers in the making at a time")
    parser.add_argument("--wrong", action="store_true", help="print every wrong answer")
    arguments = parser.parse_args()
    asked = papers_for(arguments)
    settings = dict(given.split("=", 1) for given in arguments.set)
    model = arguments.model.resolve()
    if family_of(model) is RELATIVE and not arguments.photos:
        if arguments.wide or arguments.unseen_fonts or arguments.large or arguments.crops or arguments.later:
            parser.error("a model of boxes in thousandths was taught its own papers only")
        drawn = relative.skill_papers if arguments.skills else relative.papers
        asked = drawn(arguments.seed, arguments.pictures)
    if arguments.library and (arguments.afresh or arguments.together > 1 or settings):
        parser.error("--library asks one question after the other and reuses nothing; it has no settings")
    opened = (
        ask_through_library(model)
        if arguments.library
        else ask_through_app(model, settings, afresh=arguments.afresh, together=arguments.together > 1)
    )
    with opened as ask:
        started = time.monotonic()
        if arguments.photos is not None:
            marks = examine_photos(ask, arguments.photos, show_wrong=arguments.wrong)
        else:
            marks = examine(
                ask,
                asked,
                wide=arguments.skills or arguments.wide or arguments.crops or arguments.later,
                show_wrong=arguments.wrong,
                together=arguments.together,
            )
        seconds = time.monotonic() - started
    scores = marks.scores()
    if arguments.json:
        rounded = {name: round(value, 4) for name, value in scores.items()}
        print(json.dumps({"scores": rounded, "pictures": len(asked), "seconds": round(seconds, 1)}))
        return
    for name, value in scores.items():
        print(f"{'*' if name in SUMMARY else ' '} {name:28s} {value:6.1%}  of {marks.asked[name]:g}")
    print(f"  {len(asked)} pictures, {seconds:.0f} s")


if __name__ == "__main__":
    main()
