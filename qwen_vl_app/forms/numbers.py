"""A number as it stands on a picture, in any country's writing, and the unit behind it.

Knows grouping, decimal marks, full-width digits, 万, and the signs of a value that is only a limit (< 0.05). Says what could
be read two ways. Does not know fields.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

MAX_DIGITS = 40
_BODY = re.compile(r"(?:[-+] ?)?\d(?:[\d.,'’ ]*\d)?|(?:[-+] ?)?[.,]\d+")
_LEADING = re.compile(r"^[^\d\-+.,]{0,20}?(?=[-+]?[.,]?\d)")
_BLANK, _GAP = re.compile(" "), re.compile("[ '’]")
_EXPONENT = re.compile(r"\s*(?:(?:[eE]|[x×*]\s*10\s*\^)\s*([-+]?\d{1,2})|[x×*]\s*10(-\d{1,2}))(?!\d)")
"""A power of ten shows that it is one, by ^, a minus sign or a raised digit: `2x1000 kVA` are two transformers, `3x10+6 mm²` are
the wires of a cable, and `3x105` may be anything."""
_RAISED = re.compile(r"(?<=\d)([⁺⁻]?)([⁰¹²³⁴-⁹]+)")
_TIMES = re.compile(r"\s*(?:[xX×*]\s*[\d.,]|\^)")
_PER_MINUTE = re.compile(r"(?<=\d) 1/min\b")
_BOUND = re.compile(r"[<>]=|=[<>]|[<>≤≥≦≧⩽⩾±]")
_BOUND_AS = {"<=": "≤", "=<": "≤", "≦": "≤", "⩽": "≤", ">=": "≥", "=>": "≥", "≧": "≥", "⩾": "≥"}
_PLUS_MINUS = re.compile(r"\+ ?/? ?-(?=[ \d.,])")
_ABOUT = "~≈≃≅=+|"
"""Signs of mathematics before a number that change nothing of what it is."""
_CHINESE_SCALES = {"万": 4, "亿": 8}
_MINUS = str.maketrans({"−": "-", "–": "-", "—": "-", "﹣": "-", "，": ",", "．": ".", "。": ".", "：": ":"})


@dataclass(frozen=True, slots=True)
class NumberReading:
    """A number and what stands around it. `is_ambiguous` where a mark may group thousands or begin the decimals, where
    blanks group thousands or part several numbers, and in brackets.

    `bound` is one of < ≤ > ≥ ± where the number is only the limit of what was meant, as below what a method can detect.
    """

    value: Decimal
    unit: str = ""
    is_ambiguous: bool = False
    bound: str = ""


def read_number(text: str, *, decimal_mark: str = "") -> NumberReading | None:
    """Return the one number of a text such as `1.234,5 kg`; None where there is none, or more than one.

    `decimal_mark` says which mark begins the decimals; without it the text itself has to tell.
    """
    plain = _PER_MINUTE.sub(" min-1", plain_signs(text))  # its one is no second number
    plain = _PLUS_MINUS.sub("±", plain)
    found = _BODY.search(plain)
    if found is None or found.end() - found.start() > MAX_DIGITS:
        return None
    before, after = plain[: found.start()], plain[found.end() :]
    bounds = _BOUND.findall(before)
    if len(bounds) > 1 or (before and not _is_harmless_before(_BOUND.sub("", before))):
        return None
    bound = _BOUND_AS.get(bounds[0], bounds[0]) if bounds else ""
    digits = found.group()
    if found.start() and digits[0] in "-+" and plain[found.start() - 1].isalnum():
        return None  # a dash within a name: P-204 is no minus 204
    value, is_ambiguous = _value(digits, decimal_mark)
    if value is None:
        return None
    scale = 0
    if (exponent := _EXPONENT.match(after)) is not None:
        scale, after = int(exponent[1] or exponent[2]), after[exponent.end() :]
    elif _TIMES.match(after):
        return None  # 2 x 100 kVA: how many there are of what
    else:
        stripped = after.lstrip()
        if stripped[:1] in _CHINESE_SCALES:
            scale, after = _CHINESE_SCALES[stripped[0]], stripped[1:]
    # In a ledger (5) is minus five, on a drawing it is a dimension for information.
    is_ambiguous |= "(" in before and after.lstrip().startswith(")") and value > 0
    unit = after.strip().strip("()[]（）").strip()
    if unit.count("(") > unit.count(")"):
        unit += ")"  # bar(g), dB(A)
    if re.search(r"(?<![a-zA-Z/^])\d{2,}|\d[.,]\d", unit):
        return None  # a second number: which of the two is meant is not ours to say
    return NumberReading(value.scaleb(scale), unit, is_ambiguous, bound)


def plain_signs(text: str) -> str:
    """Return text with digits, marks and minus signs of any script as ASCII has them, its gaps single spaces.

    A digit that is raised behind another gets a ^ before it: 10³ is no 103.
    """
    marked = _RAISED.sub(r"^\1\2", text)
    plain = unicodedata.normalize("NFKC", marked.replace("℃", "°C").replace("℉", "°F")).translate(_MINUS)
    return " ".join(plain.split())


def _is_harmless_before(before: str) -> bool:
    """True for a sign of about or a currency; letters make it part of a name, and what ≪ means is not ours to say."""
    return not any(char.isalnum() or (unicodedata.category(char) == "Sm" and char not in _ABOUT) for char in before)


def _value(digits: str, decimal_mark: str) -> tuple[Decimal | None, bool]:
    sign = -1 if digits.startswith("-") else 1
    body = digits.lstrip("+- ")
    if _are_several(body):
        return None, False
    is_several = _may_be_several(body)
    body = re.sub(r"(?<=\d)[ '’](?=\d{3}(?!\d))", "", body)
    if _GAP.search(body):
        return None, False
    is_ambiguous = False
    if decimal_mark:
        other = "," if decimal_mark == "." else "."
        whole, _, decimals = body.partition(decimal_mark)
        if decimal_mark in decimals or other in decimals or (other in whole and not _is_grouped(whole, other)):
            return None, False
        body = body.replace(other, "").replace(decimal_mark, ".")
    elif "," in body and "." in body:
        last = max(body.rfind(","), body.rfind("."))
        mark = body[last]
        other = "," if mark == "." else "."
        whole = body[:last]
        if mark in whole or not _is_grouped(whole, other):
            return None, False
        body = whole.replace(other, "") + "." + body[last + 1 :]
    elif body.count(",") > 1 or body.count(".") > 1:
        mark = "," if "," in body else "."
        if not _is_grouped(body, mark):
            return None, False
        body = body.replace(mark, "")
    elif "," in body:
        whole, _, rest = body.partition(",")
        is_ambiguous = len(rest) == 3 and 1 <= len(whole) <= 3 and whole != "0"
        # The comma with three digits behind it groups thousands wherever the point is the decimal mark.
        body = whole + rest if is_ambiguous else f"{whole}.{rest}"
    try:
        return sign * Decimal(body), is_ambiguous or is_several
    except InvalidOperation:
        return None, False


def _are_several(body: str) -> bool:
    """True for 1450 400 and 1.5 400, which nobody writes for one number: before a gap stands a group of another length."""
    whole, decimals = _groups(body, _GAP)
    return (len(whole) > 1 and len(whole[0]) > 3) or any(len(group) != 3 for group in decimals[:-1])


def _may_be_several(body: str) -> bool:
    """True for 380 400 415, 1.250 400 and 0 400, which are readings beside each other as well as one number.

    No reading among them is too short or begins with 0, and hardly any number with gaps begins with a 0 alone.
    """
    whole, decimals = _groups(body, _BLANK)
    if len(whole) > 1 and (whole[0] == "0" or all(map(_is_reading, whole))):
        return True
    return len(decimals) > 1 and all(map(_is_reading, decimals[1:]))


def _groups(body: str, gap: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Return what stands between the gaps before the first mark, and behind the last one."""
    parts = re.split(r"[.,]", body)
    return gap.split(parts[0]), gap.split(parts[-1]) if len(parts) > 1 else []


def _is_reading(part: str) -> bool:
    return len(part) == 3 and part[0] != "0"


def _is_grouped(whole: str, mark: str) -> bool:
    first, *rest = whole.split(mark)
    return 1 <= len(first) <= 3 and all(len(group) == 3 for group in rest)


def plain_decimal(value: Decimal, *, decimal_mark: str = "") -> str:
    """Return a number without an exponent, with the decimals it was written with, as `read_number` reads it again."""
    text = f"{value:f}"
    return text.replace(".", decimal_mark or ".") if text != "-0" else "0"


def written_out(number: float) -> str:
    """Return a number with every digit that it has (15 at most below 10^15) and without an exponent, for cells and sentences."""
    return f"{Decimal(f'{number:.15g}' if abs(number) < 1e15 else repr(number)):f}"
