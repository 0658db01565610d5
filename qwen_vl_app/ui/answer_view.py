"""A finished answer: its words, places on the picture, tables and data, what was mended, and the raw text.

Knows how parsed answers look. Does not know how they were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import streamlit as st

from qwen_vl_app.answers import checks, sureness
from qwen_vl_app.chat import Answer, FinishReason, SeenSize, Size
from qwen_vl_app.ui.clip_view import show_clips
from qwen_vl_app.ui.desk import Desk, standing_of
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.pictures import ShownPicture
from qwen_vl_app.ui.places_view import show_places
from qwen_vl_app.ui.tables_view import show_tables
from qwen_vl_app.ui.text_view import show_text
from qwen_vl_app.ui.words import Words


def show_answer(
    answer: Answer, pictures: Sequence[ShownPicture], words: Words, *, key: str, desk: Desk | None = None
) -> None:
    """Show an answer. `pictures` are those it speaks about: its question's, or for a follow-up the latest before it.

    `key` is unique on the page. Without a desk there is nothing to open, to correct or to preview.
    """
    parsed = answer.parsed
    standing = standing_of(desk, answer, [picture.size for picture in pictures])
    is_structured = bool(parsed.has_data or parsed.regions or parsed.tables)
    # Times lead to the first clip: nobody says to which of several.
    clips = [picture.clip for picture in pictures if picture.clip is not None] if desk is not None else []
    show_text(answer, words, desk=desk, key=key, seconds=clips[0].seconds if clips else 0.0)
    if desk is not None:
        show_clips(answer, pictures, words, key=key)
    show_places(answer, standing, pictures, words, desk=desk, key=key)
    show_tables(standing, words, desk=desk, key=key)
    if parsed.has_data and not parsed.regions and not any(table.data is not None for table in standing.tables):
        if isinstance(parsed.data, (dict, list)) and parsed.data:
            st.json(parsed.data, expanded=2)
        elif not isinstance(parsed.data, list):
            st.code(answer.text, language="json", wrap_lines=True)
    with st.container(gap="xsmall"):
        if answer.error is not None:
            st.warning(words.render(answer.error), icon=":material/info:")
        seen = [(picture.size, picture.seen) for picture in pictures]
        question = desk.question if desk is not None else ""
        if lines := list(_ending(answer, question, seen, words)):
            st.caption("  \n".join(lines))
        if is_structured and answer.text.strip():
            _show_raw(answer, words, key=key)


def _show_raw(answer: Answer, words: Words, *, key: str) -> None:
    """Let the model's own words be seen; drawn when that is opened, for most never is."""
    shelf = st.expander(words("answer.raw"), type="compact", key=f"raw-{key}", on_change="rerun")
    if not shelf.open:
        return
    parsed = answer.parsed
    with shelf:
        if parsed.has_data and isinstance(parsed.data, (dict, list)) and parsed.data:
            st.json(parsed.data, expanded=1)
        st.code(answer.text, language=None, wrap_lines=True)


def figures_line(answer: Answer, words: Words) -> str:
    """Return seconds, tokens a second, and the model, small."""
    timing, made = answer.timing, answer.usage.completion_tokens
    parts = [words("answer.seconds", seconds=timing.total_s)]
    writing_s = timing.total_s - (timing.first_token_s or 0.0)
    if made > 1 and timing.first_token_s is not None and writing_s > 0:
        parts.append(words("answer.speed", speed=round((made - 1) / writing_s, 1)))
    if answer.usage.prompt_tokens:
        parts.append(words("answer.tokens", read=answer.usage.prompt_tokens, made=made))
    if (sure := sureness(answer)) is not None:
        parts.append(words("answer.sure", percent=round(100 * sure)))
    if answer.model:
        parts.append(plain(answer.model))
    parts.append(words("answer.verify"))
    return " · ".join(parts)


def _ending(answer: Answer, question: str, seen: Sequence[tuple[Size, SeenSize]], words: Words) -> Iterator[str]:
    """Yield in one calm sentence each what a person should know about this answer, and its figures."""
    if answer.error is None and answer.finish_reason is not FinishReason.STOP:
        yield f":material/info: {words(f'answer.ended_{answer.finish_reason.value}')}"
    for note in dict.fromkeys((*answer.notes, *answer.parsed.notes)):
        if note.code != "history.from_cache":  # a badge beside the answer's buttons tells it
            yield f":material/info: {words.render(note)}"
    if answer.error is None:
        yield from (f":material/fact_check: {words.render(check)}" for check in checks(question, answer, seen))
        yield figures_line(answer, words)
