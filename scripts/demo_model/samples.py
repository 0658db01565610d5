"""Draw the sample pictures that a newcomer tries first: `python scripts/demo_model/samples.py`.

Every sample is drawn large enough to look at, asked in both languages the way `evaluate.py` asks, and kept only when both answers are
right. It knows which samples make a good first impression, and nothing of how they are answered.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))  # run as a file, the project's root is not on the path

from scripts.demo_model import panels, questions, scenes
from scripts.demo_model.curriculum import Split, generator
from scripts.demo_model.drawing import Picture
from scripts.demo_model.evaluate import Asker, ask_through_app, ask_through_library
from scripts.demo_model.examination import Paper
from scripts.demo_model.phrases import LANGUAGES, Language
from scripts.demo_model.questions import Exchange
from scripts.demo_model.scoring import Marks, mark

SCALE = 3.0
TRIES = 200
Titles = dict[Language, str]
Sentences = dict[Language, str]


@dataclass(frozen=True)
class Sample:
    """What one sample shows and asks. `draw` makes the picture of a try, `ask` its exchange in a language."""

    name: str
    title: Titles
    question: Sentences
    draw: Callable[[int], Picture]
    ask: Callable[[Picture, Language], Exchange]


def _panel(number: int, texts: tuple[tuple[str, str], ...]) -> Callable[[int], Picture]:
    return lambda attempt: panels.draw_panel(
        generator(Split.SAMPLES, number, attempt), rows=len(texts), scale=SCALE, worn=False, texts=texts
    )


def _scene(number: int, wanted: tuple[str, ...]) -> Callable[[int], Picture]:
    """Draw surfaces until one holds exactly the wanted kinds."""

    def draw(attempt: int) -> Picture:
        index = attempt * 1000
        while True:
            picture = scenes.draw_scene(
                generator(Split.SAMPLES, number, index), things=len(wanted), scale=SCALE, worn=False
            )
            if sorted(t.kind for t in picture.things) == sorted(wanted):
                return picture
            index += 1

    return draw


def _field(label: str) -> Callable[[Picture, Language], Exchange]:
    return lambda p, language: questions.one_field(
        generator(Split.SAMPLES, 0, 0), next(r for r in p.rows if r.label == label), language
    )


def _row(label: str) -> Callable[[Picture, Language], Exchange]:
    return lambda p, language: questions.row_box(
        generator(Split.SAMPLES, 0, 0), next(r for r in p.rows if r.label == label), language
    )


def _with_rng(ask: Callable[..., Exchange], *more: object) -> Callable[[Picture, Language], Exchange]:
    return lambda p, language: ask(generator(Split.SAMPLES, 0, 0), p, *more, language)


MOTOR = (("TYPE", "M3-90"), ("VOLT", "400"), ("KW", "7.5"), ("RPM", "1455"))
PUMP = (("TAG", "P-204"), ("FLOW", "12.5"), ("BAR", "6.3"))
BATCH = (("LOT", "A7K25"), ("QTY", "480"), ("DATE", "11-21"), ("REV", "C2"))
TANK = (("TANK", "T7"), ("TEMP", "68.4"), ("PH", "7.2"))

SAMPLES = (
    Sample(
        "motor-plate.png",
        {"en": "Read a motor nameplate", "zh": "读电机铭牌"},
        {"en": "Read all the text in the image.", "zh": "请识别出图中所有的文字。"},
        _panel(1, MOTOR),
        _with_rng(questions.read_all),
    ),
    Sample(
        "pump-panel.png",
        {"en": "Pump fields as JSON", "zh": "把泵的字段提取成 JSON"},
        {
            "en": 'Extract the key-value information in the format:{"TAG": "", "FLOW": "", "BAR": ""}',
            "zh": "提取图中的：['TAG','FLOW','BAR']，并且按照json格式输出。",
        },
        _panel(2, PUMP),
        _with_rng(questions.fields_as_json),
    ),
    Sample(
        "tank-panel.png",
        {"en": "Read one value", "zh": "读一个数值"},
        {"en": "What is the value of TEMP?", "zh": "TEMP的值是多少？"},
        _panel(3, TANK),
        _field("TEMP"),
    ),
    Sample(
        "batch-label.png",
        {"en": "Locate one line", "zh": "找出一行的位置"},
        {
            "en": "Outline the position of QTY and output all the coordinates in JSON format.",
            "zh": "框出QTY的位置，以JSON格式输出所有坐标。",
        },
        _panel(4, BATCH),
        _row("QTY"),
    ),
    Sample(
        "surface-inspection.png",
        {"en": "Find everything on a surface", "zh": "找出表面上的所有物体"},
        {
            "en": "Outline the position of each object and output all the coordinates in JSON format.",
            "zh": "框出每个物体的位置，以JSON格式输出所有坐标。",
        },
        _scene(5, ("lamp", "button", "rust", "scratch")),
        _with_rng(questions.detect_all),
    ),
    Sample(
        "two-lamps.png",
        {"en": "Box the lamps", "zh": "框出指示灯"},
        {
            "en": "Outline the position of each lamp and output all the coordinates in JSON format.",
            "zh": "框出每个灯的位置，以JSON格式输出所有坐标。",
        },
        _scene(6, ("lamp", "lamp", "button")),
        _with_rng(questions.detect_kind, "lamp"),
    ),
    Sample(
        "count-buttons.png",
        {"en": "Count the buttons", "zh": "数一数按钮"},
        {"en": "How many buttons are there?", "zh": "有几个按钮？"},
        _scene(7, ("button", "button", "button", "lamp")),
        _with_rng(questions.count, "button"),
    ),
    Sample(
        "rust-check.png",
        {"en": "Is there rust?", "zh": "有没有锈斑？"},
        {"en": "Is there rust?", "zh": "有没有锈斑？"},
        _scene(8, ("rust", "button")),
        _with_rng(questions.yes_no, "rust"),
    ),
)


def answered(sample: Sample, paper: Paper, ask: Asker) -> dict[Language, str] | None:
    """Return the model's answers in both languages; None when one of them is wrong, or a box is not close."""
    answers: dict[Language, str] = {}
    for language in LANGUAGES:
        exchange = sample.ask(paper.picture, language)
        reply = ask(paper, sample.question[language])
        marks = Marks()
        close = mark(marks, exchange, paper.picture, reply)
        is_exact = reply.text.strip() == exchange.answer.strip() or exchange.skill not in ("row_box", "detect_kind")
        if not close or not is_exact or marks.scores().get("detect_recall_iou75", 1.0) < 1.0:
            return None
        answers[language] = reply.text.strip()
    return answers


def draw_sample(sample: Sample, ask: Asker) -> tuple[bytes, dict[Language, str]]:
    """Draw tries of a sample until one is answered right in both languages. Raises ValueError when none is."""
    for attempt in range(TRIES):
        picture = sample.draw(attempt)
        buffer = io.BytesIO()
        picture.large.save(buffer, "PNG", optimize=True)
        answers = answered(sample, Paper(picture, buffer.getvalue(), sample.name, ()), ask)
        if answers is not None:
            return buffer.getvalue(), answers
    raise ValueError(sample.name)


def main() -> None:
    """Read the command line, draw, ask and write the samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=PROJECT / "models" / "demo")
    parser.add_argument("--library", action="store_true", help="ask the transformers library instead of the app")
    arguments = parser.parse_args()
    folder = arguments.model / "samples"
    folder.mkdir(exist_ok=True)
    entries = []
    opened = ask_through_library if arguments.library else ask_through_app
    with opened(arguments.model.resolve()) as ask:
        for sample in SAMPLES:
            file, answers = draw_sample(sample, ask)
            (folder / sample.name).write_bytes(file)
            entries.append({"file": sample.name, "title": sample.title, "question": sample.question, "answer": answers})
    (folder / "samples.json").write_text(json.dumps(entries, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
