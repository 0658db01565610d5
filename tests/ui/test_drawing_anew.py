"""What follows something on the page and draws it anew at the end: not while somebody writes in a dialog."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from qwen_vl_app.answer_job import AnswerJob, JobProgress, JobState
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchProgress, BatchRuns, RunState
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import BatchError
from qwen_vl_app.model_switch import SwitchState, SwitchStatus
from qwen_vl_app.texts import Language
from qwen_vl_app.ui import batch_run, forms_filling, forms_proof, live_answer, model_switch, state, status_view
from qwen_vl_app.ui.holdings import RowRequest, View
from qwen_vl_app.ui.state import PageState
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words
from tests.hub_parts import WAIT_S
from tests.ui.conftest import MakeAssistant

RUN = "20200101-000000-000000"


class _Page:
    """Streamlit, as far as a fragment that is run again by its timer meets it."""

    def __init__(self) -> None:
        self.pulse: Callable[[], None] = lambda: None

    def __getattr__(self, _element: str) -> MagicMock:
        return MagicMock()

    def fragment(self, **_how: float) -> Callable[[Callable[[], None]], Callable[[], None]]:
        def taken(pulse: Callable[[], None]) -> Callable[[], None]:
            self.pulse = pulse
            return lambda: None

        return taken

    def rerun(self) -> None:
        raise _WholePageError


class _WholePageError(Exception):
    """The whole page runs again."""


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> _Page:
    page = _Page()
    parts: tuple[ModuleType, ...] = (
        batch_run,
        forms_filling,
        forms_proof,
        live_answer,
        model_switch,
        state,
        status_view,
    )
    for module in parts:
        monkeypatch.setattr(module, "st", page)
    monkeypatch.setattr(forms_proof, "reading_column", MagicMock())
    return page


def _visit(assistant: Assistant) -> Visit:
    visit = Visit(assistant, "local", PageState(), Words(Language.ENGLISH))
    visit.state.forms.run_id = RUN
    return visit


def _runs(progress: BatchProgress | None) -> BatchRuns:
    def asked(run_id: str) -> BatchProgress:
        if progress is None:
            raise BatchError("batch.unknown", run=run_id)
        return progress

    return cast("BatchRuns", SimpleNamespace(progress=asked, latest_rows=lambda _run, _count: ()))


def _over(key: str) -> live_answer.OpenTurn:
    over = JobProgress(JobState.DONE, "Yes.", None, 1.0, 1.0, 2, None)
    job = cast("AnswerJob", SimpleNamespace(progress=lambda: over, cancel=lambda: None, is_cancelled=False))
    return live_answer.OpenTurn(key, job)


def _answer(visit: Visit, _monkeypatch: pytest.MonkeyPatch) -> None:
    live_answer.show_live_answers(visit, [_over("1")], drawing=visit.state.followed.begin())


def _loading(visit: Visit, _monkeypatch: pytest.MonkeyPatch) -> None:
    status_view._follow_loading(visit)


def _run(visit: Visit, _monkeypatch: pytest.MonkeyPatch) -> None:
    batch_run._follow(visit, _runs(BatchProgress(RUN, RunState.FINISHED, 3, 3)), RUN)


def _deleted_run(visit: Visit, _monkeypatch: pytest.MonkeyPatch) -> None:
    batch_run._follow(visit, _runs(None), RUN)


def _deleted_filling(visit: Visit, _monkeypatch: pytest.MonkeyPatch) -> None:
    forms_filling._show_run(visit, _runs(None))


def _switch(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    status = SwitchStatus("other", SwitchState.DONE)
    monkeypatch.setattr(Assistant, "switch_status", property(lambda _: status))
    model_switch._follow(visit)


def _forgotten_switch(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Assistant, "switch_status", property(lambda _: None))
    model_switch._follow(visit)


def _proof(visit: Visit, _monkeypatch: pytest.MonkeyPatch) -> None:
    forms_proof._follow(visit, forms_proof._Trial(1, is_over=True))


_DIALOGS: dict[str, Callable[[PageState, bool], Any]] = {
    "rename": lambda state, is_open: setattr(state, "row_request", RowRequest("rename", 1) if is_open else None),
    "tasks": lambda state, is_open: setattr(state, "tasks", "" if is_open else None),
    "template": lambda state, is_open: setattr(state.forms, "is_taking_in", is_open),
}


@pytest.mark.parametrize("dialog", _DIALOGS)
@pytest.mark.parametrize(
    "follow",
    [_answer, _loading, _run, _deleted_run, _deleted_filling, _switch, _forgotten_switch, _proof],
)
def test_whoever_writes_in_a_dialog_is_not_disturbed(
    make_assistant: MakeAssistant,
    page: _Page,
    monkeypatch: pytest.MonkeyPatch,
    follow: Callable[[Visit, pytest.MonkeyPatch], None],
    dialog: str,
) -> None:
    """Drawn anew, the dialog would lose what is typed; the page comes when it is closed."""
    loading = threading.Event()
    assistant = make_assistant(engine=FakeEngine(loading=loading), waits=False)
    visit = _visit(assistant)
    visit.state.view = View.FORMS
    follow(visit, monkeypatch)
    loading.set()
    assistant.wait_until_loaded(WAIT_S)
    _DIALOGS[dialog](visit.state, True)
    for _ in range(2):
        page.pulse()
    _DIALOGS[dialog](visit.state, False)
    with pytest.raises(_WholePageError):
        page.pulse()


@pytest.mark.parametrize("where", ["batch", "forms"])
def test_a_run_that_is_deleted_in_another_tab_is_let_go(
    make_assistant: MakeAssistant, page: _Page, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The timer of the tab that follows it runs the whole page, which says so, and shows no error of the program's."""
    visit = _visit(make_assistant())
    (_deleted_run if where == "batch" else _deleted_filling)(visit, monkeypatch)
    with pytest.raises(_WholePageError):
        page.pulse()
    if where == "forms":
        told = [each.reason for each in visit.state.problems]
        assert visit.state.forms.run_id == "" and [(each.code, each.facts["run"]) for each in told] == [
            ("batch.unknown", RUN)
        ]


def test_a_drawing_that_was_overtaken_hides_no_answer(make_assistant: MakeAssistant, page: _Page) -> None:
    """It read before the question was asked, and hands over after the newer one: its timer follows what the newer one read."""
    visit = _visit(make_assistant())
    older, newer = visit.state.followed.begin(), visit.state.followed.begin()
    live_answer.show_live_answers(visit, [_over("1")], drawing=newer)
    live_answer.show_live_answers(visit, [], drawing=older)
    with pytest.raises(_WholePageError):
        page.pulse()
    live_answer.show_live_answers(visit, [], drawing=visit.state.followed.begin())
    page.pulse()  # nothing to follow any more
