"""One conversation: its turns from the history, what is in the making, and what could not be kept.

Knows how a turn is laid out. Does not know how pictures and answers look in detail.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.chat import Conversation, Turn, TurnState
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.ui.answer_view import show_answer
from qwen_vl_app.ui.desk import Desk
from qwen_vl_app.ui.live_answer import show_live_answer
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.pictures import ShownPicture, kept_picture, show_pictures, staged_picture
from qwen_vl_app.ui.sending import ask_again, ask_loose_again, show_version
from qwen_vl_app.ui.state import TURNS_AT_ONCE, LooseQuestion, PageState
from qwen_vl_app.ui.takeaway import as_json, as_markdown
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

_PERSON = ":material/person:"
_MODEL = ":material/visibility:"


def show_conversation(visit: Visit) -> bool:
    """Show the open conversation; return whether there is anything in it. Raises HistoryError where it cannot be read."""
    assistant, owner, state, words = visit.assistant, visit.owner, visit.state, visit.words
    shown: tuple[ShownPicture, ...] = ()
    turns: tuple[Turn, ...] = ()
    if state.conversation_id is not None:
        _show_head(visit, assistant.conversation(owner, state.conversation_id))
        # The jobs come first: one that ends between the two lines is then found finished in the history.
        jobs = {job.turn_id: job for job in assistant.running(owner, state.conversation_id)}
        # One more than is shown tells whether there are earlier ones.
        turns = assistant.turns(owner, state.conversation_id, limit=state.turns_shown + 1)
        if len(turns) > state.turns_shown:
            st.button(words("turn.earlier"), key="earlier", on_click=_show_earlier, args=(state,), type="tertiary")
            turns = turns[1:]
        state.last_question = turns[-1].question if turns else ""
        for turn in turns:
            own = tuple(kept_picture(assistant, owner, picture) for picture in turn.pictures)
            shown = own or shown
            _show_question(turn.question, own, words, asked=words.time(turn.asked_at))
            with st.chat_message(words("turn.model"), avatar=_MODEL):
                is_latest = turn is turns[-1]
                _show_kept_answer(visit, turn, pictures=shown, job=jobs.get(turn.id), is_latest=is_latest)
    loose = [each for each in state.loose if each.conversation_id == state.conversation_id]
    for at, question in enumerate(loose):
        own = tuple(staged_picture(picture) for picture in question.pictures)
        shown = own or shown
        _show_question(question.text, own, words)
        with st.chat_message(words("turn.model"), avatar=_MODEL):
            _show_loose_answer(visit, question, pictures=shown, key=f"loose-{at}")
    return bool(turns or loose)


def _show_head(visit: Visit, conversation: Conversation) -> None:
    assistant, words = visit.assistant, visit.words

    def markdown() -> str:
        return as_markdown(conversation, assistant.turns(visit.owner, conversation.id), words)

    def data() -> str:
        return as_json(conversation, assistant.turns(visit.owner, conversation.id))

    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="head", wrap=False):
        st.header(plain(conversation.title), anchor=False, width="stretch")
        with st.popover(words("turn.take_away"), icon=":material/download:", type="tertiary"):
            st.caption(words("turn.take_away_what"))
            for label, make, ending, mime in (
                ("Markdown", markdown, "md", "text/markdown"),
                ("JSON", data, "json", "application/json"),
            ):
                st.download_button(
                    label,
                    make,
                    file_name=f"conversation-{conversation.id}.{ending}",
                    mime=mime,
                    key=f"take-{ending}",
                    on_click="ignore",
                    width="stretch",
                )


def _show_question(text: str, pictures: Sequence[ShownPicture], words: Words, *, asked: str = "") -> None:
    with st.chat_message(words("turn.person"), avatar=_PERSON):
        show_pictures(pictures, words)
        with st.container(gap="xxsmall"):
            st.text(text)
            if asked:
                st.caption(asked)


def _show_kept_answer(
    visit: Visit, turn: Turn, *, pictures: Sequence[ShownPicture], job: AnswerJob | None, is_latest: bool = False
) -> None:
    words = visit.words
    is_open = turn.state in (TurnState.QUEUED, TurnState.RUNNING)
    if is_open and job is not None:
        show_live_answer(visit, job, key=str(turn.id))
        return
    if turn.answer is not None:
        desk = Desk(visit, turn.question, turn.id, is_latest=is_latest)
        show_answer(turn.answer, pictures, words, key=str(turn.id), desk=desk)
    if turn.state is TurnState.INTERRUPTED or (is_open and job is None):
        st.caption(f":material/info: {words('turn.interrupted')}")
    with st.container(horizontal=True, vertical_alignment="center", gap="xxsmall", key=f"actions-{turn.id}"):
        if turn.answer is not None and turn.answer.text:
            st.button(words("turn.copy"), key=f"copy-{turn.id}", icon=":material/content_copy:", type="tertiary")
        st.button(
            words("turn.ask_again"),
            key=f"again-{turn.id}",
            icon=":material/refresh:",
            type="tertiary" if turn.state is TurnState.DONE else "secondary",
            on_click=ask_again,
            args=(visit,),
            kwargs={"turn": turn},
        )
        _show_versions(visit, turn)


def _show_versions(visit: Visit, turn: Turn) -> None:
    """Where a question was asked more than once: which of its answers this is, and the way to the others."""
    words, count = visit.words, len(turn.branch_ids)
    if count < 2:
        return
    at = turn.branch_ids.index(turn.id)
    for step, name, icon in ((-1, "before", ":material/chevron_left:"), (1, "after", ":material/chevron_right:")):
        other = at + step
        st.button(
            words(f"turn.version_{name}"),
            key=f"version-{name}-{turn.id}",
            icon=icon,
            type="tertiary",
            disabled=not 0 <= other < count,
            on_click=show_version,
            args=(visit,),
            kwargs={"turn_id": turn.branch_ids[other % count]},
        )
    st.caption(words("turn.version", number=at + 1, count=count))


def _show_loose_answer(visit: Visit, question: LooseQuestion, *, pictures: Sequence[ShownPicture], key: str) -> None:
    words = visit.words
    answer = question.job.answer
    if answer is None:
        show_live_answer(visit, question.job, key=key)
        return
    show_answer(answer, pictures, words, key=key, desk=Desk(visit, question.text))
    if answer.error is not None:
        st.button(
            words("turn.ask_again"),
            key=f"again-{key}",
            icon=":material/refresh:",
            on_click=ask_loose_again,
            args=(visit,),
            kwargs={"question": question},
        )


def _show_earlier(state: PageState) -> None:
    state.turns_shown += TURNS_AT_ONCE


def show_unreadable(error: HistoryError, words: Words) -> None:
    """Say why the open conversation cannot be shown."""
    st.warning(words.render(error), icon=":material/info:")
