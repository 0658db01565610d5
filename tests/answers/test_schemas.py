"""Null is possible wherever a picture may show nothing, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from qwen_vl_app.answers import canonical_schema, nullable_schema, with_absent

PLATE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "serial": {"type": "string", "pattern": "[0-9]+"},
        "state": {"enum": ["on", "off"]},
        "volts": {"type": ["integer", "null"], "minimum": 0},
        "unit": {"const": "V"},
        "maker": {"$ref": "#/$defs/maker"},
        "rows": {"type": "array", "items": {"type": "number"}, "minItems": 1},
    },
    "required": ["serial"],
    "$defs": {"maker": {"type": "object", "properties": {"name": {"type": "string"}}}},
}
NOTHING = {"serial": None, "state": None, "volts": None, "unit": "V", "maker": None, "rows": None}


def nullable(schema: dict[str, Any]) -> Any:
    return json.loads(nullable_schema(canonical_schema(schema)))


def fits(schema: Any, value: object) -> bool:
    return bool(Draft202012Validator(schema).is_valid(value))


def test_a_picture_that_shows_nothing_has_an_answer() -> None:
    """Every field may be null, also behind a reference and inside a list."""
    schema = nullable(PLATE)
    Draft202012Validator.check_schema(schema)
    assert fits(schema, NOTHING)
    assert fits(schema, NOTHING | {"maker": {"name": None}, "rows": [None, 2]})


def test_what_fitted_before_still_fits() -> None:
    """Null comes beside the values, not in their place."""
    schema = nullable(PLATE)
    assert fits(schema, NOTHING | {"serial": "12", "state": "on", "volts": 3, "maker": {"name": "A"}, "rows": [1]})


@pytest.mark.parametrize(
    "changed", [{"serial": "x"}, {"state": "none"}, {"unit": None}, {"volts": -1}, {"rows": []}, {"maker": 1}]
)
def test_what_did_not_fit_still_does_not(changed: dict[str, Any]) -> None:
    """Rules hold for every value that is no null, and a constant stays."""
    assert not fits(nullable(PLATE), NOTHING | changed)


def test_what_is_left_out_is_null() -> None:
    """Many a model leaves out what it does not see; made to go on, it would write anything."""
    assert fits(nullable(PLATE), {"serial": "12"})
    assert fits(nullable(PLATE), {})
    text = canonical_schema(PLATE)
    assert with_absent({"serial": "12", "rows": [1], "more": 2}, text) == {
        "serial": "12", "state": None, "volts": None, "unit": None, "maker": None, "rows": [1], "more": 2
    }  # fmt: skip
    rows = canonical_schema({"type": "array", "items": {"type": "object", "properties": {"a": {}, "b": {}}}})
    assert with_absent([{"b": 1}, None], rows) == [{"a": None, "b": 1}, None]
    assert with_absent("words", text) == "words"


def test_the_whole_answer_is_no_null() -> None:
    """The form itself is always there."""
    assert not fits(nullable(PLATE), None)


def test_the_order_of_the_fields_stays() -> None:
    """It is the order in which the model answers, so that two orders are two questions."""
    assert list(nullable(PLATE)["properties"]) == list(PLATE["properties"])
    assert canonical_schema({"b": 1, "a": 2}) == '{"b":1,"a":2}'


def test_twice_is_as_once() -> None:
    """A schema that allows null already is left as it is."""
    once = nullable_schema(canonical_schema(PLATE))
    assert nullable_schema(once) == once
