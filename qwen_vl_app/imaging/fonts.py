"""Fonts for labels: one of this machine's that can write the label, else Pillow's own. Knows where systems keep fonts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import ImageFont

_CJK_FILES = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-sans-cjk-vf-fonts/NotoSansCJK-VF.ttc",
    "/usr/share/fonts/opentype/source-han-sans/SourceHanSans-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/wqy-microhei/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/STHeiti Medium.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
    "/Library/Fonts/Arial Unicode.ttf",
)
_WINDOWS_CJK_NAMES = ("msyh.ttc", "msyh.ttf", "simhei.ttf", "simsun.ttc", "Deng.ttf", "msjh.ttc", "YuGothM.ttc")
_LATIN_NAMES = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "segoeui.ttf", "Arial.ttf", "arial.ttf")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font_for(text: str, size: int) -> Font:
    """Return a font of `size` pixels for the text: one with Chinese where it is needed and there is one."""
    file = cjk_font_file() if has_cjk(text) else None
    return _load(file, size)


def writable(text: str) -> str:
    """Return the text as it can be written on this machine: without a font for Chinese, `?` for each such character."""
    if has_cjk(text) and cjk_font_file() is None:
        return "".join("?" if _is_cjk(char) else char for char in text)
    return text


def can_write_chinese() -> bool:
    """True where a font of this machine has Chinese characters."""
    return cjk_font_file() is not None


def has_cjk(text: str) -> bool:
    """True where a text needs a font for Chinese, Japanese or Korean."""
    return any(_is_cjk(char) for char in text)


@cache
def cjk_font_file() -> str | None:
    """Return a font file of this machine with Chinese characters, or None."""
    names = (
        _WINDOWS_CJK_NAMES if sys.platform == "win32" else _CJK_FILES
    )  # Pillow searches the folder of Windows itself
    known = next((name for name in names if _loads(name)), None)
    return known or next((name for name in _listed_by_fontconfig() if _loads(name)), None)


def _listed_by_fontconfig() -> Iterator[str]:
    """Give the fonts with Chinese characters that the system itself knows of, wherever they are and whatever their name."""
    program = shutil.which("fc-list")
    if program is None:
        return
    try:
        told = subprocess.run(
            [program, ":lang=zh", "file"], capture_output=True, text=True, errors="replace", timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return
    for line in sorted(told.splitlines()):
        name = line.strip().removesuffix(":")
        if name.lower().endswith((".ttf", ".ttc", ".otf", ".otc")):
            yield name


@cache
def _latin_font_file() -> str | None:
    return next((name for name in _LATIN_NAMES if _loads(name)), None)


def _loads(name: str) -> bool:
    if Path(name).is_absolute() and not Path(name).is_file():
        return False
    try:
        ImageFont.truetype(name, 12)
    except (OSError, ValueError):
        return False
    return True


@cache
def _load(file: str | None, size: int) -> Font:
    try:
        name = file or _latin_font_file()
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except (OSError, ValueError):  # the file went away meanwhile
        return ImageFont.load_default(size)


def _is_cjk(char: str) -> bool:
    point = ord(char)
    return (
        0x1100 <= point <= 0x11FF
        or 0x2E80 <= point <= 0x9FFF
        or 0xAC00 <= point <= 0xD7AF
        or 0xF900 <= point <= 0xFAFF
        or 0xFE30 <= point <= 0xFE4F
        or 0xFF00 <= point <= 0xFFEF
        or 0x20000 <= point <= 0x3FFFF
    )
