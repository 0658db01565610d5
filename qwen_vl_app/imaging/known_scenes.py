"""Pictures drawn here whose every box is known, in several shapes: for asking a model where things are.

Knows shapes and colours. Does not know who is asked, nor what comes back.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageDraw

from qwen_vl_app.chat import Box


@dataclass(frozen=True, slots=True)
class KnownScene:
    """A drawn picture as PNG, the thing that is asked for, and where it is."""

    name: str
    png: bytes
    label: str
    box: Box


_SCENES = (
    # name, width, height, (shape, colour, label, left, top, right, bottom); the first is asked for, the others distract
    ("square", 896, 896, (("ellipse", "#d32f2f", "red circle", 112, 504, 336, 728), ("rectangle", "#1976d2", "", 504, 112, 784, 336))),
    ("wide", 1344, 504, (("rectangle", "#1976d2", "blue rectangle", 980, 84, 1232, 280), ("ellipse", "#388e3c", "", 112, 224, 308, 420))),
    ("tall", 504, 1344, (("ellipse", "#388e3c", "green circle", 140, 980, 364, 1204), ("rectangle", "#d32f2f", "", 84, 140, 392, 364))),
    ("large", 2016, 1512, (("rectangle", "#d32f2f", "red rectangle", 1400, 980, 1820, 1316), ("ellipse", "#1976d2", "", 280, 224, 700, 644))),
)  # fmt: skip
BACKGROUND = "#eceff1"


def known_scenes() -> tuple[KnownScene, ...]:
    """Return the scenes: square, wide, tall, and one that is made smaller before a model sees it."""
    return tuple(_draw(name, width, height, things) for name, width, height, things in _SCENES)


def _draw(
    name: str, width: int, height: int, things: tuple[tuple[str, str, str, int, int, int, int], ...]
) -> KnownScene:
    image = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for shape, colour, _, *corners in things:
        draw.ellipse(corners, fill=colour) if shape == "ellipse" else draw.rectangle(corners, fill=colour)
    png = io.BytesIO()
    image.save(png, "PNG")
    left, top, right, bottom = things[0][3:]
    box = Box(left / width, top / height, right / width, bottom / height)
    return KnownScene(name, png.getvalue(), things[0][2], box)
