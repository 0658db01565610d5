"""Write the known answers that come with the model: `python scripts/demo_model/known.py`.

It takes the sample pictures, whose answers `samples.py` held against their truth, and draws one more small picture for each skill that
no sample shows. What an answer must hold is the picture's truth: boxes as fractions, JSON as data, everything else as text. A picture
that the model reads wrongly is drawn again from the next number: the list says what this model can be held to on every machine, not
how often it is right, which is `evaluate.py`'s. `doctor` and the tests run it through `qwen_vl_app/known_answers.py`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))  # run as a file, the project's root is not on the path

import numpy as np

from qwen_vl_app.known_answers import LISTING
from scripts.demo_model import cell_plates, outside, panels, scenes, wide_questions
from scripts.demo_model.curriculum import Split, generator
from scripts.demo_model.drawing import Picture
from scripts.demo_model.evaluate import Asker, Photo, ask_through_app
from scripts.demo_model.phrases import LANGUAGES, Language
from scripts.demo_model.questions import Exchange
from scripts.demo_model.scoring import Marks, Reply, mark_wide

TRIES = 60
FOLDER = "known"
Pictures = tuple[Picture, ...]


@dataclass(frozen=True)
class Known:
    """One more thing that is known: `draw` makes the pictures of a try, `ask` finds the question, in the words given, and its answer."""

    name: str
    draw: Callable[[np.random.Generator], Pictures]
    ask: Callable[[np.random.Generator, Pictures, Language], Exchange]
    question: dict[Language, str]


def _plate(*texts: tuple[str, str]) -> Callable[[np.random.Generator], Pictures]:
    return lambda rng: (cell_plates.draw_cell_panel(rng, panels.COLUMNS, panels.LINES, worn=False, fixed=texts),)


def _two_plates(rng: np.random.Generator) -> Pictures:
    drawn = [
        cell_plates.draw_cell_panel(
            rng, panels.COLUMNS, panels.LINES, worn=False, fixed=(("TEMP", value), ("BAR", "6.3"))
        )
        for value in ("68.4", "71.2")
    ]
    return tuple(drawn)


def _table(rng: np.random.Generator) -> Pictures:
    return (cell_plates.draw_cell_table(rng, panels.COLUMNS, panels.LINES, worn=False),)


def _surface(rng: np.random.Generator) -> Pictures:
    return (scenes.draw_scene(rng, things=2, worn=False),)


def _outside(rng: np.random.Generator) -> Pictures:
    return (outside.draw_outside(rng, panels.COLUMNS, panels.LINES),)


def _wanting(answers: Callable[[Exchange], bool], ask: Callable[..., Exchange]) -> Callable[..., Exchange]:
    """Return an asker that goes on asking until the exchange is one of those that are meant."""

    def found(rng: np.random.Generator, pictures: Pictures, language: Language) -> Exchange:
        while True:
            exchange = ask(rng, pictures[0], language)
            if answers(exchange):
                return exchange

    return found


def _difference(rng: np.random.Generator, pictures: Pictures, language: Language) -> Exchange:
    while True:
        for exchange in wide_questions.about_two(rng, (pictures[0], pictures[1])):
            if exchange.skill == "difference" and exchange.language == language:
                return exchange


def _first(ask: Callable[..., Exchange]) -> Callable[..., Exchange]:
    return lambda rng, pictures, language: ask(rng, pictures[0], language)


TAGS = (("TAG", "P-204"), ("FLOW", "12.5"))
KNOWN = (
    Known(
        "a field that is not there",
        _plate(*TAGS),
        _wanting(lambda e: e.answer == '{"TAG": "P-204", "MASS": null}', wide_questions.fields_as_json),
        {
            "en": 'Extract the key-value information in the format:{"TAG": "", "MASS": ""}',
            "zh": "提取图中的：['TAG','MASS']，并且按照json格式输出。",
        },
    ),
    Known(
        "one value that is not there",
        _plate(*TAGS),
        _wanting(lambda e: e.subject == "MASS", wide_questions.one_field),
        {"en": "What is the value of MASS?", "zh": "MASS的值是多少？"},
    ),
    Known(
        "lines with their boxes",
        _plate(*TAGS),
        _first(wide_questions.spot),
        {
            "en": "Spotting all the text in the image with line-level, and output in JSON format.",
            "zh": "检测图中所有的文字行，以JSON格式输出坐标。",
        },
    ),
    Known(
        "a table",
        _table,
        _first(wide_questions.as_markdown),
        {"en": "Extract the table in the image as a Markdown table.", "zh": "提取图中的表格，以Markdown表格输出。"},
    ),
    Known(
        "nothing found",
        _surface,
        _wanting(lambda e: e.subject == "screw", wide_questions.detect_kind),
        {
            "en": "Outline the position of each screw and output all the coordinates in JSON format.",
            "zh": "框出每个螺丝的位置，以JSON格式输出所有坐标。",
        },
    ),
    Known(
        "a description",
        _surface,
        _first(wide_questions.describe),
        {"en": "Describe this image.", "zh": "描述这张图片。"},
    ),
    Known(
        "two pictures",
        _two_plates,
        _difference,
        {
            "en": "Compare Picture 1 and Picture 2. List what is the same and what is different, one point a line.",
            "zh": "比较图1和图2，逐条列出相同之处和不同之处。",
        },
    ),
    Known(
        "a picture that it cannot read",
        _outside,
        _first(wide_questions.read_all),
        {"en": "Read all the text in the image.", "zh": "请识别出图中所有的文字。"},
    ),
    Known(
        "no picture",
        lambda rng: (),
        lambda rng, pictures, language: wide_questions.about(rng, language),
        {"en": "Who are you?", "zh": "你是谁？"},
    ),
)


def wanted(exchange: Exchange, pictures: Pictures) -> dict[str, Any]:
    """Return what the answer to an exchange must hold."""
    body = exchange.answer.removeprefix("```json").removesuffix("```").strip()
    if body[:1] == "{" or body == "[]":
        return {"data": json.loads(body)}
    if body[:1] != "[":
        return {"text": exchange.answer}
    width, height = pictures[0].image.size
    boxes = []
    for each in json.loads(body):
        corners = [round(v / s, 5) for v, s in zip(each["bbox_2d"], (width, height, width, height), strict=True)]
        boxes.append({"label": each.get("label", each.get("text_content")), "box": corners})
    return {"boxes": boxes}


def _files(pictures: Pictures, name: str) -> tuple[tuple[bytes, str], ...]:
    files = []
    for number, picture in enumerate(pictures, 1):
        buffer = io.BytesIO()
        picture.image.save(buffer, "PNG", optimize=True)
        files.append((buffer.getvalue(), f"{name.replace(' ', '-').lower()}-{number}.png"))
    return tuple(files)


def drawn_entries(folder: Path, ask: Asker, known: Known) -> list[dict[str, Any]]:
    """Draw until the model is right in both languages, write the pictures and return the entries. Raises ValueError if it never is."""
    for attempt in range(TRIES):
        rng = generator(Split.SAMPLES, 1000 + KNOWN.index(known), attempt)
        pictures = known.draw(rng)
        files = _files(pictures, known.name)
        made = []
        for language in LANGUAGES:
            exchange = known.ask(rng, pictures, language)
            reply = ask(Photo(files), known.question[language])
            picture = pictures[0] if pictures else scenes.draw_scene(rng)
            if not mark_wide(Marks(), exchange, "known", picture, reply):
                break
            made.append(
                {
                    "name": f"{known.name} ({language})",
                    "pictures": [f"{FOLDER}/{name}" for _, name in files],
                    "question": known.question[language],
                    "answer": wanted(exchange, pictures),
                }
            )
        if len(made) == len(LANGUAGES):
            for data, name in files:
                (folder / FOLDER / name).write_bytes(data)
            return made
    raise ValueError(known.name)


def sample_entries(folder: Path, ask: Asker) -> list[dict[str, Any]]:
    """Return an entry for each sample and language. Raises ValueError for a sample that is not answered as it says."""
    made = []
    listing = folder / "samples" / "samples.json"
    for sample in json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else []:
        shown = Photo((((folder / "samples" / sample["file"]).read_bytes(), sample["file"]),))
        for language, question in sample["question"].items():
            reply = ask(shown, question)
            if reply.text.strip() != sample["answer"][language]:
                raise ValueError(f"{sample['file']}: {reply.text!r}")
            made.append(
                {
                    "name": f"{Path(sample['file']).stem} ({language})",
                    "pictures": [f"samples/{sample['file']}"],
                    "question": question,
                    "answer": _held(reply),
                }
            )
    return made


def _held(reply: Reply) -> dict[str, Any]:
    if reply.regions:
        return {"boxes": [{"label": label, "box": [round(v, 5) for v in box]} for label, box in reply.regions]}
    return {"data": reply.data} if isinstance(reply.data, dict | list) else {"text": reply.text.strip()}


def main() -> None:
    """Read the command line, draw, ask and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=PROJECT / "models" / "demo")
    parser.add_argument(
        "--leave-out", action="store_true", help="leave out what the model never gets right, and say so"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.model.resolve()
    (folder / FOLDER).mkdir(exist_ok=True)
    with ask_through_app(folder) as ask:
        entries = sample_entries(folder, ask)
        for known in KNOWN:
            try:
                entries += drawn_entries(folder, ask, known)
            except ValueError:
                if not arguments.leave_out:
                    raise
                print(f"left out: {known.name}")
    (folder / LISTING).write_text(json.dumps(entries, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
