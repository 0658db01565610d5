"""A date as it stands on a picture: numbers in any order, months as words in English or Chinese, and what is uncertain.

Knows calendars and orders of day, month and year. Does not know fields.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            ("jan", "january"),
            ("feb", "february"),
            ("mar", "march", "mär", "märz"),
            ("apr", "april"),
            ("may", "mai"),
            ("jun", "june", "juni"),
            ("jul", "july", "juli"),
            ("aug", "august"),
            ("sep", "sept", "september"),
            ("oct", "october", "okt", "oktober"),
            ("nov", "november"),
            ("dec", "december", "dez", "dezember"),
        ),
        1,
    )
    for name in names
}
_CHINESE = re.compile(r"(\d{2,4})\s*年\s*(\d{1,2})\s*月(?:\s*(\d{1,2})\s*[日号])?")
_COMPACT = re.compile(r"(?<!\d)(\d{4})(\d{2})(\d{2})(?!\d)")
_THREE = re.compile(r"(?<!\d)(\d{1,4})\s*[-/.,\s]\s*(\d{1,2})\s*[-/.,\s]\s*(\d{1,4})(?!\d)")
_WORDY = re.compile(r"([^\W\d_]{3,9})\.?")
_MONTH_YEAR = re.compile(r"(?<!\d)(?:(\d{1,2})\s*[-/.]\s*(\d{4})|(\d{4})\s*[-/.]\s*(\d{1,2}))(?!\d)")
CENTURY_PIVOT = 70
"""Two-digit years from here on are 19xx."""


@dataclass(frozen=True, slots=True)
class DateReading:
    """A date, or a month where no day is written (`day` is None). `is_ambiguous` where day and month could be swapped."""

    year: int
    month: int
    day: int | None
    is_ambiguous: bool = False
    has_short_year: bool = False
    has_others: bool = False
    """True where the text has another date as well."""

    @property
    def iso(self) -> str:
        """The date as YYYY-MM-DD, a month as YYYY-MM."""
        return f"{self.year:04d}-{self.month:02d}" + ("" if self.day is None else f"-{self.day:02d}")


def read_date(text: str, *, format: str = "") -> DateReading | None:  # noqa: A002 - the field's name
    """Return the first date of a text; None where there is none that exists. `format` settles the order of ambiguous ones."""
    plain = " ".join(unicodedata.normalize("NFKC", text).split())
    if (found := _CHINESE.findall(plain)) or (found := _COMPACT.findall(plain)):
        return _first(_dated(year, month, day or None) for year, month, day in found)
    named = _with_month_word(plain)
    if named is not None:
        return named
    if found := _THREE.findall(plain):
        order = order_of(format)
        return _first(_ordered(first, second, third, order) for first, second, third in found)
    months = ((b, a) if a else (c, d) for a, b, c, d in _MONTH_YEAR.findall(plain))
    return _first(_dated(year, month, None) for year, month in months)


def _first(found: Iterable[DateReading | None]) -> DateReading | None:
    """Return the first of the dates of a text, which says whether there are others."""
    first, *rest = [*found] or [None]
    if first is None or all(each is None or each.iso == first.iso for each in rest):
        return first
    return replace(first, has_others=True)


def write_date(iso: str, format: str) -> str:  # noqa: A002 - the field's name
    """Return an ISO date in a format of Y, M and D; as it is where it has no day, or there is no format."""
    if not format or len(iso) != 10:
        return iso
    year, month, day = iso.split("-")

    def part(found: re.Match[str]) -> str:
        letters = found.group()
        value = {"Y": year, "M": month, "D": day}[letters[0]]
        if letters[0] == "Y":
            return value[-2:] if len(letters) == 2 else value
        return value if len(letters) > 1 else str(int(value))

    return re.sub(r"Y+|M+|D+", part, format)


def order_of(format: str) -> str:  # noqa: A002 - the field's name
    """Return the order of a format, such as `DMY`; empty for none."""
    return "".join(sorted("YMD", key=format.find)) if format else ""


def _with_month_word(plain: str) -> DateReading | None:
    for word in _WORDY.finditer(plain):
        month = _MONTHS.get(word[1].casefold())
        if month is None:
            continue
        numbers = re.findall(r"\d+", plain[: word.start()] + " " + plain[word.end() :])
        if len(numbers) == 1 and len(numbers[0]) == 4:
            return _dated(numbers[0], str(month), None)
        if len(numbers) != 2:
            return None
        year, day = sorted(numbers, key=lambda number: (len(number), int(number)), reverse=True)
        if len(numbers[0]) == len(numbers[1]) <= 2:  # 05 Nov 21: the day stands before the month, or right behind it
            day, year = numbers
        return _dated(year, str(month), day)
    return None


def _ordered(first: str, second: str, third: str, order: str) -> DateReading | None:
    if len(first) == 4:
        return _dated(first, second, third)
    if len(first) == 3 or len(third) == 3:
        return None
    if order and (len(third) != 4 or order.endswith("Y")):
        parts = dict(zip(order, (first, second, third), strict=True))
        return _dated(parts["Y"], parts["M"], parts["D"])
    a, b = int(first), int(second)
    if a > 12:
        return _dated(third, second, first)
    if b > 12:
        return _dated(third, first, second)
    return _dated(third, second, first, is_ambiguous=a != b)


def _dated(year: str, month: str, day: str | None, *, is_ambiguous: bool = False) -> DateReading | None:
    number = int(year)
    is_short = len(year) <= 2
    if is_short:
        number += 1900 if number >= CENTURY_PIVOT else 2000
    try:
        date(number, int(month), int(day or 1))
    except ValueError:
        return None
    return DateReading(number, int(month), None if day is None else int(day), is_ambiguous, is_short)
