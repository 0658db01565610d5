"""One form from question to evidence: nulls, cut and broken answers, the second look, and what makes a person look."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from qwen_vl_app.answers import parse_answer
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Answer, CoordinateSpace, Detail, FinishReason, Rung, ScoredToken, SizePlan
from qwen_vl_app.errors import InferenceError
from qwen_vl_app.forms import (
    FieldState,
    FieldType,
    FillPlan,
    FormField,
    FormFiller,
    FormTemplate,
    JudgedForm,
    LookAt,
    LookOutcome,
    Names,
    judge,
    value_of,
)
from qwen_vl_app.forms.filled import dump_form, load_form
from qwen_vl_app.forms.second_look import _blows_crops_up, held_against
from tests.forms.parts import TEMPLATE, PlateModel, form_assistant
from tests.ui.fakes import png


@pytest.fixture
def model() -> PlateModel:
    return PlateModel()


@pytest.fixture
def assistant(tmp_path: Path, model: PlateModel) -> Iterator[Assistant]:
    with form_assistant(tmp_path, model) as opened:
        opened.wait_until_loaded(60)
        yield opened


def filled(
    assistant: Assistant, template: FormTemplate = TEMPLATE, look: LookAt = LookAt.DEFAULT, language: str = "en"
) -> JudgedForm:
    """Fill a form from a picture of 280 x 140."""
    picture = assistant.stage(png(width=280, height=140), "plate.png")
    return judge(FormFiller(assistant).fill(FillPlan(template, language, look), picture).form)


def test_a_form_is_filled_with_evidence(assistant: Assistant, model: PlateModel) -> None:
    """Values in the fields' units, a box, a crop and a second look for the number and the identifier, null for nothing."""
    judged = filled(assistant)
    serial, load, note = judged.fields
    assert (serial.value.value, load.value.value, load.value.shown) == ("AB-123", 50, "50 kg")
    assert note.value.is_null and note.reading.look is None and note.state is FieldState.UNSEEN
    for each in (serial, load):
        assert each.reading.box is not None and each.reading.crop
        assert each.reading.look is not None and each.reading.look.outcome is LookOutcome.AGREE
    assert judged.doubtful == 0
    assert load_form(dump_form(judged.form)) == judged.form


def test_the_question_brings_a_schema_that_forces_no_value(assistant: Assistant) -> None:
    """The engine is told the form of the answer, in the order of the template, with null for each field."""
    filled(assistant, look=LookAt.NONE)
    request = assistant._engine.requests[0]  # type: ignore[attr-defined]
    schema = json.loads(request.schema)
    assert list(schema["properties"]) == ["Serial", "Load", "Note"]
    assert "required" not in schema
    assert all("null" in (each["type"] if "type" in each else each["anyOf"]) for each in schema["properties"].values())


def test_a_field_takes_nothing_that_another_was_asked_for(assistant: Assistant, model: PlateModel) -> None:
    """A renamed field keeps its key, which may be what another one is called now: what is not on the picture is null."""
    model.form = {"Date": "2026-01-02"}
    template = FormTemplate("order", (FormField("date", Names("Order date")), FormField("date_2", Names("Date"))))
    judged = filled(assistant, look=LookAt.NONE, template=template)
    assert [each.value.value for each in judged.fields] == [None, "2026-01-02"]


def test_a_second_reading_that_differs_comes_first(assistant: Assistant, model: PlateModel) -> None:
    """A misread digit is caught and stands at the top, with what was read then."""
    model.again["Load"] = "80"
    judged = filled(assistant)
    worst = judged.worst_first[0]
    assert worst.field.key == "load" and worst.state is FieldState.DOUBTFUL
    assert worst.doubts[0].code == "forms.doubt.differ" and worst.doubts[0].facts["read"] == "80"


def test_what_cannot_be_found_again_is_unreadable(assistant: Assistant, model: PlateModel) -> None:
    """No place, or nothing on the crop: neither is agreement."""
    model.boxless = ("Load",)
    model.again["Serial"] = ""
    judged = filled(assistant)
    looks = {each.field.key: each.reading.look for each in judged.fields}
    assert [look.outcome for look in looks.values() if look] == [LookOutcome.UNREADABLE] * 2
    assert judged.judged("load").doubts[0].code == "forms.doubt.not_located"


def test_second_looks_on_request(assistant: Assistant, model: PlateModel) -> None:
    """For every value that is there, or for none; a table has no one place."""
    model.form = {"Serial": "AB-123", "Load": "50", "Note": "fine"}
    looked = [each.field.key for each in filled(assistant, look=LookAt.ALL).fields if each.reading.look]
    assert looked == ["serial", "load", "note"]
    model.asked.clear()
    assert not any(each.reading.look for each in filled(assistant, look=LookAt.NONE).fields)
    assert len(model.asked) == 1


def test_a_needle_always_asks_a_person(assistant: Assistant, model: PlateModel) -> None:
    """However well both readings agree."""
    template = FormTemplate("gauge", (FormField("load", Names("Load"), FieldType.NUMBER, is_needle=True),))
    (needle,) = filled(assistant, template).fields
    assert needle.reading.look is not None and needle.reading.look.outcome is LookOutcome.AGREE
    assert needle.state is FieldState.DOUBTFUL and [each.code for each in needle.doubts] == ["forms.doubt.needle"]


@pytest.mark.parametrize("broken", ["I see a plate.", "", "[1, 2]"])
def test_a_broken_answer_is_asked_for_once_more_and_then_null(
    assistant: Assistant, model: PlateModel, broken: str
) -> None:
    """One turn more, in which the model sees what it wrote; broken twice is null everywhere, and says so."""
    model.form = broken
    judged = filled(assistant)
    assert all(each.value.is_null for each in judged.fields)
    assert [note.code for note in judged.form.notes][:2] == ["forms.fill.asked_again", "forms.fill.unreadable"]
    assert len(model.asked) == 2
    assert judged.judged("note").doubts[0].code == "forms.doubt.cut"


def test_a_broken_answer_that_is_mended_counts(assistant: Assistant, model: PlateModel) -> None:
    """The second answer takes the place of the first."""
    replies = iter(["nothing", {"Serial": "AB-123", "Load": "50", "Note": None}])
    whole = model.__call__

    def once_broken(request: object) -> str:
        model.form = next(replies, model.form)
        return whole(request)  # type: ignore[arg-type]

    assistant._engine._answer_to = once_broken  # type: ignore[attr-defined]
    judged = filled(assistant, look=LookAt.NONE)
    assert judged.judged("serial").value.value == "AB-123"
    assert [note.code for note in judged.form.notes] == ["forms.fill.asked_again"]


def test_an_answer_that_fails_raises(assistant: Assistant) -> None:
    """No form is made up where there is no answer."""
    assistant._engine._answer_to = lambda _request: InferenceError("inference.out_of_memory")  # type: ignore[attr-defined]
    with pytest.raises(InferenceError):
        filled(assistant)


def test_low_confidence_asks_a_person(assistant: Assistant, model: PlateModel) -> None:
    """The least probable token of a value counts; a settled field asks nobody any more."""
    judged = filled(assistant)
    unsure = replace(judged.form.reading("load"), confidence=0.4)
    form = replace(judged.form, readings=(judged.form.readings[0], unsure, judged.form.readings[2]))
    doubts = judge(form).judged("load").doubts
    assert [each.code for each in doubts] == ["forms.doubt.low_confidence"] and doubts[0].facts["percent"] == 40


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("12.5", "12.5", LookOutcome.AGREE),
        ("12.5 bar", "The value of L1 is 12.5 bar.", LookOutcome.AGREE),
        ("12.5", "The value is 1250 kPa", LookOutcome.AGREE),
        ("1250 kPa", "12.5", LookOutcome.AGREE),
        ("12.5", "L1: 12.5", LookOutcome.AGREE),
        ("12.5", "42.5", LookOutcome.DIFFER),
        ("12.5", "between 12.5 and 14", LookOutcome.DIFFER),
        ("12.5", "The value is 13.5 bar", LookOutcome.DIFFER),
        ("12.5", "I cannot tell", LookOutcome.UNREADABLE),
        ("12.5", "null", LookOutcome.UNREADABLE),
        ("12.5", '{"L1": "12.5"}', LookOutcome.AGREE),
        ("RN-F", "RRN-F", LookOutcome.DIFFER),
        ("18", "−18", LookOutcome.DIFFER),
        ("18", "It reads - 18 bar.", LookOutcome.DIFFER),
        ("- 18", "The value of L1 is −18 bar.", LookOutcome.AGREE),
        ("< 0.05", "<0.05 bar", LookOutcome.AGREE),
        ("< 0.05", "The value of L1 is ＜0.05 bar.", LookOutcome.AGREE),
        ("< 0.05", "0.05", LookOutcome.DIFFER),
        ("0.05", "< 0.05", LookOutcome.DIFFER),
        ("0.05", "The value of L1 is < 0.05 bar.", LookOutcome.DIFFER),
        ("≤ 3", "It is < 3 bar.", LookOutcome.DIFFER),
    ],
)
def test_numbers_are_held_against_sentences(first: str, second: str, outcome: LookOutcome) -> None:
    """A model may answer in a sentence, in another unit, with the label; only one number is agreement."""
    field = FormField("x", Names("L1"), FieldType.NUMBER, unit="bar")
    assert held_against(field, value_of(field, first), second, language="en").outcome is outcome


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("AB-123", "ab-123", LookOutcome.AGREE),
        ("AB-123", "The serial number is AB-123.", LookOutcome.AGREE),
        ("AB-123", "编号：AB-123", LookOutcome.AGREE),
        ("AB-123", "AB-128", LookOutcome.DIFFER),
        ("00427", "427", LookOutcome.DIFFER),
        ("AB-123", "", LookOutcome.UNREADABLE),
    ],
)
def test_identifiers_are_held_against_texts(first: str, second: str, outcome: LookOutcome) -> None:
    """Every character counts, a leading zero too."""
    field = FormField("x", Names("Serial", "编号"), is_identifier=True)
    language = "zh" if "编" in second else "en"
    assert held_against(field, value_of(field, first), second, language=language).outcome is outcome


def test_a_name_that_the_grammar_forced_has_no_value(assistant: Assistant, model: PlateModel) -> None:
    """A model that wanted to write another name makes up what stands behind this one: null, and a person looks."""
    judged = filled(assistant)
    text = judged.form.text
    at = text.index('"Load"')
    pieces = (text[:at], text[at : at + 2], text[at + 2 :])
    tokens = tuple(
        ScoredToken(piece, -0.1, allowed=-9.0 if number == 1 else 0.0) for number, piece in enumerate(pieces)
    )
    parsed = parse_answer(text, space=CoordinateSpace.SEEN_PIXELS, seen=())
    answer = Answer(text, FinishReason.STOP, parsed=parsed, tokens=tokens)
    picture = assistant.stage(png(width=280, height=140), "plate.png")
    form = judge(FormFiller(assistant).finish(FillPlan(TEMPLATE, look_at=LookAt.NONE), picture, answer).form)
    load = form.judged("load")
    assert load.value.is_null and load.reading.forced == "50" and load.state is FieldState.DOUBTFUL
    assert [each.code for each in load.doubts] == ["forms.doubt.forced"]
    assert form.judged("serial").value.value == "AB-123"


@pytest.mark.parametrize(
    ("least", "areas", "is_blown_up"),
    [
        (43008, (50960,), True),
        (43008, (50960, 101920, 203840), True),
        (3136, (442368, 602112, 1003520), False),
        (200704, (442368, 1003520), False),
    ],
    ids=["one-size", "few-sizes", "published", "from-256-tokens"],
)
def test_a_crop_stays_in_its_place_where_small_pictures_are_blown_up(
    least: int, areas: tuple[int, ...], is_blown_up: bool
) -> None:
    """What decides is the lowest size beside the least one, and not how far up a model's sizes go."""
    names = (Detail.BALANCED, Detail.DETAIL, Detail.DOCUMENT)
    rungs = tuple(Rung(name, area, area // 784) for name, area in zip(names, areas, strict=False))
    plan = SizePlan(28, least, rungs, Detail.BALANCED, 4096)
    with_plan = SimpleNamespace(status=SimpleNamespace(engine=SimpleNamespace(plan=plan)))
    assert _blows_crops_up(cast(Assistant, with_plan)) is is_blown_up


_IN_TWO_ZONES = """
import json, os, sys, time
from datetime import date, timedelta
from pathlib import Path
from qwen_vl_app.forms import FieldType, FillPlan, FormField, FormFiller, FormTemplate, judge
from qwen_vl_app.forms.filled import dump_form, load_form
from tests.forms.parts import PlateModel, form_assistant
from tests.ui.fakes import png

def doubted(form):
    return [each.field.key for each in judge(form).fields if each.doubts]

found, kept = [], []
model = PlateModel()
with form_assistant(Path(sys.argv[1]), model) as assistant:
    assistant.wait_until_loaded(60)
    for zone in ("AAA-14", "BBB+12"):
        os.environ["TZ"] = zone
        time.tzset()
        today = date(*time.localtime()[:3])
        model.form = {"on": today.isoformat(), "next": (today + timedelta(days=1)).isoformat()}
        template = FormTemplate("t", tuple(FormField(key, type=FieldType.DATE, latest="today") for key in model.form))
        form = FormFiller(assistant).fill(FillPlan(template), assistant.stage(png(width=280, height=140), "a.png")).form
        kept.append(dump_form(form))
        old = json.loads(kept[0]) | {"filled_at": "2026-03-01T11:30:00+00:00"}
        del old["filled_on"]
        found.append([doubted(form), [doubted(load_form(each)) for each in kept], str(load_form(json.dumps(old)).day)])
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the machine's zone cannot be another one here")
def test_today_is_the_sites_day_and_stays_it(tmp_path: Path) -> None:
    """East of Greenwich the day begins before UTC's, west of it later: at every hour one of these two is on another day.

    It is written down with the form, so that judging it anew, in whatever zone, says the same; of forms that were kept
    before, the machine's zone tells the day.
    """
    told = subprocess.run(
        [sys.executable, "-c", _IN_TWO_ZONES, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout.splitlines()[-1]) == [
        [["next"], [["next"]], "2026-03-02"],
        [["next"], [["next"], ["next"]], "2026-02-28"],
    ]
