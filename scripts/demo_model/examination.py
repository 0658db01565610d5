"""Examination papers: fresh pictures as files, each with questions of every skill in both languages.

It draws and asks; how a reply is marked is in `scoring.py`, who replies is in `evaluate.py`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np

from scripts.demo_model import (
    cell_plates,
    outside,
    panels,
    questions,
    scenes,
    surfaces,
    thing_questions,
    wide_questions,
)
from scripts.demo_model.cell_plates import slight_turn
from scripts.demo_model.crops import cropped
from scripts.demo_model.curriculum import Split, generator
from scripts.demo_model.drawing import HELD_OUT_FONTS, TAUGHT_FONTS, Picture
from scripts.demo_model.drawn_lessons import WIDEST_PLACE, pair_lesson, random_grid
from scripts.demo_model.phrases import KINDS, Language
from scripts.demo_model.questions import Exchange
from scripts.demo_model.sheets import Places, free_places

BATCH_LANGUAGES: tuple[tuple[Language, Language], ...] = (("en", "zh"), ("zh", "en"))


@dataclass(frozen=True)
class Paper:
    """A picture, the file it arrives as, and what is asked about it.

    `more` are further pictures of the same question, `continues` the numbers of exchanges that go on with the conversation
    of the one before. `before` are papers of one question each that are asked first in the same conversation, each time a new one
    begins. A paper without `file` asks about no picture.
    """

    picture: Picture
    file: bytes
    name: str
    exchanges: tuple[Exchange, ...]
    more: tuple[tuple[bytes, str], ...] = ()
    continues: frozenset[int] = frozenset()
    before: tuple[Paper, ...] = ()

    @property
    def files(self) -> tuple[tuple[bytes, str], ...]:
        """Return all files with their names, in order."""
        return ((self.file, self.name), *self.more) if self.file else ()


def file_of(rng: np.random.Generator, picture: Picture) -> tuple[bytes, str]:
    """Return the picture as a file: as PNG at its seen size, or larger as JPEG."""
    buffer = io.BytesIO()
    if picture.large.size == picture.image.size:
        picture.image.save(buffer, "PNG", optimize=False)
        return buffer.getvalue(), "picture.png"
    picture.large.save(buffer, "JPEG", quality=int(rng.integers(75, 96)))
    return buffer.getvalue(), "picture.jpg"


LARGE = (2.2, 3.0)
"""How many times larger than the usual seen size a file is that any rung of the plan can show in full."""


def _scale(rng: np.random.Generator, most: float, *, is_large: bool) -> float:
    """Choose how many times larger a file is: half of them are of the seen size, unless all are to be large."""
    if is_large:
        return float(rng.uniform(*LARGE))
    return 1.0 if rng.random() < 0.5 else float(rng.uniform(1.0, most))


def panel_paper(
    seed: int,
    index: int,
    *,
    fonts: tuple[str, ...] = TAUGHT_FONTS,
    split: Split = Split.EXAMINATION,
    is_large: bool = False,
) -> Paper:
    """Draw a panel, at its seen size or up to three times larger, and ask five questions about it."""
    rng = generator(split, seed, 2 * index)
    scale = _scale(rng, 3.0, is_large=is_large)
    picture = panels.draw_panel(rng, scale=scale, fonts=fonts)
    first, second = BATCH_LANGUAGES[index % 2]
    rows = [picture.rows[int(i)] for i in rng.integers(0, len(picture.rows), 3)]
    asked = (
        questions.read_all(rng, picture, first),
        questions.fields_as_json(rng, picture, second),
        questions.one_field(rng, rows[0], first),
        questions.one_field(rng, rows[1], second),
        questions.row_box(rng, rows[2], first),
    )
    return Paper(picture, *file_of(rng, picture), asked)


def scene_paper(seed: int, index: int, *, split: Split = Split.EXAMINATION, is_large: bool = False) -> Paper:
    """Draw a surface, at its seen size or up to three times larger, and ask up to seven questions about it."""
    rng = generator(split, seed, 2 * index + 1)
    scale = _scale(rng, 3.0, is_large=is_large)
    picture = scenes.draw_scene(rng, scale=scale)
    first, second = BATCH_LANGUAGES[index % 2]
    kinds, present = list(KINDS), sorted({t.kind for t in picture.things})
    asked = [
        questions.detect_all(rng, picture, first),
        questions.detect_kind(rng, picture, present[int(rng.integers(0, len(present)))], second),
        questions.count(rng, picture, None, first),
        questions.count(rng, picture, kinds[int(rng.integers(0, len(kinds)))], second),
        questions.yes_no(rng, picture, "rust", first),
        questions.yes_no(rng, picture, "scratch", second),
    ]
    single = [t for t in picture.things if t.colour and sum(o.kind == t.kind for o in picture.things) == 1]
    if single:
        asked.append(
            questions.colour(rng, single[int(rng.integers(0, len(single)))], first if index % 4 < 2 else second)
        )
    return Paper(picture, *file_of(rng, picture), tuple(asked))


def papers(seed: int, pictures: int, *, unseen_fonts: bool = False, is_large: bool = False) -> list[Paper]:
    """Draw `pictures` papers, panels and surfaces by turns; panels only, in fonts never taught, with `unseen_fonts`.

    Their files are all more than twice as large as usually seen where `is_large`.
    """
    if unseen_fonts:
        return [panel_paper(seed, i, fonts=HELD_OUT_FONTS, is_large=is_large) for i in range(pictures)]
    makers = (panel_paper, scene_paper)
    return [makers[i % 2](seed, i // 2, is_large=is_large) for i in range(pictures)]


def skill_papers(
    seed: int, pictures: int, *, unseen_fonts: bool = False, is_wide: bool = False, is_large: bool = False
) -> list[Paper]:
    """Draw papers for every skill: plates, tables, surfaces, pairs, pictures outside the domain, and small talk by turns.

    Plates only, in fonts never taught, with `unseen_fonts`. What `is_wide` has more kinds of things, and characters off the grid as
    well. What `is_large` comes as files of more than twice the size that is usually seen.
    """
    how = _How(is_wide, is_large)
    makers = (
        _plate_paper,
        _surface_paper,
        _plate_paper,
        _table_paper,
        _surface_paper,
        _pair_paper,
        _plate_paper,
        _outside_paper,
    )
    made = []
    for i in range(pictures):
        rng = generator(Split.EXAMINATION, seed + 1_000_000, i)
        if unseen_fonts:
            made.append(_plate_paper(rng, how, fonts=HELD_OUT_FONTS))
            continue
        made.append(makers[i % len(makers)](rng, how))
        if i % len(makers) == 0:
            made.append(_talk_paper(rng))
    return made


def crop_papers(seed: int, pictures: int) -> list[Paper]:
    """Draw papers of plates of which a part alone arrives: the file is some of the rows, cut out of a large picture."""
    made = []
    for i in range(pictures):
        rng = generator(Split.EXAMINATION, seed + 2_000_000, i)
        columns, lines = random_grid(rng, known=0.5)
        chinese, scale = bool(rng.random() < 0.4), _scale(rng, LARGE[1], is_large=True)
        whole = cell_plates.draw_cell_panel(rng, columns, lines, scale=scale, chinese=chinese, most_rows=4)
        count = int(rng.integers(1, max(2, len(whole.rows))))
        first = int(rng.integers(0, len(whole.rows) - count + 1))
        picture = cropped(whole, first, first + count - 1)
        language = wide_questions.language_for(rng, picture)
        asked = (
            wide_questions.read_all,
            wide_questions.one_field,
            wide_questions.fields_as_json,
            wide_questions.row_box,
        )
        made.append(_paper(rng, picture, [(ask(rng, picture, language),) for ask in asked]))
    return made


def later_papers(seed: int, pictures: int) -> list[Paper]:
    """Draw papers whose picture comes later in a conversation: after another one, or two, with a question about each.

    Every third are two plates with the same labels and some other values.
    """
    how = _How(is_wide=False, is_large=False)
    makers = (_plate_paper, _surface_paper, _table_paper, _plate_paper, _outside_paper)
    made = []
    for i in range(pictures):
        rng = generator(Split.EXAMINATION, seed + 3_000_000, i)
        if i % 3 == 0:
            drawn = _drawn_as(rng, how)
            first, second = pair_lesson(rng, drawn.columns, drawn.lines).pictures
            earlier, last = [_about_plate(rng, first)], _about_plate(rng, second)
        else:
            earlier = [makers[int(rng.integers(0, len(makers)))](rng, how) for _ in range(1 if i % 3 == 1 else 2)]
            last = makers[i // 3 % len(makers)](rng, how)
        made.append(replace(last, before=tuple(_asked_once(rng, paper) for paper in earlier)))
    return made


def _asked_once(rng: np.random.Generator, paper: Paper) -> Paper:
    """Return a paper with one of its questions that can stand first in a conversation."""
    firsts = [exchange for i, exchange in enumerate(paper.exchanges) if i not in paper.continues]
    return replace(paper, exchanges=(firsts[int(rng.integers(0, len(firsts)))],), continues=frozenset())


def _paper(rng: np.random.Generator, picture: Picture, talks: list[tuple[Exchange, ...]]) -> Paper:
    exchanges: list[Exchange] = []
    continues = set()
    for talk in talks:
        for number, exchange in enumerate(talk):
            if number:
                continues.add(len(exchanges))
            exchanges.append(exchange)
    return Paper(picture, *file_of(rng, picture), tuple(exchanges), continues=frozenset(continues))


@dataclass(frozen=True)
class _How:
    """Which papers are drawn."""

    is_wide: bool
    is_large: bool


@dataclass(frozen=True)
class _Drawn:
    """How a picture of the wider domain is drawn; `places` are None where each character has its visual token."""

    columns: int
    lines: int
    scale: float
    angle: float
    places: Places | None


def _drawn_as(rng: np.random.Generator, how: _How) -> _Drawn:
    columns, lines = random_grid(rng, known=0.5)
    scale = _scale(rng, 2.5, is_large=how.is_large)
    if how.is_wide and rng.random() < 0.35:
        places = free_places(rng, columns, lines, widest=WIDEST_PLACE)
        return _Drawn(columns, lines, scale, float(rng.uniform(-3, 3)) if rng.random() < 0.5 else 0.0, places)
    return _Drawn(columns, lines, scale, 0.0 if rng.random() < 0.7 else slight_turn(rng, columns, lines), None)


def _plate_paper(rng: np.random.Generator, how: _How, *, fonts: tuple[str, ...] = cell_plates.CELL_FONTS) -> Paper:
    drawn = _drawn_as(rng, how)
    picture = cell_plates.draw_cell_panel(
        rng,
        drawn.columns,
        drawn.lines,
        scale=drawn.scale,
        angle=drawn.angle,
        chinese=fonts is cell_plates.CELL_FONTS and rng.random() < 0.4,
        fonts=fonts,
        places=drawn.places,
        most_rows=5 if how.is_wide else 4,
    )
    return _about_plate(rng, picture)


def _about_plate(rng: np.random.Generator, picture: Picture) -> Paper:
    language = wide_questions.language_for(rng, picture)
    talks: list[tuple[Exchange, ...]] = [
        (wide_questions.read_all(rng, picture, language),),
        (wide_questions.fields_as_json(rng, picture, language),),
        (wide_questions.spot(rng, picture, language),),
        wide_questions.follow_up(rng, picture, language),
        (wide_questions.row_box(rng, picture, language),),
        (wide_questions.describe(rng, picture, language),),
        (wide_questions.beyond(rng, picture, language),),
    ]
    return _paper(rng, picture, talks)


def _surface_paper(rng: np.random.Generator, how: _How) -> Paper:
    drawn = _drawn_as(rng, how)
    if how.is_wide:
        picture = surfaces.draw_surface(rng, drawn.columns, drawn.lines, scale=drawn.scale)
    else:
        picture = scenes.draw_scene(
            rng, drawn.columns, drawn.lines, things=0 if rng.random() < 0.1 else None, scale=drawn.scale
        )
    language: Language = "en" if rng.random() < 0.5 else "zh"
    asked = (
        thing_questions.detect_all,
        thing_questions.detect_kind,
        thing_questions.count,
        thing_questions.yes_no,
        thing_questions.colour,
        wide_questions.describe,
        wide_questions.fields_as_json,
    )
    return _paper(rng, picture, [(ask(rng, picture, language),) for ask in asked])


def _table_paper(rng: np.random.Generator, how: _How) -> Paper:
    drawn = _drawn_as(rng, how)
    columns, lines, places = drawn.columns, drawn.lines, drawn.places
    if (places.lines if places else lines) < 3 or (places.columns if places else columns) < 7:
        columns, lines, places = panels.COLUMNS, panels.LINES, None
    picture = cell_plates.draw_cell_table(
        rng, columns, lines, scale=drawn.scale, chinese=rng.random() < 0.4, places=places
    )
    return _paper(rng, picture, wide_questions.about_table(rng, picture))


def _pair_paper(rng: np.random.Generator, how: _How) -> Paper:
    drawn = _drawn_as(rng, how)
    lesson = pair_lesson(rng, drawn.columns, drawn.lines, scale=drawn.scale if how.is_large else 1.0)
    first, second = lesson.pictures
    exchanges = tuple(exchange for talk in lesson.conversations for exchange in talk)
    return Paper(first, *file_of(rng, first), exchanges, more=(file_of(rng, second),))


def _outside_paper(rng: np.random.Generator, how: _How) -> Paper:
    drawn = _drawn_as(rng, how)
    held_out = rng.random() < 0.3
    picture = outside.draw_outside(rng, drawn.columns, drawn.lines, scale=drawn.scale, held_out=held_out)
    return _paper(rng, picture, wide_questions.about_outside(rng, picture))


def _talk_paper(rng: np.random.Generator) -> Paper:
    picture = scenes.draw_scene(rng)
    asked = tuple(wide_questions.about(rng, language) for language in ("en", "zh"))
    return Paper(picture, b"", "", asked)
