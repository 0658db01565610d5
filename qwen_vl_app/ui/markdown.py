"""Text as the page's Markdown may show it: strangers' words stay words.

Knows Streamlit's dialect (colours, icons, formulas). Does not know what the text says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from qwen_vl_app.answers import without_remote_links
from qwen_vl_app.answers.links import ADDRESS, address_of
from qwen_vl_app.answers.moments import times_in
from qwen_vl_app.forms.units import unit_of

TIME_LINK = "#clip-time-"
"""What a link to a time of the clip begins with; the second follows."""
_LINK = re.compile(r"\]\(|\]\[|^\s*\[[^\]]*\]:")
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:^=])")
_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`)", re.S)
_LONE_DOLLAR = re.compile(r"(?<![\\$])\$(?!\$)")
_DIRECTIVE = re.compile(r":(?=(?:[a-z+-][a-z0-9_+-]*|100|1234|8ball)(?:\[|/|:))")
WORD_JOINER = "\u2060"  # a backslash does not stop icons and emoji codes, which are looked for after it is gone
_FORMULA = re.compile(r"(?<!\\)\\([(\[])((?:[^\\\n$`]|\\[^\[\]()\n$`]|\n(?![ \t]*\n))++)\\([)\]])")
"""A formula as these models write it. The page knows only the other form; of this one it would show a part."""
_NO_FORMULA = re.compile(r"<[A-Za-z/!?]|\\[<&:/.@]|//|www\.|@|\]\s*[(:\[]|&#?\w|(?<!\\)%", re.I)
"""What has to be made harmless first: there the formula stays text."""
_MATH = re.compile(r"(\$\$[^$]+\$\$)")
_LONE_TILDE = re.compile(r"(?<![~\\])~(?!~)")
"""5~10 is a range; with a second one behind it, the page's Markdown would strike out what stands between the two."""
_TIMES_SIGN = re.compile(
    r"(?<![*\\])(?:(?<=[A-Za-z0-9)])\*(?=[A-Za-z0-9]|\.\d)|(?<=[0-9)])\*(?=\()|(?<=\d)\*(?=\w)|(?<=\w)\*(?=\d))|(?<=\d)\*\*(?=\d)"
)
"""120*80*50 is a size and 2**3 a power: nothing of them is emphasis."""
_NAME_SIGNS = re.compile(
    r"(?<!\S)\\\\(?=[\w.-]{1,64}\\)|(?<![\w\\])__(?=[A-Za-z0-9]{1,64}(?:_[A-Za-z0-9]{1,64}){0,8}__)"
)
"""What a share (two backslashes and a host) and a name such as __init__ begin with."""
_NO_QUOTE = re.compile(r"^( {0,3})(>)(?=[ =]{0,2}[-+$€£¥]?[.,]?\d)")
"""> 95 % is a limit, and nothing quoted."""
_NO_BULLET = re.compile(r"^( *)(\+)(?= )")
_NUMBERED = re.compile(r"^( *)(\d{1,9})([.)])(?=[ \t]|$)")
_BULLET = re.compile(r" *[-*][ \t]")
_MINUS = re.compile(r"^( ?)(-)(?=[ \t]+[-+$€£¥.,]?\d)")
_NUMBER = re.compile(r"[-+]?\s*[$€£¥]?\s*[.,]?\d[\d.,' \u00a0\u2009]*")
_REMARK = re.compile(r"\s*[(（][^()（）]*[)）]\s*$")
_RANGE = re.compile(r"\s*(?:\.{2,3}|…|[~～–—±至到]|\+/-|\bto\b|\s[-/]\s)\s*")
_PARTING = re.compile(r" {0,3}(?:#{1,6}\s|(?:[-*_][ \t]*){3,}$)")
_DEEP = re.compile(r"(?: {4}| {0,3}\t)[ \t]*")


def plain(text: str) -> str:
    """Return text for a label, a caption or a cell, where every sign means itself.

    Addresses stand as code: whatever else is done to their signs, the page would make links of them.
    """
    text, parts, position = " ".join(text.split()), [], 0
    for found in ADDRESS.finditer(text):
        address = address_of(found)
        parts += [_SPECIAL.sub(r"\\\1", text[position : found.start()]), f"`{address}`"]
        position = found.start() + len(address)
    return "".join((*parts, _SPECIAL.sub(r"\\\1", text[position:])))


def shown_answer(text: str, *, seconds: float = 0.0) -> str:
    """Return a model's Markdown for `st.markdown`: no remote pictures or links, line breaks kept, no dialect of the page.

    For a clip of so many seconds, times become links that the clip's own part of the page hears (`frontend/clip_view.js`).
    """
    pieces = _CODE.split(text)
    pieces[::2] = [_FORMULA.sub(_as_formula, piece) for piece in pieces[::2]]
    parts = _CODE.split(without_remote_links("".join(pieces)))
    parts[::2] = _with_beginnings(parts[::2])
    return "".join(part if at % 2 else _prose(_with_times(part, seconds)) for at, part in enumerate(parts))


def _with_times(text: str, seconds: float) -> str:
    return "".join(_with_times_of_line(line, seconds) for line in text.splitlines(keepends=True)) if seconds else text


def _with_times_of_line(line: str, seconds: float) -> str:
    if _LINK.search(line):  # a link within a link is none
        return line
    pieces, at = [], 0
    for start, end, second in times_in(line, seconds=seconds):
        pieces += [line[at:start], f"[{line[start:end]}]({TIME_LINK}{second:g})"]
        at = end
    return "".join((*pieces, line[at:]))


def _prose(text: str) -> str:
    text = _DIRECTIVE.sub(f":{WORD_JOINER}", _LONE_DOLLAR.sub(r"\\$", text))
    pieces = _MATH.split(text)
    for signs in (_NAME_SIGNS, _LONE_TILDE, _TIMES_SIGN):
        pieces[::2] = [signs.sub(_escaped, piece) for piece in pieces[::2]]
    return re.sub(r"(?<=\S)\n(?=[^\S\n]*\S)", "  \n", "".join(pieces))


def _as_formula(found: re.Match[str]) -> str:
    is_pair = found[1] + found[3] in ("()", "[]")
    formula = " ".join(found[2].split())
    return f"$${formula}$$" if is_pair and formula and not _NO_FORMULA.search(formula) else found[0]


def _escaped(signs: re.Match[str]) -> str:
    return "".join(f"\\{sign}" for sign in signs[0])


@dataclass(slots=True)
class _Numbered:
    """The items of one list so far: where each number stands, and whether Markdown would count otherwise."""

    indent: int
    mark: str
    last: int
    places: list[tuple[int, int]] = field(default_factory=list)
    is_counted_otherwise: bool = False


def _with_beginnings(stretches: Sequence[str]) -> list[str]:
    """Return the stretches around code with lines that begin as they were written: Markdown numbers a list anew, and takes
    the sign of a limit for a quotation's and deep indentation for code.
    """
    lines = [stretch.split("\n") for stretch in stretches]
    lists: list[_Numbered] = []
    found: list[_Numbered] = []
    bullets: list[tuple[int, int]] = []
    is_behind_blank, is_in_list, is_deep, is_math = True, False, False, False
    for at, of_stretch in enumerate(lines):
        # The first line behind code goes on where the code's own line ends.
        for row in range(1 if at else 0, len(of_stretch)):
            line = of_stretch[row]
            was_math = is_math
            is_math ^= line.count("$$") % 2 == 1
            if was_math or is_math:
                continue
            if not line.strip():
                is_behind_blank = True
                continue
            indent = len(line) - len(line.lstrip())
            number = _NUMBERED.match(line)
            if number is not None and (is_in_list or indent < 4):
                lists = [each for each in lists if each.indent <= indent + 1]
                _count(number, (at, row), lists, found)
                is_in_list, is_deep = True, False
            else:
                is_bullet = _BULLET.match(line) is not None
                bullets += [(at, row)] * is_bullet
                if is_behind_blank or is_bullet or _PARTING.match(line):
                    lists = [each for each in lists if each.indent < indent - 1]
                    is_in_list = is_bullet or (is_in_list and indent > 1)
                is_deep = not is_in_list and (is_behind_blank or is_deep) and _DEEP.match(line) is not None
                if is_deep:
                    line = _DEEP.sub(lambda blank: "\u00a0" * len(blank[0].expandtabs(4)), line, count=1)
                of_stretch[row] = _NO_BULLET.sub(r"\1\\\2", _NO_QUOTE.sub(r"\1\\\2", line, count=1), count=1)
            is_behind_blank = False
    if len(bullets) == 1:  # several are a list
        [(at, row)] = bullets
        is_alone = len(lines) == 1 and sum(map(bool, map(str.strip, lines[0]))) == 1
        lines[at][row] = _with_minus(lines[at][row], is_alone=is_alone)
    for each in found:
        for at, row in each.places if each.is_counted_otherwise else ():
            lines[at][row] = _NUMBERED.sub(r"\1\2\\\3", lines[at][row], count=1)
    return ["\n".join(of_stretch) for of_stretch in lines]


def _with_minus(line: str, *, is_alone: bool) -> str:
    """Let the only item of an answer keep its sign where it is a value: - 5 °C would be shown as an item, 5 °C."""
    minus = _MINUS.match(line)
    is_value = minus is not None and _is_value(line[minus.end() :], is_alone=is_alone)
    return _MINUS.sub(r"\1\\\2", line) if is_value else line


def _is_value(said: str, *, is_alone: bool) -> bool:
    """Return whether a line says a measured value or a range of them; without a unit, where it `is_alone`: else it may be a name."""
    parts = [part.strip() for part in _RANGE.split(_REMARK.sub("", said.strip()))]
    units = []
    for part in parts:
        number = _NUMBER.match(part)
        if number is None:
            return False
        unit = part[number.end() :].rstrip(".")
        known = unit_of(unit) if unit else None
        if unit and (known is None or known[1].kind == "pieces"):
            return False
        units.append(unit or re.search(r"[$€£¥]", number[0]))
    return is_alone or any(units)


def _count(number: re.Match[str], place: tuple[int, int], lists: list[_Numbered], found: list[_Numbered]) -> None:
    """Take an item into the list that it belongs to, or let one begin with it."""
    indent, value = len(number[1]), int(number[2])
    own = next((each for each in lists if abs(each.indent - indent) <= 1 and each.mark == number[3]), None)
    if own is None:
        own = _Numbered(indent, number[3], value - 1)
        lists.append(own)
        found.append(own)
    own.is_counted_otherwise |= value != own.last + 1 or number[2] != str(value)
    own.last = value
    own.places.append(place)
