"""1.234 beside 12,5: a form's own numbers say whether its points begin decimals or group thousands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.forms import FieldState, FieldType, FilledForm, FormField, FormTemplate, JudgedForm, judge
from qwen_vl_app.forms.filled import Decision, DecisionKind, FieldReading

AT = datetime(2026, 1, 2, tzinfo=UTC)
COLUMN = FormField("weight", type=FieldType.NUMBER)
FIELDS = (
    FormField("load", type=FieldType.NUMBER, unit="kg"),
    FormField("other", type=FieldType.NUMBER),
    FormField("lines", type=FieldType.TABLE, columns=(COLUMN,)),
    FormField("words"),
)


def judged(*decisions: Decision, fields: tuple[FormField, ...] = FIELDS, **written: JsonValue) -> JudgedForm:
    """A form on which that is written, as a reviewer sees it."""
    readings = tuple(FieldReading(key, text, confidence=1.0) for key, text in written.items())
    return judge(FilledForm("f", FormTemplate("t", fields), "en", "a.png", "0" * 64, AT, readings), decisions)


def doubted(form: JudgedForm) -> list[str]:
    """The fields of which a number may be another one."""
    code = "forms.value.ambiguous_number"
    return [each.field.key for each in form.fields if code in [doubt.code for doubt in each.doubts]]


@pytest.mark.parametrize("other", ["12,5", "0,123 kg", "1.234,5", "-3,75 °C", "1,2345", "１２，５", "< 0,05"])
def test_a_point_beside_a_decimal_comma_is_doubted(other: str) -> None:
    """The form writes its decimals with a comma, so the point may group thousands: a person is asked, alone and in tables."""
    form = judged(load="1.234 kg", other=other, lines=[{"weight": "12.500"}, {"weight": "0.500"}, {"weight": "12.5"}])
    assert doubted(form) == ["load", "lines"]
    assert form.judged("load").value.value == 1.234  # as it was taken, and as the doubt says
    assert form.judged("load").state is FieldState.DOUBTFUL
    in_table = judged(load="1.234 kg", lines=[{"weight": other}])
    assert doubted(in_table) == ["load"]


@pytest.mark.parametrize("other", ["12.5", "1,234.5", "12,345,678", "1.500", "7", "V-1,5", "", None])
def test_a_point_alone_begins_the_decimals(other: JsonValue) -> None:
    """As it does nearly everywhere: three digits behind it are what a balance shows."""
    assert "load" not in doubted(judged(load="1.234 kg", other=other, words="12,5 and 3,5"))


def test_what_is_settled_is_not_doubted() -> None:
    """By the field's mark, by its range, or by a person who looked; a neighbour's mark tells as much as a number does."""
    load, other, *rest = FIELDS
    for mark in (".", ","):
        assert doubted(judged(fields=(replace(load, decimal_mark=mark), other), load="1.234", other="12,5")) == []
    assert doubted(judged(fields=(replace(load, maximum=100), other), load="1.234 kg", other="12,5")) == []
    assert doubted(judged(fields=(replace(load, maximum=9000), other), load="1.234 kg", other="12,5")) == ["load"]
    comma = replace(other, decimal_mark=",")
    assert doubted(judged(fields=(load, comma), load="1.234", other="7")) == ["load"]
    corrected = Decision("load", DecisionKind.CORRECTED, "1234", "Li Na", AT)
    form = judged(corrected, load="1.234", other="12,5")
    assert doubted(form) == [] and form.judged("load").value.value == 1234
    assert len(rest) == 2


@pytest.mark.parametrize("odd", [{"a": 1}, [1, [2]], [{"weight": [1]}], True, 3, 1.234, "\x00", "9" * 5000])
def test_no_answer_of_a_model_breaks_it(odd: JsonValue) -> None:
    """Whatever stands where a text was asked for."""
    assert doubted(judged(load=odd, other="12,5", lines=odd)) == []
