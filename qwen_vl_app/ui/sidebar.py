"""The side bar: a new conversation, this browser's conversations, the pages, the status line, the language.

Knows what stands below what. Does not know how a conversation is listed or what the status says.
"""

from __future__ import annotations

import streamlit as st

from qwen_vl_app.texts import Language
from qwen_vl_app.ui.conversation_list import show_list
from qwen_vl_app.ui.pages import PAGES
from qwen_vl_app.ui.state import PageState, value_of
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
        _show_pages(state, words)
        show_status(visit.assistant, words)
        _show_language(state, words)


def _show_pages(state: PageState, words: Words) -> None:
    with st.container(gap=None, key="pages"):
        for view, page in PAGES.items():
            st.button(
                words(page.title_code),
                key=f"page-{view.value}",
                icon=page.icon,
                type="secondary" if state.view is view else "tertiary",
                width="stretch",
                on_click=state.show,
                args=(view,),
            )


def _show_language(state: PageState, words: Words) -> None:
    st.segmented_control(
        words("language"),
        list(_LANGUAGES),
        default=words.language,
        required=True,
        format_func=_LANGUAGES.__getitem__,
        key="language",
        label_visibility="collapsed",
        width="stretch",
        on_change=_choose_language,
        args=(state,),
    )


def _choose_language(state: PageState) -> None:
    chosen = value_of("language")
    if isinstance(chosen, Language):
        state.language = chosen
