"""Plates of the wider domain: panels and tables on grids of many shapes, in English and Chinese, one character to a cell.

Like the first domain's panels they keep each character in a visual token of its own; fonts, scripts, shapes, a slight turn and
glare are what is new. It does not know what will be asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from scripts.demo_model.drawing import CELL, TAUGHT_FONTS, Box, Cell, Glyph, Line, Picture, Rgb, Row, grey_like
from scripts.demo_model.panels import DIGITS, random_label, random_value
from scripts.demo_model.phrases import LABELS_ZH, WORDS_EN, WORDS_ZH
from scripts.demo_model.sheets import Places, Sheet

CELL_FONTS = (*TAUGHT_FONTS, "RobotoCondensed-Bold", "NotoSerif-Bold", "NotoSans-Bold")


@dataclass(frozen=True)
class Type:
    """How a plate's text is drawn, and how far the whole of it is shifted from its places."""

    face: str
    size: float
    ink: Rgb
    value_ink: Rgb
    shift: tuple[float, float]
    stroke: int = 0


SLACK = 8.0
"""Pixels by which turning a plate may move the outermost character off the middle of its visual token."""


def slight_turn(rng: np.random.Generator, columns: int, lines: int) -> float:
    """Choose an angle in degrees, as far as every character stays in its visual token: three and a half at most."""
    most = min(3.5, math.degrees(SLACK / (CELL / 2 * math.hypot(columns - 1, lines - 1))))
    return float(rng.uniform(-most, most))


def wide_label(rng: np.random.Generator, taken: set[str], *, chinese: bool, longest: int = 4) -> str:
    """Choose a label of at most `longest` characters that is not yet there."""
    while True:
        label = LABELS_ZH[int(rng.integers(0, len(LABELS_ZH)))] if chinese else random_label(rng, taken)
        if label not in taken and len(label) <= longest:
            return label


def wide_value(rng: np.random.Generator, longest: int, *, chinese: bool) -> str:
    """Make a value of at most `longest` characters: a number, a serial number, a word."""
    if rng.random() < 0.12:
        words = [w for w in (WORDS_ZH if chinese else WORDS_EN) if len(w) <= longest]
        if words:
            return words[int(rng.integers(0, len(words)))]
    length = int(rng.integers(min(2, longest), longest + 1))
    return random_value(rng, length) if length > 1 else DIGITS[int(rng.integers(0, 10))]


def _type(rng: np.random.Generator, fonts: tuple[str, ...], places: Places, scale: float) -> tuple[Type, Rgb]:
    light = rng.random() < 0.55
    plate = grey_like(rng, 165, 248, 27) if light else grey_like(rng, 8, 82, 25)
    ink = grey_like(rng, 0, 72, 25) if light else grey_like(rng, 190, 255, 32)
    share = float(rng.uniform(0, 0.25)) if rng.random() < 0.3 else 0.0
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(ink, plate, strict=True))
    shift_x, shift_y = (float(v) for v in rng.uniform(-4, 4, 2)) if places.is_aligned else (0.0, 0.0)
    face = fonts[int(rng.integers(0, len(fonts)))]
    size = float(rng.uniform(22, 27.4)) * min(places.across, places.down * 1.05) / CELL
    stroke = round(float(rng.uniform(0.4, 1.0)) * scale) if rng.random() < 0.15 else 0
    return Type(face, size, ink, (red, green, blue), (shift_x, shift_y), stroke), plate


def _sheet(
    rng: np.random.Generator,
    columns: int,
    lines: int,
    *,
    scale: float,
    angle: float,
    fonts: tuple[str, ...],
    places: Places | None,
) -> tuple[Sheet, Type, Places]:
    """Return an empty plate with its type and the places of its characters, those of the visual tokens unless told."""
    places = places or Places(columns, lines)
    kind, plate = _type(rng, fonts, places, scale)
    if angle:  # turning moves letters as far as they may be moved: more would cut those at the edges
        kind = replace(kind, shift=(0.0, 0.0))
    stretch = float(rng.uniform(0.78, 1.12)) if rng.random() < 0.3 else 1.0
    return Sheet(rng, columns, lines, scale=scale, plate=plate, angle=angle, stretch=stretch), kind, places


def _write(sheet: Sheet, kind: Type, places: Places, text: str, cell: Cell, *, value: bool = False) -> list[Glyph]:
    """Write a text, a character to each place from `cell` on; return the characters in their visual tokens."""
    glyphs = []
    for i, character in enumerate(text):
        place = cell._replace(column=cell.column + i)
        x, y = places.centre(place)
        at = place if places.is_aligned else sheet.cell_at(x - places.across / 4, y - places.down / 4)
        x += kind.shift[0] + float(sheet.rng.uniform(-1, 1))
        y += kind.shift[1] + float(sheet.rng.uniform(-1, 1))
        fill = kind.value_ink if value else kind.ink
        sheet.character(character, (x, y), face=kind.face, size=kind.size, fill=fill, stroke=kind.stroke)
        glyphs.append(Glyph(character, at, 0, i, sheet.turned(x, y)))
    return glyphs


def _box(sheet: Sheet, places: Places, first: Cell, last: Cell) -> Box:
    """Return the box around the places from `first` to `last` of a line."""
    (left, top), (right, bottom) = places.centre(first), places.centre(last)
    half_x, half_y = places.across / 2, places.down / 2
    if (
        places.is_aligned
    ):  # a turned one keeps its box as well: it is turned so little that its letters stay in their tokens
        return Box(int(left - half_x), int(top - half_y), int(right + half_x), int(bottom + half_y))
    return sheet.box_around(left - half_x, top - half_y, right + half_x, bottom + half_y)


def draw_cell_panel(
    rng: np.random.Generator,
    columns: int,
    lines: int,
    *,
    scale: float = 1.0,
    angle: float = 0.0,
    chinese: bool = False,
    fonts: tuple[str, ...] = CELL_FONTS,
    worn: bool = True,
    most_rows: int = 5,
    fixed: tuple[tuple[str, str], ...] | None = None,
    places: Places | None = None,
) -> Picture:
    """Draw a panel of rows `label value`; `fixed` names the rows. There must be 6 places across at least."""
    sheet, kind, places = _sheet(rng, columns, lines, scale=scale, angle=angle, fonts=fonts, places=places)
    columns, lines = places.columns, places.lines
    texts = fixed if fixed is not None else _texts(rng, columns, lines, chinese=chinese, most_rows=most_rows)
    rows_at = sorted(int(i) for i in rng.choice(lines, len(texts), replace=False))
    label_width, value_width = max(len(t[0]) for t in texts), max(len(t[1]) for t in texts)
    left = int(rng.integers(0, columns - label_width - value_width))
    value_left = int(rng.integers(left + label_width + 1, columns - value_width + 1))
    aligned = rng.random() < 0.7
    rows: list[Row] = []
    glyphs: list[Glyph] = []
    for line, (label, value) in zip(rows_at, texts, strict=True):
        start, at = Cell(line, left), Cell(line, value_left)
        if not aligned:
            first = int(rng.integers(0, columns - len(label) - len(value)))
            start, at = (
                Cell(line, first),
                Cell(line, int(rng.integers(first + len(label) + 1, columns - len(value) + 1))),
            )
        named = _write(sheet, kind, places, label, start)
        told = _write(sheet, kind, places, value, at, value=True)
        box = _box(sheet, places, start, at._replace(column=at.column + len(value) - 1))
        rows.append(Row(label, value, tuple(g.cell for g in named), tuple(g.cell for g in told), box))
        glyphs += named + told
    image, large = sheet.finish(worn=worn)
    return Picture(image, large, rows=tuple(rows), glyphs=tuple(glyphs))


def _texts(
    rng: np.random.Generator, columns: int, lines: int, *, chinese: bool, most_rows: int
) -> tuple[tuple[str, str], ...]:
    count = int(rng.integers(1, min(lines, most_rows) + 1))
    longest_label = min(4, columns - 3)
    longest_value = min(6, columns - 1 - longest_label)
    texts: list[tuple[str, str]] = []
    for _ in range(count):
        label = wide_label(rng, {t[0] for t in texts}, chinese=chinese, longest=longest_label)
        texts.append((label, wide_value(rng, longest_value, chinese=chinese)))
    return tuple(texts)


def draw_cell_table(
    rng: np.random.Generator,
    columns: int,
    lines: int,
    *,
    scale: float = 1.0,
    chinese: bool = False,
    fonts: tuple[str, ...] = CELL_FONTS,
    worn: bool = True,
    places: Places | None = None,
) -> Picture:
    """Draw a table of two or three columns and two to five rows, the first of which names the columns; 7 places across at least."""
    sheet, kind, places = _sheet(rng, columns, lines, scale=scale, angle=0.0, fonts=fonts, places=places)
    columns, lines = places.columns, places.lines
    across = 3 if columns >= 11 and rng.random() < 0.6 else 2
    down = int(rng.integers(2, min(5, lines) + 1))
    width = (columns - across + 1) // across
    longest = min(4, width)
    head: list[str] = []
    for _ in range(across):
        head.append(wide_label(rng, set(head), chinese=chinese, longest=max(2, longest)))
    texts = [head, *([wide_value(rng, longest, chinese=chinese) for _ in range(across)] for _ in range(down - 1))]
    top = int(rng.integers(0, lines - down + 1))
    slack = columns - (across * (longest + 1) - 1)
    left = int(rng.integers(0, slack + 1))
    starts = [left + i * (longest + 1) for i in range(across)]
    _rules(rng, sheet, kind, places, top=top, down=down, starts=starts, width=longest)
    table, written, glyphs = [], [], []
    for r, row in enumerate(texts):
        cells = [Cell(top + r, start) for start in starts]
        pieces = []
        for text, cell in zip(row, cells, strict=True):
            told = _write(sheet, kind, places, text, cell, value=r > 0)
            box = _box(sheet, places, cell, cell._replace(column=cell.column + len(text) - 1))
            pieces.append(Line(text, tuple(g.cell for g in told), box))
            glyphs += told
        table.append(tuple(pieces))
        written.append(joined(pieces))
    image, large = sheet.finish(worn=worn)
    return Picture(image, large, glyphs=tuple(glyphs), written=tuple(written), table=tuple(table))


def joined(pieces: list[Line]) -> Line:
    """Join pieces of one line as they are read, a space between two."""
    text, cells = pieces[0].text, list(pieces[0].cells)
    for piece in pieces[1:]:
        text += " " + piece.text
        cells += [piece.cells[0], *piece.cells]
    boxes = [p.box for p in pieces]
    box = Box(boxes[0].left, boxes[0].top, boxes[-1].right, boxes[-1].bottom)
    return Line(text, tuple(cells), box)


def _rules(
    rng: np.random.Generator,
    sheet: Sheet,
    kind: Type,
    places: Places,
    *,
    top: int,
    down: int,
    starts: list[int],
    width: int,
) -> None:
    """Draw the line under a table's header, and sometimes those between its rows."""
    everywhere = rng.random() < 0.5
    red, green, blue = (round((a + b) / 2) for a, b in zip(kind.ink, sheet.plate, strict=True))
    left = places.left + starts[0] * places.across
    right = places.left + (starts[-1] + width) * places.across
    for r in range(1, down):
        if r == 1 or everywhere:
            sheet.line(left, right, places.top + (top + r) * places.down + kind.shift[1], (red, green, blue))


def draw_cell_letters(
    rng: np.random.Generator,
    columns: int,
    lines: int,
    *,
    alphabet: str,
    scale: float = 1.0,
    fonts: tuple[str, ...] = CELL_FONTS,
    places: Places | None = None,
) -> Picture:
    """Fill a plate with random characters, a fifth of the places left empty: the lesson that teaches letter shapes."""
    angle = slight_turn(rng, columns, lines) if rng.random() < 0.25 else 0.0
    sheet, kind, places = _sheet(rng, columns, lines, scale=scale, angle=angle, fonts=fonts, places=places)
    glyphs = []
    for row in range(places.lines):
        for column in range(places.columns):
            if rng.random() < 0.2:
                continue
            character = alphabet[int(rng.integers(0, len(alphabet)))]
            glyphs += _write(sheet, kind, places, character, Cell(row, column))
    image, large = sheet.finish()
    return Picture(image, large, glyphs=tuple(glyphs))
