"""Regular expressions of a JSON Schema, rewritten so that a grammar can hold to them inside a JSON text.

Knows the expressions' language as far as an automaton can follow it. Does not know schemas. What it cannot follow, or what
would take it ever longer with each sign, has no rewriting: the rule is then told as not enforced.

Three things differ from a search in a text. A schema's pattern may match anywhere, a grammar describes the whole text. The
grammar's signs are those of the JSON, where a quotation mark, a backslash and a line break stand escaped. And the grammar
library knows nothing of that: its own `.` and `[^x]` let a bare quotation mark through, which ends the text. So every set of
signs is written out here, from code points.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_REPEATED = 2000
"""How often a piece may come, repetitions within repetitions multiplied."""
LARGEST = 4000
"""Signs of an expression."""
MOST_LEFT_OUT = 64
"""Pieces of an expression that may be left out: what it takes to make a grammar ready grows with the cube of their number."""
BY_THE_RULES = "[é]{0}"
"""Matches nothing, and changes nothing. The library has two ways with expressions and takes the sound one, which knows
alternatives of escaped signs and is quick with repetitions, only where something is not ASCII."""
_COUNTS = re.compile(r"\{(\d{1,6})(,(\d{1,6})?)?\}")
_GROUP = re.compile(r"\?(?::|P?<[A-Za-z_]\w*>)")
_ESCAPES = {0x22: '"', 0x5C: "\\\\", 0x0A: "n", 0x0D: "r", 0x09: "t"}
"""Signs that JSON escapes, as they stand in a set behind the backslash."""
_CONTROLS = {"n": 0x0A, "r": 0x0D, "t": 0x09}


class _Unfit(Exception):  # noqa: N818 (a signal within this file)
    pass


@dataclass(frozen=True, slots=True)
class _Signs:
    """A set of signs, as ranges of code points in order."""

    ranges: tuple[tuple[int, int], ...]

    @staticmethod
    def of(ranges: Iterable[tuple[int, int]]) -> _Signs:
        joined: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        return _Signs(tuple(joined))

    def others(self) -> _Signs:
        """Return all signs that are not in it."""
        found: list[tuple[int, int]] = []
        start = 0
        for first, last in self.ranges:
            if first > start:
                found.append((start, first - 1))
            start = last + 1
        if start <= 0x10FFFF:
            found.append((start, 0x10FFFF))
        return _Signs(tuple(found))

    def __contains__(self, sign: int) -> bool:
        return any(first <= sign <= last for first, last in self.ranges)


_DIGITS = _Signs.of([(0x30, 0x39)])
_WORD = _Signs.of([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
_SPACE = _Signs.of([(0x09, 0x0D), (0x20, 0x20)])
_SPACES = _Signs.of([*_SPACE.ranges, (0x1C, 0x1F), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A),
                     (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)])  # fmt: skip
"""What one reader or another takes for white space; the plain ones all do."""
_CLASSES = {
    "d": _DIGITS, "D": _DIGITS.others(), "w": _WORD, "W": _WORD.others(), "s": _SPACE, "S": _SPACES.others()
}  # fmt: skip
_ANY = _Signs.of([]).others()
_NO_BREAK = _Signs.of([(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]).others()
_BARE = _Signs.of([(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0xD800, 0xDFFF)]).others()
"""What may stand in a JSON text as it is."""


def grammar_pattern(pattern: str) -> str | None:
    """Return an expression for the whole text between the quotation marks, or None where there is none."""
    if len(pattern) > LARGEST:
        return None
    reader = _Reader(pattern)
    try:
        written = reader.alternatives(is_outermost=True)
        if reader.at < len(pattern):
            return None
    except (_Unfit, RecursionError):
        return None
    return f"^{written.text}{BY_THE_RULES}$"


def weight_of(pattern: str) -> int:
    """Return about how many milliseconds it takes to make a grammar of an expression that has a rewriting."""
    least = 5 if pattern.startswith("^") else 25
    return least + min(sum(map(pattern.count, "?*||")), MOST_LEFT_OUT) ** 2 // 16


def length_pattern(least: int, most: int | None) -> str:
    """Return an expression for a text of so many signs; the library's own rule for it lets control characters through."""
    return f"^{_set(_ANY)}{{{least},{'' if most is None else most}}}{BY_THE_RULES}$"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A rewritten piece. `repeated` is how often a sign of it may come; `is_open` where that has no end."""

    text: str
    repeated: int = 1
    is_open: bool = False
    has_fixed: bool = False
    """Whether some sign stands in it without a repetition: it tells where one round ends and the next begins."""


class _Reader:
    """Reads an expression from left to right and rewrites it."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.left_out = 0

    def next_is(self, sign: str) -> bool:
        return self.pattern.startswith(sign, self.at)

    def take(self) -> str:
        if self.at >= len(self.pattern):
            raise _Unfit
        sign = self.pattern[self.at]
        self.at += 1
        return sign

    def alternatives(self, *, is_outermost: bool) -> _Piece:
        found = [self.sequence(is_outermost=is_outermost)]
        while self.next_is("|"):
            self.at += 1
            found.append(self.sequence(is_outermost=is_outermost))
        return _Piece(
            "(?:" + "|".join(each.text for each in found) + ")",
            max(each.repeated for each in found),
            any(each.is_open for each in found),
            all(each.has_fixed for each in found),
        )

    def sequence(self, *, is_outermost: bool) -> _Piece:
        found: list[_Piece] = []
        is_anchored = is_ended = False
        if is_outermost and self.next_is("^"):
            self.at += 1
            is_anchored = True
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if is_outermost and self.next_is("$") and self.pattern[self.at + 1 : self.at + 2] in ("", "|"):
                self.at += 1
                is_ended = True
                break
            found.append(self.quantified())
        anything = _Piece(f"{_set(_ANY)}*", is_open=True)
        if is_outermost:
            self.leave_out((not is_anchored) + (not is_ended))
            found = [*([] if is_anchored else [anything]), *found, *([] if is_ended or not found else [anything])]
        return _Piece(
            "".join(each.text for each in found),
            max((each.repeated for each in found), default=1),
            any(each.is_open for each in found),
            any(each.has_fixed for each in found),
        )

    def quantified(self) -> _Piece:
        piece = self.atom()
        sign = self.pattern[self.at : self.at + 1]
        if sign == "{":
            counts = _COUNTS.match(self.pattern, self.at)
            if counts is None:
                raise _Unfit
            self.at = counts.end()
            least, most = int(counts[1]), int(counts[3] or counts[1])
            if most < least:
                raise _Unfit
            has_end = counts[3] is not None or counts[2] is None
            repeated, written = piece.repeated * max(most, 1), counts[0]
        elif sign in ("*", "+", "?") and sign:
            self.at += 1
            least, repeated, written, has_end = sign == "+", piece.repeated, sign, sign == "?"
        else:
            return piece
        self.leave_out(not least)
        if self.next_is("?"):  # takes as little as it can, which changes nothing of what fits
            self.at += 1
        if self.pattern[self.at : self.at + 1] in ("*", "+", "{", "?") and self.at < len(self.pattern):
            raise _Unfit
        is_many = not has_end or written[0] == "{"
        if repeated > MOST_REPEATED or (is_many and (piece.is_open or piece.repeated > 1) and not piece.has_fixed):
            raise _Unfit  # where a round has no sign of its own, each sign could belong to any number of rounds
        return _Piece(piece.text + written, repeated, piece.is_open or not has_end)

    def leave_out(self, count: int) -> None:
        self.left_out += count
        if self.left_out > MOST_LEFT_OUT:
            raise _Unfit

    def atom(self) -> _Piece:
        sign = self.take()
        if sign == "(":
            if self.next_is("?"):
                opening = _GROUP.match(self.pattern, self.at)
                if opening is None:
                    raise _Unfit
                self.at = opening.end()
            piece = self.alternatives(is_outermost=False)
            if self.take() != ")":
                raise _Unfit
            return piece
        if sign == "[":
            return _Piece(_set(self.chosen()), has_fixed=True)
        if sign == ".":
            return _Piece(_set(_NO_BREAK), has_fixed=True)
        if sign == "\\":
            found = self.escaped()
            return _Piece(_set(found if isinstance(found, _Signs) else _Signs(((found, found),))), has_fixed=True)
        if sign in "^$*+?{}|)":
            raise _Unfit
        return _Piece(_set(_Signs(((ord(sign), ord(sign)),))), has_fixed=True)

    def chosen(self) -> _Signs:
        """Read a set of signs."""
        is_other = self.next_is("^")
        self.at += is_other
        ranges: list[tuple[int, int]] = []
        while not self.next_is("]"):
            first = self.member()
            if isinstance(first, _Signs):
                ranges.extend(first.ranges)
            elif self.next_is("-") and not self.next_is("-]"):
                self.at += 1
                last = self.member()
                if isinstance(last, _Signs) or last < first:
                    raise _Unfit
                ranges.append((first, last))
            else:
                ranges.append((first, first))
        self.at += 1
        found = _Signs.of(ranges)
        return found.others() if is_other else found

    def member(self) -> _Signs | int:
        sign = self.take()
        return self.escaped() if sign == "\\" else ord(sign)

    def escaped(self) -> _Signs | int:
        sign = self.take()
        if sign in _CLASSES:
            return _CLASSES[sign]
        if sign in _CONTROLS:
            return _CONTROLS[sign]
        if sign in "xu":
            width = 2 if sign == "x" else 4
            digits = self.pattern[self.at : self.at + width]
            if not re.fullmatch(rf"[0-9a-fA-F]{{{width}}}", digits):
                raise _Unfit
            self.at += width
            return int(digits, 16)
        if sign.isalnum():  # a word's edge, a reference back, a property of Unicode
            raise _Unfit
        return ord(sign)


def _set(signs: _Signs) -> str:
    """Return a set as the grammar's expression: what stands as it is, or what stands escaped."""
    bare = [(max(first, low), min(last, high)) for first, last in signs.ranges for low, high in _BARE.ranges]
    bare = [(first, last) for first, last in bare if first <= last]
    escaped = "".join(name for sign, name in _ESCAPES.items() if sign in signs)
    if not bare and not escaped:
        raise _Unfit
    parts = [*([f"[{_ranges(bare)}]"] if bare else []), *([f"\\\\[{escaped}]"] if escaped else [])]
    return f"(?:{'|'.join(parts)})" if escaped else parts[0]


def _ranges(ranges: Sequence[tuple[int, int]]) -> str:
    return "".join(_sign(first) if first == last else f"{_sign(first)}-{_sign(last)}" for first, last in ranges)


def _sign(point: int) -> str:
    sign = chr(point)
    return f"\\{sign}" if sign in "\\]^-[" else sign
