"""What is read out of an answer to who hears the page: its words, without the signs that only show how it looks.

Knows Markdown as the page reads it. Does not know when something is said (`composer` does).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from markdown_it.token import Token

from qwen_vl_app.ui.markdown import WORD_JOINER, shown_answer
from qwen_vl_app.ui.quiet_answer import answer_markdown

_BREAKS = ("softbreak", "hardbreak")
_FORMULA = re.compile(r"\$\$([^$]+)\$\$")


def spoken(text: str, *, at_most: int) -> str:
    """Return the first words of an answer, of so many characters; an ellipsis stands for what is left out."""
    begun = text[: 4 * at_most]  # signs are a small part of any text, and nobody waits for the rest to be read
    read = "\n".join(_lines(answer_markdown().parse(shown_answer(begun)))).replace(WORD_JOINER, "")
    said = "\n".join(" ".join(line.split()) for line in read.splitlines() if line.strip())
    if len(said) <= at_most and len(begun) == len(text):
        return said
    return f"{said[: at_most - 1].rstrip()}…"


def _lines(tokens: Sequence[Token]) -> Iterator[str]:
    number = ""
    for token in tokens:
        if token.type == "list_item_open":
            number = f"{token.info}{token.markup} " if token.info else ""
        elif token.type == "inline":
            yield number + "".join(_words(token.children or ()))
            number = ""
        elif token.type in ("fence", "code_block"):
            yield token.content


def _words(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in _BREAKS:
            yield "\n"
        elif token.content:
            yield token.content if token.type == "code_inline" else _FORMULA.sub(r"\1", token.content)
