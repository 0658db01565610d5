"""Code in an answer: fenced, or a whole page without a fence. Language, source, and whether it came to its end.

Knows Markdown fences of backticks and tildes indented by at most three spaces, and what files of a language are called.
Does not know what the code means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

PAGES = frozenset({"html", "htm", "xhtml", "svg"})
"""Languages that a browser shows as a page."""
_ENDINGS = {
    "bash": "sh", "c": "c", "c#": "cs", "c++": "cpp", "cpp": "cpp", "cs": "cs", "csharp": "cs", "css": "css", "csv": "csv",
    "dart": "dart", "diff": "diff", "go": "go", "golang": "go", "graphql": "graphql", "htm": "html", "html": "html",
    "ini": "ini", "java": "java", "javascript": "js", "js": "js", "json": "json", "jsx": "jsx", "kotlin": "kt",
    "latex": "tex", "less": "less", "lua": "lua", "markdown": "md", "matlab": "m", "md": "md", "mermaid": "mmd",
    "perl": "pl", "php": "php", "plaintext": "txt", "powershell": "ps1", "ps1": "ps1", "py": "py", "python": "py",
    "python3": "py", "r": "r", "rb": "rb", "rs": "rs", "ruby": "rb", "rust": "rs", "scala": "scala", "scss": "scss",
    "sh": "sh", "shell": "sh", "sql": "sql", "svelte": "svelte", "svg": "svg", "swift": "swift", "tex": "tex",
    "toml": "toml", "ts": "ts", "tsv": "tsv", "tsx": "tsx", "typescript": "ts", "vb": "vb", "vue": "vue", "xhtml": "html",
    "xml": "xml", "yaml": "yaml", "yml": "yml", "zsh": "sh",
}  # fmt: skip
_PAGE = re.compile(r"^[ \t]*(?:<!doctype\s+html\b|<html\b)", re.I | re.M)
_PAGE_END = re.compile(r"</html\s*>", re.I)
_OPENER = re.compile(r"^( {0,3})(`{3,}|~{3,})([^\r\n]*)")
_DATA_BEHIND = re.compile(r"[ \t]*(?:(json[a-z0-9]*)[ \t]*(?=[\[{])|(?=\[[ \t]*[\[{\"\d]|\{[ \t]*\"))(.*)", re.I)
"""Data that begins on the line of its fence, where only a language should stand."""


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
        behind = _DATA_BEHIND.match(opener[3])
        source = [lines[at - 1][opener.start(3) + behind.start(2) :]] if behind else []
        is_closed = False
        while at < len(lines) and not is_closed:
            line = lines[at]
            position += len(line)
            at += 1
            if closer.match(line):
                is_closed = True
            else:
                source.append(re.sub(rf"^ {{0,{indent}}}", "", line) if indent else line)
        words = (behind[1] or "").split() if behind else opener[3].split()
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


def ending_of(language: str) -> str:
    """Return how a file of that language ends, without the dot; `txt` where nobody knows it."""
    return _ENDINGS.get(language, "txt")


def parts_of(text: str) -> tuple[str | CodeBlock, ...]:
    """Return an answer as stretches of prose and blocks of code, in order; a page that stands without a fence is one, too."""
    blocks = code_blocks(text)
    parts: list[tuple[int, str | CodeBlock]] = [(block.start, block) for block in blocks]
    for start, prose in outside_code(text, blocks):
        found = _PAGE.search(prose)
        if found is None:
            parts.append((start, prose))
            continue
        end = _PAGE_END.search(prose, found.end())
        stop = end.end() if end else len(prose)
        page = CodeBlock(
            "html", prose[found.start() : stop].strip() + "\n", end is not None, start + found.start(), start + stop
        )
        around: list[tuple[int, str | CodeBlock]] = [
            (start, prose[: found.start()]),
            (start + found.start(), page),
            (start + stop, prose[stop:]),
        ]
        parts += [part for part in around if part[1]]
    return tuple(part for _, part in sorted(parts, key=lambda part: part[0]))


def page_of(text: str, number: int) -> CodeBlock | None:
    """Return the block of that number in `parts_of`, from 0, where a browser can show it as a page."""
    parts = parts_of(text)
    part = parts[number] if 0 <= number < len(parts) else None
    return part if isinstance(part, CodeBlock) and part.language in PAGES else None
