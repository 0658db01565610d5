"""What a model is told of a form: the fields' names where they say it all, the schema where they do not."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from qwen_vl_app.api.form_words import words_of


class Reading(BaseModel):
    """As a program writes down what it wants."""

    temp: str = Field(description="Degrees\n  Celsius")
    flow: float | None
    lamp: Literal["on", "off"]
    note: str = "none"


class Readings(BaseModel):
    """A form within a form."""

    rows: list[Reading]


def test_a_flat_form_is_told_by_its_fields_names_and_meanings() -> None:
    """The schema itself is what small models lose the picture over."""
    assert words_of(Reading.model_json_schema(), is_held=True).splitlines() == [
        "temp: Degrees Celsius",
        'lamp: one of "on", "off"',
        'Answer with JSON in the format:{"temp": "", "flow": "", "lamp": "", "note": ""}',
    ]


@pytest.mark.parametrize(
    "schema",
    [
        Readings.model_json_schema(),
        {"type": "array", "items": {"type": "string"}},
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "[0-9]+"}}},
        {"type": "object", "properties": {"a": {"type": ["array", "null"]}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
        {"type": "object", "properties": {"a": {"enum": [{"b": 1}]}}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "number"}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "minProperties": 1},
    ],
)
def test_what_names_cannot_say_is_told_as_the_schema(schema: dict[str, Any]) -> None:
    """Nothing of a form is kept from the model."""
    assert json.dumps(schema, separators=(",", ":")) in words_of(schema, is_held=True)


def test_a_form_that_nobody_holds_to_is_told_whole() -> None:
    """Types and choices are the model's own to keep there."""
    schema = Reading.model_json_schema()
    assert json.dumps(schema, separators=(",", ":")) in words_of(schema, is_held=False)
    assert "nothing else" in words_of(None, is_held=False)


def test_any_object_is_asked_for_in_few_words() -> None:
    """That it is one object is held to."""
    assert words_of(None, is_held=True) == "Answer as JSON."
