"""What a model is told of the form of its answer, beside the question.

Knows JSON schemas, and that a model which is held to one needs only the names and their meaning. Small models lose the
picture over a schema; by the fields' names alone the demo model reads what is there, which is how its family was taught
to extract fields. Does not know how an answer is held to it or checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from qwen_vl_app.chat import JsonValue

_SCALARS = frozenset({"string", "number", "integer", "boolean", "null"})
_SAID_BY_FIELD = frozenset({"type", "title", "description", "enum", "anyOf", "default"})
_SAID_BY_FORM = frozenset({"type", "title", "description", "properties", "required", "additionalProperties"})


def words_of(schema: Mapping[str, JsonValue] | None, *, is_held: bool) -> str:
    """Return the sentence for a form; None is any object.

    An answer that `is_held` to its form cannot miss it, so the names of its fields are enough where they say it all.
    """
    if schema is None:
        return "Answer as JSON." if is_held else "Answer with one JSON object and nothing else."
    fields = _flat(schema) if is_held else None
    if fields is None:
        return f"Answer with JSON that fits this JSON schema, and with nothing else:\n{written(schema)}"
    meanings = [f"{name}: {meaning}" for name, meaning in fields.items() if meaning]
    blank = json.dumps(dict.fromkeys(fields, ""), ensure_ascii=False)
    return "\n".join([*meanings, f"Answer with JSON in the format:{blank}"])


def written(schema: Mapping[str, JsonValue]) -> str:
    """Return a schema as compact JSON."""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _flat(schema: Mapping[str, JsonValue]) -> dict[str, str] | None:
    """Return each field's meaning in words (mostly none) where a schema is one object of plain values; otherwise None."""
    properties = schema.get("properties")
    required = schema.get("required", [])
    if schema.get("type") != "object" or not isinstance(properties, dict) or not properties:
        return None
    if not _SAID_BY_FORM.issuperset(schema) or isinstance(schema.get("additionalProperties", False), dict):
        return None
    if not isinstance(required, list) or not all(name in properties for name in required):
        return None
    meanings = {name: _meaning(each) for name, each in properties.items()}
    return None if None in meanings.values() else {name: meaning or "" for name, meaning in meanings.items()}


def _meaning(field: JsonValue) -> str | None:
    if not isinstance(field, dict) or not _SAID_BY_FIELD.issuperset(field):
        return None
    options = field.get("anyOf", [field])
    if not isinstance(options, list) or not all(_is_scalar(option) for option in options):
        return None
    said = field.get("description", "")
    choices = [json.dumps(each, ensure_ascii=False) for option in options for each in _choices(option)]
    words = " ".join(said.split()) if isinstance(said, str) else ""
    return "; ".join(part for part in (words, f"one of {', '.join(choices)}" if choices else "") if part)


def _is_scalar(option: JsonValue) -> bool:
    if not isinstance(option, dict) or not _SAID_BY_FIELD.issuperset(option):
        return False
    kinds = option.get("type", [])
    named = kinds if isinstance(kinds, list) else [kinds]
    if not named and not _choices(option):
        return False
    return all(kind in _SCALARS for kind in named) and all(
        not isinstance(each, dict | list) for each in _choices(option)
    )


def _choices(option: JsonValue) -> list[JsonValue]:
    found = option.get("enum", []) if isinstance(option, dict) else []
    return found if isinstance(found, list) else []
