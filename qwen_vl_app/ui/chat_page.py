"""The one page: side bar, conversation or welcome, composer. A function of the assistant, so that tests hand in theirs.

Knows the order of things on the page and who is asking. Does not know how any of them looks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import streamlit as st

from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.ui.composer import show_composer
from qwen_vl_app.ui.conversation import show_conversation, show_unreadable
from qwen_vl_app.ui.icon import ICON
from qwen_vl_app.ui.live_answer import OpenTurn, show_live_answers
from qwen_vl_app.ui.pages import PAGES
from qwen_vl_app.ui.sidebar import show_sidebar
from qwen_vl_app.ui.state import page_state
from qwen_vl_app.ui.style import apply_style
from qwen_vl_app.ui.tasks_dialog import show_tasks
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.welcome import show_welcome
from qwen_vl_app.ui.words import words_of

PROFILE_COOKIE = "qvl_profile"
"""The guard in front of the page gives each browser one; the page only reads it."""


def visit_of(assistant: Assistant) -> Visit:
    """Return this run's visit: who asks, in which words, and what their tab keeps."""
    state = page_state()
    state.read_address()
    return Visit(assistant, owner_of_this_browser(), state, words_of(state, assistant.settings))


def show_chat_page(visit: Visit) -> None:
    """Draw the page for this tab."""
    page = PAGES.get(visit.state.view)
    layout: Literal["wide", "centered"] = "wide" if page is not None and page.is_wide else "centered"
    st.set_page_config(page_title=visit.words("title"), page_icon=ICON, layout=layout, menu_items={})
    st.logo(ICON, size="medium")
    apply_style()
    show_sidebar(visit)
    # Two places that are always there, so that the second is the same one in every run.
    with st.container(key="page"):
        live = _show_view(visit)
    with st.container(key="live"):
        show_live_answers(visit, live)
    show_composer(visit)
    show_tasks(visit)
    visit.state.write_address()
    visit.assistant.page_stands()


def owner_of_this_browser() -> str:
    """Return whose conversations these are: the browser's profile, or the local owner where there is no browser."""
    profile = st.context.cookies.get(PROFILE_COOKIE)
    # Streamlit's own page tests have no request to take cookies from.
    is_profile = isinstance(profile, str) and re.fullmatch(r"[0-9a-f]{32}", profile)
    return str(profile) if is_profile else LOCAL_OWNER


def _show_view(visit: Visit) -> Sequence[OpenTurn]:
    """Show the page that is open; return what is in the making on it."""
    if visit.state.view in PAGES:
        PAGES[visit.state.view].show(visit)
        return ()
    try:
        has_turns, live = show_conversation(visit)
    except HistoryError as error:
        show_unreadable(error, visit.words)
        visit.state.conversation_id = None  # the address of a conversation that is deleted, or another browser's
        has_turns, live = False, ()
    if not has_turns:
        show_welcome(visit)
    return live
