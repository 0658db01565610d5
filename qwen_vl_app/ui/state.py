"""What one browser tab keeps between two runs of its page. The only file that touches `st.session_state`.

Knows which conversation is open and what was picked but not yet asked. Does not know what is kept for good: that is the
history's. A run may be interrupted at any Streamlit call, so a callback takes the `PageState` first, and from then on only
changes that object.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

import streamlit as st

from qwen_vl_app.chat import TurnPicture
from qwen_vl_app.doctor import Finding
from qwen_vl_app.errors import AppError, Reason
from qwen_vl_app.texts import Language
from qwen_vl_app.ui.holdings import (
    Followed,
    FormsState,
    LooseQuestion,
    Problem,
    RecordsState,
    Restored,
    RowRequest,
    TableDraft,
    TableInHand,
    Told,
    View,
)

COMPOSER = "composer"
"""The key of the composer."""
LIST = "conversation-list"
"""The key of the list of conversations."""
NAVIGATION = "navigation"
"""The key of the pages in the side bar."""
TABLE = "-table-"
"""In the key of a table of an answer, before its number."""
TURNS_AT_ONCE = 30
CONVERSATIONS_AT_ONCE = 40
_STATE = "page_state"


@dataclass(slots=True)
class PageState:
    """One tab's state. What is typed and staged is the browser's until it is sent."""

    findings: tuple[Finding, ...] | None = None
    """What the doctor found when this tab last asked."""

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
    table_drafts: dict[str, TableDraft] = field(default_factory=dict)
    """Tables that were changed and are not saved yet."""
    table_in_hand: TableInHand | None = None
    tasks: str | None = None
    """The ready-made task that is open in a dialog; empty for the list of them, None while it is closed."""
    turns_shown: int = TURNS_AT_ONCE
    conversations_shown: int = CONVERSATIONS_AT_ONCE
    loose: list[LooseQuestion] = field(default_factory=list)
    run_id: str = ""
    """The run over a folder that is open; empty for the list of them."""
    drop_token: str = ""
    """Changes when what was dropped has been taken into a run."""
    editing: int | None = None
    """The turn whose question is being rewritten."""
    pictures_before: tuple[int, tuple[TurnPicture, ...]] | None = None
    """A turn without pictures, and those that it speaks about."""
    opened: set[int] = field(default_factory=set)
    """Turns further up that a person wants to work with."""
    large: tuple[int, int] | None = None
    """A turn and its picture that are shown large. This and every other dialog's wish stands until the dialog is closed:
    whatever ends on the page meanwhile draws it anew, and a dialog that is not drawn is gone."""
    row_request: RowRequest | None = None
    """What a dialog of the list is open for."""
    is_taking: bool = False
    """The open conversation is offered to be taken away."""
    taking: str = ""
    """The part of an answer that is offered to be taken away."""
    erasing: int | None = None
    """The turn whose erasing is asked about."""
    told: tuple[Reason, ...] = ()
    """What was just erased, until something else is done."""
    jump: tuple[int, int] | None = None
    """The turn that the page should scroll to, and a number that grows with each such wish."""
    search: str = ""
    """What is looked for in the side bar."""
    asks_privately: bool = False
    """A conversation that begins now is kept in memory only."""
    records: RecordsState = field(default_factory=RecordsState)
    is_address_read: bool = False
    heard: int = 0
    """The number of the last thing that the composer told and that was done."""
    hearing: threading.Lock = field(default_factory=threading.Lock)
    """Held while what the composer told is done. Streamlit begins the next run beside one that is still in its callbacks."""
    followed: Followed = field(default_factory=Followed)
    """The answers in the making that are shown."""
    has_begun: bool = False
    """The open conversation began here, with a question that was asked when none was open."""
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells this state from the one that a tab had before, of a server that has begun anew since."""
    forms: FormsState = field(default_factory=FormsState)
    owner: str = ""
    """Whose tab this is, as its last request said."""

    def open(self, conversation_id: int | None) -> None:
        """Turn to another conversation; what was picked for the next question comes along."""
        if conversation_id is None:
            self.loose = [each for each in self.loose if each.conversation_id is not None]
        self.conversation_id = conversation_id
        self.has_begun = False
        self.view = View.CHAT
        self.looked_at = ""
        self.turns_shown = TURNS_AT_ONCE
        self.problems, self.told = [], ()
        self.last_question = ""
        self.asks_privately = False
        self.editing, self.jump = None, None
        self.opened = set()
        self.forget_dialogs()

    def forget_dialogs(self) -> None:
        """Close every dialog: of several wishes the last counts, a page has one, and on another page none comes back."""
        self.large, self.row_request, self.erasing, self.tasks = None, None, None, None
        self.is_taking, self.taking = False, ""
        self.records.asking, self.forms.is_taking_in = "", False

    @property
    def is_writing_in_dialog(self) -> bool:
        """Whether a dialog is open that one writes in: drawn anew with the page, it loses what its fields have not told yet."""
        is_taking_in = self.view is View.FORMS and self.forms.is_taking_in
        return self.row_request is not None or self.tasks is not None or is_taking_in

    def draw_anew(self) -> None:
        """Run the whole page again, from a fragment whose timer finds that what it follows is over.

        Returns where somebody writes in a dialog, who is not disturbed: the page is drawn anew when the dialog is closed.
        """
        if not self.is_writing_in_dialog:
            st.rerun()

    def forget_turn(self, turn_id: int) -> None:
        """Hold nothing any more of a turn that is gone."""
        self.opened.discard(turn_id)
        self.pictures_before = None
        if self.editing == turn_id:
            self.editing = None
        self._forget_tables(lambda draft: draft.turn_id == turn_id)

    def forget_conversation(self, conversation_id: int | None) -> None:
        """Hold nothing any more of a conversation that is gone; where it is the open one, none is."""
        self.loose = [each for each in self.loose if each.conversation_id != conversation_id]
        self._forget_tables(lambda draft: draft.conversation_id == conversation_id)
        self.pictures_before = None
        if self.conversation_id == conversation_id:
            self.open(None)

    def forget_everything(self) -> None:
        """Hold nothing any more of what was asked, answered, read or typed in any conversation. The open page stays."""
        self.loose, self.pictures_before, self.restore, self.search = [], None, None, ""
        self._forget_tables(lambda _: True)
        with self._staying():
            self.open(None)
        self.forms.drop_sample()

    @property
    def has_drafts(self) -> bool:
        """True where this tab alone has work that was not saved: a reload of it would lose that."""
        return bool(self.table_drafts) or any(draft.is_changed for draft in self.forms.drafts.values())

    def forget_period(self, since: datetime, until: datetime) -> None:
        """Hold nothing any more that was asked or read from `since` on and before `until`, and that only this tab has."""
        self.loose = [each for each in self.loose if not since <= each.asked_at < until]
        taken_at = self.forms.sample_at
        if taken_at is not None and since <= taken_at < until:
            self.forms.drop_sample()

    def forget_gone(self, *, is_turn_gone: Callable[[int], bool], is_conversation_gone: Callable[[int], bool]) -> None:
        """Hold nothing any more of what is gone of the history; work on all else stays as it is. The open page stays."""
        drafts = list(self.table_drafts.values())
        if self.table_in_hand is not None:
            drafts.append(self.table_in_hand.draft)
        turns = {self.editing, *self.opened, *(draft.turn_id for draft in drafts)}
        conversations = {self.conversation_id, *(draft.conversation_id for draft in drafts)}
        conversations |= {each.conversation_id for each in self.loose}
        self.pictures_before, self.last_question = None, ""  # read anew with the conversation, where it is still there
        with self._staying():
            for turn_id in turns:
                if turn_id is not None and is_turn_gone(turn_id):
                    self.forget_turn(turn_id)
            for number in conversations:
                if number is not None and is_conversation_gone(number):
                    self.forget_conversation(number)

    @contextmanager
    def _staying(self) -> Iterator[None]:
        """Let go of the open conversation without leaving the open page, and without losing what it says."""
        view, problems, asks_privately = self.view, self.problems, self.asks_privately
        yield
        self.view, self.problems, self.asks_privately = view, problems, asks_privately

    def _forget_tables(self, is_gone: Callable[[TableDraft], bool]) -> None:
        self.table_drafts = {key: draft for key, draft in self.table_drafts.items() if not is_gone(draft)}
        if self.table_in_hand is not None and is_gone(self.table_in_hand.draft):
            self.table_in_hand = None

    @property
    def is_at_table(self) -> bool:
        """Whether what is open to work on is a table."""
        return TABLE in self.looked_at

    def is_at_turn(self, turn_id: int) -> bool:
        """Return whether a turn is worked with, or holds what is not saved yet."""
        return (
            turn_id in self.opened
            or turn_id == self.editing
            or self.taking.startswith(f"{turn_id}-")
            or any(draft.turn_id == turn_id for draft in self.table_drafts.values())
        )

    def go_to_turn(self, turn_id: int) -> None:
        """Let the page scroll to a turn of the open conversation."""
        self.jump = (turn_id, _token())

    def show_older(self) -> None:
        """Let the list of conversations grow."""
        self.conversations_shown += CONVERSATIONS_AT_ONCE

    def show_earlier(self) -> None:
        """Let the open conversation grow upwards."""
        self.turns_shown += TURNS_AT_ONCE

    def show(self, view: View) -> None:
        """Turn to another page."""
        self.view = view
        self.forget_dialogs()
        self.records = RecordsState()
        self.run_id = ""
        self.problems, self.told = [], ()

    def open_run(self, run_id: str) -> None:
        """Turn to a run over a folder, or with no id to the list of them."""
        self.view = View.BATCH
        self.forget_dialogs()
        self.run_id = run_id
        self.problems = []

    def attempt(self, act: Callable[[], object]) -> bool:
        """Do something that may be refused; return whether it was done. A refusal stands on the page."""
        self.problems = []
        try:
            act()
        except AppError as error:
            self.problems = [Problem(error.reason)]
            return False
        return True

    def go_back(self, went: Mapping[str, object]) -> None:
        """Follow the browser's back and forward buttons: its address says where they led."""
        self._take_address({name: str(said) for name, said in went.items() if said})

    def is_still_in(self, conversation: object) -> bool:
        """Return whether a question belongs here that was sent from that conversation, a number or None."""
        return conversation == self.conversation_id or (conversation is None and self.has_begun)

    def _take_address(self, said: Mapping[str, str]) -> None:
        number, view, language = said.get("c", ""), said.get("view", ""), said.get("lang", "")
        is_number = number.isascii() and number.isdigit() and len(number) < 16
        self.open(int(number) if is_number else None)
        # What is typed comes back after a reload, and must not be kept because a switch was forgotten.
        self.asks_privately = self.conversation_id is None and said.get("private") == "1"
        if view in list(View):
            self.view = View(view)
        self.run_id = said.get("run", "") if self.view is View.BATCH else ""
        self.language = Language(language) if language in list(Language) else None

    def put_back(self, text: str, staged_ids: tuple[str, ...], *, is_private: bool = False) -> None:
        """Let the composer have again what could not be sent."""
        self.restore = Restored(text, staged_ids, token=_token(), is_private=is_private)

    def write(self, text: str, *, detail: str = "") -> None:
        """Write a question into the composer, for a person to go on with, and choose its rung where one is named."""
        self.restore = Restored(text, (), token=_token(), replaces=True, detail=detail)

    def read_address(self) -> None:
        """Take conversation and language from the address, at the first run only: a bookmark, a reload, a shared link.

        From then on the browser's part of the composer keeps it up to date.
        """
        if self.is_address_read:
            return
        self.is_address_read = True
        self._take_address(st.query_params.to_dict())

    @property
    def address(self) -> str:
        """The query of the address that says what is open, so that a reload or a bookmark finds it again."""
        said = {
            "c": "" if self.conversation_id is None else str(self.conversation_id),
            "view": "" if self.view is View.CHAT else self.view.value,
            "run": self.run_id,
            "lang": "" if self.language is None else self.language.value,
            "private": "1" if self.conversation_id is None and self.asks_privately else "",
        }
        wanted = {name: value for name, value in said.items() if value}
        return f"?{urlencode(wanted)}" if wanted else ""


def _token() -> int:
    return time.time_ns() // 1_000_000


def page_state() -> PageState:
    """Return this tab's state, new at the first run."""
    state = st.session_state.get(_STATE)
    if not isinstance(state, PageState):
        state = st.session_state[_STATE] = PageState()
    return state


def told() -> Sequence[Told]:
    """Return what the composer tells, in its callback, oldest first."""
    value = st.session_state.get(COMPOSER)
    said = value.get("told") if isinstance(value, Mapping) else None
    found: list[Told] = []
    for each in said if isinstance(said, list) else ():
        if not isinstance(each, Mapping):
            continue
        number, kind, about = each.get("number"), each.get("kind"), each.get("value")
        if isinstance(number, int) and isinstance(kind, str) and isinstance(about, Mapping):
            found.append(Told(number, kind, about))
    return found


def submitted(sent: Mapping[str, object]) -> tuple[str, tuple[str, ...]]:
    """Return what the composer was sent with: the text, and ids of staged pictures."""
    text, ids = sent.get("text"), sent.get("ids")
    staged_ids = tuple(each for each in ids if isinstance(each, str)) if isinstance(ids, list) else ()
    return (text.strip() if isinstance(text, str) else ""), staged_ids


def acted(key: str) -> Mapping[str, object]:
    """Return what was clicked in a component, in its callback."""
    value = st.session_state.get(key)
    did = value.get("did") if isinstance(value, Mapping) else None
    return did if isinstance(did, Mapping) else {}


def searched() -> str:
    """Return what is looked for in the list of conversations, in its callback."""
    value = st.session_state.get(LIST)
    wanted = value.get("search") if isinstance(value, Mapping) else None
    return " ".join(wanted.split()) if isinstance(wanted, str) else ""


def value_of(key: str) -> object:
    """Return the value of a widget, in its callback."""
    return st.session_state.get(key)
