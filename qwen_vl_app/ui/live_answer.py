"""An answer in the making: its place in the queue, how far the reading is, the text as it comes, and Stop.

Polls the job from a fragment, so that nothing that a person clicks, reloads or closes touches the answer itself. Does not
know how answers are made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from qwen_vl_app.answer_job import AnswerJob, JobProgress, JobState
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import EngineState
from qwen_vl_app.ui.markdown import shown_answer
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

POLL_S = 0.25
_JUST_OPENED = re.compile(r"(?:^|\n)[ \t]*(?:`{1,2}|```[\w-]*\s*)\Z")
"""A code block of which nothing has come yet: shown, it would be an empty box."""


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A question whose answer is in the making."""

    key: str
    job: AnswerJob
    question: str = ""
    """Its HTML; nothing where the question stands above already."""


def show_live_answers(visit: Visit, live: Sequence[OpenTurn], *, drawing: int) -> None:
    """Show what is in the making until it is over; then the whole page runs again and shows the finished answer.

    Whoever writes in a dialog meanwhile is not disturbed: that comes when the dialog is closed.

    Call it in every run, at one place of the page, also with nothing to show: a timer of the browser may come late, and
    then finds this fragment instead of none. `drawing` is the run's number, as it began to read (`Followed.begin`): one that
    was overtaken may still put its fragment into the place of the newer one's.
    """
    followed = visit.state.followed
    followed.take(drawing, live)

    @st.fragment(run_every=POLL_S if followed.turns else None)
    def pulse() -> None:
        live = followed.turns
        progress = [each.job.progress() for each in live]
        if any(each.state.is_over for each in progress):
            visit.state.draw_anew()
        if not live:
            st.empty()  # in the place of what was there, at once
            return
        with st.container(gap="small"):
            for each, at in zip(live, progress, strict=True):
                _show_one(visit, each, at)

    pulse()


def _show_one(visit: Visit, shown: OpenTurn, progress: JobProgress) -> None:
    words, job = visit.words, shown.job
    if shown.question:
        st.html(shown.question)
    said = _JUST_OPENED.sub("", progress.text)
    if said.strip():
        st.markdown(shown_answer(said), anchors=False)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            words("live.stop"),
            key=f"stop-{shown.key}",
            icon=":material/stop_circle:",
            on_click=job.cancel,
            disabled=job.is_cancelled,
        )
        st.caption(words("live.stopping") if job.is_cancelled else _stage(visit.assistant, progress, words))
    if progress.state is JobState.READING:
        st.progress(progress.read_fraction)


def _stage(assistant: Assistant, progress: JobProgress, words: Words) -> str:
    seconds = progress.elapsed_s
    if progress.state is JobState.QUEUED:
        engine = assistant.status.engine
        if engine.state in (EngineState.EMPTY, EngineState.LOADING):
            return words("live.loading", seconds=seconds)
        if not progress.position:
            return words("live.next", seconds=seconds)
        return words("live.queued", before=progress.position, seconds=seconds)
    if progress.state is JobState.READING:
        return words("live.reading", percent=round(progress.read_fraction * 100), seconds=seconds)
    if progress.tokens_per_s is not None:
        return words("live.answering_speed", seconds=seconds, speed=round(progress.tokens_per_s, 1))
    return words("live.answering", seconds=seconds)
