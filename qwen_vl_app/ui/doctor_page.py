"""The doctor on a page: what was found, what to do, the model's own test, and a report to take away.

Knows findings as the doctor gives them. Does not examine anything itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import streamlit as st

from qwen_vl_app import offline
from qwen_vl_app.bootstrap import probe
from qwen_vl_app.chat import EngineState
from qwen_vl_app.doctor import Finding, Verdict, check_finding, examine, examine_answers, write_ticket
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.visit import Visit

_COLOURS = {Verdict.OK: "green", Verdict.NOTE: "orange", Verdict.PROBLEM: "red"}
_ICONS = {
    Verdict.OK: ":material/check_circle:",
    Verdict.NOTE: ":material/info:",
    Verdict.PROBLEM: ":material/error:",
}


def show_doctor_page(visit: Visit) -> None:
    """Show the page."""
    words, assistant = visit.words, visit.assistant
    st.title(words("checkup.title"), anchor=False)
    st.markdown(words("checkup.lead"))
    findings = visit.state.findings
    is_ready = assistant.status.engine.state is EngineState.READY
    with st.container(horizontal=True):
        if st.button(words("checkup.examine"), icon=":material/refresh:") or findings is None:
            findings = _gather(words("checkup.working"), lambda: _examined(visit))
        asks = st.button(
            words("checkup.ask"), icon=":material/quiz:", disabled=not is_ready, help=words("checkup.ask_help")
        )
        if asks:
            answers = _gather(words("checkup.asking"), lambda: examine_answers(assistant))
            asked = {finding.check for finding in answers}
            findings = (*(finding for finding in findings if finding.check not in asked), *answers)
        visit.state.findings = findings
        st.download_button(
            words("checkup.download"),
            write_ticket(findings, assistant.settings),
            file_name="doctor.txt",
            mime="text/plain",
            icon=":material/download:",
            help=words("checkup.download_help"),
            on_click="ignore",
        )
    _show(findings, visit)
    st.header(words("settings.offline"), anchor=False)
    st.markdown(words("checkup.offline", count=offline.refused()))
    if offline.refused():
        st.markdown(words("checkup.offline_targets", targets=plain(", ".join(offline.refused_targets()))))


def _examined(visit: Visit) -> Iterator[Finding]:
    status = visit.assistant.status
    yield from examine(lambda: visit.assistant.settings, probe, running=status.engine)
    if status.check is not None and (finding := check_finding(status.check)) is not None:
        yield finding


def _gather(sentence: str, source: Callable[[], Iterator[Finding]]) -> tuple[Finding, ...]:
    with st.spinner(sentence):
        return tuple(source())


def _show(findings: Sequence[Finding], visit: Visit) -> None:
    words = visit.words
    problems = sum(finding.verdict is Verdict.PROBLEM for finding in findings)
    if problems:
        st.error(words("checkup.problems", count=problems), icon=":material/error:")
    else:
        st.success(words("checkup.all_well"), icon=":material/check_circle:")
    worst_first = sorted(findings, key=lambda finding: -list(Verdict).index(finding.verdict))
    lines = [
        f"| :{_COLOURS[finding.verdict]}-badge[{_ICONS[finding.verdict]} {words(f'checkup.{finding.verdict.value}')}] "
        f"| {plain(words(f'checkup.what.{finding.check}'))} | {plain(words.render(finding.about))} |"
        for finding in worst_first
    ]
    head = f"| {words('checkup.verdict')} | {words('checkup.check')} | {words('checkup.sentence')} |\n|---|---|---|"
    st.markdown("\n".join([head, *lines]))
