"""The site's truth set on the page: what is in it, what the loaded model makes of it, and the activation.

Knows the table of what got better or worse. Does not know how a value is judged.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import streamlit as st

from qwen_vl_app.answers import to_csv
from qwen_vl_app.chat import Table
from qwen_vl_app.errors import AppError, Reason
from qwen_vl_app.forms import AcceptanceReport, Change, FieldMark, FormDesk, TruthCase, Verdict, value_of
from qwen_vl_app.forms.acceptance import Acceptance, cells_of, differences_text
from qwen_vl_app.forms.fields import shown_names
from qwen_vl_app.ui.labels import key_of, labels_of
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.style import Colour, reading_column
from qwen_vl_app.ui.visit import Visit

POLL_S = 1.0
_COLOURS: Mapping[Verdict, Colour] = {
    Verdict.ACCEPTED: "green",
    Verdict.UNTRIED: "orange",
    Verdict.WORSE: "red",
    Verdict.NO_TRUTH: "gray",
}


@dataclass(slots=True)
class _Trial:
    """A run of the truth set under way; one for each process, since there is one model."""

    total: int
    done: int = 0
    error: Reason | None = None
    is_over: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)


_trials: dict[int, _Trial] = {}
"""By the identity of the acceptance that they belong to."""


def show_proof(visit: Visit, desk: FormDesk) -> None:
    """Show the truth set, and how the loaded model does on it."""
    words, acceptance = visit.words, desk.acceptance
    with reading_column("proof"):
        st.markdown(words("forms.proof_what"))
    show_verdict(visit, desk, always=True)
    cases = acceptance.cases()
    trial = _trials.get(id(acceptance))
    if trial is not None and not trial.is_over:
        _follow(visit, trial)
        return
    if trial is not None and trial.error is not None:
        st.warning(words.render(trial.error), icon=":material/info:")
    if not cases:
        with reading_column("truth"):
            st.info(words("builder.truth_how"), icon=":material/inbox:")
    else:
        st.markdown(words("forms.truth_count", count=len(cases), fields=sum(len(case.values) for case in cases)))
    st.button(
        words("forms.prove"),
        key="forms-prove",
        type="primary",
        icon=":material/play_arrow:",
        disabled=not cases,
        on_click=_begin,
        args=(acceptance, len(cases)),
    )
    if cases:
        with st.expander(words("forms.cases")):
            _show_cases(visit, acceptance, cases)
    report = acceptance.report()  # as it is kept: what was erased since is not in it
    if report is not None:
        _show_report(visit, acceptance, report, cases)


def _show_cases(visit: Visit, acceptance: Acceptance, cases: Sequence[TruthCase]) -> None:
    words = visit.words
    titles = labels_of(
        (case.case_id, f"{case.picture_name} · {case.template.titled(words.language)} · {case.who}") for case in cases
    )
    with reading_column("cases"), st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            words("forms.case"),
            list(titles),
            format_func=titles.__getitem__,
            key=key_of("forms-case", titles.values()),
            width="stretch",
        )
        with st.popover(words("forms.case_remove"), icon=":material/delete:", key="forms-ask-case-remove"):
            st.markdown(words("builder.case_sure"))
            st.button(
                words("builder.case_yes"),
                key="forms-case-remove",
                type="primary",
                on_click=_remove,
                args=(visit, acceptance, chosen),
            )
    case = next(case for case in cases if case.case_id == chosen)
    names = shown_names(case.template.fields, words.language)
    for each in case.template.fields:
        if each.key in case.values:
            value = value_of(each, case.values[each.key]).shown or words.say("forms.nothing_there")
            st.caption(f"{plain(names[each.key])}: {plain(value)}")


def _remove(visit: Visit, acceptance: Acceptance, case_id: str) -> None:
    visit.state.attempt(lambda: acceptance.remove(case_id))


def show_verdict(visit: Visit, desk: FormDesk, *, always: bool = False) -> None:
    """Say what is known of the loaded model; where it is the accepted one only on the page of the proof."""
    verdict = desk.acceptance.verdict()
    sentence = visit.words.say(f"forms.verdict.{verdict.value}")
    if verdict in (Verdict.UNTRIED, Verdict.WORSE):
        st.warning(sentence, icon=":material/rule:")
    elif always:
        st.badge(sentence, color=_COLOURS[verdict])


def _begin(acceptance: Acceptance, total: int) -> None:
    trial = _trials[id(acceptance)] = _Trial(total)

    def work() -> None:
        def note(number: int, _case: object) -> None:
            trial.done = number

        try:
            acceptance.run(on_case=note, should_stop=trial.stopping.is_set)
        except AppError as error:
            trial.error = error.reason
        finally:
            trial.is_over = True

    threading.Thread(target=work, name="acceptance", daemon=True).start()


def _follow(visit: Visit, trial: _Trial) -> None:
    words = visit.words

    @st.fragment(run_every=POLL_S)
    def following() -> None:
        if trial.is_over:
            visit.state.draw_anew()
        with reading_column("proving"):
            told = words("forms.proving", done=trial.done, total=trial.total)
            st.progress(trial.done / max(trial.total, 1), text=told)
        st.button(words("batch.stop"), key="forms-prove-stop", on_click=trial.stopping.set)

    following()


def _show_report(visit: Visit, acceptance: Acceptance, report: AcceptanceReport, cases: Sequence[TruthCase]) -> None:
    words = visit.words
    now = report.configuration
    st.header(words("forms.report_title"), anchor=False)
    st.caption(
        words(
            "forms.report_of",
            model=plain(now.model),
            precision=now.precision,
            device=plain(now.device),
            at=words.time(report.ran_at),
        )
    )
    st.caption(words("forms.report_below", build=plain(now.build) or "–", driver=plain(now.driver) or "–"))
    if report.differences:
        st.markdown(words("forms.differs", what=plain(differences_text(report.differences, words.language))))
    with st.container(horizontal=True, gap="large", key="forms-figures"):
        total = len(report.fields)
        right = report.count(FieldMark.RIGHT)
        st.metric(words.say("forms.mark.right"), words("forms.of", count=right, total=total), width="content")
        for mark in (FieldMark.WRONG, FieldMark.MISSED, FieldMark.INVENTED):
            st.metric(words.say(f"forms.mark.{mark.value}"), report.count(mark), width="content")
        for change in (Change.BETTER, Change.WORSE):
            st.metric(words.say(f"forms.change.{change.value}"), report.count(change), width="content")
    titles, lines = cells_of(report, words.language, cases=cases)
    st.dataframe(
        [dict(zip(titles, line, strict=True)) for line in lines],
        hide_index=True,
        column_config={titles[0]: st.column_config.TextColumn(width="medium")},
        alt=words("forms.report_title"),
        key="forms-report",
    )
    with st.container(horizontal=True):
        if acceptance.active() != now:
            label = words("forms.activate_anyway" if report.is_worse else "forms.activate")
            st.button(
                label,
                key="forms-activate",
                type="secondary" if report.is_worse else "primary",
                on_click=_activate,
                args=(visit, acceptance, report),
            )
        st.download_button(
            words("forms.export_csv"),
            to_csv(Table(titles, lines)),
            file_name="acceptance.csv",
            mime="text/csv",
            key="forms-take-report",
            on_click="ignore",
        )


def _activate(visit: Visit, acceptance: Acceptance, report: AcceptanceReport) -> None:
    # The button says so itself where it got worse.
    visit.state.attempt(lambda: acceptance.activate(report, anyway=report.is_worse, who=visit.state.forms.who))
