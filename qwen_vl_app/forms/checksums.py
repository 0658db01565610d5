"""Check digits: whether an identifier can be right. Each function takes the text and says True or False.

Published rules: ISO/IEC 7812 (Luhn), GS1 general specifications, ISO 13616 (IBAN), ISO 6346, 49 CFR 565 (VIN), GB 32100, GB 11643.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

from qwen_vl_app.forms.fields import Checksum

_ISO6346_VALUES = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (*range(10), *(number for number in range(10, 39) if number % 11)),
        strict=True,
    )
)
_VIN_VALUES = {char: int(char) for char in "0123456789"} | dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ", (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9), strict=True)
)
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_USCC = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS = tuple(3**place % 31 for place in range(17))
_ID_WEIGHTS = tuple(2 ** (17 - place) % 11 for place in range(17))


def holds(kind: Checksum, text: str) -> bool:
    """Return whether the check digit of an identifier is right; spaces, dashes and full-width characters do not matter."""
    plain = unicodedata.normalize("NFKC", text)
    return _RULES[kind](re.sub(r"[\s\-‐–—−·.]", "", plain).upper())


def _luhn(code: str) -> bool:
    if not re.fullmatch(r"\d{2,}", code, re.ASCII):
        return False
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in code[-2::-2])
    return (doubled + sum(map(int, code[-1::-2]))) % 10 == 0


def _gtin(code: str) -> bool:
    if not re.fullmatch(r"\d{8}|\d{12,14}", code, re.ASCII):
        return False
    body = code[:-1]
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body)))
    return (10 - total % 10) % 10 == int(code[-1])


def _iban(code: str) -> bool:
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", code, re.ASCII):
        return False
    return int("".join(str(int(char, 36)) for char in code[4:] + code[:4])) % 97 == 1


def _iso6346(code: str) -> bool:
    if not re.fullmatch(r"[A-Z]{3}[UJZ]\d{7}", code, re.ASCII):
        return False
    total = sum(_ISO6346_VALUES[char] * 2**place for place, char in enumerate(code[:10]))
    return bool(total % 11 % 10 == int(code[10]))


def _vin(code: str) -> bool:
    if not re.fullmatch(r"[A-HJ-NPR-Z0-9]{17}", code, re.ASCII):
        return False
    rest = sum(_VIN_VALUES[char] * weight for char, weight in zip(code, _VIN_WEIGHTS, strict=True)) % 11
    return code[8] == ("X" if rest == 10 else str(rest))


def _uscc(code: str) -> bool:
    if len(code) != 18 or any(char not in _USCC for char in code):
        return False
    total = sum(_USCC.index(char) * weight for char, weight in zip(code[:17], _USCC_WEIGHTS, strict=True))
    return _USCC[(31 - total % 31) % 31] == code[17]


def _cn_id(code: str) -> bool:
    if not re.fullmatch(r"\d{17}[\dX]", code, re.ASCII):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(code[:17], _ID_WEIGHTS, strict=True))
    return "10X98765432"[total % 11] == code[17]


_RULES: Mapping[Checksum, Callable[[str], bool]] = {
    Checksum.LUHN: _luhn,
    Checksum.GTIN: _gtin,
    Checksum.IBAN: _iban,
    Checksum.ISO6346: _iso6346,
    Checksum.VIN: _vin,
    Checksum.USCC: _uscc,
    Checksum.CN_ID: _cn_id,
}
