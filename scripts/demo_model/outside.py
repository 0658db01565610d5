"""What lies outside the domain: textures, landscapes, still lifes, pages of print, screens, charts, dials, abstract shapes.

From these the model learns to say that it cannot tell. Print is always too small to be read: a few pixels high. It knows how such
pictures look, and nothing of what will be asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from scripts.demo_model.drawing import CELL, Picture, Rgb, font, gradient, grey_like, to_seen_size, wear
from scripts.demo_model.phrases import LABELS_ZH
from scripts.demo_model.sheets import CHINESE_FONT, glare

Size = tuple[int, int]
CHINESE = "".join(LABELS_ZH)
FACES = ("Roboto-Medium", "OpenSans-Semibold", "NotoSerif-Bold", "NotoSansMono-Bold", CHINESE_FONT)
LETTERS = "abcdefghijklmnopqrstuvwxyzabcdeeeeiiioottnnssrrlaABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,.-:;"


def draw_outside(
    rng: np.random.Generator, columns: int, lines: int, *, scale: float = 1.0, held_out: bool = False
) -> Picture:
    """Draw something that is no panel, table or surface, of a style kept for examination when `held_out`."""
    size = round(columns * CELL * scale), round(lines * CELL * scale)
    styles = _HELD_OUT_STYLES if held_out else _STYLES
    large = styles[int(rng.integers(0, len(styles)))](rng, size)
    if rng.random() < 0.12:
        large = large.convert("L").convert("RGB")
    if rng.random() < 0.15:
        large = glare(rng, large)
    seen = to_seen_size(large, (columns * CELL, lines * CELL))
    return Picture(wear(rng, seen), large, is_outside=True)


def _any_colour(rng: np.random.Generator) -> Rgb:
    """Draw a colour, more often a dull one than a bright one."""
    if rng.random() < 0.6:
        return grey_like(rng, 20, 235, 40)
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue


def _clouds(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    total = np.zeros((size[1], size[0], 3), dtype=np.float32)
    weight = 0.0
    for octave in (3, 6, 12, 24):
        small = rng.uniform(0, 255, (octave, octave, 3)).astype(np.float32)
        grown = Image.fromarray(small.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(grown, dtype=np.float32) / octave**0.6
        weight += 1 / octave**0.6
    return Image.fromarray(np.clip(total / weight * 1.4 - 50, 0, 255).astype(np.uint8))


def _landscape(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    width, height = size
    sky = int(rng.integers(120, 220))
    image = gradient(rng, size, (sky - 50, sky - 10, min(255, sky + 35)), strength=0.5)
    draw = ImageDraw.Draw(image)
    for layer in range(int(rng.integers(2, 5))):
        level = height * (0.35 + 0.18 * layer + float(rng.uniform(-0.08, 0.08)))
        ups = rng.normal(0, height * 0.08, 9)
        ridge = [(width * i / 8, level + float(u)) for i, u in enumerate(ups)]
        base = _any_colour(rng)
        draw.polygon(
            [(0, height), *ridge, (width, height)], fill=(base[0] // 3 + 20, base[1] // 2 + 40, base[2] // 3 + 10)
        )
    for _ in range(int(rng.integers(0, 7))):
        x, y, r = rng.uniform(0, width), rng.uniform(height * 0.3, height), rng.uniform(0.04, 0.16) * height
        draw.ellipse((x - r, y - r, x + r, y + r * 1.3), fill=_any_colour(rng))
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 3)) * height / 200))


def _shapes(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    image = gradient(rng, size, _any_colour(rng), strength=0.4)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(6, 18))):
        points = [
            (float(rng.uniform(-0.1, 1.1)) * size[0], float(rng.uniform(-0.1, 1.1)) * size[1])
            for _ in range(int(rng.integers(3, 7)))
        ]
        draw.polygon(points, fill=_any_colour(rng))
    return image


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, _any_colour(rng))
    draw = ImageDraw.Draw(image)
    step, slope, colour = (
        float(rng.uniform(0.04, 0.15)) * size[0],
        float(rng.uniform(-1, 1)) * size[1],
        _any_colour(rng),
    )
    x = -float(size[0])
    while x < 2 * size[0]:
        draw.line((x, 0, x + slope, size[1]), fill=colour, width=max(1, round(step / 2)))
        x += step
    return image


def _static(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    small = rng.integers(0, 256, (size[1] // 3 + 1, size[0] // 3 + 1, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def _natural(rng: np.random.Generator, size: Size) -> Image.Image:
    """Noise with the spectrum of natural pictures, in a palette of its own: leaves, stone, cloth, water."""
    width, height = 96, 96
    slope = float(rng.uniform(0.7, 1.7))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    amplitude = 1 / np.maximum(np.hypot(fx * rng.uniform(0.5, 2), fy), 1 / 96) ** slope
    fields = []
    for _ in range(2):
        phase = np.exp(2j * np.pi * rng.random(amplitude.shape))
        field = np.fft.irfft2(amplitude * phase, (height, width))
        fields.append((field - field.mean()) / (field.std() + 1e-6))
    low, high, third = (np.array(_any_colour(rng), dtype=np.float32) for _ in range(3))
    one, two = (1 / (1 + np.exp(-1.6 * f))[..., None] for f in fields)
    pixels = low + (high - low) * one + (third - low) * two * 0.5
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _words(rng: np.random.Generator, count: int, alphabet: str) -> str:
    lengths = rng.integers(1, 10, count)
    return " ".join("".join(alphabet[int(i)] for i in rng.integers(0, len(alphabet), n)) for n in lengths)


def _print_on(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], scale: float, ink: Rgb
) -> None:
    """Fill a box with lines of small print."""
    left, top, right, bottom = box
    size = max(4, round(float(rng.uniform(4, 10)) * scale))
    name = FACES[int(rng.integers(0, len(FACES)))]
    face, alphabet = font(name, size), CHINESE if name == CHINESE_FONT else LETTERS
    y = top
    while y + size < bottom:
        if rng.random() < 0.1:
            y += size
            continue
        text = _words(rng, 2 + int((right - left) / size / 2.5 * float(rng.uniform(0.3, 1.0)) / 3), alphabet)
        while text and face.getlength(text) > right - left:
            text = text[: int(len(text) * 0.9)]
        draw.text((left, y), text, font=face, fill=ink)
        y += size * 1.35


def _page(rng: np.random.Generator, size: Size) -> Image.Image:
    """A page of print, flat or photographed: lines, columns, sometimes a heading, a picture or a form's rules."""
    width, height = size
    scale = height / 200
    light = rng.random() < 0.85
    paper = grey_like(rng, 205, 255, 12) if light else grey_like(rng, 10, 60, 12)
    ink = grey_like(rng, 0, 90, 20) if light else grey_like(rng, 170, 250, 20)
    image = gradient(rng, size, paper, strength=0.15)
    draw = ImageDraw.Draw(image)
    columns = int(rng.integers(1, 4))
    margin = float(rng.uniform(0.02, 0.12)) * min(width, height)
    top = margin
    if rng.random() < 0.4:
        face = font(FACES[int(rng.integers(0, 4))], max(8, round(float(rng.uniform(10, 17)) * scale)))
        draw.text((margin, top), _words(rng, 3, LETTERS), font=face, fill=ink)
        top += face.size * 1.6
    wide = (width - 2 * margin) / columns
    for column in range(columns):
        left = margin + column * wide
        if rng.random() < 0.15:
            draw.rectangle((left, top, left + wide * 0.9, top + height * 0.3), fill=_any_colour(rng))
            _print_on(rng, draw, (left, top + height * 0.33, left + wide * 0.92, height - margin), scale, ink)
        else:
            _print_on(rng, draw, (left, top, left + wide * 0.92, height - margin), scale, ink)
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(2, 8))):
            y = float(rng.uniform(min(top, height - margin), height - margin))
            draw.line((margin, y, width - margin, y), fill=ink, width=max(1, round(scale)))
    if rng.random() < 0.5:
        table = grey_like(rng, 20, 200, 60)
        image = image.rotate(float(rng.uniform(-9, 9)), Image.Resampling.BILINEAR, fillcolor=table)
    return image


def _screen(rng: np.random.Generator, size: Size) -> Image.Image:
    """A screen: bars, windows, icons and small print."""
    width, height = size
    scale = height / 200
    image = gradient(rng, size, _any_colour(rng) if rng.random() < 0.5 else grey_like(rng, 15, 245, 10), strength=0.1)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        left, top = float(rng.uniform(0, 0.5)) * width, float(rng.uniform(0, 0.5)) * height
        right, bottom = left + float(rng.uniform(0.3, 0.9)) * width, top + float(rng.uniform(0.3, 0.9)) * height
        face = grey_like(rng, 10, 255, 10)
        ink: Rgb = (20, 20, 25) if sum(face) > 380 else (225, 225, 230)
        draw.rectangle((left, top, right, bottom), fill=face, outline=grey_like(rng, 60, 200, 20))
        draw.rectangle((left, top, right, top + 12 * scale), fill=_any_colour(rng))
        _print_on(rng, draw, (left + 6 * scale, top + 18 * scale, right - 4 * scale, bottom), scale * 0.8, ink)
    for i in range(int(rng.integers(0, 12))):
        x, y = (8 + 22 * i) * scale, height - 16 * scale
        draw.rounded_rectangle((x, y, x + 13 * scale, y + 13 * scale), radius=3 * scale, fill=_any_colour(rng))
    return image


def _chart(rng: np.random.Generator, size: Size) -> Image.Image:
    """Axes with bars, a curve or dots, and small labels."""
    width, height = size
    scale = height / 200
    image = Image.new("RGB", size, grey_like(rng, 225, 255, 6) if rng.random() < 0.8 else grey_like(rng, 10, 50, 10))
    draw = ImageDraw.Draw(image)
    left, bottom = 0.12 * width, 0.86 * height
    for i in range(6):
        y = bottom - i * 0.14 * height
        draw.line((left, y, 0.96 * width, y), fill=(150, 150, 155), width=1)
        draw.text(
            (2 * scale, y - 4 * scale), str(i * 20), font=font(FACES[0], max(5, round(8 * scale))), fill=(110, 110, 110)
        )
    count, colour = int(rng.integers(4, 14)), _any_colour(rng)
    heights = rng.uniform(0.05, 0.75, count) * height
    step = 0.82 * width / count
    points = [(left + (i + 0.5) * step, bottom - float(h)) for i, h in enumerate(heights)]
    style = rng.random()
    for x, y in points:
        if style < 0.45:
            draw.rectangle((x - 0.35 * step, y, x + 0.35 * step, bottom), fill=colour)
        elif style > 0.75:
            draw.ellipse((x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale), fill=_any_colour(rng))
    if style >= 0.45:
        draw.line(points, fill=colour, width=max(1, round(2 * scale)))
    return image


def _still_life(rng: np.random.Generator, size: Size) -> Image.Image:
    """Round and square things with shade and shadow on a ground: fruit, coins, cups, stones, boxes."""
    width, height = size
    image = _natural(rng, size) if rng.random() < 0.5 else gradient(rng, size, _any_colour(rng), strength=0.6)
    image = image.filter(ImageFilter.GaussianBlur(height / 60))
    pixels = np.asarray(image, dtype=np.float32).copy()
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(int(rng.integers(1, 14))):
        radius = float(rng.uniform(0.06, 0.45)) * height
        cx, cy = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        squash, colour = float(rng.uniform(0.6, 1.5)), np.array(_any_colour(rng), dtype=np.float32)
        reach = np.hypot((x - cx) / squash, y - cy) / radius
        light = np.clip(
            1.15 - 0.8 * np.hypot((x - cx) / squash + radius * 0.35, y - cy + radius * 0.35) / radius, 0.15, 1.3
        )
        shadow = np.clip(1.35 - np.hypot((x - cx - 0.2 * radius) / squash, y - cy - 0.2 * radius) / radius, 0, 0.5)
        pixels *= 1 - shadow[..., None] * (reach > 1)[..., None]
        inside = np.clip((1 - reach) * radius / 2, 0, 1)[..., None]
        pixels = pixels * (1 - inside) + colour * light[..., None] * inside
    noisy = pixels + rng.normal(0, rng.uniform(0, 8), (height, width, 1))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _buildings(rng: np.random.Generator, size: Size) -> Image.Image:
    """Blocks with rows of windows before a sky."""
    width, height = size
    image = gradient(rng, size, _any_colour(rng), strength=0.5)
    draw = ImageDraw.Draw(image)
    x = -0.05 * width
    while x < width:
        wide, top = float(rng.uniform(0.1, 0.35)) * width, float(rng.uniform(0.05, 0.7)) * height
        wall, pane = grey_like(rng, 40, 200, 30), grey_like(rng, 20, 250, 40)
        draw.rectangle((x, top, x + wide, height), fill=wall)
        step = float(rng.uniform(0.05, 0.12)) * height
        for row in range(int((height - top) / step)):
            for column in range(int(wide / step)):
                if rng.random() < 0.85:
                    a, b = x + (column + 0.25) * step, top + (row + 0.25) * step
                    draw.rectangle((a, b, a + 0.5 * step, b + 0.6 * step), fill=pane)
        x += wide * float(rng.uniform(0.9, 1.2))
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.2)) * height / 200))


def _dial(rng: np.random.Generator, size: Size) -> Image.Image:
    """One large dial that fills the picture, with ticks, small figures and a needle."""
    width, height = size
    image = gradient(rng, size, _any_colour(rng), strength=0.4)
    draw = ImageDraw.Draw(image)
    radius = float(rng.uniform(0.42, 0.7)) * height
    x, y = width * float(rng.uniform(0.35, 0.65)), height * float(rng.uniform(0.4, 0.6))
    light = rng.random() < 0.75
    ink: Rgb = (25, 25, 28) if light else (230, 230, 225)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=grey_like(rng, 50, 130, 8))
    inner = 0.93 * radius
    face = grey_like(rng, 225, 252, 5) if light else grey_like(rng, 10, 45, 5)
    draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=face)
    figures = font(FACES[0], max(6, round(0.11 * radius)))
    for i in range(31):
        angle = math.pi * (0.75 + 1.5 * i / 30)
        ray = (math.cos(angle), math.sin(angle))
        near = (0.72 if i % 5 == 0 else 0.8) * radius
        draw.line(
            (x + near * ray[0], y + near * ray[1], x + 0.87 * radius * ray[0], y + 0.87 * radius * ray[1]), ink, 2
        )
        if i % 5 == 0:
            draw.text(
                (x + 0.58 * radius * ray[0], y + 0.58 * radius * ray[1]),
                str(2 * i),
                font=figures,
                fill=ink,
                anchor="mm",
            )
    angle = math.pi * (0.75 + 1.5 * float(rng.random()))
    draw.line(
        (x, y, x + 0.75 * radius * math.cos(angle), y + 0.75 * radius * math.sin(angle)),
        (190, 30, 30),
        max(2, round(radius / 28)),
    )
    return image


def _spots(rng: np.random.Generator, size: Size) -> Image.Image:
    """Lights out of focus before something dark."""
    image = gradient(rng, size, grey_like(rng, 5, 70, 20), strength=0.3)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(8, 40))):
        x, y, r = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(0.01, 0.12) * size[1]
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_any_colour(rng))
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 6)) * size[1] / 200))


def _night(rng: np.random.Generator, size: Size) -> Image.Image:
    """A black sky with stars and a disc."""
    small = rng.random((size[1], size[0], 1))
    stars = np.where(small > 0.995, rng.uniform(80, 255, small.shape), rng.uniform(0, 25))
    image = Image.fromarray(np.repeat(stars, 3, axis=2).astype(np.uint8))
    x, y, r = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(0.1, 0.5) * size[1]
    ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill=_any_colour(rng))
    return image.filter(ImageFilter.GaussianBlur(0.7))


def _tiles(rng: np.random.Generator, size: Size) -> Image.Image:
    """A wall of tiles or bricks."""
    image = Image.new("RGB", size, _any_colour(rng))
    draw = ImageDraw.Draw(image)
    wide, high = float(rng.uniform(0.08, 0.25)) * size[1], float(rng.uniform(0.06, 0.15)) * size[1]
    base = _any_colour(rng)
    for row in range(int(size[1] / high) + 1):
        for column in range(-1, int(size[0] / wide) + 1):
            x, y = (column + 0.5 * (row % 2)) * wide, row * high
            red, green, blue = (int(np.clip(c + rng.integers(-25, 26), 0, 255)) for c in base)
            draw.rectangle((x + 1, y + 1, x + wide - 2, y + high - 2), fill=(red, green, blue))
    return image


Style = Callable[[np.random.Generator, Size], Image.Image]
_STYLES: tuple[Style, ...] = (
    _landscape, _clouds, _shapes, _stripes, _static, _natural, _natural, _page, _page, _page, _screen, _screen, _chart,
    _still_life, _still_life, _buildings, _dial, _spots,
)  # fmt: skip
_HELD_OUT_STYLES: tuple[Style, ...] = (_night, _tiles)
