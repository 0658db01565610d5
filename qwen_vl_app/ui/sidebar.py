"""The side bar: a new conversation, this browser's conversations by day, the status line, the language.

Knows how a list of conversations looks, and how one is renamed and deleted. Does not know what is in them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby

import streamlit as st

from qwen_vl_app.chat import Conversation
from qwen_vl_app.errors import AppError, HistoryError
from qwen_vl_app.texts import Language
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.pages import PAGES
from qwen_vl_app.ui.pictures import conversation_thumbnail, forget_pictures
from qwen_vl_app.ui.state import CONVERSATIONS_AT_ONCE, PageState, Problem, value_of
from qwen_vl_app.ui.status_view import show_status
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

SEARCHED_AT_MOST = 2000
_LANGUAGES = {Language.ENGLISH: "English", Language.CHINESE: "中文"}


def show_sidebar(visit: Visit) -> None:
    """Show the side bar."""
    state, words = visit.state, visit.words
    with st.sidebar:
        st.button(
            words("list.new"),
            key="new",
            icon=":material/edit_square:",
            type="primary",
            width="stretch",
            on_click=state.open,
            args=(None,),
        )
        wanted = st.text_input(
            words("list.search"),
            key="search",
            placeholder=words("list.search"),
            icon=":material/search:",
            label_visibility="collapsed",
        )
        with st.container(key="conversations", gap="xsmall"):
            _show_list(visit, wanted=" ".join((wanted or "").split()).casefold())
        show_status(visit.assistant, words)
        _show_pages(state, words)
        _show_language(state, words)


def _show_pages(state: PageState, words: Words) -> None:
    with st.container(gap=None, key="pages"):
        for view, page in PAGES.items():
            st.button(
                words(page.title_code),
                key=f"page-{view.value}",
                icon=page.icon,
                type="tertiary",
                on_click=state.show,
                args=(view,),
            )


def _show_list(visit: Visit, *, wanted: str) -> None:
    state, words = visit.state, visit.words
    # A search looks through everything; the list itself grows on demand. One more than is shown tells of more.
    limit = SEARCHED_AT_MOST if wanted else state.conversations_shown + 1
    try:
        found = visit.assistant.conversations(visit.owner, limit=limit)
    except HistoryError as error:
        st.caption(words.render(error))
        return
    if wanted:
        found = tuple(each for each in found if wanted in each.title.casefold())
    if not found:
        st.caption(words("list.nothing_found" if wanted else "list.empty"))
        return
    shown = found[: state.conversations_shown]
    now = datetime.now(UTC)
    for day, group in groupby(shown, key=lambda each: words.day(each.updated_at, now=now)):
        st.caption(f"**{day}**")
        with st.container(gap="xxsmall"):
            for conversation in group:
                _show_row(visit, conversation)
    if len(found) > len(shown):
        st.button(words("list.older"), key="older", type="tertiary", on_click=_show_older, args=(state,))


def _show_older(state: PageState) -> None:
    state.conversations_shown += CONVERSATIONS_AT_ONCE


def _show_row(visit: Visit, conversation: Conversation) -> None:
    state, words = visit.state, visit.words
    number = conversation.id
    is_open = number == state.conversation_id
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"row-{number}", wrap=False):
        with st.container(width=32, horizontal_alignment="center"):
            thumbnail = None
            if conversation.thumbnail_picture_id is not None:
                thumbnail = conversation_thumbnail(visit.assistant, visit.owner, conversation.thumbnail_picture_id)
            if thumbnail is None:
                st.markdown(":gray[:material/chat_bubble:]")
            else:
                st.image(thumbnail, width="stretch", alt="")
        st.button(
            plain(conversation.title),
            key=f"open-{number}",
            type="secondary" if is_open else "tertiary",
            width="stretch",
            help=None,
            on_click=state.open,
            args=(number,),
        )
        if is_open:
            actions = {"rename": words("list.rename"), "delete": words("list.delete")}
            chosen = st.menu_button(
                words("list.more"),
                list(actions),
                key=f"menu-{number}",
                format_func=actions.__getitem__,
                type="tertiary",
            )
            if chosen == "rename":
                _rename(visit, conversation)
            elif chosen == "delete":
                _delete(visit, conversation)


def _rename(visit: Visit, conversation: Conversation) -> None:
    words = visit.words
    key = f"title-{conversation.id}"

    def keep() -> None:
        _keep_title(visit, conversation.id, title=str(value_of(key) or ""))

    @st.dialog(words("list.rename"))
    def dialog() -> None:
        st.text_input(words("list.title"), value=conversation.title, key=key, max_chars=200)
        if st.button(words("list.save"), key="save-title", type="primary", on_click=keep):
            st.rerun()

    dialog()


def _keep_title(visit: Visit, conversation_id: int, *, title: str) -> None:
    try:
        visit.assistant.rename(visit.owner, conversation_id, title)
    except AppError as error:
        visit.state.problems = [Problem(error.reason)]


def _delete(visit: Visit, conversation: Conversation) -> None:
    words = visit.words

    def erase() -> None:
        _erase(visit, conversation.id)

    @st.dialog(words("list.delete"))
    def dialog() -> None:
        st.markdown(words("list.delete_sure", title=plain(conversation.title)))
        with st.container(horizontal=True):
            if st.button(words("list.delete_for_good"), key="delete-sure", type="primary", on_click=erase):
                st.rerun()
            if st.button(words("list.cancel"), key="delete-cancel"):
                st.rerun()

    dialog()


def _erase(visit: Visit, conversation_id: int) -> None:
    state = visit.state
    try:
        visit.assistant.delete(visit.owner, conversation_id)
    except HistoryError as error:
        state.problems = [Problem(error.reason)]
        if error.code != "history.erase_pending":  # its rows are gone, so the page treats it as deleted
            return
    finally:
        forget_pictures()
    state.loose = [each for each in state.loose if each.conversation_id != conversation_id]
    if state.conversation_id == conversation_id:
        state.open(None)


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
