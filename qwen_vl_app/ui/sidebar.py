"""The side bar: a new conversation, this browser's conversations, the pages, the status line, the language.

Knows what stands below what. Does not know how a conversation is listed or what the status says.
"""

from __future__ import annotations

import streamlit as st

from qwen_vl_app.texts import Language
from qwen_vl_app.ui.acts import act
from qwen_vl_app.ui.conversation_list import show_list
from qwen_vl_app.ui.pages import PAGES
from qwen_vl_app.ui.side_rows import SideRow, show_rows
from qwen_vl_app.ui.state import NAVIGATION, PageState, acted, value_of
from qwen_vl_app.ui.status_view import show_status
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

_LANGUAGES = {Language.ENGLISH: "English", Language.CHINESE: "中文"}


def show_sidebar(visit: Visit) -> None:
    """Show the side bar."""
    state, words = visit.state, visit.words
    with st.sidebar, st.container(key="side", gap="small"):
        st.button(
            words("list.new"),
            key="new",
            icon=":material/edit_square:",
            width="stretch",
            on_click=state.open,
            args=(None,),
        )
        with st.container(key="conversations"):
            show_list(visit)
        _show_pages(visit)
        show_status(visit)
        _show_language(state, words)


def _show_pages(visit: Visit) -> None:
    words = visit.words
    show_rows(
        [
            SideRow(view.value, words(page.title_code), act=f"page-{view.value}", is_open=visit.state.view is view)
            for view, page in PAGES.items()
        ],
        key=NAVIGATION,
        label=words("pages"),
        on_click=lambda: act(visit, acted(NAVIGATION)),
    )


def _show_language(state: PageState, words: Words) -> None:
    # The language is in the key: a switch keeps what was chosen on it, also when the browser's Back has changed it since.
    key = f"language-{words.language.value}"
    st.segmented_control(
        words("language"),
        list(_LANGUAGES),
        default=words.language,
        required=True,
        format_func=_LANGUAGES.__getitem__,
        key=key,
        label_visibility="collapsed",
        width="stretch",
        on_change=_choose_language,
        args=(state, key),
    )


def _choose_language(state: PageState, key: str) -> None:
    chosen = value_of(key)
    if isinstance(chosen, Language):
        state.language = chosen
