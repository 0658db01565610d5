"""The list of conversations in the side bar: by day, pinned ones first, and what a search found in them.

Knows what the browser's part (`frontend/list.js`) is told, and the dialog for a new title. One element,
however many conversations there are. Does not know what is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import streamlit as st

from qwen_vl_app.chat import Conversation, Rendition, SearchHit
from qwen_vl_app.errors import AppError, HistoryError
from qwen_vl_app.ui.acts import act
from qwen_vl_app.ui.browser_part import browser_part
from qwen_vl_app.ui.erasing import ask_before_erasing
from qwen_vl_app.ui.holdings import Problem
from qwen_vl_app.ui.state import LIST, acted, searched, value_of
from qwen_vl_app.ui.turn_html import picture_url
from qwen_vl_app.ui.visit import Visit

_LABELS = ("search", "clear", "list", "more_of", "pin", "unpin", "rename", "delete", "older")
HITS_AT_ONCE = 30


def show_list(visit: Visit) -> None:
    """Show the list, and the dialog that was asked for, until it is closed."""

    def look_for() -> None:
        visit.state.search = searched()

    browser_part("list")(
        key=LIST,
        data=list_data(visit),
        on_did_change=lambda: act(visit, acted(LIST)),
        on_search_change=look_for,
    )
    request = visit.state.row_request
    if request is None:
        return
    try:
        conversation = visit.assistant.conversation(visit.owner, request.conversation_id)
    except HistoryError as error:  # deleted meanwhile, in another tab
        visit.state.row_request, visit.state.problems = None, [Problem(error.reason)]
        return
    if request.act == "rename":
        _rename(visit, conversation)
    else:
        ask_before_erasing(visit, conversation)


def list_data(visit: Visit) -> Mapping[str, Any]:
    """Return what the browser's part is told, as JSON can carry it."""
    words, state = visit.words, visit.state
    may_erase = visit.assistant.records.can_erase
    told: dict[str, Any] = {
        "labels": {name: words(f"list.{name}", title="{title}") for name in _LABELS}
        | ({} if may_erase else {"more_of": words("list.more_of_kept", title="{title}")}),
        "may_erase": may_erase,
        "open": state.conversation_id,
        "groups": [],
        "hits": [],
        "note": "",
        "has_older": False,
    }
    try:
        if state.search:
            _fill_hits(told, visit)
        else:
            _fill_groups(told, visit)
    except HistoryError as error:
        told["note"] = words.render(error)
    return told


def _fill_groups(told: dict[str, Any], visit: Visit) -> None:
    state, words = visit.state, visit.words
    # One more than is shown tells of more.
    found = visit.assistant.conversations(visit.owner, limit=state.conversations_shown + 1)
    shown = found[: state.conversations_shown]
    now = datetime.now(UTC)

    def group_of(conversation: Conversation) -> str:
        return words("list.pinned") if conversation.is_pinned else words.day(conversation.updated_at, now=now)

    told["groups"] = [
        {"name": name, "rows": [_row(each) for each in group]} for name, group in groupby(shown, key=group_of)
    ]
    told["has_older"] = len(found) > len(shown)
    told["note"] = "" if found else words("list.empty")


def _fill_hits(told: dict[str, Any], visit: Visit) -> None:
    found = visit.assistant.records.search(visit.owner, visit.state.search, limit=HITS_AT_ONCE)
    told["hits"] = [_hit(hit, visit) for hit in found.hits]
    told["note"] = "" if found.hits else visit.words("list.nothing_found")


def _row(conversation: Conversation) -> Mapping[str, Any]:
    picture = conversation.thumbnail_picture_id
    return {
        "id": conversation.id,
        "title": conversation.title,
        "thumbnail": None if picture is None else picture_url(picture, Rendition.THUMBNAIL),
        "is_pinned": conversation.is_pinned,
    }


def _hit(hit: SearchHit, visit: Visit) -> Mapping[str, Any]:
    return {
        **_row(hit.conversation),
        "turn": hit.turn_id,
        "when": visit.words.moment(hit.asked_at, now=datetime.now(UTC)),
        "pieces": list(_pieces(hit)),
    }


def _pieces(hit: SearchHit) -> Iterable[Sequence[Any]]:
    """Yield the most telling fragment as pairs of text and whether it was looked for; a title stands above it anyway."""
    telling = [each for each in hit.fragments if each.field != "title"]
    for piece in telling[0].pieces if telling else ():
        yield (piece.text, piece.is_match)


def _rename(visit: Visit, conversation: Conversation) -> None:
    words = visit.words
    key = f"title-{conversation.id}"

    def close() -> None:
        visit.state.row_request = None

    def keep() -> None:
        close()
        _keep_title(visit, conversation.id, title=str(value_of(key) or ""))

    @st.dialog(words("list.rename"), on_dismiss=close)
    def dialog() -> None:
        with st.form(f"rename-{conversation.id}", border=False):  # Enter saves as well
            st.text_input(words("list.title"), value=conversation.title, key=key, max_chars=200)
            if st.form_submit_button(words("list.save"), key="save-title", type="primary", on_click=keep):
                st.rerun()

    dialog()


def _keep_title(visit: Visit, conversation_id: int, *, title: str) -> None:
    try:
        visit.assistant.rename(visit.owner, conversation_id, title)
    except AppError as error:
        visit.state.problems = [Problem(error.reason)]
