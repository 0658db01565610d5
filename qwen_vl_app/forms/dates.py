"""A date as it stands on a picture: numbers in any order, months as words in English or Chinese, and what is uncertain.

Knows calendars and orders of day, month and year. Does not know fields.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
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
_TIME = re.compile(
    r"(?<![\d:])(?:[01]?\d|2[0-4]):[0-5]\d(?::[0-6]\d(?:[.,]\d{1,6})?)?(?![\d:])(?: ?(?:[ap]\.?m|Uhr)\b\.?)?"
    r"(?: ?[-+](?:0\d|1[0-4]):?[0-5]\d(?![\d:]))?"
    r"|(?<![\d:.,/-])(?:(?:0?\d|1[0-2])(?:\.[0-5]\d)? ?[ap]\.?m\b\.?|(?:[01]?\d|2[0-4])(?:"
    r"(?:[.,][0-5]\d)? ?Uhr\b"
    r"| ?h(?:[0-5]\d(?: ?min\b|(?!\w|[-/.,]\d))| [0-5]\d(?: ?min\b|(?!\w| ?[-/.,]? ?\w))|(?!\w))"
    r"| ?[时時点點](?: ?[0-5]?\d ?分(?: ?[0-6]?\d ?秒)?)?))",
    re.IGNORECASE,
)
"""A time of day, which is no part of a date: 14:05:33, 2:30 PM, 14.30 Uhr, 14h30, 14时30分, with its distance from UTC.

Nothing of a date is taken for one: without a colon no hour stands right behind a date's mark (the German `05-03-11 am Kessel`),
and no minutes after a gap before another number or a word, which may be day and month: `8h 05.03.2026`, `8h 05 Nov 2026`.
"""
_CHINESE = re.compile(r"(\d{2,4})\s*年\s*(\d{1,2})\s*月(?:\s*(\d{1,2})\s*[日号])?")
_COMPACT = re.compile(r"(?<!\d)((?:19|20)\d{2})(\d{2})(\d{2})(?!\d)")
_THREE = re.compile(r"(?<!\d)(\d{1,4}) ?([-/.,]) ?(\d{1,2}) ?\2 ?(\d{1,4})(?!\d)")
_SPACED = re.compile(r"(?<!\d)(?<!\d )(\d{1,4}) (\d{1,2}) (\d{1,4})(?! ?\d)")
_MIXED = re.compile(r"(?<!\d)(?:\d{1,3}[-/.,]\d{1,2}[-/.,]\d{1,4}|\d{4}[-/.,]\d{1,2}[-/.,]\d{1,2})(?!\d)")
"""Marks that differ: where there is more than these three numbers, nobody knows which of them belong together."""
_ALONE = re.compile(r"\W*(\d{1,4})([-/., ]{1,3})(\d{1,2})([-/., ]{1,3})(\d{1,4})\W*")
_WORDY = re.compile(r"([^\W\d_]{3,9})\.?")
_MONTH_YEAR = re.compile(r"(?<!\d)(?=(?:(\d{1,2}) ?[-/.] ?(\d{4})|(\d{4}) ?[-/.] ?(\d{1,2}))(?!\d))")
"""Looks ahead, so that 2023-05-2024 is two of them."""
_TAKEN = ";"
"""Stands for what was read already: what lies before it has nothing to do with what lies behind it."""
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
    """Return the first date of a text, one with a day before a month alone; None where there is none that exists.

    `format` settles the order of ambiguous ones.
    """
    order = order_of(format)
    plain = _TIME.sub(_TAKEN, " ".join(unicodedata.normalize("NFKC", text).split()))
    if (alone := _oddly_marked(plain, order)) is not None:
        return alone
    kinds: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], DateReading | None]], ...] = (
        (_CHINESE, lambda part: _dated(part[1], part[2], part[3])),
        (_THREE, lambda part: _ordered(part[1], part[3], part[4], order)),
        (_SPACED, lambda part: _ordered(part[1], part[2], part[3], order)),
        (_MIXED, lambda _: None),
        (_COMPACT, lambda part: _dated(part[1], part[2], part[3])),
    )
    found: list[tuple[int, DateReading]] = []
    is_unclear = False
    for pattern, reading_of in kinds:
        # Eight digits may be a serial number as well: a date with marks goes before them, wherever it stands.
        after = len(plain) if pattern is _COMPACT else 0
        parts = [*pattern.finditer(plain)]
        found += [(after + each.start(), reading) for each in parts if (reading := reading_of(each))]
        # What looks like a date and is none may be the one that is meant.
        is_unclear |= pattern in (_CHINESE, _THREE, _MIXED) and not all(map(reading_of, parts))
        plain = pattern.sub(lambda each: _TAKEN * len(each[0]), plain)
    named, has_unread = _with_month_word(plain)
    if named is not None:
        found.append(named)
    else:
        found += [(each.start(), month) for each in _MONTH_YEAR.finditer(plain) if (month := _month(each))]
    found.sort(key=lambda each: (each[1].day is None, each[0]))
    return _first([reading for _, reading in found], is_unclear=is_unclear or has_unread)


def _first(found: Sequence[DateReading], *, is_unclear: bool) -> DateReading | None:
    """Return the first of the dates of a text, which says whether there are others; a date's own month is none."""
    if not found:
        return None
    first = found[0]
    has_others = is_unclear or any(not first.iso.startswith(each.iso) for each in found)
    return replace(first, has_others=has_others)


def _oddly_marked(plain: str, order: str) -> DateReading | None:
    """Return the date of three numbers that are all there is, with two marks between them: 5/11-2023, 15.12 2024.

    A month and year within it may be what is meant, and the first number something else: that is another date.
    """
    alone = _ALONE.fullmatch(plain)
    if alone is None or alone[2].strip() == alone[4].strip():
        return None
    reading = _ordered(alone[1], alone[3], alone[5], order)
    if reading is None:
        return None
    return replace(reading, has_others=any(_month(each) for each in _MONTH_YEAR.finditer(plain)))


def _month(found: re.Match[str]) -> DateReading | None:
    return _dated(found[2], found[1], None) if found[1] else _dated(found[3], found[4], None)


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


def _with_month_word(plain: str) -> tuple[tuple[int, DateReading] | None, bool]:
    """Return the date of a month as a word, and where it stands; True where the numbers beside it are not understood."""
    for word in _WORDY.finditer(plain):
        month = _MONTHS.get(word[1].casefold())
        if month is None:
            continue
        # As long as years and days are: serial numbers are neither.
        numbers = re.findall(r"(?<!\d)(?:\d{4}|\d{1,2})(?!\d)", plain[: word.start()] + " " + plain[word.end() :])
        reading = None
        if len(numbers) == 1 and len(numbers[0]) == 4:
            reading = _dated(numbers[0], str(month), None)
        elif len(numbers) == 2:
            year, day = sorted(numbers, key=lambda number: (len(number), int(number)), reverse=True)
            if (
                len(numbers[0]) == len(numbers[1]) <= 2
            ):  # 05 Nov 21: the day stands before the month, or right behind it
                day, year = numbers
            reading = _dated(year, str(month), day)
        return (None, len(numbers) > 1) if reading is None else ((word.start(), reading), False)
    return None, False


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
