"""JSON Schemas for answers: one way of writing each, and null for everything that a picture may not show.

Knows the keywords that hold schemas. Does not know who enforces them, or whether anybody can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from qwen_vl_app.chat import JsonValue

_SAME = ("anyOf", "oneOf", "allOf")
"""Lists of schemas for the value itself."""
_NAMED = ("$defs", "definitions", "dependentSchemas")


def canonical_schema(schema: Mapping[str, JsonValue]) -> str:
    """Return the one text of a schema. The order of its members stays: it is the order in which an answer is written."""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def nullable_schema(text: str) -> str:
    """Return a schema's text with null allowed for every property and every item, and with no property required.

    So nothing has to be invented: what is not on the picture is null or left out, as the model is used to. A model that
    is made to go on where it wanted to end writes anything. A `const` stays what it is, and so does the whole: an answer
    is not null.
    """
    schema: JsonValue = json.loads(text)
    return canonical_schema(_inside(schema)) if isinstance(schema, dict) else text


def is_schema(text: str) -> bool:
    """Return whether a text can be a schema at all: a JSON object, not nested without end."""
    try:
        return isinstance(json.loads(text), dict) and bool(nullable_schema(text))
    except (ValueError, RecursionError):
        return False


def with_absent(data: JsonValue, schema: str) -> JsonValue:
    """Return an answer's data with null for every property of the schema that was left out, in the schema's order."""
    try:
        return _completed(data, json.loads(schema))
    except (ValueError, RecursionError):
        return data


def _completed(data: JsonValue, schema: JsonValue) -> JsonValue:
    if not isinstance(schema, dict):
        return data
    properties = schema.get("properties")
    if isinstance(data, dict) and isinstance(properties, dict):
        found = {name: _completed(data[name], each) if name in data else None for name, each in properties.items()}
        return found | {name: value for name, value in data.items() if name not in properties}
    if isinstance(data, list) and "items" in schema:
        return [_completed(each, schema["items"]) for each in data]
    return data


def _inside(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the schema with null wherever it speaks of a part of the value."""
    changed = dict(schema)
    for key, value in schema.items():
        if key in ("items", "additionalProperties"):
            changed[key] = _or_null(value)
        elif key == "prefixItems" and isinstance(value, list):
            changed[key] = [_or_null(each) for each in value]
        elif key in ("properties", "patternProperties") and isinstance(value, dict):
            changed[key] = {name: _or_null(each) for name, each in value.items()}
        elif key in _SAME and isinstance(value, list):
            changed[key] = [_inside(each) if isinstance(each, dict) else each for each in value]
        elif key in _NAMED and isinstance(value, dict):
            changed[key] = {name: _inside(each) if isinstance(each, dict) else each for name, each in value.items()}
    changed.pop("required", None)
    return changed


def _or_null(schema: JsonValue) -> JsonValue:
    """Return a part's schema with null beside what it allows."""
    if not isinstance(schema, dict):
        return schema
    changed = _inside(schema)
    return changed if "const" in schema or _allows_null(schema) else {"anyOf": [changed, {"type": "null"}]}


def _allows_null(schema: dict[str, JsonValue]) -> bool:
    """Return whether it is plain that null fits; a doubt only costs one more mention of null."""
    options = schema.get("anyOf")
    if isinstance(options, list):
        return len(schema) == 1 and any(isinstance(each, dict) and _allows_null(each) for each in options)
    names = schema.get("type")
    is_named = names == "null" or (isinstance(names, list) and "null" in names)
    enum = schema.get("enum")
    is_listed = not isinstance(enum, list) or None in enum
    return is_named and is_listed and not {"not", "allOf", "oneOf", "$ref", "if"} & schema.keys()
