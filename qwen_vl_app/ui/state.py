"""What one browser tab keeps between two runs of its page. The only file that touches `st.session_state`.

Knows which conversation is open and what was picked but not yet asked. Does not know what is kept for good: that is the
history's. A run may be interrupted at any Streamlit call, so a callback takes the `PageState` first, and from then on only
changes that object.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import streamlit as st

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.chat import StagedPicture
from qwen_vl_app.corrections import CorrectedTable
from qwen_vl_app.errors import Reason
from qwen_vl_app.texts import Language

COMPOSER = "composer"
"""The key of the composer."""
TURNS_AT_ONCE = 30
CONVERSATIONS_AT_ONCE = 40
_STATE = "page_state"


class View(StrEnum):
    """The pages there are."""

    CHAT = "chat"
    SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something was not taken. `name` is the file that it is about, where it is about one."""

    reason: Reason
    name: str = ""


@dataclass(frozen=True, slots=True)
class LooseQuestion:
    """A question that the history could not keep: it lives as long as the tab."""

    text: str
    pictures: tuple[StagedPicture, ...]
    conversation_id: int | None
    job: AnswerJob


@dataclass(frozen=True, slots=True)
class Restored:
    """What goes back into the composer, once: `token` grows with each."""

    text: str
    staged_ids: tuple[str, ...]
    token: int
    replaces: bool = False
    """True where it takes the place of what is typed there."""
    detail: str = ""
    """The rung that goes with it; empty where it stays as it is."""


@dataclass(slots=True)
class PageState:
    """One tab's state. What is typed and staged is the browser's until it is sent."""

    conversation_id: int | None = None
    language: Language | None = None
    """The language that was chosen by hand; None follows the browser."""
    problems: list[Problem] = field(default_factory=list)
    restore: Restored | None = None
    """What could not be sent."""
    last_question: str = ""
    """The open conversation's, for the arrow up."""
    view: View = View.CHAT
    looked_at: str = ""
    """The key of the picture or table that is open to work on; empty for the newest answer's, `-` for none."""
    table_drafts: dict[str, tuple[int, CorrectedTable]] = field(default_factory=dict)
    """Tables that rows were added to and that are not saved yet, with how often that was."""
    turns_shown: int = TURNS_AT_ONCE
    conversations_shown: int = CONVERSATIONS_AT_ONCE
    loose: list[LooseQuestion] = field(default_factory=list)
    is_address_read: bool = False

    def open(self, conversation_id: int | None) -> None:
        """Turn to another conversation; what was picked for the next question comes along."""
        if conversation_id is None:
            self.loose = [each for each in self.loose if each.conversation_id is not None]
        self.conversation_id = conversation_id
        self.view = View.CHAT
        self.looked_at = ""
        self.turns_shown = TURNS_AT_ONCE
        self.problems = []
        self.last_question = ""

    def show(self, view: View) -> None:
        """Turn to another page."""
        self.view = view
        self.problems = []

    def go_back(self) -> None:
        """Follow the browser's back and forward buttons, in the composer's callback: its address says where they led."""
        value = st.session_state.get(COMPOSER)
        went = value.get("went") if isinstance(value, Mapping) else None
        if isinstance(went, Mapping):
            self._take_address(str(went.get("c") or ""), str(went.get("view") or ""))

    def _take_address(self, number: str, view: str) -> None:
        is_number = number.isascii() and number.isdigit() and len(number) < 16
        self.open(int(number) if is_number else None)
        if view in list(View):
            self.view = View(view)

    def put_back(self, text: str, staged_ids: tuple[str, ...]) -> None:
        """Let the composer have again what could not be sent."""
        self.restore = Restored(text, staged_ids, token=time.time_ns() // 1_000_000)

    def write(self, text: str, *, detail: str = "") -> None:
        """Write a question into the composer, for a person to go on with, and choose its rung where one is named."""
        self.restore = Restored(text, (), token=time.time_ns() // 1_000_000, replaces=True, detail=detail)

    def read_address(self) -> None:
        """Take conversation and language from the address, at the first run only: a bookmark, a reload, a shared link.

        Later runs only write it: a click may be sent with the address from before the last change.
        """
        if self.is_address_read:
            return
        self.is_address_read = True
        language = st.query_params.get("lang", "")
        self._take_address(st.query_params.get("c", ""), st.query_params.get("view", ""))
        if language in list(Language):
            self.language = Language(language)

    def write_address(self) -> None:
        """Make the address say what is open, so that a reload or a bookmark finds it again."""
        wanted = {}
        if self.conversation_id is not None:
            wanted["c"] = str(self.conversation_id)
        if self.view is not View.CHAT:
            wanted["view"] = self.view.value
        if self.language is not None:
            wanted["lang"] = self.language.value
        if wanted != st.query_params.to_dict():
            st.query_params.from_dict(wanted)


def page_state() -> PageState:
    """Return this tab's state, new at the first run."""
    state = st.session_state.get(_STATE)
    if not isinstance(state, PageState):
        state = st.session_state[_STATE] = PageState()
    return state


def submitted() -> tuple[str, tuple[str, ...]]:
    """Return what the composer was sent with, in its callback: the text, and ids of staged pictures."""
    value = st.session_state.get(COMPOSER)
    sent = value.get("sent") if isinstance(value, Mapping) else None
    if not isinstance(sent, Mapping):
        return "", ()
    text, ids = sent.get("text"), sent.get("ids")
    staged_ids = tuple(each for each in ids if isinstance(each, str)) if isinstance(ids, list) else ()
    return (text.strip() if isinstance(text, str) else ""), staged_ids


def value_of(key: str) -> object:
    """Return the value of a widget, in its callback."""
    return st.session_state.get(key)
