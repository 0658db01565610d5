"""What a JSON Schema says at one place: the types it allows, its limits, and how two that hold at once become one.

Knows the names of JSON Schema's rules and the values that they are about. Does not know grammars or what is done with a schema.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

from qwen_vl_app.chat import JsonValue

Schema: TypeAlias = dict[str, Any]
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
OF_TYPE: Mapping[str, frozenset[str]] = {
    "object": frozenset(
        {"properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
         "maxProperties"}
    ),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "boolean": frozenset(),
    "null": frozenset(),
}  # fmt: skip
RULES = frozenset().union(*OF_TYPE.values()) | {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}


class UnenforceableError(Exception):
    """No grammar can be made of the schema: nothing would fit it, or it is too large. `rule` is what stands in the way."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def _both_types(left: Any, right: Any) -> list[str]:
    """Return the types in both; an integer is a number."""
    one, other = ([each] if isinstance(each, str) else list(each) for each in (left, right))
    both = [name for name in one if name in other or (name == "integer" and "number" in other)]
    return both + [name for name in other if name == "integer" and name not in both and "number" in one]


def _both_properties(left: Schema, right: Schema) -> Schema:
    both = {name: {"allOf": [each, right[name]]} if name in right else each for name, each in left.items()}
    return both | {name: each for name, each in right.items() if name not in left}


def values_in_both(left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
    """Return the values in both, as the first has them."""
    there = set(map(likeness, right))
    return [each for each in left if likeness(each) in there]


MERGES: Mapping[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
    **dict.fromkeys(("items", "additionalProperties", "propertyNames"), lambda left, right: {"allOf": [left, right]}),
    "type": _both_types,
    "required": lambda left, right: list(dict.fromkeys([*left, *right])),
    "properties": _both_properties,
    "enum": values_in_both,
    "anyOf": lambda left, right: [{"allOf": [one, other]} for one in left for other in right],
}
"""How one rule that stands in two schemas becomes one that says both."""


def can_end(root: Schema, definitions: Mapping[str, Schema]) -> bool:
    """Return whether some value of the schema is finite: one whose every object needs another of its kind has none."""
    ending: set[str] = set()

    def ends(part: Schema) -> bool:
        if "$ref" in part:
            return part["$ref"].removeprefix("#/$defs/") in ending
        if "anyOf" in part:
            return any(ends(each) for each in part["anyOf"])
        inner = [part["properties"][name] for name in part.get("required", ())]
        inner += part.get("prefixItems", ())
        inner += [part["items"]] if part.get("minItems") and isinstance(part.get("items"), dict) else []
        return all(ends(each) for each in inner)

    while more := {name for name, each in definitions.items() if name not in ending and ends(each)}:
        ending |= more
    return ends(root)


def types_of(flat: Schema) -> tuple[str, ...] | None:
    """Return the types that a schema names, or that its rules are about; None where any value will do."""
    named = flat.get("type")
    if named is None:
        meant = [name for name in ("object", "array", "string", "number") if flat.keys() & OF_TYPE[name]]
        return tuple(meant[:1]) if len(meant) == 1 else None
    names = [named] if isinstance(named, str) else named if isinstance(named, list) else [""]
    if any(name not in TYPES for name in names):
        raise UnenforceableError("type")
    if flat.get("nullable") is True and "null" not in names:  # as OpenAPI wrote it
        names = [*names, "null"]
    return tuple(name for name in dict.fromkeys(names) if not (name == "integer" and "number" in names))


def are_apart(one: Any, other: Any, kinds: tuple[str, ...] | None, other_kinds: tuple[str, ...] | None) -> bool:
    """Return whether no value fits both schemas, as far as that shows; `kinds` are the types that each allows, where known."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one is False or other is False
    if kinds is not None and other_kinds is not None and "type" in one and "type" in other:
        alike = {"number" if name == "integer" else name for name in kinds}
        if not alike & {"number" if name == "integer" else name for name in other_kinds}:
            return True
    values, other_values = values_of(one), values_of(other)
    if values is not None and other_values is not None:
        return set(map(likeness, values)).isdisjoint(map(likeness, other_values))
    if not isinstance(one.get("properties"), dict) or not isinstance(other.get("properties"), dict):
        return False
    shared = set(one.get("required") or ()) & set(other.get("required") or ())
    return any(
        are_apart(one["properties"].get(name), other["properties"].get(name), None, None)
        for name in shared & one["properties"].keys() & other["properties"].keys()
    )


def values_of(schema: Schema) -> list[Any] | None:
    """Return the values that a schema lists; None where it lists none."""
    if "const" in schema:
        return [schema["const"]]
    return schema["enum"] if isinstance(schema.get("enum"), list) else None


def likeness(value: Any) -> Hashable:
    """Return what two values have in common exactly where they are the same in JSON: of long lists, no pair need be compared."""
    if isinstance(value, list):
        return (list, *map(likeness, value))
    if isinstance(value, dict):
        return (dict, frozenset((name, likeness(each)) for name, each in value.items()))
    return (type(value), value) if isinstance(value, bool) else value


def is_of(value: JsonValue, name: str) -> bool:
    """Return whether a value is of a type by its name; a number without fraction is an integer."""
    match name:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return name == "number" or value == int(value)


def unconcerned(values: Sequence[JsonValue]) -> set[str]:
    """Return the rules that are about none of the values' types."""
    concerned = [rules for name, rules in OF_TYPE.items() if any(is_of(each, name) for each in values)]
    return set(RULES) - set().union(*concerned) - {"anyOf", "oneOf", "allOf", "$ref"}


def harmless(flat: Schema) -> set[str]:
    """Return the rules that say nothing as they stand."""
    harmless = {"uniqueItems"} if flat.get("uniqueItems") is False else set()
    if "if" not in flat:
        harmless |= {"then", "else"}
    if "contains" not in flat:
        harmless |= {"minContains", "maxContains"}
    if not isinstance(flat.get("items"), list):
        harmless.add("additionalItems")
    return harmless


def count_of(value: Any) -> int | None:
    """Return a count that a rule says; None where it is none."""
    return int(value) if is_of(value, "integer") and value >= 0 else None


def bound_of(flat: Schema, key: str, open_key: str, *, is_low: bool) -> tuple[float, bool] | None:
    """Return the narrower of two limits, and whether the limit itself is outside."""
    closed, opened = flat.get(key), flat.get(open_key)
    if opened is True:  # as draft 4 wrote it
        opened, closed = closed, None
    found: list[tuple[float, bool]] = []
    for value, is_open in ((closed, False), (opened, True)):
        if isinstance(value, int | float) and is_of(value, "number"):
            found.append((value, is_open))
    if not found:
        return None
    return max(found) if is_low else min(found, key=lambda each: (each[0], not each[1]))
