"""Panels: one to four rows `LABEL VALUE`, at most one character in each 28-pixel cell.

It knows how panels look and what stands on them. It does not know what will be asked.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from scripts.demo_model.drawing import (
    CELL,
    TAUGHT_FONTS,
    Box,
    Cell,
    Glyph,
    Picture,
    Rgb,
    Row,
    font,
    gradient,
    grey_like,
    put_glyph,
    to_seen_size,
    wear,
)
from scripts.demo_model.phrases import LABELS

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Capitals without I and O, which nobody can tell from 1 and 0 in every font."""
DIGITS = "0123456789"
COLUMNS, LINES = 10, 6
SIZE = (COLUMNS * CELL, LINES * CELL)


def random_value(rng: np.random.Generator, length: int) -> str:
    """Make a value of `length` characters: a number, a serial number or a mixture, never ending in a mark."""
    style = rng.random()
    if style < 0.4:
        characters = [DIGITS[i] for i in rng.integers(0, 10, length)]
    elif style < 0.55:
        characters = [LETTERS[i] for i in rng.integers(0, len(LETTERS), length)]
    else:
        characters = [(DIGITS + LETTERS)[i] for i in rng.integers(0, 10 + len(LETTERS), length)]
    if length >= 3 and rng.random() < 0.5:
        characters[int(rng.integers(1, length - 1))] = "." if style < 0.4 else "-"
    return "".join(characters)


def random_label(rng: np.random.Generator, taken: set[str]) -> str:
    """Choose a label that is not yet on the panel: mostly a word of the trade, otherwise random capitals."""
    while True:
        if rng.random() < 0.65:
            label = LABELS[int(rng.integers(0, len(LABELS)))]
        else:
            label = "".join(LETTERS[i] for i in rng.integers(0, len(LETTERS), int(rng.integers(2, 5))))
        if label not in taken:
            return label


def random_texts(rng: np.random.Generator, count: int) -> tuple[tuple[str, str], ...]:
    """Make `count` rows of label and value."""
    texts: list[tuple[str, str]] = []
    for _ in range(count):
        label = random_label(rng, {t[0] for t in texts})
        texts.append((label, random_value(rng, int(rng.integers(2, 6)))))
    return tuple(texts)


def _layout(
    rng: np.random.Generator,
    texts: tuple[tuple[str, str], ...],
    lines: list[int],
    *,
    aligned: bool,
    columns: int = COLUMNS,
) -> list[tuple[str, str, int, int, int]]:
    """Place rows on lines: label, value, line, column of the label, column of the value."""
    widest_label, widest_value = max(len(t[0]) for t in texts), max(len(t[1]) for t in texts)
    common_left = int(rng.integers(0, columns - widest_label - widest_value))
    common_value = int(rng.integers(common_left + widest_label + 1, columns - widest_value + 1))
    placed = []
    for line, (label, value) in zip(lines, texts, strict=False):
        left, start = common_left, common_value
        if not aligned:
            left = int(rng.integers(0, columns - len(label) - len(value)))
            start = int(rng.integers(left + len(label) + 1, columns - len(value) + 1))
        placed.append((label, value, line, left, start))
    return placed


def _colours(rng: np.random.Generator) -> tuple[Rgb, Rgb]:
    """Choose plate and ink, dark on light or light on dark."""
    if rng.random() < 0.5:
        return grey_like(rng, 165, 245, 28), grey_like(rng, 0, 70, 25)
    return grey_like(rng, 8, 80, 25), grey_like(rng, 190, 255, 35)


def draw_panel(
    rng: np.random.Generator,
    *,
    rows: int | None = None,
    scale: float = 1.0,
    fonts: tuple[str, ...] = TAUGHT_FONTS,
    worn: bool = True,
    texts: tuple[tuple[str, str], ...] = (),
) -> Picture:
    """Draw a panel of `rows` rows (one to four when None), first at `scale` times its seen size of 280x168 pixels.

    `texts` names the labels and values, which then stand one under the other in the middle of the plate.
    """
    count = int(rng.integers(1, 5)) if rows is None else rows
    plate, ink = _colours(rng)
    value_ink = ink if rng.random() < 0.7 else _shade(ink, plate, float(rng.uniform(0.0, 0.25)))
    image = gradient(rng, _scaled(scale), plate, strength=0.18)
    draw = ImageDraw.Draw(image)
    face = font(fonts[int(rng.integers(0, len(fonts)))], round(float(rng.uniform(23, 27.4)) * scale))
    shift_x, shift_y = rng.uniform(-4, 4, 2)
    _border(rng, draw, ink=ink, plate=plate, scale=scale)
    drawn: list[Row] = []
    glyphs: list[Glyph] = []
    lines = sorted(int(i) for i in rng.choice(LINES, count, replace=False))
    if texts:
        placed = _layout(rng, texts, list(range((LINES - len(texts) + 1) // 2, LINES)), aligned=True)
    else:
        chosen = random_texts(rng, count)
        placed = _layout(rng, chosen, lines, aligned=rng.random() < 0.6)
    for label, value, line, left, start in placed:
        places = []
        for text, first, colour in ((label, left, ink), (value, start, value_ink)):
            cells = tuple(Cell(line, first + i) for i in range(len(text)))
            places.append(cells)
            for order, (character, cell) in enumerate(zip(text, cells, strict=True)):
                x = (cell.column + 0.5) * CELL + shift_x + rng.uniform(-1, 1)
                y = (cell.row + 0.5) * CELL + shift_y + rng.uniform(-1, 1)
                put_glyph(draw, character, centre=(x * scale, y * scale), face=face, fill=colour)
                glyphs.append(Glyph(character, cell, 0, order, (x, y)))
        box = Box(left * CELL, line * CELL, (start + len(value)) * CELL, (line + 1) * CELL)
        drawn.append(Row(label, value, places[0], places[1], box))
    seen = to_seen_size(image, SIZE)
    return Picture(wear(rng, seen) if worn else seen, image, rows=tuple(drawn), glyphs=tuple(glyphs))


def draw_characters(rng: np.random.Generator, *, fonts: tuple[str, ...] = TAUGHT_FONTS, scale: float = 1.0) -> Picture:
    """Fill a plate with random characters, some cells left empty: the first lesson, which teaches letter shapes only.

    It is drawn at `scale` times its seen size; only one drawn at that size itself is worn.
    """
    plate, ink = _colours(rng)
    image = gradient(rng, _scaled(scale), plate, strength=0.18)
    draw = ImageDraw.Draw(image)
    face = font(fonts[int(rng.integers(0, len(fonts)))], round(float(rng.uniform(23, 27.4)) * scale))
    alphabet = DIGITS + LETTERS + ".-"
    shift_x, shift_y = rng.uniform(-4, 4, 2)
    glyphs = []
    for line in range(LINES):
        for column in range(COLUMNS):
            if rng.random() < 0.2:
                continue
            character = alphabet[int(rng.integers(0, len(alphabet)))]
            jitter_x, jitter_y = rng.uniform(-1, 1, 2)
            x, y = (column + 0.5) * CELL + shift_x + jitter_x, (line + 0.5) * CELL + shift_y + jitter_y
            put_glyph(draw, character, centre=(x * scale, y * scale), face=face, fill=ink)
            glyphs.append(Glyph(character, Cell(line, column), centre=(x, y)))
    seen = wear(rng, image) if scale == 1.0 else to_seen_size(image, SIZE)
    return Picture(seen, image, glyphs=tuple(glyphs))


def _scaled(scale: float) -> tuple[int, int]:
    return round(SIZE[0] * scale), round(SIZE[1] * scale)


def _shade(ink: Rgb, plate: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(ink, plate, strict=True))
    return red, green, blue


def _border(rng: np.random.Generator, draw: ImageDraw.ImageDraw, *, ink: Rgb, plate: Rgb, scale: float) -> None:
    """Sometimes frame the plate with a faint line close to its edge."""
    if rng.random() < 0.35:
        inset = float(rng.uniform(0.5, 2.5)) * scale
        image: Image.Image = draw._image
        corners = (inset, inset, image.width - 1 - inset, image.height - 1 - inset)
        draw.rounded_rectangle(corners, radius=6 * scale, outline=_shade(ink, plate, 0.5), width=max(1, round(scale)))
