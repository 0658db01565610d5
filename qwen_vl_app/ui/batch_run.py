"""One run from near: how far it is, what can be done with it, its rows, a row's picture, what changed since an earlier run.

Knows how rows become a table on the page. Does not know how a run works or where it is kept.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from qwen_vl_app.batch import (
    BatchPlan,
    BatchProgress,
    BatchRow,
    BatchRuns,
    ExportKind,
    RowOutcome,
    RunState,
)
from qwen_vl_app.batch.columns import ROUND_TITLES, notes_text, outcome_text, round_cells, text
from qwen_vl_app.errors import AppError, BatchError
from qwen_vl_app.ui.answer_view import show_answer, show_below_answer
from qwen_vl_app.ui.large_view import open_large
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.pictures import show_picture, staged_picture
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

POLL_S = 1.0
ROWS_WHILE_RUNNING = 25
ROWS_AT_ONCE = 100
EXPORTS = "/app/runs"


def show_run(visit: Visit, runs: BatchRuns, run_id: str) -> None:
    """Show a run. Raises BatchError where it is not this browser's, or cannot be read."""
    words, state = visit.words, visit.state
    plan = owned_plan(visit, runs, run_id)
    st.button(
        words("batch.back"),
        key="batch-back",
        icon=":material/arrow_back:",
        type="tertiary",
        on_click=state.open_run,
        args=("",),
    )
    name = words("batch.dropped_name") if runs.dropped.holds(plan.folder) else plain(plan.folder.name)
    st.title(name, anchor=False)
    st.caption("  \n".join(plain(question) for question in plan.questions))
    if runs.progress(run_id).state.is_live:
        _follow(visit, runs, run_id)
        return
    _show_resting(visit, runs, run_id)
    _show_rows(visit, runs, run_id)
    _show_round(visit, runs, run_id, plan=plan)


def owned_plan(visit: Visit, runs: BatchRuns, run_id: str) -> BatchPlan:
    """Return a run's plan. Raises BatchError `batch.unknown` where it is another browser's, as where there is none."""
    plan = runs.plan(run_id)
    if plan.owner != visit.owner:
        raise BatchError("batch.unknown", run=run_id)
    return plan


def state_line(progress: BatchProgress, words: Words) -> str:
    """Return where a run stands, in one line."""
    parts = [
        words.say(f"batch.state.{progress.state.value}"),
        words("batch.done_of", done=progress.done, total=progress.total),
    ]
    for name in ("failed", "duplicates", "skipped"):
        if count := getattr(progress, name):
            parts.append(words(f"batch.count_{name}", count=count))
    return " · ".join(parts)


def _follow(visit: Visit, runs: BatchRuns, run_id: str) -> None:
    words = visit.words

    @st.fragment(run_every=POLL_S)
    def following() -> None:
        try:
            progress = runs.progress(run_id)
        except BatchError as error:
            if error.code != "batch.unknown":
                raise
            visit.state.draw_anew()  # deleted meanwhile in another tab: the whole page says so
            return
        if not progress.state.is_live:
            visit.state.draw_anew()
        st.progress(progress.done / max(progress.total, 1), text=state_line(progress, words))
        with st.container(horizontal=True, vertical_alignment="center"):
            if progress.state is RunState.PAUSED:
                _button(visit, "go_on", ":material/play_arrow:", lambda: runs.go_on(run_id))
            else:
                _button(visit, "pause", ":material/pause:", lambda: runs.pause(run_id))
            _button(visit, "stop", ":material/stop_circle:", lambda: runs.stop(run_id))
            st.caption(_pace(progress, words), help=None if progress.why is None else words.render(progress.why))
        for problem in visit.state.problems:
            st.warning(words.render(problem.reason), icon=":material/info:")
        rows = runs.latest_rows(run_id, ROWS_WHILE_RUNNING)
        if rows:
            _show_table(runs, run_id, rows, words, key="live")

    following()


def _pace(progress: BatchProgress, words: Words) -> str:
    parts = []
    if progress.current:
        parts.append(plain(text(progress.current)))
    if progress.files_per_minute is not None:
        parts.append(words("batch.rate", rate=progress.files_per_minute))
    if progress.left_s is not None:
        parts.append(words("batch.left", left=progress.left_s))
    if progress.at_a_time > 1:
        parts.append(words("batch.at_a_time", count=progress.at_a_time))
    return " · ".join(parts)


def _show_resting(visit: Visit, runs: BatchRuns, run_id: str) -> None:
    words, progress = visit.words, runs.progress(run_id)
    st.markdown(state_line(progress, words))
    if progress.error is not None:
        st.warning(words.render(progress.error), icon=":material/info:")
    for problem in visit.state.problems:
        st.warning(words.render(problem.reason), icon=":material/info:")
    with st.container(horizontal=True, vertical_alignment="center"):
        if progress.state.is_resumable:
            _button(visit, "resume", ":material/play_arrow:", lambda: runs.resume(run_id), kind="primary")
        if progress.failed:
            _button(visit, "retry", ":material/refresh:", lambda: runs.resume(run_id, retry_failed=True))
        _show_exports(visit, run_id)
        with st.popover(words("batch.delete"), icon=":material/delete:", type="tertiary"):
            st.markdown(words("batch.delete_sure"))
            st.button(
                words("batch.delete_yes"),
                key="batch-delete",
                type="primary",
                on_click=_delete,
                args=(visit, runs, run_id),
            )


def _button(visit: Visit, name: str, icon: str, act: Callable[[], object], *, kind: Any = "secondary") -> None:
    def pressed() -> None:
        visit.state.attempt(act)

    st.button(visit.words(f"batch.{name}"), key=f"batch-{name}", icon=icon, type=kind, on_click=pressed)


def _delete(visit: Visit, runs: BatchRuns, run_id: str) -> None:
    if visit.state.run_id == run_id and visit.state.attempt(lambda: runs.delete(run_id)):
        visit.state.open_run("")


def _show_exports(visit: Visit, run_id: str) -> None:
    words = visit.words
    with st.popover(words("batch.take_away"), icon=":material/download:"):
        for kind in ExportKind:
            address = f"{EXPORTS}/{run_id}/{kind.value}?lang={words.language.value}"
            st.link_button(words(f"batch.export_{kind.value}"), address, width="stretch")


def _show_rows(visit: Visit, runs: BatchRuns, run_id: str) -> None:
    words = visit.words
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        st.header(words("batch.results"), anchor=False, width="content")
        is_worst_first = st.toggle(words("batch.worst_first"), key="batch-worst", help=words("batch.worst_first_what"))
    rows = runs.current_rows(run_id, worst_first=is_worst_first)
    if not rows:
        if runs.progress(run_id).has_found_nothing:
            st.caption(words.say("batch.folder.nothing_found"))
        else:
            st.caption(words("batch.no_rows"))
        return
    pages = -(-len(rows) // ROWS_AT_ONCE)
    page = 1
    if pages > 1:
        page = int(st.number_input(words("batch.page", count=pages), 1, pages, key="batch-page", width=180))
    shown = rows[(page - 1) * ROWS_AT_ONCE : page * ROWS_AT_ONCE]
    chosen = _show_table(runs, run_id, shown, words, key=f"rows-{is_worst_first}-{page}", is_choosing=True)
    if chosen is None:
        st.caption(words("batch.choose"))
    else:
        _show_row(runs, run_id, chosen, words)


def _show_table(
    runs: BatchRuns, run_id: str, rows: Sequence[BatchRow], words: Words, *, key: str, is_choosing: bool = False
) -> BatchRow | None:
    """Show rows as a table; return the one that was chosen."""
    titles = {
        name: words.say(f"batch.column.{name}") for name in ("picture", "file", "question", "answer", "confidence")
    }
    has_questions = len({row.question for row in rows if row.question}) > 1
    table: dict[str, list[object]] = {
        titles["picture"]: [_thumbnail_address(runs.thumbnail(run_id, row)) for row in rows],
        titles["file"]: [_file(row, words) for row in rows],
    }
    if has_questions:
        table[titles["question"]] = [text(row.question) for row in rows]
    table[titles["answer"]] = [_said(row, words) for row in rows]
    table[titles["confidence"]] = [None if row.confidence is None else 100 * row.confidence for row in rows]
    picked = st.dataframe(
        table,
        column_config={
            titles["picture"]: st.column_config.ImageColumn(width="small"),
            titles["file"]: st.column_config.TextColumn(width="medium"),
            titles["answer"]: st.column_config.TextColumn(width="large"),
            titles["confidence"]: st.column_config.NumberColumn(
                format="%.0f %%", width="small", help=words("batch.confidence_what")
            ),
        },
        hide_index=True,
        row_height=56,
        key=f"batch-{key}",
        on_select="rerun" if is_choosing else "ignore",
        selection_mode="single-row",
        alt=words("batch.table_alt"),
    )
    selected = picked.selection.rows if isinstance(picked, Mapping) else []
    return rows[selected[0]] if selected and selected[0] < len(rows) else None


def _thumbnail_address(picture: bytes | None) -> str | None:
    return None if picture is None else f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def _file(row: BatchRow, words: Words) -> str:
    name = text(row.name)
    return f"{name} ({words('picture.page', page=row.page + 1, count=row.page_count)})" if row.page_count > 1 else name


def _said(row: BatchRow, words: Words) -> str:
    if row.answer is not None and row.outcome is RowOutcome.ANSWERED:
        return text(row.answer.text)
    return f"{outcome_text(row, words.language)}: {notes_text(row, words.language)}"


def _show_row(runs: BatchRuns, run_id: str, row: BatchRow, words: Words) -> None:
    with st.container(border=True, key="batch-row"):
        st.subheader(plain(_file(row, words)), anchor=False)
        pictures = []
        try:
            pictures = [staged_picture(runs.picture(run_id, row))]
        except AppError as error:
            st.caption(words.render(error))
        if row.answer is None:
            for picture in pictures:
                show_picture(picture, words, open_large=open_large)
            st.markdown(plain(_said(row, words)))
            return
        if not row.answer.parsed.regions:
            for picture in pictures:
                show_picture(picture, words, open_large=open_large)
        st.caption(plain(row.question))
        key = f"batch-{row.content_hash[:12]}-{row.page}-{row.question_index}"
        show_answer(row.answer, pictures, words, key=key)
        show_below_answer(row.answer, "", pictures, words, key=key)


def _show_round(visit: Visit, runs: BatchRuns, run_id: str, *, plan: BatchPlan) -> None:
    words = visit.words
    others = {
        summary.run_id: f"{words.time(summary.started_at)} · {text(summary.plan.folder.name)}"
        for summary in runs.list(owner=visit.owner)
        if summary.run_id < run_id and summary.plan.questions == plan.questions
    }
    if not others:
        return
    with st.expander(words("batch.compare")):
        st.caption(words("batch.compare_what"))
        earlier = st.selectbox(
            words("batch.compare_with"), list(others), format_func=others.__getitem__, index=None, key="batch-earlier"
        )
        tag = st.text_input(words("batch.tag"), key="batch-tag", help=words("batch.tag_what"))
        if earlier is None:
            return
        rows = runs.compare(run_id, earlier, tag=tag.strip())
        cells = list(round_cells(rows, words.language))
        columns = {
            words.say(f"batch.round.{title}"): [
                cell[at] if isinstance(cell[at], float) else str(cell[at] or "") for cell in cells
            ]
            if title not in ("delta", "percent")
            else [cell[at] for cell in cells]
            for at, title in enumerate(ROUND_TITLES)
        }
        st.dataframe(columns, hide_index=True, alt=words("batch.compare"))
        query = urlencode({"lang": words.language.value, "tag": tag.strip()})
        with st.container(horizontal=True, key="batch-round"):
            for kind in (ExportKind.CSV, ExportKind.PDF):
                st.link_button(kind.value.upper(), f"{EXPORTS}/{run_id}/since/{earlier}/{kind.value}?{query}")
