"""A finished answer: its words, places on the picture, tables and data, what was mended, and the raw text.

Knows how parsed answers look. Does not know how they were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from qwen_vl_app.answers import table_from_json
from qwen_vl_app.chat import Answer, FinishReason, Region, Table
from qwen_vl_app.ui.markdown import plain, shown_answer, without_data, without_tables
from qwen_vl_app.ui.pictures import ShownPicture, show_regions
from qwen_vl_app.ui.words import Words

PLAIN_ROWS, PLAIN_COLUMNS = 20, 6
"""A larger table scrolls, sorts and is searched in a grid of its own."""


def show_answer(answer: Answer, pictures: Sequence[ShownPicture], words: Words, *, key: str) -> None:
    """Show an answer. `pictures` are those it speaks about: its question's, or for a follow-up the latest before it.

    `key` is unique on the page.
    """
    parsed = answer.parsed
    table = table_from_json(parsed.data) if parsed.has_data else None
    is_structured = bool(parsed.has_data or parsed.regions or parsed.tables)
    _show_text(answer, is_data=parsed.has_data or bool(parsed.regions), has_tables=bool(parsed.tables))
    _show_places(parsed.regions, pictures, words, key=key)
    for shown in parsed.tables:
        _show_table(shown, alt=words("answer.table_alt"))
    if parsed.has_data and not parsed.regions:
        if table is not None:
            _show_table(table, alt=words("answer.table_alt"))
        elif isinstance(parsed.data, (dict, list)):
            st.json(parsed.data, expanded=2)
        else:
            st.code(answer.text, language="json", wrap_lines=True)
    with st.container(gap="xsmall"):
        _show_ending(answer, words)
        if is_structured and answer.text.strip():
            with st.expander(words("answer.raw"), type="compact"):
                if parsed.has_data and (parsed.regions or table is not None) and isinstance(parsed.data, (dict, list)):
                    st.json(parsed.data, expanded=1)
                st.code(answer.text, language=None, wrap_lines=True)
        if answer.error is None:
            st.caption(figures_line(answer, words))


def figures_line(answer: Answer, words: Words) -> str:
    """Return seconds, tokens a second, and the model, small."""
    timing, made = answer.timing, answer.usage.completion_tokens
    parts = [words("answer.seconds", seconds=timing.total_s)]
    writing_s = timing.total_s - (timing.first_token_s or 0.0)
    if made > 1 and timing.first_token_s is not None and writing_s > 0:
        parts.append(words("answer.speed", speed=round((made - 1) / writing_s, 1)))
    if answer.usage.prompt_tokens:
        parts.append(words("answer.tokens", read=answer.usage.prompt_tokens, made=made))
    if answer.model:
        parts.append(plain(answer.model))
    parts.append(words("answer.verify"))
    return " · ".join(parts)


def _show_text(answer: Answer, *, is_data: bool, has_tables: bool) -> None:
    text = without_data(answer.text) if is_data else answer.text
    if has_tables:
        text = without_tables(text)
    if text.strip():
        st.markdown(shown_answer(text), anchors=False)


def _show_places(regions: Sequence[Region], pictures: Sequence[ShownPicture], words: Words, *, key: str) -> None:
    by_picture: dict[int, list[Region]] = {}
    for region in regions:
        by_picture.setdefault(region.picture_index, []).append(region)
    for index, found in sorted(by_picture.items()):
        if index >= len(pictures):
            continue
        picture = pictures[index]
        show_regions(picture, found, words, key=f"{key}-{index}")
        # A plain table: it stands at once, and is read aloud. Its cells are Markdown, so a label's signs are made plain.
        st.table(_place_columns(found, picture, words), hide_index=True, width="content")
        st.caption(words("answer.places_note", width=picture.size.width, height=picture.size.height))


def _place_columns(regions: Sequence[Region], picture: ShownPicture, words: Words) -> Mapping[str, list[str | int]]:
    pixels = [region.box.to_pixels(picture.size) for region in regions]
    return {
        words("answer.number"): list(range(1, len(regions) + 1)),
        words("answer.label"): [plain(region.label) for region in regions],
        words("answer.left"): [box[0] for box in pixels],
        words("answer.top"): [box[1] for box in pixels],
        words("answer.right"): [box[2] for box in pixels],
        words("answer.bottom"): [box[3] for box in pixels],
    }


def _show_table(table: Table, *, alt: str) -> None:
    """Show a table; columns of one name get a number, since a data frame needs them apart."""
    names: list[str] = []
    for at, column in enumerate(table.columns, 1):
        name = column or str(at)
        names.append(name if name not in names else f"{name} ({at})")
    if len(table.rows) <= PLAIN_ROWS and len(names) <= PLAIN_COLUMNS:
        # Stands at once, wraps its lines and is read aloud; its cells are Markdown, so their signs are made plain.
        plainly = {plain(name): [plain(row[at]) for row in table.rows] for at, name in enumerate(names)}
        st.table(plainly, hide_index=True, width="content")
    else:
        cells = {name: [row[at] for row in table.rows] for at, name in enumerate(names)}
        st.dataframe(cells, hide_index=True, alt=alt)


def _show_ending(answer: Answer, words: Words) -> None:
    """Say in one calm sentence each what a person should know about this answer."""
    if answer.error is not None:
        st.warning(words.render(answer.error), icon=":material/info:")
    elif answer.finish_reason is not FinishReason.STOP:
        st.caption(f":material/info: {words(f'answer.ended_{answer.finish_reason.value}')}")
    for note in dict.fromkeys((*answer.notes, *answer.parsed.notes)):
        if note.code == "history.from_cache":  # a badge beside the answer's buttons tells it
            continue
        st.caption(f":material/info: {words.render(note)}")
