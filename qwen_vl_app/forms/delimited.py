"""The lines of a CSV file as the spreadsheets of any country save it: its encoding and what separates its cells.

Knows UTF-8, Excel's "Unicode text", and what Excel writes in China (GB 18030) and in Western Europe (Windows-1252, semicolons).
Does not know what the cells mean.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from itertools import islice

_MARKS = ",;\t"
_PARTING = re.compile(r"[,;\t\r\n]")
_QUOTED = re.compile(r'(?<![^,;\t\r\n])"(?:[^"]|"")*"(?![^,;\t\r\n])')
"""A cell in quotation marks, which begins and ends where a cell does: the inches of a pipe are none."""
_SAID = re.compile(r'"?sep=([^"\r\n])"?[ ,;\t]*(?:\r\n|\r|\n)', re.IGNORECASE)
_OUTSIDE_ASCII = re.compile(r"[^\x00-\x7f]")
_LAST_COMMON = 0xC6
"""The first byte of Big5's last common character."""
LOOKED_AT = 2_000
"""Characters by which an encoding is told."""


def csv_lines(data: bytes, *, titles: Collection[str] = ()) -> Iterator[list[str]]:
    """Yield the lines of a file, each with its cells. Raises ValueError for bytes that are no text, or no such file.

    One of `titles` stands over a column, where they are given; what separates the cells has to leave it whole.
    """
    text = _text(data)
    if "\x00" in text:
        raise ValueError("no text")
    said = _SAID.match(text)  # Excel's own line before the header, which is none of the table
    mark = said[1] if said else _mark(text[:4096], titles)
    try:
        yield from csv.reader(io.StringIO(text[said.end() :] if said else text, newline=""), delimiter=mark)
    except csv.Error as error:
        raise ValueError("no table") from error


def _mark(text: str, titles: Collection[str]) -> str:
    """Return what separates the cells of the first line: what is within quotation marks separates nothing."""
    bare = _QUOTED.sub(lambda cell: _PARTING.sub(" ", cell[0]), text)
    head = next((line for line in bare.splitlines() if line.strip(_MARKS + " ")), "")
    wanted = {title.casefold() for title in titles}

    def fitness(mark: str) -> tuple[bool, int]:
        cells = head.count(mark)
        named = {cell.strip(' "').casefold() for cell in head.split(mark)}
        return cells > 0 and not wanted.isdisjoint(named), cells

    return max(_MARKS, key=fitness)


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # as Excel's "Unicode text" begins
        return data.decode("utf-16")
    found: dict[str, str] = {}
    for encoding in ("utf-8-sig", "gb18030", "cp1252"):
        try:
            found[encoding] = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8-sig" or (encoding == "gb18030" and _is_chinese(found[encoding])):
            return found[encoding]
    if not found:
        raise ValueError("no known encoding")
    return found.get("cp1252") or found["gb18030"]


def _is_chinese(text: str) -> bool:
    """False where most of what is no ASCII are rare characters, or stand within a Latin word: those are another country's.

    A letter with an accent and the one behind it are a Chinese character to GB 18030, but hardly ever one that anybody writes.
    Those of traditional Chinese are hit more often, but then the rest of the word stands beside them.
    """
    parts = [*islice(_OUTSIDE_ASCII.finditer(text), LOOKED_AT)]
    odd = 0
    for part in parts:
        sides = [_is_latin(text[max(part.start() - 1, 0) : part.start()]), _is_latin(text[part.end() : part.end() + 1])]
        is_fine = not all(sides) if _is_simplified(part[0]) else _is_traditional(part[0]) and not any(sides)
        odd += not is_fine
    return 2 * odd <= len(parts)


def _is_latin(char: str) -> bool:
    return char.isascii() and char.isalpha()


def _is_simplified(char: str) -> bool:
    """True for a common character of simplified Chinese, and for the marks of both."""
    try:
        return bool(char.encode("gb2312"))
    except UnicodeEncodeError:
        return False


def _is_traditional(char: str) -> bool:
    """True for one of the 5,401 characters that Big5 has as common."""
    try:
        return char.encode("big5")[0] <= _LAST_COMMON
    except UnicodeEncodeError:
        return False
