"""`doctor`: the findings, a line each, as they are made.

Knows how a finding looks. Does not know what is examined, nor how.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from qwen_vl_app import doctor as examination
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Question
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, FAILED
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.config import Settings
from qwen_vl_app.doctor import Finding, KnownQuestion, Verdict, examine_answers, write_ticket
from qwen_vl_app.errors import AppError, Reason
from qwen_vl_app.texts import render

_STYLES = {Verdict.OK: "", Verdict.NOTE: "yellow", Verdict.PROBLEM: "bold red"}
LOAD_TIMEOUT_S = 1800.0


def doctor(
    parts: Parts,
    *,
    overrides: Mapping[str, Any],
    loads: bool = False,
    report: Path | None = None,
    is_json: bool = False,
    is_verbose: bool = False,
) -> int:
    """Print every finding; return 0 unless one is a problem or the report was not written.

    `report` is where a support ticket's text goes.
    """
    terminal = Terminal(language=language_of(overrides), is_json=is_json, is_verbose=is_verbose)

    def load_settings() -> Settings:
        settings = parts.settings(overrides)
        terminal.language = language_of({"language": settings.language})
        return settings

    findings: list[Finding] = []
    for finding in _findings(parts, load_settings, loads=loads):
        findings.append(finding)
        if not is_json:
            verdict = terminal.say(f"cli.doctor.{finding.verdict.value}")
            sentence = render(finding.about, terminal.language)
            terminal.line(f"{verdict:<8}{finding.check}: {sentence}", style=_STYLES[finding.verdict])
    problems = sum(finding.verdict is Verdict.PROBLEM for finding in findings)
    if is_json:
        terminal.json(_as_json(findings, terminal))
    else:
        code = "cli.doctor.with_problems" if problems else "cli.doctor.all_well"
        terminal.line(terminal.say(code, count=problems))
    is_written = report is None or _write_report(terminal, report, findings, load_settings)
    return FAILED if problems or not is_written else DONE


def _write_report(terminal: Terminal, file: Path, findings: list[Finding], load_settings: Any) -> bool:
    """Write the ticket and tell so, beside what stdout carries; return whether it is there."""
    try:
        settings: Settings | None = load_settings()
    except AppError:
        settings = None
    try:
        file.write_text(write_ticket(findings, settings), encoding="utf-8")
    except OSError:
        terminal.note(Reason("cli.doctor.report_failed", file=file.name))
        return False
    terminal.note(Reason("cli.doctor.report_written", file=file.name))
    return True


def _as_json(findings: list[Finding], terminal: Terminal) -> dict[str, Any]:
    order = list(Verdict)
    return {
        "verdict": max((finding.verdict for finding in findings), key=order.index, default=Verdict.OK).value,
        "findings": [
            {
                "check": finding.check,
                "verdict": finding.verdict.value,
                "code": finding.about.code,
                "message": render(finding.about, terminal.language),
                "facts": dict(finding.about.facts),
            }
            for finding in findings
        ],
    }


def _findings(parts: Parts, load_settings: Any, *, loads: bool) -> Iterator[Finding]:
    is_broken = False
    for finding in examination.examine(load_settings, parts.probe):
        is_broken = is_broken or finding.verdict is Verdict.PROBLEM
        yield finding
    if loads and not is_broken:
        settings = load_settings()
        ask = partial(examination.known_question, parts.probe(settings).models())
        yield from _loaded(parts.build_assistant(settings), ask)


def _loaded(assistant: Assistant, known_of: Callable[[str], KnownQuestion | None]) -> Iterator[Finding]:
    """Load the model for good and, where it is a demo model, ask what is known; `known_of` takes its name."""
    began = time.monotonic()
    try:
        with assistant:
            status = assistant.wait_until_loaded(LOAD_TIMEOUT_S)
            yield Finding("loading", Verdict.OK, Reason("doctor.loading.fine", seconds=time.monotonic() - began))
            if status.attention:  # an app that runs already does not tell its own
                yield Finding("choice", Verdict.OK, Reason("doctor.choice.attention", attention=status.attention))
            if not status.is_demo:
                yield from examine_answers(assistant)
                return
            known = known_of(status.model)
            if known is None:
                yield Finding("answer", Verdict.NOTE, Reason("doctor.loading.no_sample"))
                return
            picture = assistant.stage(known.picture, known.name)
            job = assistant.ask(Question(known.question, (picture,)), is_anew=True)
            answer = job.wait()
            assert answer is not None  # noqa: S101 - there was no time-out
            if answer.error is not None:
                yield Finding("answer", Verdict.PROBLEM, answer.error)
            elif answer.text.strip() == known.answer:
                yield Finding("answer", Verdict.OK, Reason("doctor.loading.answered", text=answer.text.strip()))
            else:
                yield Finding("answer", Verdict.PROBLEM, Reason("doctor.loading.wrong"))
            yield from examine_answers(assistant)
    except AppError as error:
        yield Finding("loading", Verdict.PROBLEM, error.reason)
