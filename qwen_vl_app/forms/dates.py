"""A date as it stands on a picture: numbers in any order, months as words in English or Chinese, and what is uncertain.

Knows calendars and orders of day, month and year. Does not know fields.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from qwen_vl_app.forms.units import is_unit

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
_FULL_YEAR = r"(?:19|20)\d{2}"
"""Other numbers of four digits are no years: 1234-5678 / 05/03/2026."""
_ERAS = {"民国": 1911, "民國": 1911, "令和": 2018, "平成": 1988, "昭和": 1925}
"""Years of Taiwan and Japan, each by the year before its first."""
_CHINESE = re.compile(
    rf"(?:({'|'.join(_ERAS)})\s*(\d{{1,3}}|元)|(\d{{2,4}}))\s*年\s*(\d{{1,2}})\s*月(?:\s*(\d{{1,2}})\s*[日号])?"
)
_COMPACT = re.compile(r"(?<!\d)((?:19|20)\d{2})(\d{2})(\d{2})(?!\d)")
_THREE = re.compile(
    rf"(?<!\d)(?!\d{{4}}, |\d+, \d+,\d|(?<=\d )\d{{4}},)({_FULL_YEAR}|\d{{1,2}}) ?([-/.,]) ?(\d{{1,2}}) ?\2 ?({_FULL_YEAR}|\d{{1,2}})(?!\d)"
)
"""A comma and a gap behind a year end the date, as a comma does behind 05 03 2026: what follows is another number."""
_FULL_THREE = re.compile(
    rf"(?<!\d[-/.,])(?={_FULL_YEAR}|\d{{1,2}} ?[-/.,] ?\d{{1,2}} ?[-/.,] ?{_FULL_YEAR}){_THREE.pattern}"
)
"""Those with a full year go first: 12 / 05/03/2026."""
_SPACED = re.compile(
    rf"(?<!\d)(?<!\d )(?:(?=\d+ \d+ {_FULL_YEAR}(?!\d))|(?!\d+ \d+ \d+ \d))({_FULL_YEAR}|\d{{1,2}}) (\d{{1,2}}) ({_FULL_YEAR}|\d{{1,2}})(?!\d)"
)
"""Behind a full year nothing of the date is to come; behind a day or a short year another number may be the one that is meant."""
_MIXED = re.compile(r"(?<!\d)(?:\d{1,3}[-/.,]\d{1,2}[-/.,]\d{1,4}|\d{4}[-/.,]\d{1,2}[-/.,]\d{1,2})(?!\d)")
"""Marks that differ: where there is more than these three numbers, nobody knows which of them belong together."""
_ALONE = re.compile(r"\W*(\d{1,4})([-/., ]{1,3})(\d{1,2})([-/., ]{1,3})(\d{1,4})\W*")
_WORDY = re.compile(rf"(?<![^\W\d_])(?:{'|'.join(_MONTHS)})(?![^\W\d_])", re.IGNORECASE)
_DAY = r"(?<!\d)(?P<day>0?[1-9]|[12]\d|3[01])(?!\d)(?:st|nd|rd|th)?"
_YEAR = rf"(?<!\d)(?P<year>{_FULL_YEAR})(?!\d)"
_SHORT_YEAR = r"['’]?(?<!\d)(?P<year>\d{2})(?!\d)(?! ?[-/.,:]\d)"
_BEHIND_MONTH = r"\.? ?[-/.,;]? ?"
_BEHIND_DAY = r"(?: ?;)? ?[-/.,]? ?"
_DAY_BEFORE = rf"(?<!\d[-/.,]){_DAY}(?: of)? ?[-/.]? ?\Z"
_YEAR_BEFORE = rf"{_YEAR} ?[-/.,]? ?\Z"
_AROUND_MONTH = tuple(
    (re.compile(before), re.compile(behind))
    for before, behind in (
        (_DAY_BEFORE, _BEHIND_MONTH + _YEAR),  # 5. Nov 2023; where the hour stands between them, it is a ; by now
        (r"\Z", _BEHIND_MONTH + _DAY + _BEHIND_DAY + _YEAR),  # Nov 5, 2023
        (_YEAR_BEFORE, _BEHIND_MONTH + _DAY + r"(?! ?[-/.,:]\d)"),  # 2023-Nov-05
        (_YEAR + "[-/., ]{1,3}" + _DAY_BEFORE, ""),  # 2023 5 Nov
        (_DAY_BEFORE, _BEHIND_MONTH + _SHORT_YEAR),  # 05NOV21: the day stands before the month, or right behind it
        (r"\Z", _BEHIND_MONTH + _DAY + _BEHIND_DAY + _SHORT_YEAR),
        (r"\Z", _BEHIND_MONTH + _YEAR),
        (_YEAR_BEFORE, ""),
    )
)
"""What may stand right before and right behind a month as a word, the fullest first."""
_LOOKED_AT = 24
"""Characters before a month among which is looked for what belongs to it."""
_LABEL = re.compile(
    r"(?:\b(?:lot|los|charge|ch|batch|nr|no|sn|s/n|p/n|serial|typ|type|id)|批号|批次|编号|序号|型号|#)[.:]? ?\Z",
    re.IGNORECASE,
)
_NUMBER_BEFORE = re.compile(rf"(?<!\d)(?:\d{{1,2}}|{_FULL_YEAR})(?:st|nd|rd|th)?[-/.,&+ ]{{0,4}}\Z")
_NUMBER_BEHIND = re.compile(rf"[-/.,&+ ]{{0,4}}(?:\d{{1,2}}|{_FULL_YEAR})(?!\d)")
"""As long as days and years are: serial numbers are neither."""
_YEAR_BEHIND = re.compile(rf"[-/.,&+ ]{{0,4}}{_FULL_YEAR}(?!\d)")
_HOUR_BEHIND = re.compile(r"\.? ?[-/.,]? ?;")
_WORD_BEHIND = re.compile(r" ([^\W\d_]+)")
_MONTH_YEAR = re.compile(rf"(?<!\d)(?=(?:(\d{{1,2}}) ?[-/.] ?({_FULL_YEAR})|({_FULL_YEAR}) ?[-/.] ?(\d{{1,2}}))(?!\d))")
"""Looks ahead, so that 2023-05-2024 is two of them."""
_WEEK_BEFORE = re.compile(
    r"(?:(?<![^\W_])(?<!\d )(?:kw|cw|ww|wk|w|q)|woche|week|quarter|quartal|[周週])[.:]? ?(?:\d{1,2}\.? ?[-/+&] ?)?\Z",
    re.IGNORECASE,
)
_WEEK_BEHIND = re.compile(r" ?(?:(?:kw|cw|ww|wk|woche|week)(?![^\W_])|[周週])", re.IGNORECASE)
"""What says that a number with a year is a week or a quarter. Behind a number a kW is a power, and W are watts."""
_TAKEN = ";"
"""Stands for what was read already: what lies before it has nothing to do with what lies behind it."""
CENTURY_PIVOT = 70
"""Two-digit years from here on are 19xx."""


@dataclass(frozen=True, slots=True)
class _Around:
    """The year and the day (None without one) beside a month's name, and where all three begin and end."""

    start: int
    end: int
    year: str
    day: str | None
    is_year_last: bool


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
    found, plain, is_unclear = _with_month_words(plain)
    kinds: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], DateReading | None]], ...] = (
        (_CHINESE, lambda part: _dated(_western(part), part[4], part[5])),
        (_FULL_THREE, lambda part: _ordered(part[1], part[3], part[4], order)),
        (_THREE, lambda part: _ordered(part[1], part[3], part[4], order)),
        (_SPACED, lambda part: _ordered(part[1], part[2], part[3], order)),
        (_MIXED, lambda _: None),
        (_COMPACT, lambda part: _dated(part[1], part[2], part[3])),
    )
    for pattern, reading_of in kinds:
        # Eight digits may be a serial number as well: a date with marks goes before them, wherever it stands.
        after = len(plain) if pattern is _COMPACT else 0
        parts = [*pattern.finditer(plain)]
        found += [(after + each.start(), reading) for each in parts if (reading := reading_of(each))]
        # What looks like a date and is none may be the one that is meant.
        is_unclear |= pattern in (_CHINESE, _FULL_THREE, _THREE, _MIXED) and not all(map(reading_of, parts))
        plain = pattern.sub(lambda each: _TAKEN * len(each[0]), plain)
    for each in _MONTH_YEAR.finditer(plain):
        before = plain[max(each.start() - _LOOKED_AT, 0) : each.start()]
        if (month := _month(each)) and not _WEEK_BEFORE.search(before) and not _WEEK_BEHIND.match(plain, _end(each)):
            found.append((each.start(), month))
            is_unclear |= _LABEL.search(before) is not None  # Nr. 12/2026 may be the twelfth of that year
    found.sort(key=lambda each: (each[1].day is None, each[0]))
    return _first([reading for _, reading in found], is_unclear=is_unclear)


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


def _end(found: re.Match[str]) -> int:
    return found.end(2) if found[1] else found.end(4)


def _western(found: re.Match[str]) -> str:
    """Return the year of a Chinese or Japanese date: 2026 for 民国115年."""
    if not found[1]:
        return found[3]
    return str(_ERAS[found[1]] + (1 if found[2] == "元" else int(found[2])))


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


def _with_month_words(plain: str) -> tuple[list[tuple[int, DateReading]], str, bool]:
    """Return the dates with a month as a word and where each stands, the text without them, and True where one is unclear.

    Day and year stand right beside the month: every other number is something else, and where one stands so near that it
    could be part of the date, nobody knows.
    """
    found: list[tuple[int, DateReading]] = []
    is_unclear = False
    rest, at = "", 0
    for word in _WORDY.finditer(plain):
        parts = _around(plain, word, at)
        start, end = word.span() if parts is None else (parts.start, parts.end)
        is_whole = parts is not None and parts.day is not None and parts.is_year_last
        behind = (_YEAR_BEHIND if is_whole else _NUMBER_BEHIND).match(plain, end)
        before = _NUMBER_BEFORE.search(plain[max(at, start - _LOOKED_AT) : start])
        is_unclear |= before is not None or behind is not None
        if parts is None:
            continue
        reading = _dated(parts.year, str(_MONTHS[word[0].casefold()]), parts.day)
        is_unclear |= reading is None or _is_something_else(plain, word, parts)
        # The hour behind a year and a month may be the day: 2026 Nov 5 AM.
        is_unclear |= parts.day is None and not parts.is_year_last and _HOUR_BEHIND.match(plain, end) is not None
        if reading is not None:
            found.append((start, reading))
        rest += plain[at:start] + _TAKEN * (end - start)
        at = end
    return found, rest + plain[at:], is_unclear


def _around(plain: str, word: re.Match[str], at: int) -> _Around | None:
    """Return the day and the year right beside a month's name, neither of them before `at`."""
    first = max(at, word.start() - _LOOKED_AT)
    for before, behind in _AROUND_MONTH:
        left, right = before.search(plain[first : word.start()]), behind.match(plain, word.end())
        if left is not None and right is not None:
            parts = left.groupdict() | right.groupdict()
            is_year_last = "year" in right.groupdict()
            return _Around(first + left.start(), right.end(), parts["year"], parts.get("day"), is_year_last)
    return None


def _is_something_else(plain: str, word: re.Match[str], parts: _Around) -> bool:
    """True where a word says that the number at either end names or counts something: Lot 15 Nov 2025, 2025 Dec 12 kg."""
    if parts.start < word.start() and _LABEL.search(plain[max(parts.start - _LOOKED_AT, 0) : parts.start]):
        return True
    unit = _WORD_BEHIND.match(plain, parts.end)
    return unit is not None and parts.end > word.end() and not parts.is_year_last and is_unit(unit[1])


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
    if not 1900 <= number < 2100:
        return None
    try:
        date(number, int(month), int(day or 1))
    except ValueError:
        return None
    return DateReading(number, int(month), None if day is None else int(day), is_ambiguous, is_short)
