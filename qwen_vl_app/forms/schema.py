"""A template as JSON Schema: what an answer must look like; and a JSON Schema that a person has as a template.

Every field may be null or left out, whatever else it may be: a grammar that forces a value, or only a field's name, forces an
invention. Values are text, as they
stand on the picture; what they mean is computed afterwards, so that a number is not bent to fit. Does not know grammars.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.fields import Choice, FieldType, FormField, Names
from qwen_vl_app.forms.template import MAX_FIELDS, FormTemplate, checked, slug

MAX_ITEMS = 200
MAX_DEPTH = 4
"""Objects within objects whose fields are taken."""
MAX_STEPS = 16
"""References, choices and parts behind one property."""
_NULLABLE_TEXT: dict[str, JsonValue] = {"type": ["string", "null"]}


def reading_schema(template: FormTemplate, language: str) -> dict[str, JsonValue]:
    """Return the schema of the answer that a filling asks for: its keys are the names asked for in that language."""
    properties: dict[str, JsonValue] = {field.asked_as(language): _of(field, language) for field in template.fields}
    return _object(properties)


def _object(properties: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return an object that may leave any property out: a model that is made to write a name makes up its value."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _of(field: FormField, language: str) -> JsonValue:
    match field.type:
        case FieldType.CHOICE:
            words: list[JsonValue] = []
            for choice in field.choices:
                words += [word for word in (choice.value, *choice.also) if word not in words]
            return {"enum": [*words, None]}
        case FieldType.LIST:
            return {"type": ["array", "null"], "items": _NULLABLE_TEXT, "maxItems": MAX_ITEMS}
        case FieldType.TABLE:
            cells: dict[str, JsonValue] = {column.asked_as(language): _of(column, language) for column in field.columns}
            return {"type": ["array", "null"], "items": _object(cells), "maxItems": MAX_ITEMS}
    return _NULLABLE_TEXT


def template_from_schema(document: str, *, name: str = "") -> FormTemplate:
    """Return the template of a JSON Schema that was pasted. Raises FormError where it is none, or describes no form."""
    try:
        schema = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise FormError("forms.schema.not_json") from error
    if not isinstance(schema, dict):
        raise FormError("forms.schema.no_object")
    if "properties" not in schema and isinstance(schema.get("schema"), dict):
        schema = schema["schema"]  # as other programs' response formats wrap it
    try:
        validator_for(schema).check_schema(schema)
    except (SchemaError, RecursionError) as error:
        raise FormError("forms.schema.invalid") from error
    definitions = {**_mapping(schema.get("definitions")), **_mapping(schema.get("$defs"))}
    schema = _resolved(schema, definitions, name="")
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        raise FormError("forms.schema.no_object")
    found = _flat(properties, definitions, _wanted(schema))
    if len(found) > MAX_FIELDS:
        raise FormError("forms.template.too_many_fields", limit=MAX_FIELDS)
    title = str(schema.get("title") or "").strip()[:100]
    keys = _free_keys(found)
    fields = tuple(
        _field(keys[label], label, each, definitions, is_required=is_wanted)
        for label, (each, is_wanted) in found.items()
    )
    return checked(FormTemplate(name=slug(name or title), fields=fields, title=names_for(title or name)))


def _flat(
    properties: Mapping[str, Any], definitions: Mapping[str, Any], wanted: Collection[str], *, depth: int = 0
) -> dict[str, tuple[object, bool]]:
    """Return the properties with those of objects within it in the object's place: `address` and `city` make `address city`."""
    found: dict[str, tuple[object, bool]] = {}
    for label, each in properties.items():
        described = _resolved(each, definitions, name=label)
        inner = _mapping(described.get("properties"))
        if _kind(described) == "object" and inner and depth < MAX_DEPTH:
            within = _flat(inner, definitions, _wanted(described), depth=depth + 1)
            found |= {f"{label} {name}": (one, is_it and label in wanted) for name, (one, is_it) in within.items()}
        else:
            found[label] = (described, label in wanted)
    return found


def _wanted(schema: Mapping[str, Any]) -> Collection[str]:
    required = schema.get("required")
    return {str(key) for key in required} if isinstance(required, list) else set()


def _free_keys(labels: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """Return a key for each label; labels without Latin letters are counted."""
    keys: dict[str, str] = {}
    for number, label in enumerate(labels, 1):
        key = slug(label, fallback=f"field_{number}")
        while key in keys.values():
            key = f"{key}_{number}"
        keys[label] = key
    return keys


def names_for(label: str) -> Names:
    """Return a label as the name in the language that it is written in."""
    text = " ".join(label.split())[:100]
    is_chinese = any("\u3400" <= char <= "\u9fff" for char in text)
    return Names(zh=text) if is_chinese else Names(en=text)


def _field(
    key: str, label: str, found: object, definitions: Mapping[str, Any], *, is_required: bool, depth: int = 0
) -> FormField:
    described = _resolved(found, definitions, name=label)
    hint = str(described.get("description") or "").strip()[:300]
    names, hints = names_for(label), names_for(hint) if hint else Names()
    options = described.get("enum") or ([described["const"]] if "const" in described else None)
    if isinstance(options, list) and any(option is not None for option in options):
        choices = tuple(Choice(str(option)) for option in options if option is not None)
        return FormField(key, names, FieldType.CHOICE, is_required=is_required, choices=choices, hint=hints)
    pattern = str(described.get("pattern") or "")
    kind = _kind(described)
    match kind:
        case "integer" | "number":
            return FormField(
                key,
                names,
                FieldType.INTEGER if kind == "integer" else FieldType.NUMBER,
                is_required=is_required,
                minimum=_limit(described, "minimum", "exclusiveMinimum"),
                maximum=_limit(described, "maximum", "exclusiveMaximum"),
                hint=hints,
            )
        case "boolean":
            yes = Choice("yes", ("true", "Yes", "是", "√", "✓"))
            no = Choice("no", ("false", "No", "否", "×"))
            return FormField(key, names, FieldType.CHOICE, is_required=is_required, choices=(yes, no), hint=hints)
        case "array":
            item = _resolved(described.get("items"), definitions, name=label)
            inner = _mapping(item.get("properties"))
            if inner and depth == 0:
                keys = _free_keys(inner)
                columns = tuple(
                    _field(keys[name], name, each, definitions, is_required=False, depth=1)
                    for name, each in inner.items()
                )
                return FormField(key, names, FieldType.TABLE, is_required=is_required, columns=columns, hint=hints)
            return FormField(key, names, FieldType.LIST, is_required=is_required, hint=hints)
        case "object":
            raise FormError("forms.schema.nested", name=label[:60])
    if described.get("format") in ("date", "date-time"):
        return FormField(key, names, FieldType.DATE, is_required=is_required, hint=hints)
    return FormField(key, names, FieldType.TEXT, is_required=is_required, pattern=_anchored(pattern), hint=hints)


def _resolved(found: object, definitions: Mapping[str, Any], *, name: str, steps: int = MAX_STEPS) -> dict[str, Any]:
    """Return a property's own description: through references within the document, past "or null", with all of `allOf`.

    Raises FormError for a reference that leads nowhere, or back to itself.
    """
    while isinstance(found, dict):
        steps -= 1
        if steps < 0:
            raise FormError("forms.schema.own_reference", name=name[:60])
        reference = found.get("$ref")
        options = found.get("anyOf") or found.get("oneOf")
        parts = found.get("allOf")
        if isinstance(reference, str):
            beside = {key: value for key, value in found.items() if key != "$ref"}
            found = definitions.get(reference.rpartition("/")[2])
            if reference == "#":
                raise FormError("forms.schema.own_reference", name=name[:60])
            if not isinstance(found, dict):
                raise FormError("forms.schema.no_reference", reference=reference[:60])
            found = {**found, **beside}
        elif isinstance(parts, list):
            whole = {key: value for key, value in found.items() if key != "allOf"}
            for part in parts:
                more = _resolved(part, definitions, name=name, steps=steps)
                merged = {**_mapping(whole.get("properties")), **_mapping(more.get("properties"))}
                wanted = [*_wanted(whole), *_wanted(more)]
                whole = {**more, **whole, "properties": merged, "required": wanted}
                whole = {key: value for key, value in whole.items() if value not in ({}, [])}
            found = whole
        elif isinstance(options, list):
            real = [_resolved(each, definitions, name=name, steps=steps) for each in options]
            real = [each for each in real if each.get("type") != "null"]
            found = {**found, "anyOf": None, "oneOf": None, **_one_of(real)}
        else:
            return found
    return {}


def _one_of(options: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what can be said of a value that is one of several: their values to choose from, or their kind."""
    values = [value for each in options for value in (each.get("enum") or ([each["const"]] if "const" in each else []))]
    if options and all("enum" in each or "const" in each for each in options):
        return {"enum": values}
    kinds = {_kind(each) for each in options}
    if kinds == {"object"}:
        properties = {name: found for each in options for name, found in _mapping(each.get("properties")).items()}
        return {"type": "object", "properties": properties}  # each of them may be null in any case
    return options[0] if len(kinds) == 1 else {"type": "string"}


def _kind(described: Mapping[str, Any]) -> str:
    kind = described.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "string")
    if kind is None and "properties" in described:
        return "object"
    return str(kind or "string")


def _limit(described: Mapping[str, Any], *names: str) -> float | None:
    for name in names:
        value = described.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _anchored(pattern: str) -> str:
    """A schema's pattern may match anywhere within the text; a field's matches the whole of it."""
    if not pattern:
        return ""
    if pattern.startswith("^") and pattern.endswith("$"):
        return pattern[1:-1]
    return f".*(?:{pattern}).*"


def _mapping(found: object) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}
