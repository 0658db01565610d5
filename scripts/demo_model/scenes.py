"""Scenes: a surface with one to four lamps, buttons, rust spots or scratches, their edges near a 14-pixel grid.

It knows how such things look. It does not know what will be asked.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import ImageDraw

from scripts.demo_model.drawing import CELL, Box, Picture, Rgb, Thing, gradient, grey_like, to_seen_size, wear
from scripts.demo_model.panels import COLUMNS, LINES
from scripts.demo_model.phrases import COLOURS, KINDS

STEP = CELL // 2
"""Edges of things lie near multiples of this many pixels, and so do the boxes of the answers."""
PAINT: dict[str, Rgb] = {"red": (205, 38, 36), "green": (38, 160, 66), "yellow": (236, 196, 32), "blue": (36, 84, 205)}


def draw_scene(
    rng: np.random.Generator,
    columns: int = COLUMNS,
    lines: int = LINES,
    *,
    things: int | None = None,
    scale: float = 1.0,
    worn: bool = True,
) -> Picture:
    """Draw a surface with `things` things (one to four when None) on a grid, first at `scale` times its seen size."""
    count = int(rng.integers(1, 5)) if things is None else things
    width, height = columns * CELL, lines * CELL
    size = round(width * scale), round(height * scale)
    image = gradient(rng, size, grey_like(rng, 70, 225, 14), strength=0.2)
    placed: list[Thing] = []
    for _ in range(count):
        thing = _place(rng, placed, width, height)
        if thing is not None:
            placed.append(thing)
    draw = ImageDraw.Draw(image)
    for thing in placed:
        _paint(rng, draw, thing, (width, height), scale)
    placed.sort(key=reading_order)
    seen = to_seen_size(image, (width, height))
    return Picture(wear(rng, seen) if worn else seen, image, things=tuple(placed))


def reading_order(thing: Thing) -> tuple[int, int]:
    """Order things by the cell of their top left corner: rows first."""
    cell = thing.box.first_cell
    return cell.row, cell.column


def _place(rng: np.random.Generator, others: list[Thing], room_x: int, room_y: int) -> Thing | None:
    """Find room for one more thing; None when forty tries found none."""
    names = list(KINDS)
    kind = names[int(rng.integers(0, len(names)))]
    for _ in range(40):
        if kind == "lamp":
            width = height = STEP * int(rng.integers(2, 5))
        elif kind == "button":
            width, height = STEP * int(rng.integers(2, 6)), STEP * int(rng.integers(2, 4))
        elif kind == "rust":
            width, height = STEP * int(rng.integers(2, 6)), STEP * int(rng.integers(2, 6))
        else:
            width, height = STEP * int(rng.integers(1, 6)), STEP * int(rng.integers(1, 6))
            if max(width, height) < 3 * STEP:
                continue
        left = STEP * int(rng.integers(0, (room_x - width) // STEP + 1))
        top = STEP * int(rng.integers(0, (room_y - height) // STEP + 1))
        box = Box(left, top, left + width, top + height)
        if not any(_touch(box, other.box) or _same_cell(box, other.box) for other in others):
            colour = list(COLOURS)[int(rng.integers(0, len(COLOURS)))] if kind in ("lamp", "button") else None
            return Thing(kind, colour, box)
    return None


def _touch(a: Box, b: Box) -> bool:
    gap = STEP // 2
    return a.left < b.right + gap and b.left < a.right + gap and a.top < b.bottom + gap and b.top < a.bottom + gap


def _same_cell(a: Box, b: Box) -> bool:
    return (a.left // CELL, a.top // CELL) == (b.left // CELL, b.top // CELL)


def _paint(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, thing: Thing, size: tuple[int, int], scale: float
) -> None:
    jitter = rng.uniform(-1.5, 1.5, 4)
    corners = np.clip(np.asarray(thing.box) + jitter, 0, [*size, *size]) * scale
    left, top, right, bottom = (float(v) for v in corners)
    if thing.kind == "lamp":
        paint_lamp(rng, draw, (left, top, right, bottom), PAINT[thing.colour or "red"], scale)
    elif thing.kind == "button":
        paint_button(rng, draw, (left, top, right, bottom), PAINT[thing.colour or "red"], scale)
    elif thing.kind == "rust":
        paint_rust(rng, draw, (left, top, right, bottom), scale)
    else:
        paint_scratch(rng, draw, (left, top, right, bottom), scale)


Corners = tuple[float, float, float, float]


def _vary(rng: np.random.Generator, colour: Rgb, spread: int) -> Rgb:
    red, green, blue = (int(np.clip(c + rng.integers(-spread, spread + 1), 0, 255)) for c in colour)
    return red, green, blue


def _mix(colour: Rgb, other: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def paint_lamp(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Corners, colour: Rgb, scale: float) -> None:
    """Paint a round lamp with a dark rim and a glint; `box` in pixels of the drawing, `scale` of them to a seen pixel."""
    colour = _vary(rng, colour, 18)
    left, top, right, bottom = box
    rim = max(1.5, (right - left) / scale * 0.08) * scale
    draw.ellipse((left, top, right - 1, bottom - 1), fill=grey_like(rng, 30, 70, 6))
    draw.ellipse((left + rim, top + rim, right - 1 - rim, bottom - 1 - rim), fill=colour)
    width, height = right - left, bottom - top
    glint = (left + 0.28 * width, top + 0.22 * height, left + 0.5 * width, top + 0.42 * height)
    draw.ellipse(glint, fill=_mix(colour, (255, 255, 255), 0.6))


def paint_button(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Corners, colour: Rgb, scale: float) -> None:
    """Paint a raised button."""
    colour = _vary(rng, colour, 18)
    left, top, right, bottom = box
    edge = max(1, round(2 * scale))
    draw.rounded_rectangle((left, top, right - 1, bottom - 1), radius=4 * scale, fill=_mix(colour, (0, 0, 0), 0.55))
    face = (left + edge, top + edge, right - 1 - edge, bottom - 1 - 2 * edge)
    draw.rounded_rectangle(face, radius=3 * scale, fill=colour)
    draw.line(
        (left + 3 * edge, top + 2 * edge, right - 3 * edge, top + 2 * edge), _mix(colour, (255, 255, 255), 0.5), edge
    )


def paint_rust(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Corners, scale: float) -> None:
    """Paint a grainy brown spot that fills its box."""
    left, top, right, bottom = box
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    base = _vary(rng, (140, 72, 34), 16)
    count = 14
    points = []
    for i in range(count):
        angle = 2 * math.pi * i / count
        reach = float(rng.uniform(0.84, 1.0))
        # A superellipse fills its box better than a circle, so that the box of the answer is the spot's own.
        x = abs(math.cos(angle)) ** 0.7 * math.copysign(1, math.cos(angle))
        y = abs(math.sin(angle)) ** 0.7 * math.copysign(1, math.sin(angle))
        points.append((centre_x + x * reach * (right - left) / 2, centre_y + y * reach * (bottom - top) / 2))
    draw.polygon(points, fill=base)
    for _ in range(int(rng.integers(6, 16))):
        x, y = (
            centre_x + rng.uniform(-0.36, 0.36) * (right - left),
            centre_y + rng.uniform(-0.36, 0.36) * (bottom - top),
        )
        r = float(rng.uniform(1, 4)) * scale
        shade = _mix(base, (60, 26, 10) if rng.random() < 0.6 else (205, 120, 60), float(rng.uniform(0.3, 0.8)))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=shade)


def paint_scratch(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Corners, scale: float) -> None:
    """Paint a bright or dark line from corner to corner, with its shadow."""
    left, top, right, bottom = box
    pad = 1.5 * scale
    start, end = (left + pad, top + pad), (right - pad, bottom - pad)
    if rng.random() < 0.5:
        start, end = (left + pad, bottom - pad), (right - pad, top + pad)
    bend = rng.uniform(-0.12, 0.12, 2)
    middle = (
        (start[0] + end[0]) / 2 + float(bend[0]) * (right - left),
        (start[1] + end[1]) / 2 + float(bend[1]) * (bottom - top),
    )
    bright = rng.random() < 0.5
    colour: Rgb = grey_like(rng, 240, 255, 4) if bright else grey_like(rng, 5, 35, 4)
    other: Rgb = grey_like(rng, 20, 60, 4) if bright else grey_like(rng, 215, 245, 4)
    width = max(2, round(float(rng.uniform(1.6, 2.8)) * scale))
    offset = width * 0.8
    draw.line([(x + offset, y + offset) for x, y in (start, middle, end)], other, max(1, width // 2))
    draw.line([start, middle, end], colour, width, joint="curve")
