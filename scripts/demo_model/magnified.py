"""The same drawing seen at more pixels: what a higher rung of the plan, or a file between two rungs, makes of a picture.

Characters then stand anywhere between the visual tokens and are larger than one. It moves a picture's truth along and draws
nothing itself.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from scripts.demo_model.drawing import CELL, Box, Cell, Line, Picture, Row, to_seen_size, wear
from scripts.demo_model.scenes import reading_order
from scripts.demo_model.sheets import snapped

QUARTER = CELL / 4
"""How far left of and above its middle a character of one visual token is looked for.

A larger one covers several tokens, and is said by the one in which the middle of its upper left quarter lies: at twice the size that is
the same token of its four wherever its shift moves it, and at one time the size its only one.
"""


def seen_grid(columns: int, lines: int, most_tokens: int) -> tuple[int, int]:
    """Return the visual tokens across and down of a large file of a plate's shape, seen with at most `most_tokens`."""
    factor = max(1.0, math.sqrt(most_tokens / (columns * lines)))
    return max(columns, math.floor(columns * factor)), max(lines, math.floor(lines * factor))


def magnified(rng: np.random.Generator, picture: Picture, columns: int, lines: int) -> Picture:
    """Return a picture as it is seen with `columns` by `lines` visual tokens, worn anew, with its truth.

    It must not become smaller either way, so that no two characters come into one token.
    """
    width, height = columns * CELL, lines * CELL
    across, down = width / picture.image.width, height / picture.image.height

    def moved(box: Box) -> Box:
        corners = (box.left * across, box.top * down, box.right * across, box.bottom * down)
        return snapped(corners, width, height)

    places: dict[Cell, Cell] = {}
    for glyph in picture.glyphs:
        x, y = glyph.centre
        column, row = int((x - QUARTER) * across // CELL), int((y - QUARTER) * down // CELL)
        places[glyph.cell] = Cell(min(max(row, 0), lines - 1), min(max(column, 0), columns - 1))

    def line_moved(line: Line) -> Line:
        return replace(line, cells=tuple(places[cell] for cell in line.cells), box=moved(line.box))

    def row_moved(row: Row) -> Row:
        label, value = (tuple(places[cell] for cell in cells) for cells in (row.label_cells, row.value_cells))
        return replace(row, label_cells=label, value_cells=value, box=moved(row.box))

    return replace(
        picture,
        image=wear(rng, to_seen_size(picture.large, (width, height))),
        rows=tuple(row_moved(row) for row in picture.rows),
        things=tuple(sorted((replace(thing, box=moved(thing.box)) for thing in picture.things), key=reading_order)),
        glyphs=tuple(glyph._replace(cell=places[glyph.cell]) for glyph in picture.glyphs),
        written=tuple(line_moved(line) for line in picture.written),
        table=tuple(tuple(line_moved(piece) for piece in row) for row in picture.table),
    )
