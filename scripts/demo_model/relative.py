"""The second family's lessons and papers: panels of up to three rows and surfaces of up to three things, with boxes in thousandths of the picture.

They are the first domain's drawings, seen at 32 instead of 28 pixels to a cell. Edges of things lie near half cells, so that few
different numbers have to be learned. It knows no tensors.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from scripts.demo_model import outside, panels, questions, scenes, thing_questions, wide_questions
from scripts.demo_model.curriculum import Split, generator
from scripts.demo_model.drawing import CELL, Picture, to_seen_size, wear
from scripts.demo_model.drawn_lessons import singly
from scripts.demo_model.examination import BATCH_LANGUAGES, Paper
from scripts.demo_model.families import RELATIVE
from scripts.demo_model.lessons import Lesson
from scripts.demo_model.phrases import KINDS, Language
from scripts.demo_model.questions import Exchange, Span
from scripts.demo_model.stages import Stage

SEEN = (panels.COLUMNS * RELATIVE.cell, panels.LINES * RELATIVE.cell)
"""Width and height at which a picture is seen: 320x192."""
NATIVE = RELATIVE.cell / CELL
"""Scale at which a drawing has its seen size at once."""
MOST_ROWS = MOST_THINGS = 3
PICTURES_A_STEP, PACKED = 16, 8
"""Lessons of a step, and how many of them, of about one length, are packed together: half the padding, and what fits a core's cache."""

RELATIVE_STAGES = (
    Stage("letters", 190, muon=0.01, adam=0.002, last=0.9, guide=0.0, align=1.0),
    Stage("short panels", 110, muon=0.006, adam=0.002, last=1.0, guide=0.5),
    Stage("all sizes", 1300, muon=0.006, adam=0.002, last=0.0, guide=0.4),
    Stage("not there", 0, muon=0.004, adam=0.0014, last=0.0, guide=0.3, to_the_end=True, hold=0.4),
)


def in_thousandths(exchange: Exchange, picture: Picture) -> Exchange:
    """Return an exchange with the boxes of its answer in thousandths of the picture instead of its pixels."""
    if "bbox_2d" not in exchange.answer:
        return exchange
    text, spans, edge = "", [], 4
    for span in exchange.spans:
        piece = exchange.answer[span.start : span.end]
        if piece.endswith('"bbox_2d": ['):
            edge = 0
        elif span.cell is not None and edge < 4:
            piece = str(round(1000 * int(piece) / picture.image.size[edge % 2]))
            edge += 1
        spans.append(Span(len(text), len(text) + len(piece), span.weight, span.cell))
        text += piece
    return replace(exchange, answer=text, spans=tuple(spans))


def as_seen(picture: Picture, rng: np.random.Generator | None = None) -> Image.Image:
    """Return a drawing, made larger than for the first family, at the size this one sees; worn where there is chance for it."""
    seen = to_seen_size(picture.large, SEEN)
    return seen if rng is None else wear(rng, seen)


def _scale(rng: np.random.Generator, *, sizes: bool) -> float:
    return float(rng.uniform(NATIVE, 3.0)) if sizes and rng.random() < 0.5 else NATIVE


def _language(rng: np.random.Generator) -> Language:
    return "en" if rng.random() < 0.55 else "zh"


def about_panel(rng: np.random.Generator, picture: Picture) -> list[Exchange]:
    """Choose three questions about a panel."""
    whole = questions.read_all if rng.random() < 0.45 else questions.fields_as_json
    rows = [picture.rows[int(i)] for i in rng.integers(0, len(picture.rows), 2)]
    return [
        whole(rng, picture, _language(rng)),
        questions.one_field(rng, rows[0], _language(rng)),
        questions.row_box(rng, rows[1], _language(rng)),
    ]


def about_scene(rng: np.random.Generator, picture: Picture) -> list[Exchange]:
    """Choose three questions about a surface."""
    names, there = list(KINDS), sorted({t.kind for t in picture.things})
    kind = None if rng.random() < 0.35 else names[int(rng.integers(0, len(names)))]
    if rng.random() < 0.6:
        boxes = questions.detect_all(rng, picture, _language(rng))
    else:
        boxes = questions.detect_kind(rng, picture, there[int(rng.integers(0, len(there)))], _language(rng))
    return [
        boxes,
        questions.count(rng, picture, kind, _language(rng)),
        questions.yes_no(rng, picture, ("rust", "scratch")[int(rng.integers(0, 2))], _language(rng)),
    ]


PLATE_ASKED: tuple[wide_questions.Asking, ...] = (
    wide_questions.fields_as_json,
    wide_questions.one_field,
    wide_questions.row_box,
    thing_questions.detect_kind,
)
SURFACE_ASKED: tuple[wide_questions.Asking, ...] = (
    thing_questions.detect_kind,
    thing_questions.detect_all,
    thing_questions.count,
    thing_questions.yes_no,
    wide_questions.one_field,
)
OUTSIDE_ASKED: tuple[wide_questions.Asking, ...] = (*PLATE_ASKED, *SURFACE_ASKED[1:], wide_questions.read_all)
"""Questions that may ask for what is not there, each with its share for plates and surfaces below."""
PLATE_SHARES: tuple[float, ...] = (0.3, 0.35, 0.3, 0.05)
SURFACE_SHARES: tuple[float, ...] = (0.35, 0.2, 0.3, 0.1, 0.05)


def maybe_missing(rng: np.random.Generator, picture: Picture, number: int) -> list[Exchange]:
    """Ask `number` different questions about what may not be there: null, an empty list, none, or a sentence."""
    asking, shares = SURFACE_ASKED, SURFACE_SHARES
    if picture.is_outside:
        asking, shares = OUTSIDE_ASKED, (1 / len(OUTSIDE_ASKED),) * len(OUTSIDE_ASKED)
    elif picture.rows:
        asking, shares = PLATE_ASKED, PLATE_SHARES
    chosen = rng.choice(len(asking), number, replace=False, p=shares)
    return [asking[int(i)](rng, picture, _language(rng)) for i in chosen]


def _not_there_picture(rng: np.random.Generator, chance: float) -> Picture:
    """Draw a plate, a surface, sometimes an empty one, or a picture outside the domain, by a `chance` of 0 to 1."""
    scale = _scale(rng, sizes=True)
    if chance < 0.38:
        return panels.draw_panel(rng, rows=int(rng.integers(1, MOST_ROWS + 1)), scale=scale, worn=False)
    if chance < 0.92:
        things = 0 if rng.random() < 0.12 else int(rng.integers(1, MOST_THINGS + 1))
        return scenes.draw_scene(rng, things=things, scale=scale, worn=False)
    return outside.draw_outside(rng, panels.COLUMNS, panels.LINES, scale=NATIVE)


def _not_there_lesson(rng: np.random.Generator) -> Lesson:
    """Draw a picture and ask about it; much of what is asked may be missing."""
    picture = _not_there_picture(rng, rng.random())
    if picture.rows:
        asked = [about_panel(rng, picture)[int(rng.integers(0, 3))], *maybe_missing(rng, picture, 2)]
    else:
        asked = maybe_missing(rng, picture, 3)
        if picture.things and rng.random() < 0.5:
            asked[0] = about_scene(rng, picture)[int(rng.integers(0, 3))]
    asked = [in_thousandths(exchange, picture) for exchange in asked]
    return Lesson((picture,), singly(asked), family=RELATIVE, seen=(as_seen(picture, rng),))


def make_lesson(stage: str, rng: np.random.Generator) -> Lesson:
    """Draw one lesson of a stage."""
    if stage == "not there":
        return _not_there_lesson(rng)
    if stage == "letters":
        picture = panels.draw_characters(rng, scale=NATIVE)
        return Lesson((picture,), (), family=RELATIVE, seen=(as_seen(picture, rng),))
    scale = _scale(rng, sizes=stage == "all sizes")
    if stage == "short panels" or rng.random() < 0.5:
        rows = int(rng.integers(1, 3 if stage == "short panels" else MOST_ROWS + 1))
        picture = panels.draw_panel(rng, rows=rows, scale=scale, worn=False)
        asked = about_panel(rng, picture)
    else:
        picture = scenes.draw_scene(rng, things=int(rng.integers(1, MOST_THINGS + 1)), scale=scale, worn=False)
        asked = about_scene(rng, picture)
    asked = [in_thousandths(exchange, picture) for exchange in asked]
    return Lesson((picture,), singly(asked), family=RELATIVE, seen=(as_seen(picture, rng),))


def make_lessons(stage: str, seed: int, first: int) -> list[list[Lesson]]:
    """Draw one step's lessons, from picture `first` of a seed on, those of about one length together."""
    lessons = [make_lesson(stage, generator(Split.TRAINING, seed, first + i)) for i in range(PICTURES_A_STEP)]
    lessons.sort(key=lambda lesson: sum(len(e.answer) for talk in lesson.conversations for e in talk))
    return [lessons[i : i + PACKED] for i in range(0, PICTURES_A_STEP, PACKED)]


def file_of(rng: np.random.Generator, picture: Picture) -> tuple[bytes, str]:
    """Return the picture as a file: as PNG at its seen size, or larger as JPEG."""
    buffer = io.BytesIO()
    if picture.large.size == SEEN:
        as_seen(picture, rng).save(buffer, "PNG", optimize=False)
        return buffer.getvalue(), "picture.png"
    picture.large.save(buffer, "JPEG", quality=int(rng.integers(75, 96)))
    return buffer.getvalue(), "picture.jpg"


def _panel_paper(seed: int, index: int) -> Paper:
    rng = generator(Split.EXAMINATION, seed + 2_000_000, 2 * index)
    picture = panels.draw_panel(
        rng, rows=int(rng.integers(1, MOST_ROWS + 1)), scale=_scale(rng, sizes=True), worn=False
    )
    first, second = BATCH_LANGUAGES[index % 2]
    rows = [picture.rows[int(i)] for i in rng.integers(0, len(picture.rows), 3)]
    asked = (
        questions.read_all(rng, picture, first),
        questions.fields_as_json(rng, picture, second),
        questions.one_field(rng, rows[0], first),
        questions.one_field(rng, rows[1], second),
        questions.row_box(rng, rows[2], first),
    )
    return Paper(picture, *file_of(rng, picture), tuple(in_thousandths(e, picture) for e in asked))


def _scene_paper(seed: int, index: int) -> Paper:
    rng = generator(Split.EXAMINATION, seed + 2_000_000, 2 * index + 1)
    picture = scenes.draw_scene(
        rng, things=int(rng.integers(1, MOST_THINGS + 1)), scale=_scale(rng, sizes=True), worn=False
    )
    first, second = BATCH_LANGUAGES[index % 2]
    kinds, present = list(KINDS), sorted({t.kind for t in picture.things})
    asked = (
        questions.detect_all(rng, picture, first),
        questions.detect_kind(rng, picture, present[int(rng.integers(0, len(present)))], second),
        questions.count(rng, picture, None, first),
        questions.count(rng, picture, kinds[int(rng.integers(0, len(kinds)))], second),
        questions.yes_no(rng, picture, ("rust", "scratch")[index % 2], first),
    )
    return Paper(picture, *file_of(rng, picture), tuple(in_thousandths(e, picture) for e in asked))


def papers(seed: int, pictures: int) -> list[Paper]:
    """Draw `pictures` papers, panels and surfaces by turns."""
    return [_panel_paper(seed, i // 2) if i % 2 == 0 else _scene_paper(seed, i // 2) for i in range(pictures)]


def skill_papers(seed: int, pictures: int) -> list[Paper]:
    """Draw `pictures` papers that ask for what may not be there; their answers have boxes in the drawing's own pixels."""
    made = []
    for number in range(pictures):
        rng = generator(Split.EXAMINATION, seed + 3_000_000, number)
        picture = _not_there_picture(rng, (number % 8 + 0.5) / 8)
        made.append(Paper(picture, *file_of(rng, picture), tuple(maybe_missing(rng, picture, 4))))
    return made
