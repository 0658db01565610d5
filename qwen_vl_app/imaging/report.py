"""Pages of a report: pictures with text beside them, as a PDF whose pages are pictures.

Knows paper, fonts and line breaks in Chinese as well as English. Does not know what is reported. The text in the file
cannot be searched or copied: it is drawn, with the fonts of this machine, so that it looks the same everywhere.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, ImageDraw

from qwen_vl_app.imaging.fonts import font_for, has_cjk, writable
from qwen_vl_app.imaging.own_form import MOST_VIEW_PIXELS, check_pixels

DPI = 150
PAGE = (1240, 1754)
"""A4 at 150 dots per inch."""
_MARGIN, _PICTURE, _GAP = 80, 300, 24
_WIDE = (PAGE[0] - 2 * _MARGIN, 820)
_TEXT_PX, _TITLE_PX, _HEAD_PX = 22, 24, 34
_LEADING = 1.4
_SIGNATURE = 200
"""Room to write on, above and below the line."""
PAGES_AT_ONCE = 8
"""Pages held before they are written: 6.5 MB each."""


@dataclass(frozen=True, slots=True)
class ReportEntry:
    """One picture (JPEG or PNG of this app's own making) and what is said about it."""

    title: str
    lines: tuple[str, ...]
    picture: bytes | None = None
    is_wide: bool = False
    """True where the picture stands above the text, as wide as the page lets it: what is drawn on it can be read then."""


def write_report(
    target: Path | IO[bytes],
    entries: Iterable[ReportEntry],
    *,
    title: str,
    footer: str,
    signatures: tuple[str, ...] = (),
) -> int:
    """Write the PDF and return its number of pages. Memory does not grow with the number of entries. Raises OSError.

    `signatures` are the words under the lines to write on, side by side at the end. A target that is no path is one in
    memory, and empty.
    """
    pages: list[Image.Image] = []
    count = 0
    is_begun = False

    def flush() -> None:
        nonlocal is_begun
        if pages:
            pages[0].save(
                target, "PDF", save_all=True, append_images=pages[1:], append=is_begun, resolution=DPI, quality=80
            )
            is_begun = True
            pages.clear()

    for page in _pages(entries, title=title, footer=footer, signatures=signatures):
        pages.append(page)
        count += 1
        if len(pages) >= PAGES_AT_ONCE:
            flush()
    flush()
    return count


def _pages(
    entries: Iterable[ReportEntry], *, title: str, footer: str, signatures: tuple[str, ...]
) -> Iterator[Image.Image]:
    number = 1
    page, draw = _new_page(footer, number)
    y = _write(draw, title, _MARGIN, _MARGIN, width=PAGE[0] - 2 * _MARGIN, size=_HEAD_PX) + _GAP
    bottom = PAGE[1] - _MARGIN - 2 * _TEXT_PX
    for entry in entries:
        picture = _fitted(entry.picture, _WIDE if entry.is_wide else (_PICTURE, _PICTURE))
        if picture is not None and entry.is_wide:
            if y + picture.height + 4 * _step(_TEXT_PX) > bottom:
                yield page
                number += 1
                page, draw = _new_page(footer, number)
                y = _MARGIN
            page.paste(picture, (_MARGIN, y))
            y += picture.height + _GAP // 2
            picture = None
        text_x = _MARGIN if entry.is_wide else _MARGIN + _PICTURE + _GAP
        width = PAGE[0] - _MARGIN - text_x
        lines = [(line, _TITLE_PX) for line in _broken(entry.title, _TITLE_PX, width)]
        lines += [(line, _TEXT_PX) for told in entry.lines for line in _broken(told, _TEXT_PX, width)]
        high = max(picture.height if picture else 0, sum(_step(size) for _, size in lines[:8]))
        if y + high > bottom:
            yield page
            number += 1
            page, draw = _new_page(footer, number)
            y = _MARGIN
        top = y
        if picture is not None:
            page.paste(picture, (_MARGIN, y))
        for line, size in lines:
            if y + _step(size) > bottom:  # a long answer goes on overleaf
                yield page
                number += 1
                page, draw = _new_page(footer, number)
                y, top, picture = _MARGIN, _MARGIN, None
            draw.text(
                (text_x, y), line, font=font_for(line, size), fill=(0, 0, 0) if size == _TEXT_PX else (0, 70, 140)
            )
            y += _step(size)
        y = max(y, top + (picture.height if picture is not None else 0)) + _GAP // 2
        draw.line((_MARGIN, y, PAGE[0] - _MARGIN, y), fill=(200, 200, 200))
        y += _GAP // 2
    if signatures:
        if y + _SIGNATURE > bottom:
            yield page
            number += 1
            page, draw = _new_page(footer, number)
            y = _MARGIN
        _sign(draw, signatures, y + _SIGNATURE - 2 * _TEXT_PX)
    yield page


def _sign(draw: ImageDraw.ImageDraw, signatures: tuple[str, ...], y: int) -> None:
    room = (PAGE[0] - 2 * _MARGIN) // len(signatures)
    for at, words in enumerate(signatures):
        x = _MARGIN + at * room
        draw.line((x, y, x + room - 2 * _GAP, y), fill=(0, 0, 0), width=2)
        _write(draw, words, x, y + 8, width=room - 2 * _GAP, size=18)


def _new_page(footer: str, number: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    page = Image.new("RGB", PAGE, (255, 255, 255))
    draw = ImageDraw.Draw(page)
    y = PAGE[1] - _MARGIN
    _write(draw, f"{number}   {footer}", _MARGIN, y, width=PAGE[0] - 2 * _MARGIN, size=18)
    return page, draw


def _write(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, *, width: int, size: int) -> int:
    for line in _broken(text, size, width):
        draw.text((x, y), line, font=font_for(line, size), fill=(60, 60, 60))
        y += _step(size)
    return y


def _step(size: int) -> int:
    return round(size * _LEADING)


def _fitted(picture: bytes | None, most: tuple[int, int]) -> Image.Image | None:
    if picture is None:
        return None
    try:
        with Image.open(io.BytesIO(picture), formats=("PNG", "JPEG")) as opened:
            check_pixels(opened.width, opened.height, most=MOST_VIEW_PIXELS)
            image = opened.convert("RGB")
    except Exception:  # noqa: BLE001 - decoders raise nearly anything; a damaged or strange thumbnail is left out of the report
        return None
    image.thumbnail(most)
    return image


def _broken(text: str, size: int, width: int) -> Iterator[str]:
    """Yield the lines of a text at a width: broken at spaces, between Chinese characters, and within what is too long."""
    for paragraph in writable(text).splitlines() or [""]:
        line = ""
        for piece in _pieces("".join(_drawable(char) for char in paragraph)):
            if not line or _width(line + piece, size) <= width:
                line += piece
            else:
                yield line.rstrip()
                line = piece.lstrip()
            while _width(line, size) > width and len(line) > 1:
                at = len(line) - 1
                while at > 1 and _width(line[:at], size) > width:
                    at -= 1
                yield line[:at]
                line = line[at:]
        yield line.rstrip()


def _pieces(text: str) -> Iterator[str]:
    word = ""
    for char in text:
        word += char
        if char == " " or has_cjk(char):
            yield word
            word = ""
    if word:
        yield word


def _drawable(char: str) -> str:
    if char == "\t":
        return "    "
    return "" if unicodedata.category(char).startswith("C") else char


def _width(text: str, size: int) -> float:
    return font_for(text, size).getlength(text)
