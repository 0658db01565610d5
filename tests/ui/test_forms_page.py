"""The page of forms: filled, reviewed by whoever says who they are, nobody else's shown, templates edited as tables."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from streamlit.testing.v1 import AppTest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.forms import FieldState, FieldType, FillPlan, FormDesk, FormField, FormTemplate, Names, desk_of
from qwen_vl_app.ui.forms_builder import NEW, _choose
from qwen_vl_app.ui.forms_draft import TemplateDraft, fields_of, template_of
from qwen_vl_app.ui.state import PageState
from qwen_vl_app.ui.visit import Visit
from tests.forms.parts import TEMPLATE, PlateModel, plate_engine
from tests.ui.conftest import MakeAssistant, click, composer_of, page_of, words_on
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


def test_a_table_that_nobody_touched_is_accepted(assistant: Assistant, desk: FormDesk, model: PlateModel) -> None:
    """Numbers and empty cells, too: who looked and agreed has corrected nothing."""
    columns = (
        FormField("item", Names("Item")),
        FormField("count", Names("Count"), FieldType.NUMBER),
        FormField("mass", Names("Mass"), FieldType.NUMBER, unit="kg", decimal_mark=","),
    )
    template = FormTemplate("note", (FormField("parts", Names("Parts"), FieldType.TABLE, columns=columns),))
    model.form = {"Parts": [{"Item": "nut", "Count": "4", "Mass": "1,234 kg"}, {"Item": "bolt"}]}
    form = desk.fill(FillPlan(template), assistant.stage(png(width=280, height=140), "note.png")).form
    page = forms_page_of(assistant)
    page.text_input(key="forms-who").set_value("Ann").run()
    page.button(key=key_of(page, "button", "forms-accept-" + form.form_id)).click().run()
    parts = desk.judged(form.form_id).judged("parts")
    assert parts.state is FieldState.ACCEPTED
    assert parts.value.value == [
        {"item": "nut", "count": 4.0, "mass": 1.234},
        {"item": "bolt", "count": None, "mass": None},
    ]
    assert not desk.acceptance.cases()


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


def templates_page_of(assistant: Assistant) -> AppTest:
    """The editor, with a new template."""
    page = forms_page_of(assistant)
    page.segmented_control(key="forms-section-0").set_value("templates").run()
    return page.button(key="forms-new-template").click().run()


def test_a_list_that_reports_what_it_shows_opens_nothing() -> None:
    """A click on "New template" and the list's own report may arrive together; the click counts."""
    state = PageState()
    visit = cast(Visit, SimpleNamespace(state=state))
    state.forms.template = NEW
    _choose(visit, "nameplate", "nameplate")
    assert state.forms.template == NEW and state.forms.opened == 0
    _choose(visit, "nameplate", NEW)
    assert state.forms.template == "nameplate" and state.forms.opened == 1


def add_fields(page: AppTest, names: str) -> None:
    """Add fields to the template in the editor."""
    page.text_input(key="ft-add-names").set_value(names)
    page.button(key=key_of(page, "button", "ft-add-button")).click().run()


def press(page: AppTest, start: str) -> None:
    """Press the one button whose key begins like that."""
    page.button(key=key_of(page, "button", start)).click().run()


def test_what_is_typed_into_the_editor_outlasts_other_templates(assistant: Assistant, desk: FormDesk) -> None:
    """It is kept for each template until it is saved or discarded."""
    page = templates_page_of(assistant)
    add_fields(page, "Tag, 压力\nTag")
    page.radio(key=key_of(page, "radio", "ft-open-")).set_value(1).run()
    page.selectbox(key=key_of(page, "selectbox", "ft-type-")).set_value("number").run()
    page.number_input(key=key_of(page, "number_input", "ft-maximum-")).set_value(16.0).run()
    chooser = page.selectbox(key=key_of(page, "selectbox", "forms-edit-"))
    chooser.set_value("nameplate").run()
    assert "Not saved yet." not in words_on(page) and composer_of(page)["has_drafts"]
    page.button(key="forms-new-template").click().run()
    assert page.radio(key=key_of(page, "radio", "ft-open-")).options == ["1. Tag", "2. 压力", "3. Tag"]
    assert page.number_input(key=key_of(page, "number_input", "ft-maximum-")).value == 16.0
    press(page, "ft-save-")
    assert "Give the template a title." in words_on(page)
    page.text_input(key=key_of(page, "text_input", "ft-zh-")).set_value("泵").run()
    press(page, "ft-save-")
    assert "Two fields are called tag" in words_on(page)  # and nothing is lost
    page.radio(key=key_of(page, "radio", "ft-open-")).set_value(2).run()
    press(page, "ft-remove-field-")
    press(page, "ft-save-")
    (kept,) = (template for template in desk.templates.list() if template.version)
    assert kept.title.zh == "泵"
    assert [(field.key, field.names.of("zh"), field.maximum) for field in kept.fields] == [
        ("tag", "Tag", None),
        ("field_2", "压力", 16.0),
    ]
    press(page, "ft-move-down-")
    press(page, "ft-discard-")
    assert page.radio(key=key_of(page, "radio", "ft-open-")).options == ["1. Tag", "2. 压力"]


def test_an_empty_template_is_refused(assistant: Assistant, desk: FormDesk) -> None:
    """In a sentence, with the title kept."""
    page = templates_page_of(assistant)
    page.text_input(key=key_of(page, "text_input", "ft-en-")).set_value("Empty").run()
    press(page, "ft-save-")
    assert "A template needs at least one field." in words_on(page)
    assert page.text_input(key=key_of(page, "text_input", "ft-en-")).value == "Empty"


def test_a_rule_about_a_field_that_went_stays_to_be_seen(assistant: Assistant, desk: FormDesk) -> None:
    """A renamed field takes its rules along; one that is no number is refused where numbers are compared."""
    page = templates_page_of(assistant)
    page.text_input(key=key_of(page, "text_input", "ft-en-")).set_value("Pump").run()
    add_fields(page, "in, out, note")
    for place in (0, 1):
        page.radio(key=key_of(page, "radio", "ft-open-")).set_value(place).run()
        page.selectbox(key=key_of(page, "selectbox", "ft-type-")).set_value("number").run()
    press(page, "ft-rule-add-")
    rule = page.multiselect(key=key_of(page, "multiselect", "ft-rule-fields-"))
    assert rule.options == ["in", "out"]
    rule.set_value(["in", "out"]).run()
    page.text_input(key=key_of(page, "text_input", "ft-name-en-")).set_value("outlet").run()
    assert page.multiselect(key=key_of(page, "multiselect", "ft-rule-fields-")).options == ["in", "outlet"]
    assert page.multiselect(key=key_of(page, "multiselect", "ft-rule-fields-")).value == ["in", "out"]
    page.selectbox(key=key_of(page, "selectbox", "ft-type-")).set_value("text").run()
    press(page, "ft-save-")
    assert "takes dates and numbers, and outlet is neither" in words_on(page)
    press(page, "ft-remove-field-")
    assert "out (no longer there)" in page.multiselect(key=key_of(page, "multiselect", "ft-rule-fields-")).options
    press(page, "ft-save-")
    assert "A rule names the field out, which does not exist." in words_on(page)
    press(page, "ft-rule-remove-")
    press(page, "ft-save-")
    (kept,) = (template for template in desk.templates.list() if template.version)
    assert (kept.name, [field.key for field in kept.fields], kept.rules) == ("pump", ["in", "note"], ())


def test_two_forms_that_read_alike_are_two(assistant: Assistant, desk: FormDesk) -> None:
    """The second is not the first when it is chosen."""
    picture = assistant.stage(png(width=280, height=140), "plate.png")
    forms = {desk.fill(FillPlan(TEMPLATE), picture).form.form_id for _ in range(2)}
    page = forms_page_of(assistant)
    chooser = page.selectbox(key=key_of(page, "selectbox", "forms-open-"))
    assert len(set(chooser.options)) == 2
    first = chooser.value
    chooser.set_value(next(iter(forms - {first}))).run()
    assert page.selectbox(key=key_of(page, "selectbox", "forms-open-")).value != first
    press(page, "forms-delete")
    assert [each.form.form_id for each in desk.list()] == [first]


def test_a_click_that_is_told_twice_counts_once() -> None:
    """As the page tells it again where its run was interrupted: before it was done, and after."""
    draft = TemplateDraft.of(TEMPLATE)
    count = len(draft.now_lines)
    for _ in range(2):
        draft.wish("add-1", lambda found: found.add("Mass"))
    assert draft.do_pending()
    draft.wish("add-1", lambda found: found.add("Mass"))
    assert not draft.do_pending()
    assert len(draft.now_lines) == count + 1
