"""The lines of a CSV file as the spreadsheets of any country save it: its encoding and what separates its cells.

Knows UTF-8, Excel's "Unicode text", and what Excel writes in China (GB 18030) and in Western Europe (Windows-1252, semicolons).
Does not know what the cells mean.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice

_MARKS = ",;\t"
_OUTSIDE_ASCII = re.compile(r"[^\x00-\x7f]")
LOOKED_AT = 2_000
"""Characters by which an encoding is told."""


def csv_lines(data: bytes) -> Iterator[list[str]]:
    """Yield the lines of a file, each with its cells. Raises ValueError for bytes that are no text, or no such file."""
    text = _text(data)
    if "\x00" in text:
        raise ValueError("no text")
    head = next((line for line in text[:4096].splitlines() if line.strip(_MARKS + " ")), "")
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=max(_MARKS, key=head.count))
    except csv.Error as error:
        raise ValueError("no table") from error


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
    """
    parts = [*islice(_OUTSIDE_ASCII.finditer(text), LOOKED_AT)]
    odd = sum(
        not _is_common(part[0])
        or (_is_latin(text[max(part.start() - 1, 0) : part.start()]) and _is_latin(text[part.end() : part.end() + 1]))
        for part in parts
    )
    return 2 * odd <= len(parts)


def _is_latin(char: str) -> bool:
    return char.isascii() and char.isalpha()


def _is_common(char: str) -> bool:
    try:
        return bool(char.encode("gb2312"))
    except UnicodeEncodeError:
        return False
