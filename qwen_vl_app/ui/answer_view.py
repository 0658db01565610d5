"""A finished answer: its words, places on the picture, tables and data, and what stands below them.

Knows how parsed answers look. Does not know how they were made.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from qwen_vl_app.answers import says_values, values_of
from qwen_vl_app.chat import Answer, JsonValue
from qwen_vl_app.ui.answer_ending import ending_html, raw_html, with_checks
from qwen_vl_app.ui.clip_view import show_clips
from qwen_vl_app.ui.desk import Desk, standing_of
from qwen_vl_app.ui.pictures import ShownPicture
from qwen_vl_app.ui.places_view import show_places
from qwen_vl_app.ui.tables_view import show_tables
from qwen_vl_app.ui.text_view import show_text
from qwen_vl_app.ui.turns_view import TurnPiece, show_turns
from qwen_vl_app.ui.words import Words

_MOST_IN_A_BROWSER = 2**53 - 1


def show_answer(
    answer: Answer, pictures: Sequence[ShownPicture], words: Words, *, key: str, desk: Desk | None = None
) -> None:
    """Show an answer. `pictures` are those it speaks about: its question's, or for a follow-up the latest before it.

    `key` is unique on the page. Without a desk there is nothing to open, to correct or to preview.
    """
    parsed = answer.parsed
    standing = standing_of(desk, answer, [picture.size for picture in pictures])
    # Times lead to the first clip: nobody says to which of several.
    clips = [picture.clip for picture in pictures if picture.clip is not None] if desk is not None else []
    show_text(answer, words, desk=desk, key=key, seconds=clips[0].seconds if clips else 0.0)
    if desk is not None:
        show_clips(answer, pictures, words, key=key)
    show_places(answer, standing, pictures, words, desk=desk, key=key)
    show_tables(standing, words, desk=desk, key=key)
    if says_values(parsed) and not any(table.data is not None for table in standing.tables):
        data = values_of(parsed)
        if isinstance(data, (dict, list)) and data:
            st.json(_exact(data), expanded=2)
        elif not isinstance(data, list):
            st.code(answer.text, language="json", wrap_lines=True)
    if answer.error is not None:
        st.warning(words.render(answer.error), icon=":material/info:")


def _exact(value: JsonValue) -> JsonValue:
    """Return data as a browser shows it exactly: of a number with more digits than its own have, it would change the last."""
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    return str(value) if isinstance(value, int) and abs(value) > _MOST_IN_A_BROWSER else value


def below_answer(answer: Answer, question: str, pictures: Sequence[ShownPicture], words: Words) -> str:
    """Return what stands below an answer, as HTML."""
    noted = with_checks(answer, question, [(picture.size, picture.seen) for picture in pictures])
    parsed = answer.parsed
    is_structured = bool(parsed.has_data or parsed.regions or parsed.tables)
    raw = raw_html(answer, words) if is_structured and answer.text.strip() else ""
    return f'<div class="qvl-answer">{ending_html(noted, words)}{raw}</div>'


def show_below_answer(
    answer: Answer, question: str, pictures: Sequence[ShownPicture], words: Words, *, key: str
) -> None:
    """Show what stands below an answer."""
    below = below_answer(answer, question, pictures, words)
    show_turns([TurnPiece("below", below)], key=f"below-{key}")
