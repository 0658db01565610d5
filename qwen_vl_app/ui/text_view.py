"""The words of an answer: prose, and code with what one does with it, download it or look at a page that it makes.

Knows Markdown's two kinds of text. Does not know data and tables, which are shown for themselves.
"""

from __future__ import annotations

import streamlit as st

from qwen_vl_app.answers import PAGES, CodeBlock, data_stretches, ending_of, parts_of, without_data, without_tables
from qwen_vl_app.chat import Answer
from qwen_vl_app.ui.desk import Desk
from qwen_vl_app.ui.markdown import shown_answer
from qwen_vl_app.ui.words import Words

PREVIEW_HEIGHT_PX = 460
_MARKUP = frozenset({"", "html", "xml", "markdown", "md", "qwenvl"})


def show_text(answer: Answer, words: Words, *, desk: Desk | None, key: str, seconds: float = 0.0) -> None:
    """Show the words of an answer; data and tables that are shown for themselves are left out.

    Where it is about a clip of so many seconds, which stands below, its times lead there.
    """
    parsed = answer.parsed
    parts = parts_of(answer.text)
    of_data = {start for start, _ in data_stretches(answer.text)} if parsed.has_data else set()
    is_bare = not any(isinstance(part, CodeBlock) and part.start in of_data for part in parts)
    for number, part in enumerate(parts):
        if isinstance(part, CodeBlock):
            if part.start not in of_data and not (parsed.tables and _is_of_tables(part)):
                _show_code(part, words, desk=desk, number=number, key=f"{key}-{number}")
            continue
        prose = without_data(part) if of_data and is_bare else part
        prose = without_tables(prose) if parsed.tables else prose
        if prose.strip():
            st.markdown(shown_answer(prose, seconds=seconds), anchors=False)


def _is_of_tables(block: CodeBlock) -> bool:
    return block.language in _MARKUP and not without_tables(block.source)


def _show_code(block: CodeBlock, words: Words, *, desk: Desk | None, number: int, key: str) -> None:
    st.code(block.source, language=block.language or None, wrap_lines=True)
    if not block.is_closed:
        st.caption(f":material/info: {words('code.cut')}")
    turn_id = desk.turn_id if desk is not None else None
    name = f"{words('code.file')}-{key}.{ending_of(block.language)}"
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key=f"code-tools-{key}"):
        st.download_button(
            words("code.download", name=name),
            block.source,
            file_name=name,
            mime="text/plain",
            key=f"take-code-{key}",
            on_click="ignore",
            icon=":material/download:",
            type="tertiary",
        )
        is_page = block.language in PAGES and turn_id is not None
        is_shown = is_page and st.toggle(words("code.preview"), key=f"preview-{key}")
    if is_shown:
        _show_page(f"/app/pages/{turn_id}/{number}", words, key=key)


def _show_page(address: str, words: Words, *, key: str) -> None:
    """Show a page in a frame: no script without a click of its own, and nothing from anywhere in either case."""
    st.caption(f":material/science: {words('code.about')}")
    runs = st.toggle(words("code.scripts"), key=f"scripts-{key}", help=words("code.scripts_why"))
    with st.container(border=True, key=f"page-{key}", gap=None):
        st.iframe(f"{address}?scripts=1" if runs else address, height=PREVIEW_HEIGHT_PX, alt=words("code.frame"))
