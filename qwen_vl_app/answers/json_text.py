"""A forgiving reader for one JSON value that a model wrote, with a count of everything it had to mend.

Knows trailing and missing commas, comments, other quotes, Python's literals, unescaped quotes and endings cut off. It keeps
no stack of calls, so that nesting cannot exhaust it, and never goes back, so that its time is linear. Does not know
where in an answer JSON stands (`parse`) or what it means (`regions`).

General repair libraries were tried and refused: they close a cut list as if it were whole (half a number becomes a
coordinate), turn the serial number 00123 into 123, and let NaN through.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from qwen_vl_app.chat import JsonValue

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands within another: keys and places, from the outside inwards."""

MAX_DEPTH = 100
"""Containers within containers; deeper is an accident or an attack."""
_MAX_DIGITS = 100
_FINE_BELOW = 1e12
"""Below it a float keeps every digit that an amount or a measurement has; above it, those of an identifier may change."""

_SPACE = re.compile(r"[\s\ufeff]*")
_COMMENT = re.compile(r"(?://|#)[^\r\n]*|/\*[^*]*(?:\*(?!/)[^*]*)*(?:\*/|$)")
_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_STRICT_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?\Z")
_WORD = re.compile(r"[-+]?[A-Za-z_$][\w$-]*")
_QUOTES = {'"': '"', "'": "'", "“": "”"}
_INSIDE = {quote: re.compile(rf"[^{quote}\\]+") for quote in _QUOTES.values()}
_AFTER_KEY = re.compile(r"\s*(?:[:：]|$)")
_AFTER_ITEM = re.compile(r"\s*(?:[,，\]}]|$|//|/\*|#)|[ \t]*[\r\n]")
_AFTER_MEMBER = re.compile(
    r"\s*(?:[}\]]|$|//|/\*|#|[,，]\s*(?:[\"'“}\]/#]|$|[A-Za-z_]\w{0,40}\s*[:：]))|[ \t]*[\r\n]\s*[\"'“}]"
    r"|[ \t]{1,8}[\"“][^\"“”\\\r\n:]{1,80}[\"”]\s*[:：]"
)
_MEMBER = re.compile(r"[\"“][^\"“”\\\r\n]{1,80}[\"”]\s*[:：]")
"""A key with its colon: a list of plain values before it is over, whether or not anybody closed it."""
_END = r"[ \t]{0,8}(?:[}\r\n]|[,，]\s{0,80}(?:[\"'“}/#]|$))"
_AFTER_PLAIN = re.compile(r"\s*(?:[,，](?!\d)|[}\]\"'“]|$|//|/\*|#)|[ \t]*[\r\n]")
_UNQUOTED = re.compile(rf"(?:[+-]?\.?\d|[-<>~$]|N/A|[^\x00-\x7f“”‘’，：])[^\"“”{{}}\[\]\r\n]{{0,200}}?(?={_END})", re.I)
"""A text that should stand in quotation marks: a value with its unit, a date, an amount. Names of variables are none."""
_UNTIL_THE_END = re.compile(r"[^,，}\]\r\n]{0,300}\Z")
_WORDS: dict[str, JsonValue] = {"true": True, "false": False, "null": None}
_PYTHON_WORDS: dict[str, JsonValue] = {"True": True, "False": False, "None": None, "undefined": None}
_NOT_NUMBERS = frozenset({"nan", "infinity", "inf"})
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LATEX = re.compile(
    r"\\(?:b(?:ar|egin|eta|inom|oldsymbol|ullet)|f(?:orall|rac)|n(?:abla|eq|u)|r(?:ho|ight)|t(?:au|ext|heta|ilde|imes))(?![A-Za-z])"
)
"""Commands of formulas whose first letter JSON takes for a line break, a tab or the like."""


class Ending(StrEnum):
    """How the reading of a value ended."""

    WHOLE = "whole"
    CUT = "cut"
    """The text ended first; complete list items are kept, the last incomplete one is not."""
    BROKEN = "broken"
    """Something stood there that cannot be mended; what came before is kept as after a cut."""
    TOO_DEEP = "too_deep"


@dataclass(slots=True)
class JsonReading:
    """One value, where it ended in the text, and what was mended: counts by the last part of a note's code."""

    value: JsonValue = None
    end: int = 0
    ending: Ending = Ending.WHOLE
    repairs: Counter[str] = field(default_factory=Counter)
    spans: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Where in the text each text, number, true, false and null stands, quotation marks included."""


@dataclass(slots=True)
class _Frame:
    value: list[JsonValue] | dict[str, JsonValue]
    closer: str
    key: str | None = None
    is_quoted: bool = False
    """Its key stands in quotation marks, as in data; `{margin: 0 auto}` is none."""
    needs_comma: bool = False
    holds_items: bool = False
    """It has complete containers, so that a cut after them still leaves something worth keeping."""


class _CannotRead(Exception):  # noqa: N818 (a signal within this file, never an error that a user hears of)
    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


def read_json(text: str, start: int = 0, *, with_spans: bool = False) -> JsonReading:
    """Read the list or object that begins at `start` (a `[` or `{`). Never raises; the time is linear in the text."""
    reader = _Reader(text, start, with_spans=with_spans)
    try:
        reader.run()
    except _CannotRead as stop:
        reader.reading.ending = stop.ending
        reader.unwind()
    reader.reading.end = max(reader.at, start + 1)
    return reader.reading


class _Reader:
    """The state of one reading: the position and the open containers."""

    def __init__(self, text: str, start: int, *, with_spans: bool = False) -> None:
        self.with_spans = with_spans
        self.text = text
        self.at = start
        self.frames: list[_Frame] = []
        self.reading = JsonReading()

    def run(self) -> None:
        self.open_or_fail()
        while self.frames:
            self.skip()
            frame = self.frames[-1]
            sign = self.text[self.at]
            if sign == frame.closer:
                self.close()
            elif sign in ",，":
                self.comma(frame)
            elif frame.needs_comma:
                if sign in "]})":
                    raise _CannotRead(Ending.BROKEN)
                self.mended("json_mended")
                frame.needs_comma = False
            elif isinstance(frame.value, dict) and frame.key is None:
                frame.key = self.read_key()
            elif sign in "[{(":
                self.open_or_fail()
            elif self.is_left_open(frame):
                self.mended("json_mended")
                self.at -= 1  # `close` goes past a bracket
                self.close()
            else:
                start = self.at
                value = self.read_scalar(frame)
                if self.with_spans:
                    self.reading.spans[self.path()] = (start, self.at)
                self.put(value)

    def path(self) -> Path:
        """Return where the next value goes."""
        return tuple(len(frame.value) if isinstance(frame.value, list) else str(frame.key) for frame in self.frames)

    def mended(self, code: str) -> None:
        self.reading.repairs[code] += 1

    def skip(self) -> None:
        """Go past white space and comments; the text's end is a cut."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at >= len(self.text):
                raise _CannotRead(Ending.CUT)
            if self.text[self.at] not in "/#":
                return
            comment = _COMMENT.match(self.text, self.at)
            if comment is None:
                return
            self.mended("json_mended")
            self.at = comment.end()

    def comma(self, frame: _Frame) -> None:
        if not frame.needs_comma or self.text[self.at] == "，":
            self.mended("json_mended")
        frame.needs_comma = False
        self.at += 1
        self.skip()
        if self.text[self.at] == frame.closer:
            self.mended("json_mended")

    def open_or_fail(self) -> None:
        if len(self.frames) >= MAX_DEPTH:
            raise _CannotRead(Ending.TOO_DEEP)
        sign = self.text[self.at] if self.at < len(self.text) else ""
        if sign == "{":
            self.frames.append(_Frame({}, "}"))
        elif sign == "[" or (sign == "(" and self.frames):
            self.frames.append(_Frame([], "]" if sign == "[" else ")"))
            if sign == "(":
                self.mended("json_mended")
        else:
            raise _CannotRead(Ending.BROKEN)
        self.at += 1

    def is_left_open(self, frame: _Frame) -> bool:
        """Return whether a list of plain values ends here without its bracket, as in `{"bbox_2d": [1, 2, 3, 4, "label": "a"}`."""
        if len(self.frames) < 2 or not isinstance(self.frames[-2].value, dict) or not isinstance(frame.value, list):
            return False
        is_plain = bool(frame.value) and not any(isinstance(item, list | dict) for item in frame.value)
        return is_plain and _MEMBER.match(self.text, self.at) is not None

    def close(self) -> None:
        if self.frames[-1].key is not None:
            raise _CannotRead(Ending.BROKEN)
        done = self.frames.pop()
        self.at += 1
        if not self.frames:
            self.reading.value = done.value
        else:
            self.put(done.value)
            parent = self.frames[-1]
            parent.holds_items |= isinstance(parent.value, list) or done.holds_items

    def put(self, value: JsonValue) -> None:
        frame = self.frames[-1]
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.key is not None:
            if frame.key in frame.value:
                self.mended("json_repeated_keys")
            frame.value[frame.key] = value
            frame.key = None
        frame.needs_comma = True

    def read_key(self) -> str:
        sign = self.text[self.at]
        self.frames[-1].is_quoted = sign in _QUOTES
        if sign in _QUOTES:
            key = self.read_string(_AFTER_KEY)
        else:
            word = _WORD.match(self.text, self.at)
            if word is None:
                raise _CannotRead(Ending.BROKEN)
            self.mended("json_mended")
            key = word[0]
            self.at = word.end()
        self.skip()
        if self.text[self.at] not in ":：":
            raise _CannotRead(Ending.BROKEN)
        self.at += 1
        return key

    def read_scalar(self, frame: _Frame) -> JsonValue:
        is_member = isinstance(frame.value, dict)
        if self.text[self.at] in _QUOTES:
            return self.read_string(_AFTER_MEMBER if is_member else _AFTER_ITEM)
        word = _WORD.match(self.text, self.at)
        number = _NUMBER.match(self.text, self.at)
        found = number or word
        if found is not None and found.end() >= len(self.text):
            self.at = found.end()
            raise _CannotRead(Ending.CUT)  # the limit may have cut it in the middle: 12 of 1234
        if is_member and (text := self.unquoted(number, may_be=frame.is_quoted)) is not None:
            return text
        if found is None:
            raise _CannotRead(Ending.BROKEN)
        if number is not None:
            self.at = number.end()
            return self.number(number[0])
        if found[0] in _WORDS or found[0] in _PYTHON_WORDS:
            self.at = found.end()
            if found[0] in _PYTHON_WORDS:
                self.mended("json_mended")
                return _PYTHON_WORDS[found[0]]
            return _WORDS[found[0]]
        if found[0].lower().lstrip("+-") in _NOT_NUMBERS:
            self.at = found.end()
            self.mended("json_not_numbers")
            return None
        raise _CannotRead(Ending.BROKEN)

    def unquoted(self, number: re.Match[str] | None, *, may_be: bool) -> str | None:
        """Read a member's value that should stand in quotation marks, as it stands; None where it is anything else.

        The 12 of 12:30 and the 1 of 1,234.50 are no values of their own.
        """
        is_plain = number is not None and _AFTER_PLAIN.match(self.text, number.end()) is not None
        found = _UNQUOTED.match(self.text, self.at) if may_be and not is_plain else None
        if found is not None and found[0].strip().lower().lstrip("+-") not in _NOT_NUMBERS:
            self.mended("json_mended")
            self.at = found.end()
            return _whole_characters(found[0].strip())
        if number is not None and not is_plain:
            raise _CannotRead(Ending.CUT if _UNTIL_THE_END.match(self.text, self.at) else Ending.BROKEN)
        return None

    def number(self, written: str) -> JsonValue:
        """Return a number; what none can hold exactly (00123, 1234567890123456.78, 1e999) stays the text it is."""
        if not _STRICT_NUMBER.match(written):
            self.mended("json_mended")
        bare = written.lstrip("+-")
        if len(written) > _MAX_DIGITS or "_" in written or re.match(r"0\d", bare):
            return written
        if bare.isdecimal():
            return int(written)
        value = float(written)
        if math.isfinite(value) and (abs(value) < _FINE_BELOW or Decimal(repr(value)) == Decimal(written)):
            return value
        self.mended("json_mended")
        return written

    def read_string(self, after: re.Pattern[str]) -> str:
        """Read a string; a quotation mark inside that nobody escaped is kept where no end of a string can be."""
        opener = self.text[self.at]
        quote = _QUOTES[opener]
        if opener != '"':
            self.mended("json_mended")
        parts: list[str] = []
        at = self.at + 1
        inside = _INSIDE[quote]
        while at < len(self.text):
            chunk = inside.match(self.text, at)
            if chunk is not None:
                parts.append(chunk[0])
                at = chunk.end()
            elif self.text[at] == quote:
                at += 1
                if after.match(self.text, at):
                    self.at = at
                    return _whole_characters("".join(parts))
                parts.append(quote)
                self.mended("json_mended")
            else:
                part, at = self.escape(at)
                parts.append(part)
        self.at = len(self.text)
        raise _CannotRead(Ending.CUT)

    def escape(self, at: int) -> tuple[str, int]:
        sign = self.text[at + 1 : at + 2]
        if sign == "u":
            digits = self.text[at + 2 : at + 6]
            if re.fullmatch(r"[0-9a-fA-F]{4}", digits):
                return chr(int(digits, 16)), at + 6
        if sign in _ESCAPES and sign and _LATEX.match(self.text, at) is None:
            return _ESCAPES[sign], at + 2
        self.mended("json_mended")
        return "\\", at + 1  # no escape of JSON: a Windows path or LaTeX, kept as it stands

    def unwind(self) -> None:
        """Close what is open, without the last item where it is incomplete."""
        while self.frames:
            frame = self.frames.pop()
            if not self.frames:
                self.reading.value = frame.value
                return
            parent = self.frames[-1]
            if isinstance(parent.value, dict):
                if frame.value:
                    self.put(frame.value)
                parent.holds_items |= frame.holds_items
            elif frame.holds_items:
                self.put(frame.value)
                parent.holds_items = True


def _whole_characters(text: str) -> str:
    """Join surrogate pairs; half of one becomes the replacement character, since no file or database could keep it."""
    if not any("\ud800" <= sign <= "\udfff" for sign in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
