"""A private conversation ends with its tab: whoever shows one holds it here, at every run of the page.

Knows that Streamlit tells when a tab has gone. Does not know what is in the conversation.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from qwen_vl_app.errors import HistoryError
from qwen_vl_app.private import PrivateConversations, is_private
from qwen_vl_app.ui.visit import Visit


@dataclass(frozen=True, slots=True)
class _Hold:
    private: PrivateConversations
    owner: str
    conversation_id: int


def hold_private(visit: Visit) -> bool:
    """Keep the open conversation for as long as this tab is there, and return True, where it is a private one.

    The last tab that is closed lets it go after a minute: one that is only reloaded comes back before.
    """
    number = visit.state.conversation_id
    if number is None or not is_private(number):
        return False
    _hold(visit.assistant.private, visit.owner, number)
    visit.assistant.private.touch(visit.owner, number)
    return True


def forget_ended(visit: Visit) -> None:
    """Let go of what this tab still holds of private conversations that have ended while it showed something else."""
    state = visit.state
    held = {draft.conversation_id for draft in state.table_drafts.values()} | {
        each.conversation_id for each in state.loose
    }
    for number in held - {state.conversation_id}:
        if number is not None and is_private(number):
            try:
                visit.assistant.conversation(visit.owner, number)
            except HistoryError:
                state.forget_conversation(number)


def _let_go(held: _Hold) -> None:
    held.private.leave(held.owner, held.conversation_id)


@st.cache_resource(scope="session", on_release=_let_go, show_spinner=False)
def _hold(_private: PrivateConversations, owner: str, number: int) -> _Hold:
    _private.enter(owner, number)
    return _Hold(_private, owner, number)
