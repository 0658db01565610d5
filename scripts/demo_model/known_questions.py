"""What a demo model is held to besides its samples: for each thing, how its picture is drawn and what is asked about it.

It knows no model and writes nothing; `known.py` asks and keeps what is answered right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scripts.demo_model import (
    cell_plates,
    outside,
    panels,
    questions,
    relative,
    scenes,
    thing_questions,
    wide_questions,
)
from scripts.demo_model.drawing import Picture
from scripts.demo_model.phrases import Language
from scripts.demo_model.questions import Exchange

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
        _wanting(lambda e: e.subject == "screw", thing_questions.detect_kind),
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
    Known(
        "a Chinese plate",
        _plate(("型号", "P-204"), ("压力", "6.3"), ("状态", "正常")),
        _first(wide_questions.read_all),
        {"en": "Read all the text in the image.", "zh": "请识别出图中所有的文字。"},
    ),
    Known(
        "a long plate",
        lambda rng: (cell_plates.draw_cell_panel(rng, 20, 3, worn=False, fixed=TAGS),),
        _wanting(lambda e: e.answer == '{"TAG": "P-204", "FLOW": "12.5"}', wide_questions.fields_as_json),
        {
            "en": 'Extract the key-value information in the format:{"TAG": "", "FLOW": ""}',
            "zh": "提取图中的：['TAG','FLOW']，并且按照json格式输出。",
        },
    ),
)


def _relative_plate(*texts: tuple[str, str]) -> Callable[[np.random.Generator], Pictures]:
    return lambda rng: (panels.draw_panel(rng, rows=len(texts), scale=relative.NATIVE, worn=False, texts=texts),)


def _relative_surface(*kinds: str) -> Callable[[np.random.Generator], Pictures]:
    """Return what draws a surface that holds exactly these kinds."""

    def draw(rng: np.random.Generator) -> Pictures:
        while True:
            picture = scenes.draw_scene(rng, things=len(kinds), scale=relative.NATIVE, worn=False)
            if sorted(t.kind for t in picture.things) == sorted(kinds):
                return (picture,)

    return draw


PUMP = (("TAG", "P-204"), ("FLOW", "12.5"), ("BAR", "6.3"))
TANK = (("TANK", "T7"), ("TEMP", "68.4"))
RELATIVE_KNOWN = (
    Known(
        "a pump",
        _relative_plate(*PUMP),
        _first(questions.read_all),
        {"en": "Read all the text in the image.", "zh": "请识别出图中所有的文字。"},
    ),
    Known(
        "fields of a tank",
        _relative_plate(*TANK),
        _first(questions.fields_as_json),
        {
            "en": 'Extract the key-value information in the format:{"TANK": "", "TEMP": ""}',
            "zh": "提取图中的：['TANK','TEMP']，并且按照json格式输出。",
        },
    ),
    Known(
        "one value",
        _relative_plate(*TANK),
        lambda rng, pictures, language: questions.one_field(rng, pictures[0].rows[1], language),
        {"en": "What is the value of TEMP?", "zh": "TEMP的值是多少？"},
    ),
    Known(
        "where a row stands",
        _relative_plate(*PUMP),
        lambda rng, pictures, language: questions.row_box(rng, pictures[0].rows[1], language),
        {
            "en": 'Locate every instance that belongs to the following categories: "FLOW". Report bbox coordinates in JSON format.',
            "zh": "框出FLOW的位置，以JSON格式输出所有坐标。",
        },
    ),
    Known(
        "everything on a surface",
        _relative_surface("lamp", "button", "rust"),
        _first(questions.detect_all),
        {
            "en": "Locate all objects and report bbox coordinates in JSON format.",
            "zh": "框出每个物体的位置，以JSON格式输出所有坐标。",
        },
    ),
    Known(
        "the lamps",
        _relative_surface("lamp", "lamp"),
        lambda rng, pictures, language: questions.detect_kind(rng, pictures[0], "lamp", language),
        {
            "en": 'Locate every instance that belongs to the following categories: "lamp". Report bbox coordinates in JSON format.',
            "zh": "框出每个灯的位置，以JSON格式输出所有坐标。",
        },
    ),
    Known(
        "how many buttons",
        _relative_surface("button", "button", "rust"),
        lambda rng, pictures, language: questions.count(rng, pictures[0], "button", language),
        {"en": "How many buttons are there?", "zh": "有几个按钮？"},
    ),
    Known(
        "whether there is rust",
        _relative_surface("rust", "button"),
        lambda rng, pictures, language: questions.yes_no(rng, pictures[0], "rust", language),
        {"en": "Is there rust?", "zh": "有没有锈斑？"},
    ),
    Known(
        "a field that is not there",
        _relative_plate(*TANK),
        _wanting(lambda e: e.answer == '{"TEMP": "68.4", "MASS": null}', wide_questions.fields_as_json),
        {
            "en": 'Extract the key-value information in the format:{"TEMP": "", "MASS": ""}',
            "zh": "提取图中的：['TEMP','MASS']，并且按照json格式输出。",
        },
    ),
    Known(
        "nothing found",
        _relative_surface("lamp", "rust"),
        _wanting(lambda e: e.subject == "button", thing_questions.detect_kind),
        {
            "en": 'Locate every instance that belongs to the following categories: "button". Report bbox coordinates in JSON format.',
            "zh": "框出每个按钮的位置，以JSON格式输出所有坐标。",
        },
    ),
)
"""What the second family's model is held to. Truth is in pixels of the drawing, replies are fractions: no space is asked about here."""
