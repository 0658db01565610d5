"""One conversation: its turns from the history, what is in the making, and what could not be kept.

Knows how turns follow each other: the newest as elements that one works with, those above as plain HTML. Does not know how
pictures and answers look in detail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

import streamlit as st

from qwen_vl_app.answers import tables_in
from qwen_vl_app.chat import Answer, Conversation, Turn, TurnPicture, TurnState
from qwen_vl_app.private import is_private
from qwen_vl_app.standing import Standing
from qwen_vl_app.ui.answer_ending import with_checks
from qwen_vl_app.ui.answer_view import below_answer, show_answer, show_below_answer
from qwen_vl_app.ui.desk import Desk, standing_of
from qwen_vl_app.ui.holdings import LooseQuestion
from qwen_vl_app.ui.kept_html import html_of
from qwen_vl_app.ui.large_view import open_large
from qwen_vl_app.ui.live_answer import OpenTurn
from qwen_vl_app.ui.pictures import ShownPicture, kept_picture, show_pictures, staged_picture
from qwen_vl_app.ui.quiet_answer import ANSWER_FOLD, quiet_answer_html
from qwen_vl_app.ui.sending import ask_edited, ask_loose_again
from qwen_vl_app.ui.state import TURNS_AT_ONCE, value_of
from qwen_vl_app.ui.turn_html import (
    actions_html,
    earlier_html,
    head_html,
    is_long,
    question_html,
    thumbnails_html,
    unfolder_html,
)
from qwen_vl_app.ui.turns_view import TurnPiece, show_turns
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

FULL_TURNS = 1
"""So many of the newest finished turns are elements to work with."""


@dataclass(frozen=True, slots=True)
class OpenConversation:
    """What there is of the open conversation in one run of the page."""

    head: Conversation | None = None
    turns: tuple[Turn, ...] = ()
    """The newest ones of the shown branch, oldest first."""
    has_earlier: bool = False
    pictures: tuple[TurnPicture, ...] = ()
    """Those that the first of these turns speaks about, where it has none of its own."""
    corrected_ids: frozenset[int] = frozenset()
    """The turns whose answers a person has corrected."""
    loose: tuple[LooseQuestion, ...] = ()
    live: tuple[OpenTurn, ...] = ()
    """What is in the making, in the order in which it was asked."""

    @property
    def is_empty(self) -> bool:
        """True where there is nothing to show."""
        return not self.turns and not self.loose

    def is_live(self, turn: Turn) -> bool:
        """Return whether a turn's answer is in the making."""
        return any(each.key == str(turn.id) for each in self.live)


def read_conversation(visit: Visit) -> OpenConversation:
    """Return what there is of the open conversation. Raises HistoryError where it cannot be read."""
    assistant, owner, state = visit.assistant, visit.owner, visit.state
    loose = tuple(each for each in state.loose if each.conversation_id == state.conversation_id)
    loose_live = tuple(OpenTurn(f"loose-{at}", each.job) for at, each in enumerate(loose) if each.job.answer is None)
    if state.conversation_id is None:
        return OpenConversation(loose=loose, live=loose_live)
    head = assistant.conversation(owner, state.conversation_id)
    # The jobs come first: one that ends between the two lines is then found finished in the history.
    jobs = {job.turn_id: job for job in assistant.running(owner, state.conversation_id)}
    # One more than is shown tells whether there are earlier ones.
    found = assistant.turns(owner, state.conversation_id, limit=state.turns_shown + 1)
    turns = found[-state.turns_shown :]
    open_ones = [turn for turn in turns if turn.id in jobs and turn.state in (TurnState.QUEUED, TurnState.RUNNING)]
    live = tuple(
        # The first one's question stays where it will stand, so that nothing moves when its answer is finished.
        OpenTurn(str(turn.id), jobs[turn.id], question_html(turn, visit.words, may_edit=False) if at else "")
        for at, turn in enumerate(open_ones)
    )
    touched = assistant.records.corrected_turns(owner, state.conversation_id)
    has_earlier = len(found) > len(turns)
    pictures = _pictures_before(visit, turns[0]) if has_earlier and not turns[0].pictures else ()
    return OpenConversation(head, turns, has_earlier, pictures, touched, loose, live + loose_live)


def _pictures_before(visit: Visit, turn: Turn) -> tuple[TurnPicture, ...]:
    """Return the latest pictures of the turns that a turn continues: a question without one is about those."""
    known = visit.state.pictures_before
    if known is not None and known[0] == turn.id:
        return known[1]
    pictures: tuple[TurnPicture, ...] = ()
    earliest = turn
    while not pictures:
        page = visit.assistant.turns(visit.owner, turn.conversation_id, limit=TURNS_AT_ONCE, before=earliest.id)
        if not page:
            break
        pictures = next((each.pictures for each in reversed(page) if each.pictures), ())
        earliest = page[0]
    visit.state.pictures_before = (turn.id, pictures)
    return pictures


def show_conversation(visit: Visit, shown: OpenConversation) -> None:
    """Show what is finished of a conversation, and the question whose answer comes next."""
    state, words = visit.state, visit.words
    state.last_question = shown.turns[-1].question if shown.turns else ""
    _show_large_view(visit, shown.turns)
    pictures = shown.pictures
    finished = [turn.id for turn in shown.turns if not shown.is_live(turn)]
    newest = frozenset(finished[-FULL_TURNS:])
    quiet = _Quiet()
    if shown.head is not None:
        quiet.add("head", head_html(shown.head, words, is_private=is_private(shown.head.id)))
    if shown.has_earlier:
        quiet.add("earlier", earlier_html(words))
    with st.container(key="turns", gap="xsmall"):
        for turn in shown.turns:
            pictures = turn.pictures or pictures
            if shown.is_live(turn):
                if shown.live[0].key == str(turn.id):
                    quiet.add(f"{turn.id}-question", question_html(turn, words, may_edit=False))
            elif turn.id not in newest and _may_be_quiet(visit, turn):
                html = _quiet_html(visit, turn, pictures, is_corrected=turn.id in shown.corrected_ids)
                quiet.add(str(turn.id), html, is_whole=True)
            else:
                desk = Desk(
                    visit,
                    turn.question,
                    turn.id,
                    is_latest=turn is shown.turns[-1],
                    is_untouched=turn.id not in shown.corrected_ids,
                )
                _show_turn(visit, turn, pictures, quiet, desk)
        quiet.show()
    last = tuple(kept_picture(visit.assistant, visit.owner, picture) for picture in pictures)
    for at, question in enumerate(shown.loose):
        last = tuple(staged_picture(picture) for picture in question.pictures) or last
        _show_loose_question(question, words)
        if question.job.answer is not None:
            _show_loose_answer(visit, question, pictures=last, key=f"loose-{at}")


def _may_be_quiet(visit: Visit, turn: Turn) -> bool:
    """Return whether a turn is finished and nobody works with it."""
    return turn.answer is not None and not visit.state.is_at_turn(turn.id)


def _quiet_html(visit: Visit, turn: Turn, pictures: Sequence[TurnPicture], *, is_corrected: bool) -> str:
    """Return a turn as HTML; the same one is written once, where nothing but the turn itself decides how it looks."""
    words, may_erase = visit.words, visit.assistant.records.can_erase

    def write() -> str:
        return _written(visit, turn, pictures, is_corrected=is_corrected)

    if is_corrected or is_private(turn.conversation_id):
        return write()
    today = words.time(datetime.now(UTC))[:10]
    return html_of((turn.id, words, may_erase), (turn, tuple(pictures), today), write)


def _written(visit: Visit, turn: Turn, pictures: Sequence[TurnPicture], *, is_corrected: bool) -> str:
    assert turn.answer is not None  # noqa: S101 - only such turns are quiet
    words = visit.words
    sizes = [picture.size for picture in pictures]
    standing = (
        standing_of(Desk(visit, turn_id=turn.id), turn.answer, sizes)
        if is_corrected
        else Standing(tables_in(turn.answer.parsed))
    )
    seen = [(picture.size, picture.seen) for picture in pictures]
    answer = quiet_answer_html(turn, with_checks(turn.answer, turn.question, seen), pictures, standing, words)
    return (
        f"{question_html(turn, words)}{answer}{actions_html(turn, words, may_erase=visit.assistant.records.can_erase)}"
    )


class _Quiet:
    """HTML that has gathered, to be shown as one element when something else comes."""

    def __init__(self) -> None:
        self._pieces: list[TurnPiece] = []
        self._shown = 0

    def add(self, key: str, html: str, *, is_whole: bool = False) -> None:
        """Take a piece in."""
        self._pieces.append(TurnPiece(key, html, is_whole))

    def show(self) -> None:
        """Show what has gathered."""
        show_turns(self._pieces, key=f"turns-{self._shown}")
        self._shown += bool(self._pieces)
        self._pieces.clear()


def _show_turn(visit: Visit, turn: Turn, pictures: Sequence[TurnPicture], quiet: _Quiet, desk: Desk) -> None:
    """Show a turn as elements that one works with. `pictures` are those that its answer speaks about."""
    words = visit.words
    if turn.id != visit.state.editing:
        quiet.add(f"{turn.id}-question", question_html(turn, words))
    quiet.show()
    if turn.id == visit.state.editing:
        _show_editor(visit, turn)
    is_interrupted = turn.state in (TurnState.INTERRUPTED, TurnState.QUEUED, TurnState.RUNNING)  # nobody is at it
    below = ""
    if turn.answer is not None and (turn.answer.text or not is_interrupted):
        shown = tuple(kept_picture(visit.assistant, visit.owner, picture) for picture in pictures)
        with _fold(turn, turn.answer, words):
            show_answer(turn.answer, shown, words, key=str(turn.id), desk=desk)
        below = below_answer(turn.answer, turn.question, shown, words)
    if is_interrupted:
        below += f'<p class="qvl-small qvl-note">{escape(words("turn.interrupted"))}</p>'
    acts = actions_html(turn, words, may_erase=visit.assistant.records.can_erase)
    quiet.add(f"{turn.id}-acts", below + acts)


@contextmanager
def _fold(turn: Turn, answer: Answer, words: Words) -> Iterator[None]:
    """Show what is drawn meanwhile, behind a fold where it is long."""
    parsed = answer.parsed
    # Places and tables are not as long as the JSON that told them, and one works with them.
    is_prose = not (parsed.has_data or parsed.regions or parsed.tables)
    if not (is_prose and is_long(answer.text, times=ANSWER_FOLD)):
        with st.container(key=f"answer-{turn.id}"):
            yield
        return
    with st.container(key=f"fold-{turn.id}", gap="xsmall"):
        with st.container(key=f"folded-{turn.id}"):
            yield
        st.html(unfolder_html(words))


def _show_editor(visit: Visit, turn: Turn) -> None:
    """Let a question be asked in other words, in its place, beside its pictures."""
    state, words = visit.state, visit.words
    key = f"edited-{turn.id}"

    def ask() -> None:
        ask_edited(visit, turn_id=turn.id, text=str(value_of(key) or ""))

    def leave() -> None:
        state.editing = None

    with st.form(f"edit-{turn.id}", enter_to_submit=True):
        if turn.pictures:
            st.html(thumbnails_html(turn, words))
        st.text_area(words("turn.edit"), value=turn.question, key=key, height="content", label_visibility="collapsed")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.form_submit_button(words("turn.ask_edited"), type="primary", on_click=ask, key=f"ask-edited-{turn.id}")
            st.form_submit_button(words("turn.leave_edit"), on_click=leave, key=f"leave-edit-{turn.id}")
            st.caption(words("turn.edit_what"))


def _show_large_view(visit: Visit, turns: Sequence[Turn]) -> None:
    """Show the picture that was clicked on, until it is closed."""
    state = visit.state

    def close() -> None:
        state.large = None

    for turn in turns:
        for picture in turn.pictures:
            if state.large == (turn.id, picture.id):
                open_large(kept_picture(visit.assistant, visit.owner, picture), visit.words, on_close=close)
                return
    close()  # its turn has gone


def _show_loose_question(question: LooseQuestion, words: Words) -> None:
    show_pictures(tuple(staged_picture(picture) for picture in question.pictures), words, open_large=open_large)
    with st.container(key=f"loose-question-{id(question)}"):
        st.text(question.text)


def _show_loose_answer(visit: Visit, question: LooseQuestion, *, pictures: Sequence[ShownPicture], key: str) -> None:
    words, answer = visit.words, question.job.answer
    assert answer is not None  # noqa: S101 - the caller looked
    show_answer(answer, pictures, words, key=key, desk=Desk(visit, question.text))
    show_below_answer(answer, question.text, pictures, words, key=key)
    if answer.error is not None:
        st.button(
            words("turn.ask_again"),
            key=f"again-{key}",
            icon=":material/refresh:",
            on_click=ask_loose_again,
            args=(visit,),
            kwargs={"question": question},
        )
