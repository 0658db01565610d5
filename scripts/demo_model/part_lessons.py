"""Lessons about parts of plates: cut out of a large file and seen alone, and so larger than on the whole plate.

It draws from the random generator it is handed, and does not know when in training a lesson comes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qwen_vl_app.chat import Size
from qwen_vl_app.engine.families import smart_resize
from scripts.demo_model import cell_plates, wide_questions
from scripts.demo_model.crops import cut, window
from scripts.demo_model.drawing import CELL
from scripts.demo_model.drawn_lessons import CHINESE_SHARE, WIDE_TOKENS, alphabet_of_a_script, beside, random_grid
from scripts.demo_model.lessons import Lesson
from scripts.demo_model.magnified import magnified


@dataclass(frozen=True)
class Part:
    """How the parts of plates of one lesson are cut out, and seen: plates of `grid` visual tokens, drawn at `scale`; parts `height` pixels
    of the seen plate high; `seen` with so many visual tokens across and down, which is no less either way."""

    grid: tuple[int, int]
    scale: float
    height: float
    seen: tuple[int, int]


def random_part(rng: np.random.Generator, most_tokens: int) -> Part:
    """Choose how parts are cut out and seen by the plan's own rule, with at most `most_tokens`."""
    columns, lines = random_grid(rng)
    scale = float(rng.uniform(1.0, 3.0))
    height = CELL * float(rng.uniform(1.0, max(1.5, 0.75 * lines)))
    file = Size(round(columns * CELL * scale), round(height * scale))
    fewest = min(WIDE_TOKENS[0], most_tokens) * CELL**2
    size = smart_resize(file, CELL, min_pixels=fewest, max_pixels=most_tokens * CELL**2)
    across, down = max(columns, size.width // CELL), max(math.ceil(height / CELL), size.height // CELL)
    return Part((columns, lines), scale, height, (across, down))


def part_letters(rng: np.random.Generator, part: Part) -> Lesson:
    """Draw a lesson for vision alone: a part of a plate full of characters, those that its edge cuts in half among them."""
    alphabet = alphabet_of_a_script(rng, chinese=0.5)
    picture = cell_plates.draw_cell_letters(rng, *part.grid, alphabet=alphabet, scale=part.scale)
    top = float(rng.uniform(0, picture.image.height - part.height))
    return Lesson((magnified(rng, cut(picture, top, top + part.height), *part.seen),), ())


def part_lesson(rng: np.random.Generator, part: Part) -> Lesson:
    """Draw a part of a plate and ask about it; what stands on the rest of the plate is not there."""
    top, chinese = None, bool(rng.random() < CHINESE_SHARE)
    while top is None:
        picture = cell_plates.draw_cell_panel(rng, *part.grid, scale=part.scale, chinese=chinese, most_rows=4)
        top = window(rng, picture, part.height)
    picture = magnified(rng, cut(picture, top, top + part.height), *part.seen)
    return Lesson((picture,), tuple(wide_questions.about_plate(rng, picture)), beside(rng))
