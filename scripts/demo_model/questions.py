"""What is asked about a drawn picture, and the right answer with the place in the picture of each of its characters.

It turns a picture's truth into words. It knows no tokens and no weights; the places are what guided attention
looks at in training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from scripts.demo_model import phrases
from scripts.demo_model.drawing import CELL, Box, Cell, Picture, Row, Thing
from scripts.demo_model.phrases import COLOURS, KINDS, Language

NOWHERE = Cell(-1, -1)
"""The place to look at before saying that there is nothing more."""
COPIED, DECIDED, TEMPLATE = 1.0, 0.6, 0.3
"""Loss weights: characters taken from the picture, words chosen after looking at it, and the form around them."""


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` of an answer, their loss weight, and the cell they were read from (if any)."""

    start: int
    end: int
    weight: float
    cell: Cell | None


@dataclass(frozen=True)
class Named:
    """A label that the question names, and the cells where it stands on the picture: none for one that is not there."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Route:
    """In an answer, a label written at `label_start` with its cells, and the characters that are found by way of it.

    The cells are none for a label that is not on the picture. `is_asked` tells that the question named it.
    """

    label_start: int
    label: str
    label_cells: tuple[Cell, ...]
    value_start: int
    value_end: int
    is_asked: bool = False


@dataclass(frozen=True)
class Tally:
    """The answer's character at `at` says how many `cells` there are: one for each thing or row that is counted."""

    at: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """Two values that an answer has written one after the other, and the place of the word that says whether they are equal."""

    first: tuple[int, int]
    second: tuple[int, int]
    verdict: int


@dataclass(frozen=True)
class Exchange:
    """One question with its right answer. `skill` names what is being asked; `subject` is the label or kind asked about.

    `named` is the asked label where it stands on the picture: the way from question to answer leads through it. A question that
    `leans` means the label of the question before.
    """

    skill: str
    language: Language
    question: str
    answer: str
    spans: tuple[Span, ...]
    subject: str = ""
    named: tuple[Named, ...] = ()
    routes: tuple[Route, ...] = ()
    tallies: tuple[Tally, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    leans: bool = False


@dataclass
class AnswerWriter:
    """Collects an answer piece by piece, remembering where each piece was read."""

    text: str = ""
    spans: list[Span] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)

    def form(self, text: str, *, weight: float = TEMPLATE, cell: Cell | None = None) -> None:
        """Add text that belongs to the answer's form. `cell` is where to look before writing it: where the next thing stands."""
        self.spans.append(Span(len(self.text), len(self.text) + len(text), weight, cell))
        self.text += text

    def counted(self, text: str, cells: Iterable[Cell], *, weight: float = COPIED) -> None:
        """Add a word that tells how many there are."""
        skipped = len(text) - len(text.lstrip())
        self.tallies.append(Tally(len(self.text) + skipped, tuple(cells)))
        self.form(text, weight=weight)

    def seen(self, text: str, cell: Cell) -> None:
        """Add text that was read at one place."""
        self.spans.append(Span(len(self.text), len(self.text) + len(text), COPIED, cell))
        self.text += text

    def copied(self, text: str, cells: tuple[Cell, ...]) -> None:
        """Add characters that were each read at a place of their own."""
        for character, cell in zip(text, cells, strict=True):
            self.seen(character, cell)

    def box(self, box: Box, *, label: str, label_cells: tuple[Cell, ...]) -> None:
        """Add one entry of a box list, in the published form. `label_cells` are those of the label's characters, or one for all."""
        first, last = box.first_cell, box.last_cell
        self.form('\t{"bbox_2d": [')
        for i, number in enumerate(box):
            self.seen(str(number), first if i < 2 else last)
            self.form(", " if i < 3 else '], "label": "')
        if len(label_cells) == len(label):
            self.copied(label, label_cells)
        else:
            self.seen(label, label_cells[0])
        self.form('"}')

    def exchange(
        self,
        skill: str,
        language: Language,
        question: str,
        *,
        subject: str = "",
        named: Row | None = None,
        missing: str = "",
    ) -> Exchange:
        """Close the answer and return it with its question; `named` is the row whose label the question says, `missing` a label
        that it says and that is not there.
        """
        found = (Named(named.label, named.label_cells),) if named is not None else ()
        if missing:
            found = (Named(missing, ()),)
        return Exchange(
            skill, language, question, self.text, tuple(self.spans), subject, found, tallies=tuple(self.tallies)
        )


def vary(rng: np.random.Generator, template: str) -> str:
    """Return a template as a hurried person types it: sometimes without its full stop, in small letters, with a space after it."""
    chance = rng.random()
    if chance < 0.12:
        template = template.rstrip(".?!。？！")
    elif chance < 0.17:
        template = template.replace("？", "?").replace("。", ".").replace("，", ",").replace("：", ":")
    chance = rng.random()
    if chance < 0.10 and "JSON" not in template:
        template = template[0].lower() + template[1:]
    elif chance < 0.16:
        template = _small_letters(template)
    chance = rng.random()
    if chance < 0.05:
        template += " "
    elif chance < 0.08:
        template = (
            "Please " + template[0].lower() + template[1:] if template.isascii() else "请" + template.removeprefix("请")
        )
    elif chance < 0.10:
        template += "!" if template.isascii() else "！"
    return template


def _small_letters(template: str) -> str:
    """Lower everything; place holders are lower case already."""
    return template.lower()


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """Choose one of several phrases."""
    return options[int(rng.integers(0, len(options)))]


def read_all(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for everything that stands on a panel; the answer has a line for each row."""
    answer = AnswerWriter()
    for i, row in enumerate(picture.rows):
        if i:
            answer.form("\n", weight=DECIDED, cell=row.label_cells[0])
        answer.copied(row.label, row.label_cells)
        answer.form(" ", weight=DECIDED, cell=row.value_cells[0])
        answer.copied(row.value, row.value_cells)
    return answer.exchange("read_all", language, vary(rng, pick(rng, phrases.READ[language])))


def fields_as_json(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for all rows as one JSON object, with or without naming them."""
    template = vary(rng, pick(rng, phrases.FIELDS[language]))
    is_asked = "{keys}" in template or "{list}" in template
    answer = AnswerWriter()
    routes: list[Route] = []
    answer.form("{")
    for i, row in enumerate(picture.rows):
        answer.form('"' if i == 0 else '", "', weight=DECIDED)
        start = len(answer.text)
        answer.copied(row.label, row.label_cells)
        answer.form('": "', weight=DECIDED)
        value_start = len(answer.text)
        answer.copied(row.value, row.value_cells)
        routes.append(Route(start, row.label, row.label_cells, value_start, len(answer.text), is_asked=is_asked))
    answer.form('"}', weight=DECIDED)
    labels = [row.label for row in picture.rows]
    spaces = (", ", ": ") if rng.random() < 0.75 else (",", ":")
    keys = json.dumps(dict.fromkeys(labels, ""), separators=spaces)
    quoted = ",".join(f"'{x}'" for x in labels) if "[{list}]" in template else ", ".join(labels)
    if language == "zh" and "[{list}]" not in template:
        quoted = "、".join(labels)
    question = template.replace("{keys}", keys).replace("{list}", quoted)
    return replace(answer.exchange("json", language, question), routes=tuple(routes))


def one_field(rng: np.random.Generator, row: Row, language: Language) -> Exchange:
    """Ask for the value beside one label."""
    answer = AnswerWriter()
    answer.copied(row.value, row.value_cells)
    name = row.label.lower() if row.label in phrases.LABELS and rng.random() < 0.05 else row.label
    question = vary(rng, pick(rng, phrases.FIELD[language])).replace("{k}", name)
    return answer.exchange("field", language, question, subject=row.label, named=row)


def row_box(rng: np.random.Generator, row: Row, language: Language) -> Exchange:
    """Ask where one row stands."""
    answer = AnswerWriter()
    answer.form("```json\n[\n")
    answer.box(row.box, label=row.label, label_cells=row.label_cells)
    answer.form("\n]\n```")
    question = vary(rng, pick(rng, phrases.ROW_BOX[language])).replace("{k}", row.label)
    return answer.exchange("row_box", language, question, subject=row.label, named=row)


def _boxes(things: tuple[Thing, ...], language: Language) -> AnswerWriter:
    answer = AnswerWriter()
    answer.form("```json\n[\n")
    for i, thing in enumerate(things):
        corner = corner_of(thing)
        if i:
            answer.form(",\n", weight=DECIDED, cell=corner)
        answer.box(thing.box, label=KINDS[thing.kind][language][0], label_cells=(corner,))
    answer.form("\n]\n```", weight=DECIDED, cell=NOWHERE)
    return answer


def corner_of(thing: Thing) -> Cell:
    """Return the cell of a thing's top left corner, which stands for the thing where things are listed or counted."""
    return thing.box.first_cell


def detect_all(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for boxes around everything."""
    question = vary(rng, pick(rng, phrases.DETECT_ALL[language]))
    return _boxes(picture.things, language).exchange("detect_all", language, question)


def detect_kind(rng: np.random.Generator, picture: Picture, kind: str, language: Language) -> Exchange:
    """Ask for boxes around the things of one kind."""
    one, many = KINDS[kind][language]
    template = vary(rng, pick(rng, phrases.DETECT_KIND[language]))
    question = template.replace("{one}", one).replace("{many}", many)
    wanted = tuple(t for t in picture.things if t.kind == kind)
    return _boxes(wanted, language).exchange("detect_kind", language, question, subject=kind)


def count(rng: np.random.Generator, picture: Picture, kind: str | None, language: Language) -> Exchange:
    """Ask how many things of one kind there are, or how many in all when `kind` is None."""
    one, many = phrases.ANY_THING[language] if kind is None else KINDS[kind][language]
    template = vary(rng, pick(rng, phrases.COUNT[language]))
    wanted = [t for t in picture.things if kind is None or t.kind == kind]
    answer = AnswerWriter()
    answer.counted(str(len(wanted)), map(corner_of, wanted))
    question = template.replace("{one}", one).replace("{many}", many)
    return answer.exchange("count", language, question, subject=kind or "")


def colour(rng: np.random.Generator, thing: Thing, language: Language) -> Exchange:
    """Ask for the colour of the only thing of its kind."""
    assert thing.colour is not None
    one = KINDS[thing.kind][language][0]
    answer = AnswerWriter()
    answer.seen(COLOURS[thing.colour][0 if language == "en" else 1], _centre(thing.box))
    question = vary(rng, pick(rng, phrases.COLOUR[language])).replace("{one}", one)
    return answer.exchange("colour", language, question, subject=thing.kind)


def yes_no(rng: np.random.Generator, picture: Picture, kind: str, language: Language) -> Exchange:
    """Ask whether there is a thing of one kind."""
    found = [t for t in picture.things if t.kind == kind]
    template = vary(rng, pick(rng, phrases.YES_NO[language]))
    question = template.replace("{a}", pick(rng, phrases.WITH_ARTICLE[kind])).replace("{one}", KINDS[kind][language][0])
    answer = AnswerWriter()
    answer.counted((phrases.YES if found else phrases.NO)[language], map(corner_of, found))
    return answer.exchange("yes_no", language, question, subject=kind)


def _centre(box: Box) -> Cell:
    return Cell((box.top + box.bottom) // 2 // CELL, (box.left + box.right) // 2 // CELL)


def _language(rng: np.random.Generator) -> Language:
    return "en" if rng.random() < 0.55 else "zh"


def about_panel(rng: np.random.Generator, picture: Picture) -> list[Exchange]:
    """Choose four questions about a panel."""
    asked = [
        read_all(rng, picture, _language(rng)) if rng.random() < 0.5 else fields_as_json(rng, picture, _language(rng))
    ]
    for _ in range(2):
        row = picture.rows[int(rng.integers(0, len(picture.rows)))]
        asked.append(one_field(rng, row, _language(rng)))
    row = picture.rows[int(rng.integers(0, len(picture.rows)))]
    asked.append(row_box(rng, row, _language(rng)))
    return asked


def about_scene(rng: np.random.Generator, picture: Picture) -> list[Exchange]:
    """Choose four questions about a surface."""
    if rng.random() < 0.6:
        asked = [detect_all(rng, picture, _language(rng))]
    else:
        kinds = sorted({t.kind for t in picture.things})
        asked = [detect_kind(rng, picture, kinds[int(rng.integers(0, len(kinds)))], _language(rng))]
    names = list(KINDS)
    kind = None if rng.random() < 0.35 else names[int(rng.integers(0, len(names)))]
    asked.append(count(rng, picture, kind, _language(rng)))
    single = [t for t in picture.things if t.colour and sum(o.kind == t.kind for o in picture.things) == 1]
    if single:
        asked.append(colour(rng, single[int(rng.integers(0, len(single)))], _language(rng)))
    asked.append(yes_no(rng, picture, ("rust", "scratch")[int(rng.integers(0, 2))], _language(rng)))
    return asked
