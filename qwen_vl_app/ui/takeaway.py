"""A conversation to take away, in the forms that `qwen_vl_app.takeaway` knows.

Knows the tab's state and where the files are to be had. Does not make them.
"""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from qwen_vl_app.chat import Conversation
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.ui.holdings import Problem
from qwen_vl_app.ui.visit import Visit

CONVERSATIONS = "/app/conversations"


def show_take_away(visit: Visit) -> None:
    """Offer the open conversation in the forms in which it may be taken away, where that was asked for, until it is closed."""
    number = visit.state.conversation_id
    if not visit.state.is_taking or number is None:
        return
    try:
        conversation = visit.assistant.conversation(visit.owner, number)
    except HistoryError as error:  # deleted meanwhile, in another tab
        visit.state.is_taking, visit.state.problems = False, [Problem(error.reason)]
        return
    _offer(visit, conversation)


def _offer(visit: Visit, conversation: Conversation) -> None:
    """Show a dialog of files; each is made when it is asked for."""
    words = visit.words
    query = urlencode({"lang": words.language.value, "zone": words.zone_name})

    def close() -> None:
        visit.state.is_taking = False

    @st.dialog(words("turn.take_away"), on_dismiss=close)
    def dialog() -> None:
        st.caption(words("records.take_away_what"))
        for kind in ("zip", "pdf", "json"):
            st.link_button(
                words(f"records.take_{kind}"), f"{CONVERSATIONS}/{conversation.id}/{kind}?{query}", width="stretch"
            )

    dialog()
