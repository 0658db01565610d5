"""Text as the page's Markdown may show it: strangers' words stay words.

Knows Streamlit's dialect (colours, icons, formulas). Does not know what the text says.
"""

from __future__ import annotations

import re

from qwen_vl_app.answers import without_remote_links
from qwen_vl_app.answers.moments import times_in

TIME_LINK = "#clip-time-"
"""What a link to a time of the clip begins with; the second follows."""
_LINK = re.compile(r"\]\(|\]\[|^\s*\[[^\]]*\]:")
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:^=])")
_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`)", re.S)
_LONE_DOLLAR = re.compile(r"(?<![\\$])\$(?!\$)")
_DIRECTIVE = re.compile(r":(?=(?:[a-z+-][a-z0-9_+-]*|100|1234|8ball)(?:\[|/|:))")
_WORD_JOINER = "\u2060"  # a backslash does not stop icons and emoji codes, which are looked for after it is gone
_TABLE_ROW = re.compile(r"^[ \t]*\|.*\|[ \t]*$\n?", re.M)
_HTML_TABLE = re.compile(r"<table\b.*?(?:</table>|\Z)", re.S | re.I)
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.S)


def plain(text: str) -> str:
    """Return text for a label or a caption, where every sign means itself."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def shown_answer(text: str, *, seconds: float = 0.0) -> str:
    """Return a model's Markdown for `st.markdown`: no remote pictures or links, line breaks kept, no dialect of the page.

    For a clip of so many seconds, times become links that the clip's own part of the page hears (`frontend/clip_view.js`).
    """
    parts = _CODE.split(without_remote_links(text))
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


def without_tables(text: str) -> str:
    """Return the text without its Markdown and HTML tables, which are shown as tables of their own."""
    return _HTML_TABLE.sub("", _TABLE_ROW.sub("", text)).strip()


def without_data(text: str) -> str:
    """Return what an answer says around its JSON; nothing where it is JSON from the first sign."""
    if text.lstrip()[:1] in ("[", "{"):
        return ""
    return _FENCED.sub("", text).strip()


def _prose(text: str) -> str:
    text = _DIRECTIVE.sub(f":{_WORD_JOINER}", _LONE_DOLLAR.sub(r"\\$", text))
    return re.sub(r"(?<=\S)\n(?=\S)", "  \n", text)
