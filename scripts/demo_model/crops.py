"""A part of a plate as a picture of its own: some of its rows, or whatever lies between two heights.

It moves a picture's truth along and draws nothing itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scripts.demo_model.drawing import CELL, Box, Glyph, Picture, Row

TRIES = 8
"""Heights that are tried before a plate is said to have no part that cuts none of its rows."""
TOUCHED = 3.0
"""Pixels of a row that may be cut off, or of its neighbour that may be seen: no more than a character's shift."""


def cut(picture: Picture, top: float, bottom: float) -> Picture:
    """Return what of an upright plate lies between two heights, in pixels of the seen picture, with its texts and boxes.

    Rows and characters belong to it when their middle does. They keep the visual tokens that they had on the whole plate: which
    ones show them now is known once the part is seen (`magnified`).
    """
    scale = picture.large.height / picture.image.height
    large = picture.large.crop((0, round(top * scale), picture.large.width, round(bottom * scale)))
    height = max(1, round(bottom - top))

    def moved(row: Row) -> Row:
        left, upper, right, lower = row.box
        return replace(row, box=Box(left, max(0, round(upper - top)), right, min(height, round(lower - top))))

    def moved_glyph(glyph: Glyph) -> Glyph:
        return glyph._replace(centre=(glyph.centre[0], glyph.centre[1] - top))

    return replace(
        picture,
        image=large.resize((picture.image.width, height)),
        large=large,
        rows=tuple(moved(row) for row in picture.rows if top < (row.box.top + row.box.bottom) / 2 < bottom),
        glyphs=tuple(moved_glyph(glyph) for glyph in picture.glyphs if top < glyph.centre[1] < bottom),
        written=(),
    )


def cropped(picture: Picture, first: int, last: int) -> Picture:
    """Return the rows from number `first` to `last` of an upright plate as a picture, cut between the lines."""
    tops, bottoms = ([row.box[edge] for row in picture.rows] for edge in (1, 3))
    top = (bottoms[first - 1] + tops[first]) / 2 if first else max(0.0, tops[0] - CELL / 2)
    below = last + 1
    edge = picture.image.height
    bottom = (bottoms[last] + tops[below]) / 2 if below < len(tops) else min(edge, bottoms[last] + CELL / 2)
    return cut(picture, top, bottom)


def window(rng: np.random.Generator, picture: Picture, height: float) -> float | None:
    """Choose where a part of a plate begins that is `height` pixels of the seen picture high, shows a row and cuts none.

    None when no such place was found.
    """
    for _ in range(TRIES):
        row = picture.rows[int(rng.integers(0, len(picture.rows)))]
        highest, lowest = max(0.0, row.box.bottom - height), min(float(row.box.top), picture.image.height - height)
        if highest > lowest:
            return None
        top = float(rng.uniform(highest, lowest))
        if all(_is_whole_or_outside(row.box.top - top, row.box.bottom - top, height) for row in picture.rows):
            return top
    return None


def _is_whole_or_outside(upper: float, lower: float, height: float) -> bool:
    is_whole = upper >= -TOUCHED and lower <= height + TOUCHED
    return is_whole or lower <= TOUCHED or upper >= height - TOUCHED
