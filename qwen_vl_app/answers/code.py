"""Fenced code in an answer: language, source, and whether the fence was closed.

Knows Markdown fences of backticks and tildes indented by at most three spaces. Does not know what the code means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_OPENER = re.compile(r"^( {0,3})(`{3,}|~{3,})([^\r\n]*)")


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """One fenced block. `is_closed` is False where the answer ended first; `start` and `end` count characters of the answer."""

    language: str
    source: str
    is_closed: bool
    start: int
    end: int


def code_blocks(text: str) -> tuple[CodeBlock, ...]:
    """Return the fenced blocks in order; a language is the first word after the fence, in small letters."""
    return tuple(_blocks(text))


def _blocks(text: str) -> Iterator[CodeBlock]:
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)
    at = position = 0
    while at < len(lines):
        opener = _OPENER.match(lines[at])
        start = position
        position += len(lines[at])
        at += 1
        if opener is None or (opener[2][0] == "`" and "`" in opener[3]):
            continue
        indent, fence = len(opener[1]), opener[2]
        closer = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*\r?\n?\r?$")
        source: list[str] = []
        is_closed = False
        while at < len(lines) and not is_closed:
            line = lines[at]
            position += len(line)
            at += 1
            if closer.match(line):
                is_closed = True
            else:
                source.append(re.sub(rf"^ {{0,{indent}}}", "", line) if indent else line)
        words = opener[3].split()
        language = words[0].strip("{}.").lower() if words else ""
        yield CodeBlock(language, "".join(source), is_closed, start, position)


def outside_code(text: str, blocks: tuple[CodeBlock, ...]) -> Iterator[tuple[int, str]]:
    """Yield the stretches between the blocks, each with the position where it begins."""
    position = 0
    for block in blocks:
        if block.start > position:
            yield position, text[position : block.start]
        position = block.end
    if position < len(text):
        yield position, text[position:]
