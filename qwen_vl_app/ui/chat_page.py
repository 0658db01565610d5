"""The one page: side bar, conversation or welcome, composer. A function of the assistant, so that tests hand in theirs.

Knows the order of things on the page and who is asking. Does not know how any of them looks.
"""

from __future__ import annotations

import re
from typing import Literal

import streamlit as st

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.errors import HistoryError, UsageError
from qwen_vl_app.private import is_private
from qwen_vl_app.ui.composer import show_composer
from qwen_vl_app.ui.conversation import OpenConversation, read_conversation, show_conversation
from qwen_vl_app.ui.erasing import show_erasing
from qwen_vl_app.ui.holdings import Problem
from qwen_vl_app.ui.icon import ICON
from qwen_vl_app.ui.live_answer import show_live_answers
from qwen_vl_app.ui.pages import PAGES
from qwen_vl_app.ui.pictures import forget_pictures
from qwen_vl_app.ui.private_tab import forget_ended, hold_private
from qwen_vl_app.ui.sidebar import show_sidebar
from qwen_vl_app.ui.state import page_state
from qwen_vl_app.ui.style import apply_style
from qwen_vl_app.ui.tables_view import keep_unsaved
from qwen_vl_app.ui.takeaway import show_take_away
from qwen_vl_app.ui.tasks_dialog import show_tasks
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.welcome import show_welcome
from qwen_vl_app.ui.words import words_of

PROFILE_COOKIE = "qvl_profile"
"""The guard in front of the page gives each browser one; the page only reads it."""


def visit_of(assistant: Assistant, *, owner: str | None = None) -> Visit:
    """Return this run's visit: who asks, in which words, and what their tab keeps.

    Streamlit's own page tests, which have no browser, say which `owner`. Raises UsageError `guard.no_cookie`.
    """
    assistant.let_go_also(forget_pictures)
    state = page_state()
    state.read_address()
    state.owner = owner or _owner_of_this_browser(state.owner)
    return Visit(assistant, state.owner, state, words_of(state, assistant.settings))


def show_chat_page(visit: Visit) -> None:
    """Draw the page for this tab."""
    page = PAGES.get(visit.state.view)
    layout: Literal["wide", "centered"] = "wide" if page is not None and page.is_wide else "centered"
    st.set_page_config(page_title=visit.words("title"), page_icon=ICON, layout=layout, menu_items={})
    st.logo(ICON, size="medium")
    apply_style(visit.words)
    show_sidebar(visit)
    # Two places that are always there, so that the second is the same one in every run. It is drawn first: what was in
    # the making goes at the moment when it comes back finished.
    place, live_place = st.container(key="page"), st.container(key="live")
    hold_private(visit)
    forget_ended(visit)
    in_hand = visit.state.table_in_hand
    if in_hand is not None and in_hand.key != visit.state.looked_at:
        keep_unsaved(visit.state)
    drawing = visit.state.followed.begin()
    shown = OpenConversation() if page is not None else _read(visit)
    with live_place:
        show_live_answers(visit, shown.live, drawing=drawing)
    with place:
        if page is not None:
            with st.container(key="wide-page" if page.is_wide else "text-page"):
                page.show(visit)
        elif shown.is_empty:
            with st.container(key="welcome"):
                show_welcome(visit)
        else:
            show_conversation(visit, shown)
    if in_hand is not None and visit.state.table_in_hand is in_hand:  # not drawn anew: another page, or another version
        keep_unsaved(visit.state)
    show_composer(visit, shown)
    show_tasks(visit)
    show_erasing(visit)
    show_take_away(visit)
    visit.assistant.page_stands()


def _owner_of_this_browser(before: str) -> str:
    """Return whose conversations these are: the browser's profile. Nobody is let in without one.

    Where the browser went away during this run there is no request to ask any more; it is whose it was `before`.
    """
    if before and not st.context.headers:
        return before
    profile = st.context.cookies.get(PROFILE_COOKIE)
    if not isinstance(profile, str) or not re.fullmatch(r"[0-9a-f]{32}", profile):
        raise UsageError("guard.no_cookie")
    return profile


def _read(visit: Visit) -> OpenConversation:
    try:
        return read_conversation(visit)
    except HistoryError as error:
        state, number = visit.state, visit.state.conversation_id
        if error.code == "history.not_found":  # the address of one that is deleted, or another browser's
            state.forget_conversation(number)
        else:
            state.open(None)
        state.problems = [Problem(error.reason)]
        # A private one that has ended: what is typed for it must not be kept by the next click.
        state.asks_privately = is_private(number) and visit.assistant.private.may_begin
        return OpenConversation()
