"""The page of forms: filled, reviewed by whoever says who they are, nobody else's shown, templates edited as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.forms import FieldState, FillPlan, FormDesk, FormField, FormTemplate, Names, desk_of
from qwen_vl_app.ui.forms_draft import fields_of, template_of
from tests.forms.parts import TEMPLATE, PlateModel, plate_engine
from tests.ui.conftest import MakeAssistant, click, page_of, words_on
from tests.ui.fakes import png


@pytest.fixture
def model() -> PlateModel:
    return PlateModel()


@pytest.fixture
def assistant(make_assistant: MakeAssistant, model: PlateModel) -> Assistant:
    return make_assistant(engine=plate_engine(model))


@pytest.fixture
def desk(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> Iterator[FormDesk]:
    runs = BatchRuns(assistant)
    monkeypatch.setattr("qwen_vl_app.ui.pages.current_batches", lambda: runs)
    yield desk_of(assistant)
    runs.close()


def forms_page_of(assistant: Assistant, *, locale: str = "en-US") -> AppTest:
    page = page_of(assistant, locale=locale)
    click(page, "page-forms")
    assert not page.exception
    return page


def key_of(page: AppTest, kind: str, start: str) -> str:
    """The key of the one element that begins like that."""
    (key,) = [each.key for each in page.get(kind) if each.key and each.key.startswith(start)]
    return str(key)


@pytest.mark.parametrize(("locale", "title"), [("en-US", "Forms"), ("zh-CN", "表单")])
def test_the_page_begins_with_filling(assistant: Assistant, desk: FormDesk, locale: str, title: str) -> None:
    """Where there is nothing to review yet."""
    page = forms_page_of(assistant, locale=locale)
    assert page.title[0].value == title
    assert page.selectbox(key=key_of(page, "selectbox", "forms-fill-template")).options
    page.button(key="forms-fill").click().run()
    assert page.warning  # nothing was dropped


def test_a_form_is_reviewed_on_the_page(assistant: Assistant, desk: FormDesk, model: PlateModel) -> None:
    """The worst field first; what is typed is a correction, what is left an acceptance; nobody decides without a name."""
    model.again["Load"] = "80"
    form = desk.fill(FillPlan(TEMPLATE), assistant.stage(png(width=280, height=140), "plate.png")).form
    page = forms_page_of(assistant)
    assert page.subheader[0].value == "Load" and "it was “80”" in words_on(page)
    page.button(key=key_of(page, "button", "forms-accept-" + form.form_id)).click().run()
    assert "Say who you are first" in words_on(page)
    page.text_input(key="forms-who").set_value("Ann").run()
    page.text_input(key=key_of(page, "text_input", "forms-input-")).set_value("80 kg")
    page.button(key=key_of(page, "button", "forms-accept-" + form.form_id)).click().run()
    load = desk.judged(form.form_id).judged("load")
    assert (load.state, load.value.shown) == (FieldState.CORRECTED, "80 kg")
    assert load.decision is not None and load.decision.who == "Ann"
    page.button(key="forms-accept-rest").click().run()
    assert desk.judged(form.form_id).is_reviewed and "nothing left to review" in words_on(page)
    assert len(desk.acceptance.cases()) == 1


def test_another_browsers_forms_are_not_shown(assistant: Assistant, desk: FormDesk) -> None:
    """Its own, and those of the command line."""
    picture = assistant.stage(png(width=280, height=140), "secret plate.png")
    desk.fill(FillPlan(TEMPLATE, owner="b" * 32), picture)
    page = forms_page_of(assistant)
    assert "secret" not in words_on(page) and not [each for each in page.selectbox if "secret" in str(each.options)]


def test_the_editors_tables_are_a_template() -> None:
    """New fields get keys, what the tables do not show stays, and half a line is no field."""
    before = FormTemplate(
        "plate", (FormField("serial", Names("Serial", "编号"), hint=Names("below", "下面")),), Names("P")
    )
    lines: list[dict[str, Any]] = [
        {"en": "Serial no.", "zh": "编号", "type": "text", "key": "serial", "hint": "below", "identifier": True},
        {"en": "Result", "type": "choice", "choices": "OK=合格, Not OK"},
        {"en": "Parts", "type": "table", "columns": "item, count:number"},
        {"en": None, "zh": None, "type": "text"},
    ]
    rules = [{"kind": "equal", "fields": ["serial", "result"], "tolerance": None}]
    made = template_of(fields_of(lines, before=before), rules, names=Names("Plate"), before=before)
    serial, result, parts = made.fields
    assert (serial.key, serial.names.en, serial.hint.zh, serial.is_identifier) == ("serial", "Serial no.", "下面", True)
    assert [(choice.value, choice.also) for choice in result.choices] == [("OK", ("合格",)), ("Not OK", ())]
    assert [(column.key, column.type.value) for column in parts.columns] == [("item", "text"), ("count", "number")]
    assert made.rules[0].fields == ("serial", "result")


def test_the_truth_set_is_proved_on_the_page(assistant: Assistant, desk: FormDesk) -> None:
    """A confirmed form is run again; the model is accepted by a button; a case that was a mistake is taken out."""
    form = desk.fill(FillPlan(TEMPLATE), assistant.stage(png(width=280, height=140), "plate.png")).form
    for key in ("serial", "load", "note"):
        desk.accept(form.form_id, key, who="Ann")
    desk.add_to_truth(form.form_id)
    desk.acceptance.run()
    page = forms_page_of(assistant)
    page.segmented_control(key="forms-section-0").set_value("proof").run()
    assert not page.exception
    assert list(page.dataframe[0].value["Result"]) == ["right"] * 3
    page.button(key="forms-activate").click().run()
    assert desk.acceptance.active() == desk.acceptance.configuration()
    page.button(key="forms-case-remove").click().run()
    assert desk.acceptance.cases() == () and not page.exception
