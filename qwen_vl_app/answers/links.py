"""Markdown from which nothing outside is loaded or linked: every link, picture and HTML tag becomes plain text.

Knows the traps of Markdown: entities and escapes that turn back into addresses, code that only looks like code, fences that
end where their list ends. Where it is not certain that a renderer sees code, it treats it as text. Does not render.
"""

from __future__ import annotations

import html
import re
from collections.abc import Generator, Iterator

_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})(.*)$")
_MATH_FENCE = re.compile(r"^ {0,3}\${2,}[^$]*$")
_SIMPLE_LINK = re.compile(
    r"(?<!\\)!?\[([^\[\]\\\n`]{0,300})\]\(\s{0,4}<?([^()<>\s\\`]{0,2000})>?(?:\s{1,4}(?:\"[^\"\n]{0,300}\"|'[^'\n]{0,300}'))?\s{0,4}\)"
)
_ADDRESS = (
    r"(?P<url>(?<![A-Za-z0-9])(?:(?:[A-Za-z][A-Za-z0-9+.-]{0,20}:)?//(?=[^\s/])|(?:mailto|xmpp|data|javascript|vbscript|tel|file|blob):(?=\S))[^\s`|$<>]*"
    r"|www\.[^\s`|$<>]*"
    r"|[-\w.+]{1,64}@[-\w]{1,64}[^\s`|$<>]*)"
    r"|(?P<scheme>(?:https?|ftp)://)"
)
ADDRESS = re.compile(_ADDRESS, re.I)
"""What some renderer makes a link of, wherever it stands in a text. It holds no backtick."""
_PIECE = re.compile(
    r"(?P<ticks>`+)"
    rf"|{_ADDRESS}"
    r"|(?P<bracket>\][(:\[])"
    r"|(?P<tag><(?=[A-Za-z/!?]))"
    r"|(?P<entity>&#?\w{1,40};)"
    r"|(?P<escape>\\[!-/:-@\[-`{-~]?)",
    re.I,
)
_HARMLESS_ENTITIES = frozenset({"&", "<", ">", '"', "'"})
_DANGER = re.compile(r"//|www\.|@|\]\s*[(:\[]|<[A-Za-z/!?]|&#?\w|:\S", re.I)


def address_of(found: re.Match[str]) -> str:
    """Return the address of a match, without what ends the sentence or the brackets around it."""
    return found[0] if found.lastgroup == "scheme" else found[0].rstrip(").,;:!?]'\"*_~") or found[0]


def without_remote_links(markdown: str) -> str:
    """Return the Markdown with links and pictures as plain text, and HTML as the text that it is.

    `[label](address)` becomes `label (address)`; addresses stand as inline code, so that no renderer makes links of them
    again. Fenced blocks (indented by at most three spaces, outside quotations) and inline code on one line stay as they are.
    """
    return "\n".join(_lines(re.sub(r"\r\n|[\r\u2028\u2029\x0b\x0c\x1c-\x1e\x85]", "\n", markdown).split("\n")))


def _lines(lines: list[str]) -> Iterator[str]:
    at = 0
    math_closers = _math_closers(lines)
    math_until = -1
    math_before = False
    while at < len(lines):
        line = lines[at]
        opener = _FENCE.match(line)
        if opener is not None and not (opener[2][0] == "`" and "`" in opener[3]):
            indent, fence = len(opener[1]), opener[2]
            yield line
            at += 1
            at, is_closed = yield from _fence_body(lines, at, indent=indent, fence=fence)
            if not is_closed:
                yield opener[1] + fence
            continue
        is_open_math = bool(_MATH_FENCE.match(line)) and at > math_until and at not in math_closers
        if at in math_closers and at > math_until:
            math_until = math_closers[at]
        # Math that nobody closes would swallow the opening of a later fence and so show the fence's code as text.
        pieces = line.split("$") if is_open_math else [line]
        yield "&#36;".join(_text_line(piece, math_before=math_before) for piece in pieces)
        math_before = math_before or "$" in line
        at += 1


def _fence_body(lines: list[str], at: int, *, indent: int, fence: str) -> Generator[str, None, tuple[int, bool]]:
    closer = re.compile(rf"^ {{{indent},3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    while at < len(lines):
        line = lines[at]
        if closer.match(line):
            yield line
            return at + 1, True
        # A fence within a list ends with the list: a line further left may be text already, so the block is closed there.
        if indent and line.strip() and len(line) - len(line.lstrip(" ")) < indent:
            return at, False
        yield line
        at += 1
    return at, False


def _math_closers(lines: list[str]) -> dict[int, int]:
    """Return for each line that opens display math the line that closes it, where no fence stands between the two."""
    closers: dict[int, int] = {}
    opened: int | None = None
    for at, line in enumerate(lines):
        if _FENCE.match(line):
            opened = None
        elif _MATH_FENCE.match(line):
            if opened is None:
                opened = at
            elif re.fullmatch(r" {0,3}\${2,}\s*", line):
                closers[opened] = at
                opened = None
    return closers


def _text_line(line: str, *, math_before: bool) -> str:
    """Return one line of text in which nothing is a link, a picture or HTML any more."""
    line = _plain_links(line, math_before=math_before)
    out: list[str] = []
    position = 0
    spans = _code_spans(line, math_before=math_before)
    while (piece := _PIECE.search(line, position)) is not None:
        out.append(line[position : piece.start()])
        position = piece.end()
        kind = piece.lastgroup
        found = piece[0]
        if kind == "ticks":
            end = spans.get(piece.start())
            if end is not None:
                out.append(_apart(out, line[piece.start() : end]))
                position = end
            else:
                out.append("&#96;" * len(found))
        elif kind in ("url", "scheme"):
            address = address_of(piece)
            position = piece.start() + len(address)
            out.append(_apart(out, f"`{address}`"))
            if line[position : position + 1] == "`":
                out.append(" ")
        elif kind == "bracket":
            out.append(f"]&#{ord(found[1])};")
        elif kind == "tag":
            out.append("&lt;")
        elif kind == "entity":
            out.append(_entity(found))
        elif len(found) == 2 and found[1] in "`<&:/.@":
            # Unescaped by the renderer, it would be part of an address again; the backslash is shown instead.
            out.append("&#92;")
            position = piece.start() + 1
        else:
            out.append(found)
    out.append(line[position:])
    return "".join(out)


def _entity(found: str) -> str:
    decoded = html.unescape(found)
    if decoded in _HARMLESS_ENTITIES or (decoded != found and not re.search(r"[\x00-\x7f]", decoded)):
        return found
    return "&amp;" + found[1:]


def _apart(out: list[str], code: str) -> str:
    """Keep two code spans from becoming one run of backticks."""
    last = next((part for part in reversed(out) if part), "")
    return f" {code}" if last.endswith(("`", "\\")) else code


def _plain_links(line: str, *, math_before: bool) -> str:
    """Write simple links and pictures as `label (address)`, outside code."""
    out: list[str] = []
    position = 0
    for start, end in sorted(_code_spans(line, math_before=math_before).items()):
        out.append(_SIMPLE_LINK.sub(_worded, line[position:start]))
        out.append(line[start:end])
        position = end
    out.append(_SIMPLE_LINK.sub(_worded, line[position:]))
    return "".join(out)


def _worded(link: re.Match[str]) -> str:
    label, address = link[1].strip(), link[2]
    return f"{label} ({address})" if label and address and address != label else label or address


def _code_spans(line: str, *, math_before: bool) -> dict[int, int]:
    """Return start and end of the code spans that every renderer agrees on.

    Not one with a dollar sign inside after another before it (math would swallow its first backtick), nor one with a pipe
    inside (a table's cell may end there) on a line that holds anything dangerous.
    """
    runs = [(run.start(), run.end()) for run in re.finditer(r"`+", line)]
    if len(runs) < 2:
        return {}
    later: dict[int, list[int]] = {}
    for number in range(len(runs) - 1, -1, -1):
        later.setdefault(runs[number][1] - runs[number][0], []).append(number)
    dollar = 0 if math_before else line.find("$")
    is_dangerous = bool(_DANGER.search(line))
    spans: dict[int, int] = {}
    number = 0
    while number < len(runs):
        start, end = runs[number]
        waiting = later[end - start]
        while waiting and waiting[-1] <= number:
            waiting.pop()
        before = start
        while before > 0 and line[before - 1] == "\\":
            before -= 1
        if not waiting or (start - before) % 2:
            number += 1
            continue
        closing = waiting[-1]
        inside = line[end : runs[closing][0]]
        if not (("$" in inside and 0 <= dollar < start) or ("|" in inside and is_dangerous)):
            spans[start] = runs[closing][1]
        number = closing + 1
    return spans
