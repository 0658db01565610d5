"""Runs over folders: begin one, see those there are, open one.

Knows what a run needs to be told, and which folders a page may name. Does not know how one looks from near.
"""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from qwen_vl_app.batch import BatchPlan, BatchRuns, BatchSummary
from qwen_vl_app.config import Settings
from qwen_vl_app.errors import AppError, UsageError
from qwen_vl_app.tasks import TASKS, Takes, Task, prompt_of
from qwen_vl_app.ui.batch_run import show_run, state_line
from qwen_vl_app.ui.dropped import show_dropped, whole_drop
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.style import reading_column
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

OWN = "own"
"""The choice of asking in one's own words."""
DROP, FOLDER = "drop", "folder"
RUNS_SHOWN = 20
_TASKS = {task.name: task for task in TASKS if task.picture_count == 1}
_COMMAS = re.compile("[,，、]")


def show_batch_page(visit: Visit, runs: BatchRuns) -> None:
    """Show the page."""
    words, state = visit.words, visit.state
    if state.run_id:
        try:
            show_run(visit, runs, state.run_id)
        except AppError as error:  # deleted in another tab, or somebody else's
            st.warning(words.render(error), icon=":material/info:")
            st.button(words("batch.back"), key="batch-back", on_click=state.open_run, args=("",))
        return
    st.title(words("batch.title"), anchor=False)
    with reading_column("batch"):
        st.markdown(words("batch.what"))
        with st.container(border=True, key="batch-new"):
            _show_new(visit, runs)
        _show_runs(visit, runs)


def may_name_folders(settings: Settings) -> bool:
    """True where whoever sees the page may name folders of this machine."""
    return bool(settings.batch_folders) or not settings.public_origins


def check_folder(settings: Settings, folder: Path) -> None:
    """Raise UsageError for a folder that the page may not go over."""
    if not folder.is_absolute():
        raise UsageError("batch.page.not_absolute")
    if settings.batch_folders and not any(
        folder.resolve().is_relative_to(allowed.resolve()) for allowed in settings.batch_folders
    ):
        raise UsageError("batch.page.not_allowed")


def _show_new(visit: Visit, runs: BatchRuns) -> None:
    words = visit.words
    source = DROP
    if may_name_folders(visit.assistant.settings):
        sources = {DROP: words("batch.source_drop"), FOLDER: words("batch.source_folder")}
        source = st.segmented_control(
            words("batch.source"),
            list(sources),
            default=DROP,
            required=True,
            format_func=sources.__getitem__,
            key="batch-source",
        )
    if source == FOLDER:
        st.text_input(words("batch.folder"), placeholder=words("batch.folder_example"), key="batch-folder")
        with st.container(horizontal=True):
            st.checkbox(words("batch.recursive"), key="batch-recursive")
            st.checkbox(words("batch.watch"), key="batch-watch", help=words("batch.watch_what"))
    else:
        show_dropped(words, token=visit.state.drop_token)
    _show_question(words)
    for problem in visit.state.problems:
        st.warning(words.render(problem.reason), icon=":material/info:")
    # A callback, because the page may run again at any moment while the model loads, and would forget the click.
    st.button(
        words("batch.start"),
        key="batch-start",
        type="primary",
        icon=":material/play_arrow:",
        on_click=_start,
        args=(visit, runs),
    )


def _show_question(words: Words) -> None:
    chosen = st.selectbox(
        words("batch.ask"),
        [*_TASKS, OWN],
        format_func=lambda name: words("batch.own") if name == OWN else words.say(_TASKS[name].title_code),
        key="batch-task",
    )
    if chosen == OWN:
        st.text_area(words("batch.questions"), key="batch-questions", placeholder=words("batch.questions_how"))
        return
    task = _TASKS[chosen]
    st.caption(words.say(task.hint_code))
    if task.takes is Takes.INSTRUCTION:
        st.text_area(words("batch.given_instruction"), key="batch-instruction")
    elif task.takes is not Takes.NOTHING:
        label = words(f"batch.given_{task.takes.value}")
        st.text_input(label, key=f"batch-{task.takes.value}", placeholder=words("batch.given_how"))


def _start(visit: Visit, runs: BatchRuns) -> None:
    if visit.state.run_id:
        return  # the second click of two, on a page that does not show the run yet
    begun: list[str] = []
    if visit.state.attempt(lambda: begun.append(runs.start(_plan(visit, runs)))):
        visit.state.open_run(begun[0])
        visit.state.drop_token = begun[0]


def _plan(visit: Visit, runs: BatchRuns) -> BatchPlan:
    """Return what the page was filled in with. Raises UsageError, ModelNotLoadedError."""
    settings = visit.assistant.settings
    is_folder = value_of("batch-source") == FOLDER
    if is_folder:
        named = _typed("batch-folder").strip('"')
        if not named:
            raise UsageError("batch.page.no_folder")
        place = Path(named)
        check_folder(settings, place)
    else:
        place = runs.dropped.folder(visit.owner, whole_drop().drop_id)
    task = _TASKS.get(str(value_of("batch-task")))
    return BatchPlan(
        folder=place,
        questions=_questions(visit, task),
        task=task.name if task else "",
        # What the site has set stands; where it has set nothing, the task says what it wants.
        detail=task.detail if task is not None and settings.detail == "auto" else None,
        is_recursive=not is_folder or bool(value_of("batch-recursive")),
        is_watching=is_folder and bool(value_of("batch-watch")),
        max_new_tokens=settings.max_new_tokens,
        owner=visit.owner,
    )


def _questions(visit: Visit, task: Task | None) -> tuple[str, ...]:
    if task is None:
        return tuple(line for line in _typed("batch-questions").splitlines() if line.strip())
    given: tuple[str, ...] = ()
    if task.takes is Takes.INSTRUCTION:
        given = tuple(filter(None, [_typed("batch-instruction")]))
    elif task.takes is not Takes.NOTHING:
        given = tuple(each.strip() for each in _COMMAS.split(_typed(f"batch-{task.takes.value}")) if each.strip())
    coordinates = visit.assistant.wait_for_plan().coordinates
    return (prompt_of(task, given, coordinates=coordinates, language=visit.words.language.value),)


def _typed(key: str) -> str:
    return str(value_of(key) or "").strip()


def _show_runs(visit: Visit, runs: BatchRuns) -> None:
    words = visit.words
    summaries = runs.list(owner=visit.owner)[:RUNS_SHOWN]
    if not summaries:
        return
    st.header(words("batch.earlier"), anchor=False)
    with st.container(gap="xsmall", key="batch-runs"):
        for summary in summaries:
            _show_row(visit, runs, summary)


def _show_row(visit: Visit, runs: BatchRuns, summary: BatchSummary) -> None:
    words = visit.words
    with st.container(horizontal=True, vertical_alignment="center", key=f"batch-row-{summary.run_id}"):
        with st.container(gap=None, width="stretch"):
            st.markdown(f"**{name_of(runs, summary.plan, visit)}** · {plain(title_of(summary.plan, visit))}")
            st.caption(f"{words.time(summary.started_at)} · {state_line(summary.progress, words)}")
        st.button(
            words("batch.open"),
            key=f"batch-open-{summary.run_id}",
            on_click=visit.state.open_run,
            args=(summary.run_id,),
        )


def name_of(runs: BatchRuns, plan: BatchPlan, visit: Visit) -> str:
    """Return the name a person knows a run's pictures by."""
    return visit.words("batch.dropped_name") if runs.dropped.holds(plan.folder) else plain(plan.folder.name)


def title_of(plan: BatchPlan, visit: Visit) -> str:
    """Return what a run asks, in a few words."""
    if plan.task in _TASKS:
        return visit.words.say(_TASKS[plan.task].title_code)
    first = plan.questions[0] if plan.questions else ""
    more = len(plan.questions) - 1
    return f"{first} (+{more})" if more > 0 else first
