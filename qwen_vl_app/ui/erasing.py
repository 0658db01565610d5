"""Erasing one question or one conversation: what is asked before it, and the sentence that tells what went.

Knows the dialogs. Does not erase: the hub does, and says in a receipt what was removed and what it cannot promise.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from qwen_vl_app.chat import Conversation, ErasureReceipt, Turn
from qwen_vl_app.errors import AppError, HistoryError, Reason
from qwen_vl_app.private import is_private
from qwen_vl_app.ui.holdings import Problem
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.pictures import forget_pictures
from qwen_vl_app.ui.visit import Visit

_SHOWN_CHARS = 120
"""So much of a question names it in the dialog."""


def show_erasing(visit: Visit) -> None:
    """Ask before the turn that was chosen for it is erased, until that was answered."""
    turn_id = visit.state.erasing
    if turn_id is None:
        return
    try:
        turn = visit.assistant.turn(visit.owner, turn_id)
    except HistoryError as error:  # erased meanwhile, in another tab
        visit.state.erasing, visit.state.problems = None, [Problem(error.reason)]
        return
    _ask_before(visit, turn)


def _ask_before(visit: Visit, turn: Turn) -> None:
    words = visit.words
    said = turn.question if len(turn.question) <= _SHOWN_CHARS else f"{turn.question[: _SHOWN_CHARS - 1].rstrip()}…"

    def close() -> None:
        visit.state.erasing = None

    def erase() -> None:
        close()
        _erase_turn(visit, turn)

    @st.dialog(words("erase.turn"), on_dismiss=close)
    def dialog() -> None:
        st.markdown(words("erase.turn_sure", question=plain(said)))
        if visit.assistant.is_running(visit.owner, turn.conversation_id):
            st.caption(f":material/info: {words('erase.stops')}")
        with st.container(horizontal=True):
            if st.button(words("erase.do"), key="erase-turn-sure", type="primary", on_click=erase):
                st.rerun()
            if st.button(words("list.cancel"), key="erase-turn-cancel", on_click=close):
                st.rerun()

    dialog()


def _erase_turn(visit: Visit, turn: Turn) -> None:
    state = visit.state
    receipt = _erased(visit, lambda: visit.assistant.records.erase_turn(visit.owner, turn.id))
    if receipt is None:
        return
    state.forget_turn(turn.id)
    if receipt.conversations:  # it was the only one
        state.open(None)
    state.told = _told(receipt, "erase.turn_done", is_listed=not is_private(turn.conversation_id))


def ask_before_erasing(visit: Visit, conversation: Conversation) -> None:
    """Ask before a conversation is erased."""
    words = visit.words

    def close() -> None:
        visit.state.row_request = None

    def erase() -> None:
        close()
        _erase_conversation(visit, conversation.id)

    @st.dialog(words("list.delete"), on_dismiss=close)
    def dialog() -> None:
        st.markdown(words("list.delete_sure", title=plain(conversation.title)))
        with st.container(horizontal=True):
            if st.button(words("list.delete_for_good"), key="delete-sure", type="primary", on_click=erase):
                st.rerun()
            if st.button(words("list.cancel"), key="delete-cancel", on_click=close):
                st.rerun()

    dialog()


def _erase_conversation(visit: Visit, conversation_id: int) -> None:
    state = visit.state
    receipt = _erased(visit, lambda: visit.assistant.records.erase_conversation(visit.owner, conversation_id))
    if receipt is None:
        return
    state.forget_conversation(conversation_id)
    state.told = _told(receipt, "erase.conversation_done", is_listed=not is_private(conversation_id))


def _erased(visit: Visit, erase: Callable[[], ErasureReceipt]) -> ErasureReceipt | None:
    """Erase; return the receipt, or None where it was refused, which then stands on the page."""
    visit.state.problems = []
    try:
        return erase()
    except AppError as error:
        # The second click of two: what it should erase has just been told to be gone.
        if not (visit.state.told and error.code == "history.not_found"):
            visit.state.problems = [Problem(error.reason)]
        return None
    finally:
        forget_pictures()


def _told(receipt: ErasureReceipt, code: str, *, is_listed: bool) -> tuple[Reason, ...]:
    """Return what to say of an erasure. A private conversation's is in no list of receipts, so it has no number here."""
    said = [Reason(f"ui.{code}", questions=receipt.turns, pictures=receipt.pictures)]
    if is_listed:
        done = "ui.erase.receipt" if receipt.is_complete else "ui.erase.receipt_pending"
        said.append(Reason(done, number=receipt.id))
    return (*said, *receipt.caveats)
