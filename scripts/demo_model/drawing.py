"""What a drawn picture is, and how glyphs, plates and wear get onto it.

A picture carries its own truth: every row of text with the place of each character, every thing with its box, in pixels
of the *seen* picture. Drawing depends on the random generator it is handed and on the fonts beside this file,
never on the machine. It knows nothing of questions, tokens or weights.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

CELL: Final = 28
"""Side in pixels of the square that becomes one visual token."""
SLIVER: Final = 7
"""Pixels of a thing that are too few to tell that it begins or ends in a visual token."""
FONTS: Final = Path(__file__).with_name("fonts")
TAUGHT_FONTS: Final = ("Roboto-Medium", "OpenSans-Semibold", "NotoSansMono-Bold")
HELD_OUT_FONTS: Final = ("OpenSans-CondBold",)
"""Never drawn in training: what they score says how far reading goes beyond the taught letter shapes."""

Rgb = tuple[int, int, int]


class Box(NamedTuple):
    """Corners in pixels of the seen picture; right and bottom are one past the last pixel."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def first_cell(self) -> Cell:
        """The visual token of the top left corner; not one into which only a sliver of the box reaches."""
        return Cell((self.top + SLIVER) // CELL, (self.left + SLIVER) // CELL)

    @property
    def last_cell(self) -> Cell:
        """The visual token of the bottom right corner, in the same way."""
        return Cell((self.bottom - 1 - SLIVER) // CELL, (self.right - 1 - SLIVER) // CELL)


class Cell(NamedTuple):
    """A visual token, by row and column from the top left, and which of a question's pictures it belongs to."""

    row: int
    column: int
    picture: int = 0


class Glyph(NamedTuple):
    """A character in its cell. `slot` counts characters in the cell from the left, `order` those of its run.

    `centre` is where its middle really lies, in pixels of the seen picture, shifts and turns counted in.
    """

    character: str
    cell: Cell
    slot: int = 0
    order: int = 0
    centre: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Row:
    """One line `label value` of a panel. `cells` holds a place for each character of label and of value."""

    label: str
    value: str
    label_cells: tuple[Cell, ...]
    value_cells: tuple[Cell, ...]
    box: Box


@dataclass(frozen=True)
class Thing:
    """Something on a surface. `colour` is None for kinds that have none to name."""

    kind: str
    colour: str | None
    box: Box


@dataclass(frozen=True)
class Line:
    """A line of text as it is read aloud: a cell for every character, a space having that of the character before it."""

    text: str
    cells: tuple[Cell, ...]
    box: Box


@dataclass(frozen=True)
class Picture:
    """A drawn picture at its seen size, with its truth. `large` is the same drawing before it was made smaller."""

    image: Image.Image
    large: Image.Image
    rows: tuple[Row, ...] = ()
    things: tuple[Thing, ...] = ()
    glyphs: tuple[Glyph, ...] = ()
    written: tuple[Line, ...] = ()
    table: tuple[tuple[Line, ...], ...] = ()
    is_outside: bool = False
    """True for a picture that is no drawing of the domain: the right answer is that nobody can tell."""

    @property
    def columns(self) -> int:
        """Return the number of visual tokens side by side."""
        return self.image.width // CELL

    @property
    def lines(self) -> int:
        """Return the number of visual tokens one above the other."""
        return self.image.height // CELL


@lru_cache(maxsize=4096)
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Load one of the fonts beside this file at `size` pixels, with the layout that depends on no system library."""
    return ImageFont.truetype(str(FONTS / f"{name}.ttf"), size, layout_engine=ImageFont.Layout.BASIC)


def grey_like(rng: np.random.Generator, low: int, high: int, tint: int) -> Rgb:
    """Draw a colour of little saturation between two brightnesses."""
    base = int(rng.integers(low, high + 1))
    red, green, blue = (int(np.clip(base + rng.integers(-tint, tint + 1), 0, 255)) for _ in range(3))
    return red, green, blue


def gradient(rng: np.random.Generator, size: tuple[int, int], colour: Rgb, *, strength: float) -> Image.Image:
    """Fill a plate with `colour`, its brightness changing by up to `strength` of 255 across it."""
    width, height = size
    small = np.empty((4, 4, 3), dtype=np.float32)
    small[:] = colour
    slope_x, slope_y = rng.uniform(-strength, strength, 2)
    ramp = np.linspace(-0.5, 0.5, 4, dtype=np.float32)
    small += (slope_x * ramp[None, :, None] + slope_y * ramp[:, None, None]) * 255
    return Image.fromarray(np.clip(small, 0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)


def put_glyph(
    draw: ImageDraw.ImageDraw, character: str, *, centre: tuple[float, float], face: ImageFont.FreeTypeFont, fill: Rgb
) -> None:
    """Draw one character centred on a point, standing on the line's own baseline."""
    x, y = centre
    draw.text((x, y + 0.36 * face.size), character, font=face, fill=fill, anchor="ms")


def wear(rng: np.random.Generator, image: Image.Image, *, harsh: float = 1.0) -> Image.Image:
    """Blur, add noise and compress a picture of seen size a little, as a camera and a file format would."""
    if rng.random() < 0.35 * harsh:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.75))))
    if rng.random() < 0.5 * harsh:
        noise = rng.normal(0.0, rng.uniform(1.0, 8.0), (image.height, image.width, 1)).astype(np.float32)
        image = Image.fromarray(np.clip(np.asarray(image, dtype=np.float32) + noise, 0, 255).astype(np.uint8))
    if rng.random() < 0.3 * harsh:
        image = as_jpeg(image, quality=int(rng.integers(55, 96)))
    return image


def as_jpeg(image: Image.Image, *, quality: int) -> Image.Image:
    """Return the picture as it comes back from a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def to_seen_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize with the filter that the model's own picture processor uses."""
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
