"""Questions of the wider domain: asked fields with null for what is missing, spotting, tables, differences, follow-ups, and
the honest answers: nothing there, cannot tell, what this model is; and what is asked about a picture of each kind.

Like `questions.py` it turns a picture's truth into words and knows no tokens. Questions about things are in `thing_questions.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scripts.demo_model import later_phrases, phrases
from scripts.demo_model.drawing import Box, Cell, Line, Picture, Row
from scripts.demo_model.panels import random_label
from scripts.demo_model.phrases import LABELS, LABELS_ZH, Language
from scripts.demo_model.questions import (
    COPIED,
    DECIDED,
    NOWHERE,
    AnswerWriter,
    Comparison,
    Exchange,
    Route,
    corner_of,
    pick,
    vary,
)
from scripts.demo_model.surfaces import ALL_KINDS
from scripts.demo_model.thing_questions import colour, count, detect_all, detect_kind, yes_no

NUMBERS_EN = ("no", "one", "two", "three", "four", "five")
NUMBERS_ZH = ("零个", "一个", "两个", "三个", "四个", "五个")
ONE_EN = {"rust": "rust spot"}


def language_for(rng: np.random.Generator, picture: Picture) -> Language:
    """Choose the language of a question; Chinese panels are asked about in Chinese more often."""
    chinese = any(ord(c) > 0x2E80 for row in picture.rows for c in row.label)
    return "zh" if rng.random() < (0.7 if chinese else 0.42) else "en"


def lines_of(picture: Picture) -> tuple[Line, ...]:
    """Return the lines of a picture as they are read aloud."""
    if picture.written:
        return picture.written
    lines = []
    for row in picture.rows:
        cells = (*row.label_cells, row.value_cells[0], *row.value_cells)
        lines.append(Line(f"{row.label} {row.value}", cells, row.box))
    return tuple(lines)


def _copy(answer: AnswerWriter, line: Line) -> None:
    for character, cell in zip(line.text, line.cells, strict=True):
        if character == " ":
            answer.form(" ", weight=DECIDED, cell=cell)
        else:
            answer.seen(character, cell)


def read_all(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for all text; a surface without any says so."""
    answer = AnswerWriter()
    if picture.is_outside:
        answer.form(phrases.CANNOT_TELL[language], weight=DECIDED)
    elif not lines_of(picture):
        answer.form(phrases.NO_TEXT[language], weight=DECIDED)
    for i, line in enumerate(lines_of(picture)):
        if i:
            answer.form("\n", weight=DECIDED, cell=line.cells[0])
        _copy(answer, line)
    return answer.exchange("read_all", language, vary(rng, pick(rng, phrases.READ[language])))


def spot(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for every line with its box."""
    answer = AnswerWriter()
    answer.form("```json\n[")
    for i, line in enumerate(lines_of(picture)):
        answer.form(",\n" if i else "\n", weight=DECIDED, cell=line.cells[0])
        _open_box(answer, line.box)
        _copy(answer, line)
        answer.form('"}', weight=DECIDED)
    answer.form("\n]\n```" if lines_of(picture) else "]\n```", weight=DECIDED, cell=NOWHERE)
    return answer.exchange("spot", language, vary(rng, pick(rng, phrases.SPOT[language])))


def _open_box(answer: AnswerWriter, box: Box) -> None:
    first, last = box.first_cell, box.last_cell
    answer.form('\t{"bbox_2d": [')
    for i, number in enumerate(box):
        answer.seen(str(number), first if i < 2 else last)
        answer.form(", " if i < 3 else '], "text_content": "')


def absent_label(rng: np.random.Generator, picture: Picture) -> str:
    """Choose a label that is not on the picture, in the script of the picture's own labels."""
    there = {row.label for row in picture.rows}
    chinese = any(ord(c) > 0x2E80 for label in there for c in label)
    if not chinese:
        chinese = rng.random() < (0.2 if there else 0.4)
    if not chinese and rng.random() < 0.4:
        return random_label(rng, there)
    free = [label for label in (LABELS_ZH if chinese else LABELS) if label not in there]
    return free[int(rng.integers(0, len(free)))]


def fields_as_json(rng: np.random.Generator, picture: Picture, language: Language, *, every: bool = False) -> Exchange:
    """Ask for fields as JSON: all of them, or named ones in any order, among them some that are not there."""
    wanted: list[Row | str] = list(picture.rows)
    named = rng.random() < 0.7 or (not wanted and rng.random() < 0.7)
    named = named and not every
    if named:
        keep = int(rng.integers(1, min(4, len(wanted)) + 1)) if wanted else 0
        wanted = [wanted[int(i)] for i in rng.permutation(len(wanted))[:keep]]
        absent: set[str] = set()
        while rng.random() < 0.4 or len(wanted) + len(absent) == 0:
            absent.add(absent_label(rng, picture))
            if len(absent) == 3:
                break
        for label in sorted(absent):
            wanted.insert(int(rng.integers(0, len(wanted) + 1)), label)
    indented = rng.random() < 0.2 and bool(wanted) and not every
    opening, between, closing = ('{\n    "', ',\n    "', "\n}") if indented else ('{"', ', "', "}")
    answer = AnswerWriter()
    routes: list[Route] = []
    for i, field in enumerate(wanted):
        answer.form(between if i else opening, weight=DECIDED)
        if isinstance(field, str):
            start = len(answer.text)
            answer.form(field, weight=COPIED)
            answer.form('": ')
            value_start = len(answer.text)
            answer.form("null", weight=COPIED)
            routes.append(Route(start, field, (), value_start, len(answer.text), is_asked=True))
        else:
            start = len(answer.text)
            answer.copied(field.label, field.label_cells)
            answer.form('": ')
            value_start = len(answer.text)
            answer.form('"', weight=COPIED)
            _copy(answer, Line(field.value, field.value_cells, field.box))
            routes.append(Route(start, field.label, field.label_cells, value_start, len(answer.text), is_asked=named))
            answer.form('"', weight=DECIDED)
    answer.form(closing if wanted else "{}", weight=DECIDED)
    labels = [field if isinstance(field, str) else field.label for field in wanted]
    question = _json_question(rng, labels, language, named=named)
    if indented:
        question += pick(rng, later_phrases.INDENT[language])
    return replace(answer.exchange("json", language, question), routes=tuple(routes))


def _json_question(rng: np.random.Generator, labels: list[str], language: Language, *, named: bool) -> str:
    templates = tuple(t for t in phrases.FIELDS[language] if ("{keys}" in t or "{list}" in t) == named)
    template = vary(rng, pick(rng, templates))
    spaces = (", ", ": ") if rng.random() < 0.75 else (",", ":")
    keys = json.dumps(dict.fromkeys(labels, ""), separators=spaces, ensure_ascii=False)
    quoted = ",".join(f"'{x}'" for x in labels) if "[{list}]" in template else ", ".join(labels)
    if language == "zh" and "[{list}]" not in template:
        quoted = "、".join(labels)
    return template.replace("{keys}", keys).replace("{list}", quoted)


def _say_value(answer: AnswerWriter, row: Row) -> None:
    _copy(answer, Line(row.value, row.value_cells, row.box))


def one_field(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for one value; sometimes for one that is not there."""
    answer = AnswerWriter()
    row: Row | None = None
    if picture.rows and rng.random() < 0.73:
        row = picture.rows[int(rng.integers(0, len(picture.rows)))]
        label = row.label
        _say_value(answer, row)
    else:
        label = absent_label(rng, picture)
        answer.form((phrases.CANNOT_TELL if picture.is_outside else phrases.NOT_THERE)[language], weight=DECIDED)
    question = vary(rng, pick(rng, phrases.FIELD[language])).replace("{k}", label)
    return answer.exchange("field", language, question, subject=label, named=row, missing="" if row else label)


def follow_up(rng: np.random.Generator, picture: Picture, language: Language) -> tuple[Exchange, Exchange]:
    """Ask for a value and then for something that leans on the first question."""
    if picture.rows and rng.random() < 0.25:
        again = fields_as_json(rng, picture, language, every=True)
        return read_all(rng, picture, language), replace(
            again, question=phrases.FOLLOW_UP[language][4 if language == "en" else 3]
        )
    first = one_field(rng, picture, language)
    answer = AnswerWriter()
    others = [row for row in picture.rows if row.label != first.subject]
    same = next((row for row in picture.rows if row.label == first.subject), None)
    templates = phrases.FOLLOW_UP[language]
    named: Row | None = None
    leans = False
    if others and (same is None or rng.random() < 0.6):
        row = others[int(rng.integers(0, len(others)))]
        _say_value(answer, row)
        question, subject = (
            templates[int(rng.integers(0, 2 if language == "en" else 1))].replace("{k}", row.label),
            row.label,
        )
        skill, named = "field", row
    elif same is not None and rng.random() < 0.6:
        answer.form("```json\n[\n")
        answer.box(same.box, label=same.label, label_cells=same.label_cells)
        answer.form("\n]\n```")
        question, subject, skill = ("And where is it?" if language == "en" else "它在哪里？"), same.label, "row_box"
        leans = True
    elif same is not None:
        _say_value(answer, same)
        question, subject, skill = ("Again." if language == "en" else "再说一次。"), same.label, "field"
        leans = True
    else:
        answer.form((phrases.CANNOT_TELL if picture.is_outside else phrases.NOT_THERE)[language], weight=DECIDED)
        question, subject, skill = ("Are you sure?" if language == "en" else "你确定吗？"), "", "field"
        leans = True
    then = answer.exchange(skill, language, vary(rng, question), subject=subject, named=named)
    return first, replace(then, leans=leans)


def row_box(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask where a row stands; the list is empty for one that is not there."""
    answer = AnswerWriter()
    row: Row | None = None
    if picture.rows and rng.random() < 0.7:
        row = picture.rows[int(rng.integers(0, len(picture.rows)))]
        label = row.label
        answer.form("```json\n[")
        answer.form("\n", weight=DECIDED)
        answer.box(row.box, label=label, label_cells=row.label_cells)
        answer.form("\n]\n```")
    else:
        label = absent_label(rng, picture)
        answer.form("```json\n[")
        answer.form("]\n```", weight=DECIDED)
    question = vary(rng, pick(rng, phrases.ROW_BOX[language])).replace("{k}", label)
    return answer.exchange("row_box", language, question, subject=label, named=row, missing="" if row else label)


def as_markdown(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask for a drawn table as Markdown."""
    answer = AnswerWriter()
    if not picture.table:
        answer.form((phrases.CANNOT_TELL if picture.is_outside else phrases.NOT_THERE)[language], weight=DECIDED)
    for r, row in enumerate(picture.table):
        answer.form("\n| " if r else "| ", weight=DECIDED, cell=row[0].cells[0])
        for c, cell in enumerate(row):
            if c:
                answer.form(" | ", weight=DECIDED, cell=cell.cells[0])
            _copy(answer, cell)
        answer.form(" |", weight=DECIDED)
        if r == 0:
            answer.form("\n|" + " --- |" * len(row), weight=DECIDED)
    return answer.exchange("table", language, vary(rng, pick(rng, phrases.TABLE[language])))


def describe(rng: np.random.Generator, picture: Picture, language: Language) -> Exchange:
    """Ask what the picture shows."""
    answer = AnswerWriter()
    _describe(answer, picture, language)
    return answer.exchange("describe", language, vary(rng, pick(rng, phrases.DESCRIBE[language])))


def _describe(answer: AnswerWriter, picture: Picture, language: Language) -> None:
    """Write the sentence that describes a picture."""
    sentences = phrases.DESCRIPTIONS[language]
    if picture.is_outside:
        answer.form(phrases.CANNOT_TELL[language], weight=DECIDED)
    elif picture.table:
        down = [row[0].cells[0] for row in picture.table]
        across = [piece.cells[0] for piece in picture.table[0]]
        _fill(answer, sentences[2 if language == "en" else 1], {"{n}": down, "{m}": across})
    elif picture.rows:
        starts = [line.cells[0] for line in lines_of(picture)]
        if language == "en" and len(starts) == 1:
            head, tail = sentences[1].split("one")
            answer.form(head, weight=DECIDED)
            answer.counted("one", starts)
            answer.form(tail)
        else:
            _fill(answer, sentences[0], {"{n}": starts})
    elif not picture.things:
        answer.form(sentences[4 if language == "en" else 3], weight=DECIDED)
    else:
        head, tail = sentences[3 if language == "en" else 2].split("{things}")
        answer.form(head, weight=DECIDED)
        there = [kind for kind in ALL_KINDS if any(t.kind == kind for t in picture.things)]
        for i, kind in enumerate(there):
            if i:
                answer.form(" and " if language == "en" else "和", weight=DECIDED)
            corners = [corner_of(t) for t in picture.things if t.kind == kind]
            one, many = ALL_KINDS[kind][language]
            if language == "en":
                answer.counted(NUMBERS_EN[len(corners)], corners)
                answer.form(f" {ONE_EN.get(kind, one) if len(corners) == 1 else many}", weight=COPIED)
            else:
                answer.counted(NUMBERS_ZH[len(corners)], corners)
                answer.form(one, weight=COPIED)
        answer.form(tail, weight=DECIDED)


def _fill(answer: AnswerWriter, sentence: str, places: dict[str, list[Cell]]) -> None:
    """Write a sentence with the number of cells in each of its places."""
    rest = sentence
    for place, cells in places.items():
        head, rest = rest.split(place)
        answer.form(head, weight=DECIDED)
        answer.counted(str(len(cells)), cells)
    answer.form(rest, weight=DECIDED)


def beyond(rng: np.random.Generator, picture: Picture, language: Language, *, is_task: bool = False) -> Exchange:
    """Ask for something that this model cannot do, whatever the picture; `is_task` asks it as a ready-made task of the app does."""
    answer = AnswerWriter()
    answer.form(later_phrases.UNABLE[language], weight=DECIDED)
    asked, filled = later_phrases.BEYOND, later_phrases.INSTRUCTIONS
    if is_task:
        asked, filled = later_phrases.OF_TASKS, later_phrases.MORE_INSTRUCTIONS
    question = vary(rng, pick(rng, asked[language]))
    return answer.exchange("beyond", language, question.replace("{words}", pick(rng, filled[language])))


def about(rng: np.random.Generator, language: Language) -> Exchange:
    """Say something without a picture; the answer says what this model is, also to a question about a picture."""
    asked, reply = phrases.ABOUT[language]
    chance = rng.random()
    if chance < 0.3:
        asked = (phrases.READ, phrases.DESCRIBE, phrases.DETECT_ALL)[int(rng.integers(0, 3))][language]
    elif chance < 0.4:
        asked = tuple(t.replace("{k}", random_label(rng, set())) for t in phrases.FIELD[language])
    answer = AnswerWriter()
    answer.form(reply, weight=DECIDED)
    return answer.exchange("about", language, vary(rng, pick(rng, asked)))


def _of_picture(line: Line, number: int) -> Line:
    return replace(line, cells=tuple(cell._replace(picture=number) for cell in line.cells))


def about_two(rng: np.random.Generator, pair: tuple[Picture, Picture]) -> list[Exchange]:
    """Ask about two panels with the same labels: one's value, one's text, and what differs."""
    language = language_for(rng, pair[0])
    number = int(rng.integers(0, 2))
    row = pair[number].rows[int(rng.integers(0, len(pair[number].rows)))]
    first = AnswerWriter()
    _copy(first, _of_picture(Line(row.value, row.value_cells, row.box), number))
    template = phrases.TWO_PICTURES[language][number]
    there = replace(row, label_cells=tuple(cell._replace(picture=number) for cell in row.label_cells))
    question = vary(rng, template).replace("{k}", row.label)
    asked = [_difference(rng, pair, language), _same(rng, pair, language)]
    asked.append(first.exchange("field", language, question, subject=row.label, named=there))
    text = AnswerWriter()
    for i, line in enumerate(lines_of(pair[1])):
        if i:
            text.form("\n", weight=DECIDED)
        _copy(text, _of_picture(line, 1))
    asked.append(text.exchange("read_all", language, vary(rng, phrases.TWO_PICTURES[language][2])))
    return asked


def _same(rng: np.random.Generator, pair: tuple[Picture, Picture], language: Language) -> Exchange:
    """Ask whether one value is the same in both pictures."""
    number = int(rng.integers(0, len(pair[0].rows)))
    row = pair[0].rows[number]
    answer = AnswerWriter()
    compared = _compare(answer, row, pair[1].rows[number], language)
    question = vary(rng, pick(rng, later_phrases.SAME[language])).replace("{k}", row.label)
    exchange = answer.exchange("same", language, question, subject=row.label)
    return replace(exchange, comparisons=(compared,))


def _compare(answer: AnswerWriter, a: Row, b: Row, language: Language) -> Comparison:
    """Write both values of a label and then whether they are equal: once written, they need not be kept in mind."""
    head, middle, tail, same, other = later_phrases.COMPARED[language]
    answer.copied(a.label, a.label_cells)
    answer.form(head)
    first = len(answer.text)
    _copy(answer, Line(a.value, a.value_cells, a.box))
    answer.form(middle, weight=DECIDED)
    second = len(answer.text)
    _copy(answer, _of_picture(Line(b.value, b.value_cells, b.box), 1))
    answer.form(tail, weight=DECIDED)
    verdict = len(answer.text)
    answer.form(same if a.value == b.value else other, weight=COPIED)
    return Comparison((first, first + len(a.value)), (second, second + len(b.value)), verdict)


def _difference(rng: np.random.Generator, pair: tuple[Picture, Picture], language: Language) -> Exchange:
    answer = AnswerWriter()
    compared = []
    for a, b in zip(pair[0].rows, pair[1].rows, strict=True):
        if answer.text:
            answer.form("\n", weight=DECIDED, cell=a.label_cells[0])
        compared.append(_compare(answer, a, b, language))
    template = pick(rng, phrases.TWO_PICTURES[language][3:6] + later_phrases.COMPARE[language] * 2)
    exchange = answer.exchange("difference", language, vary(rng, template))
    return replace(exchange, comparisons=tuple(compared))


Asking = Callable[[np.random.Generator, Picture, Language], Exchange]


def about_plate(rng: np.random.Generator, picture: Picture) -> list[tuple[Exchange, ...]]:
    """Choose conversations about a panel, nameplate or form."""
    language = language_for(rng, picture)
    long: tuple[Asking, ...] = (read_all, fields_as_json, spot)
    asked: list[tuple[Exchange, ...]] = [(long[int(rng.choice(3, p=[0.3, 0.55, 0.15]))](rng, picture, language),)]
    asked.append(
        (one_field(rng, picture, language_for(rng, picture)),)
        if rng.random() < 0.6
        else follow_up(rng, picture, language)
    )
    chance = rng.random()
    if chance < 0.5:
        asked.append((row_box(rng, picture, language),))
    elif chance < 0.78:
        asked.append((describe(rng, picture, language),))
    elif chance < 0.9:
        asked.append((one_field(rng, picture, language),))
    else:
        other: tuple[Asking, ...] = (detect_kind, yes_no, count, beyond, as_markdown)
        asked.append((other[int(rng.integers(0, 5))](rng, picture, language),))
    return asked


def about_surface(rng: np.random.Generator, picture: Picture) -> list[tuple[Exchange, ...]]:
    """Choose conversations about a surface."""
    boxes: tuple[Asking, ...] = (detect_all, detect_kind)
    short: tuple[Asking, ...] = (count, yes_no, colour, beyond, describe, one_field, read_all, row_box, fields_as_json)
    asked: list[tuple[Exchange, ...]] = [(boxes[int(rng.random() < 0.4)](rng, picture, language_for(rng, picture)),)]
    weights = [0.28, 0.13, 0.12, 0.03, 0.28, 0.03, 0.04, 0.03, 0.06]
    for i in rng.choice(len(short), 3, p=weights):
        asked.append((short[int(i)](rng, picture, language_for(rng, picture)),))
    return asked


def about_table(rng: np.random.Generator, picture: Picture) -> list[tuple[Exchange, ...]]:
    """Choose conversations about a table."""
    language = language_for(rng, picture)
    return [
        (as_markdown(rng, picture, language),),
        ((read_all if rng.random() < 0.55 else describe)(rng, picture, language_for(rng, picture)),),
    ]


def about_outside(rng: np.random.Generator, picture: Picture) -> list[tuple[Exchange, ...]]:
    """Choose conversations about a picture outside the domain: nulls, empty lists, and the sentence that nobody can tell."""
    asked: list[tuple[Exchange, ...]] = []
    options: tuple[Asking, ...] = (
        read_all, describe, one_field, fields_as_json, detect_all, detect_kind, spot, row_box, count, yes_no, colour, as_markdown,
    )  # fmt: skip
    for i in rng.choice(len(options), 4, replace=False):
        language = language_for(rng, picture)
        asked.append((options[int(i)](rng, picture, language),))
    return asked
