"""Surfaces of the wider domain: more kinds of things and defects, anywhere on grids of many shapes, or nothing at all.

It does not know what will be asked.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import ImageDraw

from scripts.demo_model import scenes
from scripts.demo_model.drawing import CELL, Picture, Thing, gradient, grey_like, to_seen_size, wear
from scripts.demo_model.phrases import COLOURS, KINDS, LATER_KINDS
from scripts.demo_model.scenes import PAINT, Corners, reading_order
from scripts.demo_model.sheets import glare, snapped

ALL_KINDS = KINDS | LATER_KINDS


def draw_surface(
    rng: np.random.Generator,
    columns: int,
    lines: int,
    *,
    scale: float = 1.0,
    things: int | None = None,
    worn: bool = True,
) -> Picture:
    """Draw a surface with up to five things of nine kinds; none at all in one picture of twelve when `things` is None."""
    width, height = columns * CELL, lines * CELL
    large = gradient(rng, (round(width * scale), round(height * scale)), grey_like(rng, 70, 228, 14), strength=0.2)
    count = (0 if rng.random() < 1 / 12 else int(rng.integers(1, 6))) if things is None else things
    placed: list[tuple[Thing, Corners]] = []
    for _ in range(count):
        found = _place(rng, [p[1] for p in placed], width, height)
        if found is not None:
            placed.append(found)
    draw = ImageDraw.Draw(large)
    for thing, corners in placed:
        left, top, right, bottom = (v * scale for v in corners)
        _paint(rng, draw, thing, (left, top, right, bottom), scale)
    if worn and rng.random() < 0.12:
        large = glare(rng, large)
    ordered = tuple(sorted((p[0] for p in placed), key=reading_order))
    seen = to_seen_size(large, (width, height))
    return Picture(wear(rng, seen) if worn else seen, large, things=ordered)


def _size_of(rng: np.random.Generator, kind: str, largest: float) -> tuple[float, float]:
    if kind in ("lamp", "gauge", "screw"):
        side = float(rng.uniform(18, 34) if kind == "screw" else rng.uniform(26, largest))
        return side, side
    if kind == "switch":
        wide = float(rng.uniform(22, 40))
        return wide, wide * float(rng.uniform(1.3, 1.8))
    if kind == "button":
        return float(rng.uniform(28, largest)), float(rng.uniform(26, 44))
    if kind in ("scratch", "crack"):
        wide, high = (float(v) for v in rng.uniform(12, largest * 1.3, 2))
        return (wide, high) if max(wide, high) > 36 else (wide, 40.0)
    return float(rng.uniform(26, largest)), float(rng.uniform(26, largest))


def _place(rng: np.random.Generator, others: list[Corners], width: int, height: int) -> tuple[Thing, Corners] | None:
    names = list(ALL_KINDS)
    kind = names[int(rng.integers(0, len(names)))]
    for _ in range(30):
        wide, high = _size_of(rng, kind, min(76.0, width / 2.5, height / 2.2))
        left, top = float(rng.uniform(2, width - wide - 2)), float(rng.uniform(2, height - high - 2))
        box = (left, top, left + wide, top + high)
        cell = int(top // CELL), int(left // CELL)
        free = all(
            box[0] > o[2] + 6 or o[0] > box[2] + 6 or box[1] > o[3] + 6 or o[1] > box[3] + 6 for o in others
        ) and all((int(o[1] // CELL), int(o[0] // CELL)) != cell for o in others)
        if free:
            colour = list(COLOURS)[int(rng.integers(0, len(COLOURS)))] if kind in ("lamp", "button") else None
            return Thing(kind, colour, snapped(box, width, height)), box
    return None


def _paint(rng: np.random.Generator, draw: ImageDraw.ImageDraw, thing: Thing, box: Corners, scale: float) -> None:
    match thing.kind:
        case "lamp":
            scenes.paint_lamp(rng, draw, box, PAINT[thing.colour or "red"], scale)
        case "button":
            scenes.paint_button(rng, draw, box, PAINT[thing.colour or "red"], scale)
        case "rust":
            scenes.paint_rust(rng, draw, box, scale)
        case "scratch":
            scenes.paint_scratch(rng, draw, box, scale)
        case "crack":
            _paint_crack(rng, draw, box, scale)
        case "stain":
            _paint_stain(rng, draw, box, scale)
        case "gauge":
            _paint_gauge(rng, draw, box, scale)
        case "screw":
            _paint_screw(rng, draw, box, scale)
        case _:
            _paint_switch(rng, draw, box, scale)


def _paint_crack(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Corners, scale: float) -> None:
    """A dark zigzag with a branch, from corner to corner."""
    left, top, right, bottom = box
    flip = rng.random() < 0.5
    points = []
    for i in range(8):
        t = i / 7
        x, y = left + t * (right - left), (bottom - t * (bottom - top)) if flip else (top + t * (bottom - top))
        if 0 < i < 7:
            x += float(rng.uniform(-0.12, 0.12)) * (right - left)
            y += float(rng.uniform(-0.12, 0.12)) * (bottom - top)
        points.append((min(max(x, left), right), min(max(y, top), bottom)))
    colour = grey_like(rng, 0, 22, 4)
    draw.line(points, colour, max(1, round(float(rng.uniform(1.4, 2.4)) * scale)))
    start = points[int(rng.integers(2, 6))]
    end = (min(max(start[0] + float(rng.uniform(-0.3, 0.3)) * (right - left), left), right),
           min(max(start[1] + float(rng.uniform(-0.3, 0.3)) * (bottom - top), top), bottom))  # fmt: skip
    draw.line((start, end), colour, max(1, round(1.2 * scale)))


def _paint_stain(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Corners, scale: float) -> None:
    """A dark wet blot of round lobes, without the grain of rust."""
    left, top, right, bottom = box
    colour = grey_like(rng, 28, 60, 10)
    width, height = right - left, bottom - top
    draw.ellipse((left + 0.12 * width, top + 0.12 * height, right - 0.12 * width, bottom - 0.12 * height), fill=colour)
    for i in range(9):
        angle = 2 * math.pi * i / 9
        r = float(rng.uniform(0.14, 0.2))
        x = (left + right) / 2 + math.cos(angle) * width * (0.5 - r)
        y = (top + bottom) / 2 + math.sin(angle) * height * (0.5 - r)
        draw.ellipse((x - r * width, y - r * height, x + r * width, y + r * height), fill=colour)


def _paint_gauge(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Corners, scale: float) -> None:
    """A white dial with a rim, ticks and a needle. What it shows is never asked."""
    left, top, right, bottom = box
    radius = (right - left) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    draw.ellipse(
        (left, top, right - 1, bottom - 1),
        fill=grey_like(rng, 238, 252, 3),
        outline=grey_like(rng, 20, 60, 4),
        width=max(2, round(2.5 * scale)),
    )
    for i in range(9):
        angle = math.pi * (0.75 + 1.5 * i / 8)
        inner, outer = 0.68 * radius, 0.84 * radius
        draw.line(
            (
                x + inner * math.cos(angle),
                y + inner * math.sin(angle),
                x + outer * math.cos(angle),
                y + outer * math.sin(angle),
            ),
            (30, 30, 30),
            max(1, round(scale)),
        )
    angle = math.pi * (0.75 + 1.5 * float(rng.random()))
    draw.line(
        (x, y, x + 0.72 * radius * math.cos(angle), y + 0.72 * radius * math.sin(angle)),
        (190, 30, 30),
        max(1, round(1.6 * scale)),
    )
    draw.ellipse((x - 0.1 * radius, y - 0.1 * radius, x + 0.1 * radius, y + 0.1 * radius), fill=(30, 30, 30))


def _paint_screw(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Corners, scale: float) -> None:
    """A grey head with a cross."""
    left, top, right, bottom = box
    radius = (right - left) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    draw.ellipse(
        (left, top, right - 1, bottom - 1),
        fill=grey_like(rng, 140, 190, 4),
        outline=grey_like(rng, 40, 70, 4),
        width=max(1, round(1.5 * scale)),
    )
    turn = float(rng.uniform(0, math.pi))
    for quarter in (0.0, math.pi / 2):
        dx, dy = 0.6 * radius * math.cos(turn + quarter), 0.6 * radius * math.sin(turn + quarter)
        draw.line((x - dx, y - dy, x + dx, y + dy), (40, 40, 44), max(2, round(2.2 * scale)))


def _paint_switch(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Corners, scale: float) -> None:
    """A black rocker with one half lit."""
    left, top, right, bottom = box
    draw.rounded_rectangle((left, top, right - 1, bottom - 1), radius=3 * scale, fill=grey_like(rng, 14, 40, 4))
    width, height, up = right - left, bottom - top, rng.random() < 0.5
    inner = (
        left + 0.18 * width,
        top + (0.1 if up else 0.52) * height,
        right - 0.18 * width,
        top + (0.48 if up else 0.9) * height,
    )
    draw.rounded_rectangle(inner, radius=2 * scale, fill=grey_like(rng, 190, 235, 6))
