"""A sheet: a plate of any grid on which characters of both scripts are put, large or small, lit and turned a little.

It takes places in pixels of the seen picture and draws at a larger scale. It does not know what the text means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from scripts.demo_model.drawing import CELL, Box, Cell, Rgb, font, gradient, to_seen_size, wear

CHINESE_FONT = "DroidSansFallback"
SNAP = 7
"""Boxes of answers are multiples of this many pixels: finer than a model of this size can see is noise."""


def is_wide(character: str) -> bool:
    """Say whether a character is Chinese or full width, and so comes from the Chinese font."""
    return ord(character) >= 0x2E80


@dataclass(frozen=True)
class Places:
    """Where characters may stand: `columns` by `lines` places, `across` and `down` pixels apart, from a corner on.

    The first domain has one place to a visual token; seen at another size, the same plate has its places anywhere. They are
    never closer than a visual token is wide, so that no token has to say two characters.
    """

    columns: int
    lines: int
    across: float = CELL
    down: float = CELL
    left: float = 0.0
    top: float = 0.0

    @property
    def is_aligned(self) -> bool:
        """True where each place is a visual token."""
        return (self.across, self.down, self.left, self.top) == (CELL, CELL, 0.0, 0.0)

    def centre(self, cell: Cell) -> tuple[float, float]:
        """Return the middle of a place in pixels of the seen picture, before it is turned."""
        return self.left + (cell.column + 0.5) * self.across, self.top + (cell.row + 0.5) * self.down


def free_places(rng: np.random.Generator, columns: int, lines: int, *, widest: float) -> Places:
    """Choose places of `CELL` to `widest` pixels anywhere on a picture of `columns` by `lines` visual tokens, six across at least."""
    width, height = columns * CELL, lines * CELL
    across = float(rng.uniform(CELL, max(CELL, min(widest, width / 6.2))))
    down = float(min(max(CELL, across * rng.uniform(0.9, 1.35)), height))
    many, deep = int(width // across), int(height // down)
    left, top = float(rng.uniform(0, width - many * across)), float(rng.uniform(0, height - deep * down))
    return Places(many, deep, across, down, left, top)


class Sheet:
    """A plate being drawn. Coordinates are pixels of the seen picture; drawing happens at `scale` times that.

    With a `stretch` other than 1 letters come out that many times as wide, as no font of ours has them.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        columns: int,
        lines: int,
        *,
        scale: float,
        plate: Rgb,
        angle: float = 0.0,
        stretch: float = 1.0,
    ) -> None:
        self.rng, self.scale, self.angle = rng, scale, angle
        self.width, self.height = columns * CELL, lines * CELL
        self.plate = plate
        self.scale_x = scale / stretch
        size = round(self.width * self.scale_x), round(self.height * scale)
        self.image = gradient(rng, size, plate, strength=0.16)
        self.draw = ImageDraw.Draw(self.image)

    def character(
        self, character: str, centre: tuple[float, float], *, face: str, size: float, fill: Rgb, stroke: int = 0
    ) -> None:
        """Write one character centred on a point, standing on the line's own baseline."""
        chosen = font(CHINESE_FONT if is_wide(character) else face, max(6, round(size * self.scale)))
        x, y = centre[0] * self.scale_x, (centre[1] + 0.36 * size) * self.scale
        self.draw.text((x, y), character, font=chosen, fill=fill, anchor="ms", stroke_width=stroke)

    def line(self, left: float, right: float, y: float, fill: Rgb) -> None:
        """Rule a horizontal line, a pixel of the seen picture thick."""
        corners = (left * self.scale_x, y * self.scale, right * self.scale_x, y * self.scale)
        self.draw.line(corners, fill=fill, width=max(1, round(self.scale)))

    def turned(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the drawing lies once the sheet is turned."""
        angle = math.radians(self.angle)
        right, below = x - self.width / 2, y - self.height / 2
        return (
            self.width / 2 + right * math.cos(angle) + below * math.sin(angle),
            self.height / 2 - right * math.sin(angle) + below * math.cos(angle),
        )

    def cell_at(self, x: float, y: float) -> Cell:
        """Return the visual token in which a point of the drawing comes to lie."""
        seen_x, seen_y = self.turned(x, y)
        row, column = int(seen_y // CELL), int(seen_x // CELL)
        return Cell(min(max(row, 0), self.height // CELL - 1), min(max(column, 0), self.width // CELL - 1))

    def box_around(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Return the upright box, on the answer grid, around a rectangle of the drawing once the sheet is turned."""
        corners = [self.turned(x, y) for x in (left, right) for y in (top, bottom)]
        across, down = [c[0] for c in corners], [c[1] for c in corners]
        return snapped((min(across), min(down), max(across), max(down)), self.width, self.height)

    def finish(self, *, worn: bool = True) -> tuple[Image.Image, Image.Image]:
        """Turn, light and wear the sheet; return it at its seen size and large."""
        large = self.image
        if self.scale_x != self.scale:
            large = large.resize((round(self.width * self.scale), round(self.height * self.scale)))
        if self.angle:
            large = large.rotate(self.angle, Image.Resampling.BICUBIC, fillcolor=self.plate)
        if worn and self.rng.random() < 0.15:
            large = glare(self.rng, large)
        seen = to_seen_size(large, (self.width, self.height))
        return (wear(self.rng, seen) if worn else seen), large


def snapped(corners: tuple[float, float, float, float], width: int, height: int) -> Box:
    """Round a box to the answer grid, inside the picture and never empty."""
    left, top, right, bottom = (int(SNAP * round(v / SNAP)) for v in corners)
    left, top = min(max(left, 0), width - 2 * SNAP), min(max(top, 0), height - 2 * SNAP)
    return Box(left, top, min(max(right, left + SNAP), width), min(max(bottom, top + SNAP), height))


def glare(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Let light fall on a part of the picture, not so bright that nothing is left to read."""
    width, height = image.size
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :] - rng.uniform(0, 1)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None] - rng.uniform(0, 1)
    spot = np.exp(-(x**2 + y**2) / (2 * rng.uniform(0.08, 0.25) ** 2)) * rng.uniform(0.15, 0.45)
    pixels = np.asarray(image, dtype=np.float32)
    return Image.fromarray((pixels + (255 - pixels) * spot[..., None]).astype(np.uint8))
