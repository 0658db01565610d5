"""A sheet: a plate of any grid on which characters of both scripts are put, large or small, lit and turned a little.

It takes places in pixels of the seen picture and draws at a larger scale. It does not know what the text means.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from scripts.demo_model.drawing import CELL, Box, Rgb, font, gradient, to_seen_size, wear

CHINESE_FONT = "DroidSansFallback"
SNAP = 7
"""Boxes of answers are multiples of this many pixels: finer than a model of this size can see is noise."""


def is_wide(character: str) -> bool:
    """Say whether a character is Chinese or full width, and so comes from the Chinese font."""
    return ord(character) >= 0x2E80


class Sheet:
    """A plate being drawn. Coordinates are pixels of the seen picture; drawing happens at `scale` times that."""

    def __init__(
        self, rng: np.random.Generator, columns: int, lines: int, *, scale: float, plate: Rgb, angle: float = 0.0
    ) -> None:
        self.rng, self.scale, self.angle = rng, scale, angle
        self.width, self.height = columns * CELL, lines * CELL
        self.plate = plate
        size = round(self.width * scale), round(self.height * scale)
        self.image = gradient(rng, size, plate, strength=0.16)
        self.draw = ImageDraw.Draw(self.image)

    def character(self, character: str, centre: tuple[float, float], *, face: str, size: float, fill: Rgb) -> None:
        """Write one character centred on a point, standing on the line's own baseline."""
        chosen = font(CHINESE_FONT if is_wide(character) else face, max(6, round(size * self.scale)))
        x, y = centre[0] * self.scale, (centre[1] + 0.36 * size) * self.scale
        self.draw.text((x, y), character, font=chosen, fill=fill, anchor="ms")

    def finish(self, *, worn: bool = True) -> tuple[Image.Image, Image.Image]:
        """Turn, light and wear the sheet; return it at its seen size and large."""
        large = self.image
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
