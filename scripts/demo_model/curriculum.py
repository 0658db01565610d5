"""The order of lessons: which pictures and questions come in which stage, and how fast the model may change there.

Every lesson is drawn from `(split, seed, index)`, so training and examination pictures differ by construction.
It knows no tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from scripts.demo_model import cell_plates, outside, panels, questions, scenes, surfaces, wide_questions
from scripts.demo_model.drawing import Picture
from scripts.demo_model.lessons import Conversation, Lesson, length
from scripts.demo_model.magnified import magnified, seen_grid
from scripts.demo_model.phrases import LABELS_ZH, WORDS_ZH
from scripts.demo_model.questions import Exchange
from scripts.demo_model.sheets import free_places


class Split(IntEnum):
    """What a drawn picture is for. It is part of every seed: no two splits ever share a picture."""

    TRAINING = 1
    EXAMINATION = 2
    SAMPLES = 3


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Rates stay until the part `hold` of the stage is done and then fall in a straight line to `last` times themselves. `guide` and `align` weigh guided attention and what visual
    tokens say; `letters` is the share of steps at its beginning that teach vision alone, and all do in the part `alone` of its time; `larger`
    is the share of larger grids with characters anywhere. Lessons of vision alone are of the kind `alone_kind`; where it `keeps_words`, they
    move nothing but vision, or a long row of them would move the words away from the language layers that know them. A stage `to_the_end` ends when the run's time is up instead of after `steps`.
    """

    name: str
    steps: int
    muon: float
    adam: float
    last: float
    guide: float
    align: float = 0.3
    letters: float = 0.0
    alone: float = 0.0
    alone_kind: str = "wide letters"
    keeps_words: bool = False
    larger: float = 0.0
    to_the_end: bool = False
    hold: float = 0.0

    def letters_share(self, progress: float) -> float:
        """Return the share of steps that teach vision alone when a part `progress` of the stage, 0 to 1, is done."""
        return 1.0 if progress < self.alone else self.letters * (1.0 - progress)

    def rate(self, progress: float) -> float:
        """Return what rates are multiplied by when a part `progress` of the stage, 0 to 1, is done."""
        return 1.0 + (self.last - 1.0) * max(0.0, progress - self.hold) / (1.0 - self.hold)


FIRST_STAGES = (
    Stage("letters", 170, muon=0.01, adam=0.002, last=1.0, guide=0.0, align=1.0),
    Stage("short panels", 90, muon=0.006, adam=0.002, last=1.0, guide=0.5),
    Stage("panels", 120, muon=0.006, adam=0.002, last=1.0, guide=0.5),
    Stage("everything", 1200, muon=0.006, adam=0.002, last=0.8, guide=0.3),
    Stage("all sizes", 700, muon=0.005, adam=0.0016, last=0.1, guide=0.2),
    Stage("asked labels", 450, muon=0.005, adam=0.0016, last=0.0, guide=0.3),
    Stage("surfaces", 900, muon=0.005, adam=0.0016, last=0.0, guide=0.3),
)
SKILL_STAGES = (
    Stage(
        "skills", 0, muon=0.0025, adam=0.0009, last=0.0, guide=0.3, align=0.5, letters=0.35, to_the_end=True, hold=0.4
    ),
)
"""All that may be asked, about plates of both scripts, tables and surfaces in many shapes, with the first domain's things."""
SCALE_STAGES = (
    Stage(
        "scales",
        0,
        muon=0.0025,
        adam=0.0009,
        last=0.0,
        guide=0.3,
        align=0.5,
        letters=0.5,
        alone=0.3,
        alone_kind="scales letters",
        keeps_words=True,
        to_the_end=True,
        hold=0.5,
    ),
)
"""The same, seen with up to four times as many visual tokens: first vision alone, until characters anywhere are read."""
WIDE_STAGES = (
    Stage(
        "wide", 0, muon=0.004, adam=0.0012, last=0.03, guide=0.3, align=0.5, letters=0.25, larger=0.1, to_the_end=True
    ),
)
"""Chinese plates, more kinds of things, other shapes and sizes as well. Two contended cores were not enough to finish it."""

LETTERS_LATIN = panels.LETTERS + panels.DIGITS * 2 + ".-"
LETTERS_CHINESE = "".join(sorted({c for word in (*LABELS_ZH, *WORDS_ZH) for c in word}))
PICTURES_PER_SHARE = 12
SHARES = 2
"""Shares of a step, each of one grid and kind of lesson: one for each of two processes, or one after the other."""
PANELS_SHARE = {"asked labels": 0.7, "surfaces": 0.35}
"""The part of a stage's pictures that are panels, where it is not a half."""
WIDE_TOKENS = (55, 65)
"""Fewest and most visual tokens of a picture: what the first processor's limits of 43,008 and 50,960 pixels allow, in any shape."""
RUNGS = (130, 260)
"""Most visual tokens of a picture on the rungs above the usual one."""
LARGER_TOKENS = (60, 110)
"""Those of the larger sizes, where characters stand anywhere."""
CHINESE_SHARE = 0.4
"""The part of drawn plates and tables that are Chinese."""
WIDEST_PLACE, WIDEST_SCALED = 40.0, 60.0
"""Pixels between the middles of two characters, at most: on the larger sizes, and on higher rungs."""
LONGEST = 235
"""Tokens of a lesson, from which on it gets no further conversation: a step is as long as its longest lesson."""


def generator(split: Split, seed: int, index: int) -> np.random.Generator:
    """Return the random generator of one picture."""
    return np.random.default_rng((int(split), seed, index))


def make_lessons(stage: str, seed: int, first: int, *, larger: float = 0.0) -> list[Lesson]:
    """Draw one process's share of a step. At most PICTURES_PER_SHARE indices from `first` on are used.

    `larger` is the chance of a larger grid on which characters stand anywhere.
    """
    rngs = [generator(Split.TRAINING, seed, first + i) for i in range(PICTURES_PER_SHARE)]
    if stage == "skills":
        return _skill_lessons(rngs)
    if stage.startswith("scales"):
        return _scale_lessons(rngs, letters=stage == "scales letters")
    if not stage.startswith("wide"):
        return [make_lesson(stage, rng) for rng in rngs]
    rng = rngs[0]
    is_larger = rng.random() < larger
    columns, lines = random_grid(rng, tokens=LARGER_TOKENS, known=0.2) if is_larger else random_grid(rng)
    if stage == "wide letters":
        return [letters_lesson(r, columns, lines, is_free=is_larger) for r in rngs]
    if not is_larger and rng.random() < 0.09:
        return [shortened(pair_lesson(r, columns, lines), LONGEST + columns * lines) for r in rngs[:8]]
    most = PICTURES_PER_SHARE if columns * lines <= WIDE_TOKENS[1] else 9
    limit = LONGEST + max(0, columns * lines - WIDE_TOKENS[1])
    return [shortened(wide_lesson(r, columns, lines, is_free=is_larger), limit) for r in rngs[:most]]


def _skill_lessons(rngs: list[np.random.Generator]) -> list[Lesson]:
    columns, lines = random_grid(rngs[0], known=0.3)
    if rngs[0].random() < 0.16:
        return [shortened(pair_lesson(r, columns, lines), LONGEST + columns * lines) for r in rngs[:8]]
    return [shortened(skill_lesson(r, columns, lines), LONGEST) for r in rngs]


def _scale_lessons(rngs: list[np.random.Generator], *, letters: bool) -> list[Lesson]:
    """Draw lessons that share a grid: the usual one, one of a higher rung, or any between."""
    rng = rngs[0]
    columns, lines = random_grid(rng, known=0.3)
    chance = rng.random()
    most = 0 if chance < 0.22 else RUNGS[0] if chance < 0.44 else RUNGS[1] if chance < 0.78 else None
    seen = seen_grid(columns, lines, int(rng.integers(WIDE_TOKENS[1], RUNGS[1] + 1)) if most is None else most)
    cells = seen[0] * seen[1]
    fewer = rngs[: max(4, round(PICTURES_PER_SHARE * min(1.0, (WIDE_TOKENS[1] / cells) ** 0.8)))]
    is_free = chance > 0.72
    if letters:
        return [scaled_letters(r, (columns, lines), seen, is_free=is_free) for r in fewer]
    limit = LONGEST + max(0, cells - WIDE_TOKENS[1])
    if rng.random() < 0.12 and cells <= RUNGS[0]:
        pairs = [pair_lesson(r, columns, lines, seen=seen) for r in fewer[:8]]
        return [shortened(lesson, limit + cells) for lesson in pairs]
    if is_free:
        return [shortened(roomy_lesson(r, *seen), limit) for r in fewer]
    return [shortened(skill_lesson(r, columns, lines, seen=seen), limit) for r in fewer]


def scaled_letters(rng: np.random.Generator, grid: tuple[int, int], seen: tuple[int, int], *, is_free: bool) -> Lesson:
    """Draw a lesson for vision alone, of a plate of one `grid` that is `seen` with another, or with characters anywhere."""
    alphabet = LETTERS_CHINESE if rng.random() < 0.5 else LETTERS_LATIN
    if is_free:
        places = free_places(rng, *seen, widest=WIDEST_SCALED)
        return Lesson((cell_plates.draw_cell_letters(rng, *seen, alphabet=alphabet, places=places),), ())
    scale = max(seen[0] / grid[0], seen[1] / grid[1]) if seen != grid else 1.0
    picture = cell_plates.draw_cell_letters(rng, *grid, alphabet=alphabet, scale=scale)
    return Lesson((picture if seen == grid else magnified(rng, picture, *seen),), ())


def roomy_lesson(rng: np.random.Generator, columns: int, lines: int) -> Lesson:
    """Draw a plate with room for more than usual, its characters anywhere or one to a visual token, and ask about it."""
    places = free_places(rng, columns, lines, widest=WIDEST_SCALED) if rng.random() < 0.7 else None
    across, down = (places.columns, places.lines) if places else (columns, lines)
    scale = float(rng.uniform(1.0, 2.0)) if rng.random() < 0.4 else 1.0
    chinese = rng.random() < CHINESE_SHARE
    if rng.random() < 0.25 and across >= 7 and down >= 3:
        picture = cell_plates.draw_cell_table(rng, columns, lines, scale=scale, chinese=chinese, places=places)
        return Lesson((picture,), tuple(wide_questions.about_table(rng, picture)), _alone(rng))
    angle = float(rng.uniform(-2, 2)) if places and rng.random() < 0.3 else 0.0
    picture = cell_plates.draw_cell_panel(
        rng, columns, lines, scale=scale, angle=angle, chinese=chinese, places=places, most_rows=6
    )
    return Lesson((picture,), tuple(wide_questions.about_plate(rng, picture)), _alone(rng))


def skill_lesson(rng: np.random.Generator, columns: int, lines: int, *, seen: tuple[int, int] | None = None) -> Lesson:
    """Draw a plate or a surface, a table, nothing at all or something outside, and ask whatever may be asked.

    It is `seen` with so many visual tokens across and down where that is more than it was drawn for.
    """
    scale = float(rng.uniform(1.0, 3.0)) if rng.random() < 0.4 else 1.0
    if seen is not None:
        scale = max(scale, seen[0] / columns, seen[1] / lines)

    def as_seen(picture: Picture) -> Picture:
        return picture if seen in (None, (columns, lines)) else magnified(rng, picture, *seen)

    is_first = (columns, lines) == (panels.COLUMNS, panels.LINES)
    chance = rng.random()
    if chance < 0.42 and is_first:
        picture, exchanges = first_picture(rng, scale, panels_share=0.4, as_seen=as_seen)
        if rng.random() < 0.5:
            return Lesson((picture,), singly(exchanges))
        talk = wide_questions.about_plate if picture.rows else wide_questions.about_surface
        conversations = talk(rng, picture)
    elif chance < 0.6:
        angle = cell_plates.slight_turn(rng, columns, lines) if rng.random() < 0.3 else 0.0
        chinese = rng.random() < CHINESE_SHARE
        picture = cell_plates.draw_cell_panel(
            rng, columns, lines, scale=scale, angle=angle, chinese=chinese, most_rows=4
        )
        picture = as_seen(picture)
        conversations = wide_questions.about_plate(rng, picture)
    elif chance < 0.7 and columns >= 7 and lines >= 4:
        picture = cell_plates.draw_cell_table(rng, columns, lines, scale=scale, chinese=rng.random() < CHINESE_SHARE)
        picture = as_seen(picture)
        conversations = wide_questions.about_table(rng, picture)
    elif chance < 0.9:
        things = 0 if rng.random() < 0.25 else None
        picture = as_seen(scenes.draw_scene(rng, columns, lines, things=things, scale=scale))
        conversations = wide_questions.about_surface(rng, picture)
    else:
        picture = outside.draw_outside(rng, *(seen or (columns, lines)))
        conversations = wide_questions.about_outside(rng, picture)
    if rng.random() < 0.08:
        conversations.insert(1, (wide_questions.beyond(rng, picture, wide_questions.language_for(rng, picture)),))
    return Lesson((picture,), tuple(conversations), _alone(rng))


def shortened(lesson: Lesson, longest: int) -> Lesson:
    """Leave out conversations, never the first, that would make a lesson longer than `longest` tokens."""
    kept: tuple[Conversation, ...] = lesson.conversations[:1]
    bare = length(replace(lesson, conversations=(), alone=()))
    taken = length(replace(lesson, conversations=kept))
    for conversation in lesson.conversations[1:]:
        # Lengths add up: each conversation stands on its own behind the picture.
        more = length(Lesson(lesson.pictures, (conversation,))) - bare
        if taken + more <= longest:
            kept, taken = (*kept, conversation), taken + more
    return replace(lesson, conversations=kept)


def make_lesson(stage: str, rng: np.random.Generator) -> Lesson:
    """Draw one lesson of a first stage."""
    if stage == "letters":
        return Lesson((panels.draw_characters(rng),), ())
    if stage in ("short panels", "panels"):
        rows = int(rng.integers(1, 3)) if stage == "short panels" else int(rng.integers(2, 5))
        picture = panels.draw_panel(rng, rows=rows)
        return Lesson((picture,), singly(questions.about_panel(rng, picture)))
    scale = 1.0
    if stage in ("all sizes", "asked labels", "surfaces") and rng.random() < 0.5:
        scale = float(rng.uniform(1.0, 3.0))
    return first_lesson(rng, scale, panels_share=PANELS_SHARE.get(stage, 0.5))


def first_lesson(rng: np.random.Generator, scale: float, *, panels_share: float) -> Lesson:
    """Draw a panel or a scene of the first domain with its questions."""
    picture, exchanges = first_picture(rng, scale, panels_share=panels_share)
    return Lesson((picture,), singly(exchanges))


def first_picture(
    rng: np.random.Generator,
    scale: float,
    *,
    panels_share: float,
    as_seen: Callable[[Picture], Picture] = lambda picture: picture,
) -> tuple[Picture, list[Exchange]]:
    """Draw a panel or a scene of the first domain, and ask about it `as_seen`."""
    if rng.random() < panels_share:
        picture = as_seen(panels.draw_panel(rng, scale=scale))
        return picture, questions.about_panel(rng, picture)
    picture = as_seen(scenes.draw_scene(rng, scale=scale))
    return picture, questions.about_scene(rng, picture)


def singly(exchanges: list[Exchange]) -> tuple[Conversation, ...]:
    """Make a conversation of each exchange."""
    return tuple((exchange,) for exchange in exchanges)


def random_grid(
    rng: np.random.Generator, *, tokens: tuple[int, int] = WIDE_TOKENS, known: float = 0.5
) -> tuple[int, int]:
    """Choose how many visual tokens a picture has across and down: with the chance `known` those of the first domain."""
    if rng.random() < known:
        return panels.COLUMNS, panels.LINES
    fewest, most = tokens
    shapes = [(c, n) for c in range(6, 24) for n in range(3, 13) if fewest <= c * n <= most and 0.5 <= c / n <= 7.5]
    return shapes[int(rng.integers(0, len(shapes)))]


def letters_lesson(rng: np.random.Generator, columns: int, lines: int, *, is_free: bool = False) -> Lesson:
    """Draw a lesson for vision alone; characters stand anywhere when it `is_free`."""
    alphabet = LETTERS_CHINESE if rng.random() < 0.65 else LETTERS_LATIN
    places = free_places(rng, columns, lines, widest=WIDEST_PLACE) if is_free else None
    return Lesson((cell_plates.draw_cell_letters(rng, columns, lines, alphabet=alphabet, places=places),), ())


def wide_lesson(rng: np.random.Generator, columns: int, lines: int, *, is_free: bool = False) -> Lesson:
    """Draw one lesson of the wider domain on a grid; the first domain stays among them."""
    scale = float(rng.uniform(1.0, 3.0)) if rng.random() < 0.4 else 1.0
    if not is_free and (columns, lines) == (panels.COLUMNS, panels.LINES) and rng.random() < 0.5:
        lesson = first_lesson(rng, scale, panels_share=0.5)
        if rng.random() < 0.5:
            return lesson
        picture = lesson.pictures[0]
        talk = wide_questions.about_plate if picture.rows else wide_questions.about_surface
        return Lesson((picture,), tuple(talk(rng, picture)), _alone(rng))
    places, angle = None, 0.0
    if is_free:
        places = free_places(rng, columns, lines, widest=WIDEST_PLACE)
        angle = float(rng.uniform(-3, 3)) if rng.random() < 0.3 else 0.0
    elif rng.random() < 0.15:
        angle = float(rng.uniform(-2, 2))
    across, down = (places.columns, places.lines) if places else (columns, lines)
    chinese = rng.random() < 0.35
    chance = rng.random()
    if chance < 0.42:
        picture = cell_plates.draw_cell_panel(
            rng, columns, lines, scale=scale, angle=angle, chinese=chinese, places=places
        )
        conversations = wide_questions.about_plate(rng, picture)
    elif chance < 0.54 and down >= 3 and across >= 7:
        picture = cell_plates.draw_cell_table(rng, columns, lines, scale=scale, chinese=chinese, places=places)
        conversations = wide_questions.about_table(rng, picture)
    elif chance < 0.86:
        picture = surfaces.draw_surface(rng, columns, lines, scale=scale)
        conversations = wide_questions.about_surface(rng, picture)
    else:
        picture = outside.draw_outside(rng, columns, lines)
        conversations = wide_questions.about_outside(rng, picture)
    return Lesson((picture,), tuple(conversations), _alone(rng))


def _alone(rng: np.random.Generator) -> tuple[Conversation, ...]:
    if rng.random() > 0.1:
        return ()
    return ((wide_questions.about(rng, "en" if rng.random() < 0.5 else "zh"),),)


def pair_lesson(
    rng: np.random.Generator,
    columns: int,
    lines: int,
    *,
    chinese: float = 0.35,
    scale: float = 1.0,
    seen: tuple[int, int] | None = None,
) -> Lesson:
    """Draw two panels with the same labels, some values changed in the second; `chinese` is the chance of Chinese ones.

    They are `seen` with so many visual tokens across and down where that is more than they were drawn for.
    """
    is_chinese = rng.random() < chinese
    if seen is not None:
        scale = max(scale, seen[0] / columns, seen[1] / lines)
    first = cell_plates.draw_cell_panel(rng, columns, lines, scale=scale, chinese=is_chinese, most_rows=3)
    texts = [(row.label, row.value) for row in first.rows]
    changed = set() if rng.random() < 0.2 else {int(i) for i in rng.integers(0, len(texts), int(rng.integers(1, 3)))}
    other = tuple(
        (label, cell_plates.wide_value(rng, max(2, len(value)), chinese=is_chinese) if i in changed else value)
        for i, (label, value) in enumerate(texts)
    )
    fixed = other if all(len(v) <= max(len(t[1]) for t in texts) for _, v in other) else tuple(texts)
    second = cell_plates.draw_cell_panel(rng, columns, lines, scale=scale, chinese=is_chinese, fixed=fixed)
    if seen is not None and seen != (columns, lines):
        first, second = (magnified(rng, picture, *seen) for picture in (first, second))
    return Lesson((first, second), singly(wide_questions.about_two(rng, (first, second))))
