"""The order of lessons: which pictures and questions come in which stage, and how many at which size.

Every lesson is drawn from `(split, seed, index)`, so training and examination pictures differ by construction.
It knows no tensors; one lesson is drawn in `drawn_lessons.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from scripts.demo_model.drawn_lessons import (
    WIDE_TOKENS,
    letters_lesson,
    make_lesson,
    pair_lesson,
    random_grid,
    roomy_lesson,
    scaled_letters,
    shortened,
    skill_lesson,
    wide_lesson,
)
from scripts.demo_model.later_lessons import later_lesson
from scripts.demo_model.lessons import Lesson
from scripts.demo_model.magnified import seen_grid
from scripts.demo_model.part_lessons import part_lesson, part_letters, random_part

PICTURES_PER_SHARE = 12
SHARES = 2
"""Shares of a step, each of one grid and kind of lesson: one for each of two processes, or one after the other."""
RUNGS = (130, 260)
"""Most visual tokens of a picture on the rungs above the usual one."""
LARGER_TOKENS = (60, 110)
"""Those of the larger sizes, where characters stand anywhere."""
LONGEST = 235
"""Tokens of a lesson, from which on it gets no further conversation: a step is as long as its longest lesson."""


class Split(IntEnum):
    """What a drawn picture is for. It is part of every seed: no two splits ever share a picture."""

    TRAINING = 1
    EXAMINATION = 2
    SAMPLES = 3


@dataclass(frozen=True)
class SizeShares:
    """How lessons of several sizes are shared out: the rungs of the plan, the rest between them.

    `free` is the part of those above the usual size whose characters stand anywhere, `surfaces` that of other lessons that show surfaces.
    `parts` comes before all that: the part of all lessons that show parts of plates, which are seen larger by themselves. `later` is the
    part of other lessons whose picture comes after another one, and `widest_pair` the most visual tokens of a picture that has another beside it.
    """

    usual: float
    detail: float
    document: float
    free: float
    surfaces: float = 0.2
    parts: float = 0.0
    later: float = 0.0
    widest_pair: int = RUNGS[0]

    def chances(self) -> tuple[float, float, float, float]:
        """Return the chance of each rung, from the usual one up, and of any size between them."""
        return self.usual, self.detail, self.document, 1.0 - self.usual - self.detail - self.document


SIZE_SHARES = {
    "scales": SizeShares(usual=0.22, detail=0.22, document=0.34, free=0.36),
    "sizes": SizeShares(usual=0.34, detail=0.3, document=0.22, free=0.2, surfaces=0.28),
    "parts": SizeShares(usual=0.36, detail=0.34, document=0.2, free=0.2, surfaces=0.32, parts=0.2),
    "turns": SizeShares(
        usual=0.38, detail=0.32, document=0.2, free=0.2, surfaces=0.36, parts=0.18, later=0.3, widest_pair=RUNGS[1]
    ),
}
PARTS_ABOVE = 0.25
"""The part of parts of plates that the first rung above the usual one shows."""


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
    if stage in SIZE_SHARES:
        return _scale_lessons(rngs, SIZE_SHARES[stage])
    if (kind := stage.removesuffix(" letters")) in SIZE_SHARES:
        return _scale_lessons(rngs, SIZE_SHARES[kind], letters=True)
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


def _scale_lessons(rngs: list[np.random.Generator], shares: SizeShares, *, letters: bool = False) -> list[Lesson]:
    """Draw lessons that share a grid: the usual one, one of a higher rung, or any between."""
    rng = rngs[0]
    if shares.parts and rng.random() < shares.parts:
        return _part_lessons(rngs, letters=letters)
    columns, lines = random_grid(rng, known=0.3)
    between = int(rng.integers(WIDE_TOKENS[1], RUNGS[1] + 1))
    most = int(rng.choice((0, *RUNGS, between), p=shares.chances()))
    seen = seen_grid(columns, lines, most)
    cells = seen[0] * seen[1]
    fewer = _as_many_as_fit(rngs, cells)
    is_free = rng.random() < shares.free and most != 0
    if letters:
        return [scaled_letters(r, (columns, lines), seen, is_free=is_free) for r in fewer]
    limit = LONGEST + max(0, cells - WIDE_TOKENS[1])
    if shares.later and rng.random() < shares.later and cells <= RUNGS[0]:
        most = 3 if cells <= WIDE_TOKENS[1] else 2
        few = fewer[: max(4, len(fewer) // 2)]
        return [later_lesson(r, columns, lines, seen=seen, surfaces=shares.surfaces, most_pictures=most) for r in few]
    if rng.random() < 0.12 and cells <= shares.widest_pair:
        pairs = [pair_lesson(r, columns, lines, seen=seen) for r in fewer[: 8 if cells <= RUNGS[0] else 3]]
        return [shortened(lesson, limit + cells) for lesson in pairs]
    if is_free:
        return [shortened(roomy_lesson(r, *seen), limit) for r in fewer]
    return [shortened(skill_lesson(r, columns, lines, seen=seen, surfaces=shares.surfaces), limit) for r in fewer]


def _part_lessons(rngs: list[np.random.Generator], *, letters: bool) -> list[Lesson]:
    """Draw lessons about parts of plates that are all cut out and seen alike."""
    rng = rngs[0]
    part = random_part(rng, RUNGS[0] if rng.random() < PARTS_ABOVE else WIDE_TOKENS[1])
    cells = part.seen[0] * part.seen[1]
    fewer = _as_many_as_fit(rngs, cells)
    if letters:
        return [part_letters(r, part) for r in fewer]
    return [shortened(part_lesson(r, part), LONGEST + max(0, cells - WIDE_TOKENS[1])) for r in fewer]


def _as_many_as_fit(rngs: list[np.random.Generator], cells: int) -> list[np.random.Generator]:
    """Take fewer pictures of more visual tokens, so that a share takes about the same time."""
    return rngs[: max(4, round(PICTURES_PER_SHARE * min(1.0, (WIDE_TOKENS[1] / cells) ** 0.8)))]
