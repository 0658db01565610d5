"""The doctor and the change of models on the page, over a scripted engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from qwen_vl_app import doctor
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.doctor import Finding, Verdict
from qwen_vl_app.engine.folders import ModelFolder
from qwen_vl_app.errors import Reason
from qwen_vl_app.model_switch import SwitchState, SwitchStatus
from qwen_vl_app.texts import Language, t
from tests.ui.conftest import MakeAssistant


def view_of(assistant: Assistant, view: str, *, locale: str = "en-US") -> AppTest:
    """Return one page beside the conversation, run once."""
    page = AppTest.from_function(_script, args=(assistant, view), default_timeout=60)
    page.context = {"locale": locale, "timezone": "UTC"}
    return page.run()


def _script(assistant: object, view: str) -> None:  # copied into a module of its own, which knows no name of this one
    from qwen_vl_app.ui.chat_page import visit_of
    from qwen_vl_app.ui.holdings import View
    from qwen_vl_app.ui.pages import PAGES

    PAGES[View(view)].show(visit_of(assistant, owner="local"))  # type: ignore[arg-type]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the doctor find three things at once; the list counts how often it was asked."""
    asked: list[int] = []

    def examine(*_: object, **__: object) -> Any:
        asked.append(1)
        yield Finding("python", Verdict.OK, Reason("doctor.settings.fine"))
        yield Finding(
            "driver", Verdict.PROBLEM, Reason("doctor.driver.too_old", version="1", cuda="13.0", wanted="580.65")
        )
        yield Finding("model", Verdict.NOTE, Reason("doctor.model.no_manifest", model="a|b*c"))

    monkeypatch.setattr("qwen_vl_app.ui.doctor_page.examine", examine)
    return asked


@pytest.mark.parametrize(("locale", "language"), [("en-US", Language.ENGLISH), ("zh-CN", Language.CHINESE)])
def test_the_doctor_says_the_worst_first_and_looks_again_only_when_asked(
    make_assistant: MakeAssistant, found: list[int], locale: str, language: Language
) -> None:
    """A problem comes before a note, each in the page's language; a further run of the page examines nothing."""
    page = view_of(make_assistant(), "doctor", locale=locale)
    assert not page.exception
    assert page.error[0].value == t("ui.checkup.problems", language, count=1)
    table = next(each.value for each in page.markdown if each.value.startswith("| "))
    rows = [table.index(t(f"ui.checkup.what.{check}", language)) for check in ("driver", "model", "python")]
    assert rows == sorted(rows)
    assert "a\\|b" in table
    page.run()
    assert len(found) == 1
    page.button[0].click().run()
    assert len(found) == 2


def test_the_model_s_own_test_is_one_click_away(
    make_assistant: MakeAssistant, found: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it found stands beside the rest, once, also after a second time."""

    def answers(_: Assistant) -> Any:
        yield Finding("grounding", Verdict.OK, Reason("doctor.grounding.right", found=4, count=4, overlap=0.9))

    monkeypatch.setattr("qwen_vl_app.ui.doctor_page.examine_answers", answers)
    page = view_of(make_assistant(), "doctor")
    for _ in range(2):
        page.button[1].click().run()
        tables = [each.value for each in page.markdown if each.value.startswith("| ")]
        assert tables[0].count("Drawn things") == 1
        assert "Driver" in tables[0]


def test_while_the_model_loads_it_cannot_be_asked(make_assistant: MakeAssistant, found: list[int]) -> None:
    """The rest of the page is there."""
    import threading

    from qwen_vl_app.engine.fake import FakeEngine

    loading = threading.Event()
    page = view_of(make_assistant(engine=FakeEngine(loading=loading), waits=False), "doctor")
    assert page.button[1].disabled
    assert page.error
    loading.set()


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a second model beside the one that answers."""
    folders = (ModelFolder("fake", Path("fake")), ModelFolder("other", Path("other"), weight_bytes=5 * 2**30))
    monkeypatch.setattr(Assistant, "models", lambda self: folders)


def test_another_model_is_chosen_on_the_settings_page(
    make_assistant: MakeAssistant, two_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The present one is not offered; the button asks the hub."""
    begun: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        Assistant, "switch_model", lambda self, name, *, unloads_first=False: begun.append((name, unloads_first))
    )
    page = view_of(make_assistant(), "settings")
    assert not page.exception
    assert page.selectbox[0].options == ["other · 5.0 GB"]
    page.button[0].click().run()
    assert begun == [("other", False)]


def test_without_room_for_both_the_page_says_so_and_offers_to_unload_first(
    make_assistant: MakeAssistant, two_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both sizes; a click goes on."""
    begun: list[tuple[str, bool]] = []
    reason = Reason("engine.switch.both_do_not_fit", model="other", present="fake", needed=2**34, free=2**30)
    status = SwitchStatus("other", SwitchState.NEEDS_ROOM, problem=reason)
    monkeypatch.setattr(Assistant, "switch_status", property(lambda self: status))
    monkeypatch.setattr(
        Assistant, "switch_model", lambda self, name, *, unloads_first=False: begun.append((name, unloads_first))
    )
    page = view_of(make_assistant(), "settings")
    assert "16.0 GB" in page.warning[0].value
    next(button for button in page.button if "Unload" in button.label).click().run()
    assert begun == [("other", True)]


def test_a_site_that_keeps_its_model_shows_no_choice(make_assistant: MakeAssistant, two_models: None) -> None:
    """Nothing to click that would be refused."""
    page = view_of(make_assistant(switch_models=False), "settings")
    assert not page.exception
    assert not page.selectbox


def test_the_page_has_a_word_for_everything_that_is_looked_at() -> None:
    """Every check of the doctor's own sources, and every verdict."""
    import re

    from qwen_vl_app.config import ROOT

    sources = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "qwen_vl_app" / "doctor").glob("*.py"))
    checks = set(re.findall(r'Finding\("(\w+)"', sources))
    assert len(checks) > 15
    for check in checks:
        assert t(f"ui.checkup.what.{check}") != f"ui.checkup.what.{check}", check
    for verdict in doctor.Verdict:
        for language in Language:
            assert t(f"ui.checkup.{verdict.value}", language) != f"ui.checkup.{verdict.value}"
