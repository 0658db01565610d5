"""Nothing outside is linked or loaded, checked with a real Markdown tokenizer."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from qwen_vl_app.answers import without_remote_links

_FOUND_AGAIN = re.compile(r"https?://|www\.\w|[-.\w+]@[-\w]+\.[-\w]", re.I)
"""What GitHub-flavoured renderers make a link of in finished text."""
_PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def _walk(tokens: list[Token]) -> list[Token]:
    return [one for token in tokens for one in [token, *_walk(token.children or [])]]


def offences(markdown: str) -> list[str]:
    """Return every link, picture and tag that a renderer would make, and text that it would link by itself."""
    found: list[str] = []
    for token in _walk(_PARSER.parse(markdown)):
        if token.type in ("link_open", "image", "html_block", "html_inline"):
            found.append(f"{token.type} {token.attrs} {token.content}")
        if token.type in ("text", "text_special") and _FOUND_AGAIN.search(token.content):
            found.append(f"text {token.content}")
        if token.type == "inline" and token.children:
            texts = "".join(one.content if one.type in ("text", "text_special") else "\0" for one in token.children)
            if _FOUND_AGAIN.search(texts):
                found.append(f"joined {texts}")
    return found


_PIECES = [
    "[", "]", "(", ")", "<", ">", "!", "`", "``", "```", "~~~", "\\", "\n", "\n\n", " ", "  ", "    ", "|", "$", "$$\n", "- ", "1. ",
    "> ", "# ", "&", ";", "&#58;", "&colon;", "&#x2f;", "&lt;", "&NewLine;", "*", "_", "~~", ":", "/", "//", "http", "https", "://", "www.",
    "evil.example", "http://evil.example/p.png", "https://evil.example/?q=1", "//evil.example", "a@evil.example", "mailto:", "javascript:alert(1)",
    "data:image/png;base64,AA", "[a](http://evil.example)", "![a](//evil.example)", "[a][b]", "[b]: http://evil.example\n", "<img src=http://evil.example>",
    "<http://evil.example>", "<!--", "-->", "<svg/onload=x>", '"', "'", "a", "é", "图", "|a|b|\n|-|-|\n", "\t", "\r", "\u00a0", "---\n", "\x0c",
]  # fmt: skip


@settings(max_examples=1200, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join))
@example("- a\n  ```\n  code\nhttp://evil.example\n```\nhttp://evil.example")
@example("$$\n```\n$$\nhttp://evil.example\n```")
@example("| ` | ` http://evil.example |\n|-|-|\n| `a | http://evil.example` |")
@example("# a `\nhttp://evil.example `")
@example("\\\\`http://evil.example`\\` <b>")
def test_no_link_or_picture_survives(text: str) -> None:
    """Whatever the Markdown looks like, nothing in it is a link, a picture or HTML any more."""
    assert offences(without_remote_links(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "A plain sentence, 3 < 4, 5:30, C:\\temp and 50 % *fine*.",
        "```html\n<img src='http://evil.example/x.png'>\n```",
        "~~~\n[a](http://evil.example)\n~~~",
        'Use `<a href="http://evil.example">` here.',
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "- one\n- two\n\n**bold** and $x_1 < 3$",
    ],
)
def test_words_and_code_stay_as_they_are(text: str) -> None:
    """Text without links, fenced blocks and inline code are untouched."""
    assert without_remote_links(text) == text


def test_a_link_reads_as_its_label_and_address() -> None:
    """The reader still sees where a link would have led."""
    assert without_remote_links("see [the page](https://a.example/x).") == "see the page (`https://a.example/x`)."


@pytest.mark.parametrize(
    "piece",
    ["[", "![](", "`", "\\`", "` ``", "<a ", "a@", "http://", "&#", "$$\n", "```\n", "[a](", "] ", "a@b.", "x+"],
)
def test_long_hostile_text_is_done_soon(piece: str) -> None:
    """Two hundred thousand characters of one trap are cleaned within the test's time limit."""
    assert without_remote_links(piece * (200_000 // len(piece)))
