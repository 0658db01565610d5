"""A part of a plate as a picture of its own: some of its rows, cut out between the lines.

It moves a picture's truth along and draws nothing itself.
"""

from __future__ import annotations

from dataclasses import replace

from scripts.demo_model.drawing import CELL, Box, Picture, Row


def cropped(picture: Picture, first: int, last: int) -> Picture:
    """Return the rows from number `first` to `last` of an upright plate as a picture, with their texts and boxes.

    Where single characters lie is left out: they may stand anywhere between the visual tokens of what is seen of it.
    """
    height = picture.image.height
    tops, bottoms = ([row.box[edge] for row in picture.rows] for edge in (1, 3))
    top = (bottoms[first - 1] + tops[first]) / 2 if first else max(0.0, tops[0] - CELL / 2)
    below = last + 1
    bottom = (bottoms[last] + tops[below]) / 2 if below < len(tops) else min(height, bottoms[last] + CELL / 2)
    scale = picture.large.height / height
    large = picture.large.crop((0, round(top * scale), picture.large.width, round(bottom * scale)))

    def moved(row: Row) -> Row:
        left, upper, right, lower = row.box
        return replace(row, box=Box(left, round(upper - top), right, round(lower - top)))

    return replace(
        picture,
        image=large.resize((picture.image.width, round(bottom - top))),
        large=large,
        rows=tuple(moved(row) for row in picture.rows[first:below]),
        glyphs=(),
        written=(),
    )
