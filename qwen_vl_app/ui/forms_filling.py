"""Filling forms from the page: a template, pictures, and a run that goes on without the tab.

Knows what a run needs to be told. Does not know how a form is filled, or how one is reviewed.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from qwen_vl_app.batch import BatchPlan, BatchRuns, RowOutcome
from qwen_vl_app.batch.columns import notes_text
from qwen_vl_app.errors import AppError, BatchError
from qwen_vl_app.forms import FillPlan, FormDesk, FormTemplate, LookAt
from qwen_vl_app.ui.batch_run import state_line
from qwen_vl_app.ui.dropped import FILLED, show_dropped, whole_drop
from qwen_vl_app.ui.holdings import Problem
from qwen_vl_app.ui.labels import key_of, labels_of
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.visit import Visit

POLL_S = 1.0
FAILED_SHOWN = 20


def show_filling(visit: Visit, desk: FormDesk, batches: Callable[[], BatchRuns]) -> None:
    """Show what a new run needs, or how far the one under way is."""
    words, forms = visit.words, visit.state.forms
    if forms.run_id:
        _show_run(visit, batches())
        return
    st.markdown(words("forms.what"))
    templates = {template.name: template for template in desk.templates.list()}
    with st.container(border=True, key="forms-new"):
        labels = labels_of((name, titled(template, visit)) for name, template in templates.items())
        key = key_of("forms-fill-template", labels.values())
        chosen = st.selectbox(
            words("forms.template"),
            list(labels),
            index=list(labels).index(forms.template) if forms.template in labels else 0,
            format_func=labels.__getitem__,
            key=key,
        )
        template = templates[chosen]
        about = template.about.of(words.language)
        asked = ", ".join(field.names.of(words.language) or field.key for field in template.fields)
        st.caption(plain(f"{about} {asked}".strip()))
        show_dropped(words, token=visit.state.drop_token, place=FILLED)
        looks = {LookAt.DEFAULT: "forms.look_default", LookAt.ALL: "forms.look_all", LookAt.NONE: "forms.look_none"}
        st.selectbox(
            words("forms.look"),
            list(looks),
            format_func=lambda look: words(looks[look]),
            key="forms-fill-look",
            help=words("forms.look_what"),
        )
        # A callback, because the page may run again at any moment, and would forget the click.
        st.button(
            words("forms.fill"),
            key="forms-fill",
            type="primary",
            icon=":material/play_arrow:",
            on_click=_start,
            args=(visit, desk, batches(), key),
        )


def titled(template: FormTemplate, visit: Visit) -> str:
    """Return a template's title, with its version where the site made it."""
    title = template.titled(visit.words.language)
    return visit.words("forms.title_version", title=title, version=template.version) if template.version else title


def _start(visit: Visit, desk: FormDesk, runs: BatchRuns, key: str) -> None:
    if visit.state.forms.run_id:
        return  # the second click of two, on a page that does not show the run yet
    begun: list[str] = []
    if visit.state.attempt(lambda: begun.append(runs.start(_plan(visit, desk, runs, key)))):
        visit.state.forms.run_id = begun[0]
        visit.state.drop_token = begun[0]


def _plan(visit: Visit, desk: FormDesk, runs: BatchRuns, key: str) -> BatchPlan:
    drop_id = whole_drop(FILLED).drop_id
    desk.acceptance.refuse_worse()
    template = desk.templates.get(str(value_of(key)))
    visit.state.forms.template = template.name
    look = value_of("forms-fill-look")
    return BatchPlan(
        folder=runs.dropped.folder(visit.owner, drop_id),
        questions=(),
        is_recursive=True,
        owner=visit.owner,
        form=FillPlan(template, visit.words.language.value, look if isinstance(look, LookAt) else LookAt.DEFAULT),
    )


def _show_run(visit: Visit, runs: BatchRuns) -> None:
    words, forms = visit.words, visit.state.forms

    def leave(section: str) -> None:
        forms.run_id, forms.form_id, forms.field_key = "", "", ""
        forms.turn(section)

    def stop() -> None:
        visit.state.attempt(lambda: runs.stop(forms.run_id))

    @st.fragment(run_every=POLL_S)
    def following() -> None:
        try:
            progress = runs.progress(forms.run_id)
        except BatchError as error:
            if error.code != "batch.unknown":
                raise
            if forms.run_id:  # deleted meanwhile in another tab: the whole page says so
                visit.state.problems = [Problem(error.reason)]
                leave("")
            visit.state.draw_anew()
            return
        with st.container(border=True, key="forms-run"):
            st.progress(progress.done / max(progress.total, 1), text=state_line(progress, words))
            if progress.current:
                st.caption(plain(progress.current))
            if progress.error is not None:
                st.warning(words.render(progress.error), icon=":material/info:")
            if progress.failed:
                _show_failed(visit, runs)
            with st.container(horizontal=True):
                if progress.state.is_live:
                    st.button(words("batch.stop"), key="forms-stop", icon=":material/stop_circle:", on_click=stop)
                elif st.button(words("forms.more"), key="forms-more", icon=":material/add:"):
                    leave("fill")
                    st.rerun()
                label = words("forms.review_now")
                if progress.answered and st.button(label, key="forms-to-review", type="primary"):
                    leave("review")
                    st.rerun()

    try:
        following()
    except AppError as error:  # deleted in another tab
        st.warning(words.render(error), icon=":material/info:")
        leave("")


def _show_failed(visit: Visit, runs: BatchRuns) -> None:
    """Say which pictures gave no form, and why."""
    words = visit.words
    failed = [row for row in runs.current_rows(visit.state.forms.run_id) if row.outcome is RowOutcome.FAILED]
    told = [f"- {plain(row.name)}: {plain(notes_text(row, words.language))}" for row in failed[:FAILED_SHOWN]]
    if len(failed) > FAILED_SHOWN:
        told.append(f"- {words('builder.failed_more', count=len(failed) - FAILED_SHOWN)}")
    st.warning("\n".join((words("builder.failed"), "", *told)), icon=":material/info:")
