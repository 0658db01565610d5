"""What of a JSON Schema a grammar can hold an answer to: the schema rewritten with those rules alone, and the names of the rest.

Knows JSON Schema (2020-12, and the older names of the same things) and which of its rules can be followed while a text is
written from left to right. Does not know tokens or models. What is rewritten never lets in more than the rules it kept, and
never forces a value that the schema leaves open.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from qwen_vl_app.engine.form_patterns import grammar_pattern, length_pattern, weight_of
from qwen_vl_app.engine.json_schemas import (
    MERGES,
    RULES,
    Schema,
    UnenforceableError,
    are_apart,
    bound_of,
    can_end,
    count_of,
    harmless,
    is_of,
    types_of,
    unconcerned,
    values_in_both,
)

MOST_PARTS = 5000
"""Schemas within a schema, those that references and combinations multiply included."""
MOST_OPTIONAL = 64
"""Properties of one object that may be missing: the grammar grows with the square of their number."""
MOST_COMPARED = 5_000_000
"""Characters of options that are looked at to see whether two of them are apart, each one beside every other."""
DEEPEST = 60
MOST_REPEATED = 100_000
"""The largest count of signs or items that is enforced; no answer comes near it."""
WIDEST_INTEGER = 2**62
FINEST_DECIMALS = 6
COARSEST_STEP = 1000
MOST_WEIGHT = 3000
"""About how many milliseconds a grammar's expressions and steps may take to be made ready, while everybody waits for the
model. What comes after that is not enforced."""
FORMATS: Mapping[str, int] = {
    "date": 2, "time": 2, "date-time": 2, "duration": 5, "email": 20, "uuid": 2, "ipv4": 2, "ipv6": 5, "hostname": 12, "uri": 30,
}  # fmt: skip
"""What each one weighs."""
_RESTS: Mapping[str, frozenset[str]] = {
    "items": frozenset({"prefixItems"}),
    "additionalProperties": frozenset({"properties", "patternProperties"}),
}
NOTHING: Schema = {"enum": []}
_ANNOTATIONS = frozenset(
    {
        "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$comment", "$schema",
        "$id", "$anchor", "$defs", "definitions", "$vocabulary", "contentEncoding", "contentMediaType", "contentSchema",
        "discriminator", "nullable", "strict", "name",
    }
)  # fmt: skip
_OTHER_RULES = frozenset(
    {
        "not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains", "dependentRequired",
        "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef", "additionalItems", "multipleOf",
    }
)  # fmt: skip
"""Rules that need the whole text, or the text before. A word that is neither here nor above says nothing of the answer."""


@dataclass(frozen=True, slots=True)
class FormRules:
    """The schema that a grammar is made of, as JSON text, and the names of the rules that it leaves out."""

    schema: str
    relaxed: tuple[str, ...] = ()


def form_rules(schema: str, *, is_open: bool = False) -> FormRules:
    """Return what can be held of a schema, whose properties may come in any order and be left out where it `is_open`.

    Raises UnenforceableError.
    """
    try:
        document = json.loads(schema)
        return _Rewriting(document, is_open=is_open).whole()
    except (RecursionError, ValueError) as error:
        raise UnenforceableError("schema") from error


class _NothingFitsError(Exception):
    """This part of the schema allows no value; what may be left out or replaced by another option, is."""


class _Rewriting:
    """One schema on its way."""

    def __init__(self, document: Any, *, is_open: bool) -> None:
        self.document = document
        self.is_open = is_open
        self.relaxed: set[str] = set()
        self.definitions: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        """By the reference's target, what it is called here."""
        self.parts = 0
        self.compared = 0
        self.weight = 0
        self.step = 1
        """What all steps of integers have in common: side by side, they become one automaton of so many states."""

    def whole(self) -> FormRules:
        try:
            root = self.part(self.document, 0)
        except _NothingFitsError as error:
            raise UnenforceableError("schema") from error
        if not can_end(root, self.definitions):
            raise UnenforceableError("$ref")
        used = {name: each for name, each in self.definitions.items() if each is not NOTHING}
        root = {**root, "$defs": used} if used else root
        text = json.dumps(root, ensure_ascii=False, separators=(",", ":"))
        return FormRules(text, tuple(sorted(self.relaxed)))

    def part(self, schema: Any, depth: int) -> Schema:
        self.count()
        if depth > DEEPEST:
            raise UnenforceableError("schema")
        if schema is False:
            raise _NothingFitsError
        if not isinstance(schema, dict):
            return {}
        if isinstance(schema.get("$ref"), str) and not (schema.keys() & (RULES | _OTHER_RULES)) - {"$ref"}:
            return {"$ref": f"#/$defs/{self.named(schema['$ref'], depth)}"}
        flat = self.flat(schema, ())
        if flat is False:
            raise _NothingFitsError
        self.relaxed.update(flat.keys() & (_OTHER_RULES - {"multipleOf"}) - harmless(flat))
        for combination in ("anyOf", "oneOf"):
            if isinstance(flat.get(combination), list):
                return self.options(flat, combination, depth)
        if "const" in flat or "enum" in flat:
            return self.listed(flat)
        names = types_of(flat)
        if names is None:
            self.relaxed.update(flat.keys() & RULES - {"required"})
            return {}
        return _any_of([found for name in names if (found := self.typed(flat, name, depth)) is not None])

    def count(self, more: int = 1) -> None:
        """Take note of parts before there are any of them. Raises UnenforceableError where there are too many."""
        self.parts += more
        if self.parts > MOST_PARTS:
            raise UnenforceableError("schema")

    def may_weigh(self, weight: int) -> bool:
        """Return whether a rule of such a weight is enforced, and take note of it where it is."""
        is_light = self.weight + weight <= MOST_WEIGHT
        self.weight += weight if is_light else 0
        return is_light

    def expression(self, pattern: Any) -> str | None:
        """Return what a grammar can hold to in place of an expression; None where there is none, or it weighs too much."""
        found = grammar_pattern(pattern) if isinstance(pattern, str) else None
        return found if found is not None and self.may_weigh(weight_of(pattern)) else None

    # References and combinations

    def named(self, reference: str, depth: int) -> str:
        """Return the name of what a reference points at, rewritten once however often it is used."""
        if reference not in self.names:
            target = self.target(reference)
            name = self.names[reference] = f"d{len(self.names)}"
            try:
                self.definitions[name] = self.part(target, depth + 1)
            except _NothingFitsError:
                self.definitions[name] = NOTHING
        if self.definitions.get(self.names[reference]) is NOTHING:
            raise _NothingFitsError
        return self.names[reference]

    def target(self, reference: str) -> Any:
        if reference == "#":
            return self.document
        if not reference.startswith("#/"):
            raise UnenforceableError("$ref")
        found = self.document
        for step in reference[2:].split("/"):
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise UnenforceableError("$ref")
        return found

    def flat(self, schema: Any, behind: tuple[str, ...]) -> Any:
        """Return a schema in which a reference beside rules, and everything under `allOf`, is merged into one."""
        self.count()
        if not isinstance(schema, dict):
            return schema is not False and {}
        merged: Any = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        inner: list[Any] = []
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in behind:
                self.relaxed.add("$ref")
            else:
                inner.append(self.flat(self.target(reference), (*behind, reference)))
        if isinstance(schema.get("allOf"), list):
            inner += [self.flat(each, behind) for each in schema["allOf"]]
        for each in inner:
            merged = self.both(merged, each)
        return merged

    def both(self, left: Any, right: Any) -> Any:
        """Return one schema for two that hold together; False where nothing fits both."""
        if left is False or right is False:
            return False
        for rest, named in _RESTS.items():
            # The rule for the rest means the rest of its own schema, which is lost where two become one.
            for one, other in ((left, right), (right, left)):
                if (
                    rest in one
                    and one[rest] is not True
                    and any(one.get(key) != other.get(key) for key in named & other.keys())
                ):
                    self.relaxed.add(rest)
        merged: Schema = dict(left)
        for key, value in right.items():
            if key not in merged or merged[key] == value or key in _ANNOTATIONS:
                merged.setdefault(key, value)
            elif key in MERGES:
                if key == "anyOf":  # two lists multiply, and a third one multiplies what came of them
                    self.count(len(merged[key]) * len(value))
                merged[key] = MERGES[key](merged[key], value)
            else:
                self.relaxed.add(key)
        return False if "const" in left.keys() & right.keys() and left["const"] != right["const"] else merged

    def options(self, flat: Schema, combination: str, depth: int) -> Schema:
        beside = {key: value for key, value in flat.items() if key != combination and key not in _ANNOTATIONS}
        found: list[Schema] = []
        for option in flat[combination]:
            try:
                found.append(self.part({"allOf": [beside, option]} if beside else option, depth + 1))
            except _NothingFitsError:
                continue
        if combination == "oneOf" and not self.are_apart(flat[combination]):
            self.relaxed.add("oneOf")
        return _any_of(found)

    def are_apart(self, options: Sequence[Any]) -> bool:
        """Return whether it is plain that no value fits two of the options; of very many, nothing is plain."""
        flat = [self.flat(each, ()) for each in options]
        if self.compared <= MOST_COMPARED:
            self.compared += len(flat) * len(json.dumps(flat))
        if self.compared > MOST_COMPARED:
            return False
        kinds = [types_of(each) if isinstance(each, dict) else None for each in flat]
        for at, one in enumerate(flat):
            for other_at in range(at):
                if not are_apart(one, flat[other_at], kinds[at], kinds[other_at]):
                    return False
        return True

    # Values

    def listed(self, flat: Schema) -> Schema:
        values = [flat["const"]] if "const" in flat else flat["enum"]
        if "const" in flat and isinstance(flat.get("enum"), list):
            values = values_in_both(values, flat["enum"])
        names = types_of(flat) if "type" in flat else None
        fitting = [each for each in values if names is None or any(is_of(each, name) for name in names)]
        self.relaxed.update(flat.keys() & RULES - {"const", "enum", "type"} - unconcerned(fitting))
        if not fitting:
            raise _NothingFitsError
        return {"enum": fitting} if len(fitting) > 1 else {"const": fitting[0]}

    def typed(self, flat: Schema, name: str, depth: int) -> Schema | None:
        try:
            match name:
                case "object":
                    return self.object(flat, depth)
                case "array":
                    return self.array(flat, depth)
                case "string":
                    return self.string(flat)
                case "integer" | "number":
                    return self.number(flat, name)
                case _:
                    return {"type": name}
        except _NothingFitsError:
            return None

    def string(self, flat: Schema) -> Schema:
        least, most = self.counts(flat, "minLength", "maxLength")
        form = flat.get("format")
        form = form if isinstance(form, str) and form in FORMATS else None
        pattern = None
        if isinstance(flat.get("pattern"), str):
            pattern = self.expression(flat["pattern"])
            if pattern is None:
                self.relaxed.add("pattern")
        if pattern is None and form is not None and not self.may_weigh(FORMATS[form]):
            self.relaxed.add("format")
            form = None
        if pattern is not None or form is not None:
            if "minLength" in flat or "maxLength" in flat:
                self.relaxed.update(flat.keys() & {"minLength", "maxLength"})
            if pattern is None:
                return {"type": "string", "format": form}
            if form is not None:
                self.relaxed.add("format")
            return {"type": "string", "pattern": pattern}
        if not least and not most:
            return {"type": "string"}
        return {"type": "string", "pattern": length_pattern(least.get("minLength", 0), most.get("maxLength"))}

    def counts(self, flat: Schema, least: str, most: str) -> tuple[Schema, Schema]:
        """Return the two limits of a count as far as they are enforced."""
        low, high = count_of(flat.get(least)), count_of(flat.get(most))
        if low is not None and high is not None and low > high:
            raise _NothingFitsError
        if low is not None and low > MOST_REPEATED:
            self.relaxed.add(least)
            low = None
        if high is not None and high > MOST_REPEATED:
            self.relaxed.add(most)
            high = None
        return ({} if not low else {least: low}), ({} if high is None else {most: high})

    def number(self, flat: Schema, name: str) -> Schema:
        low = bound_of(flat, "minimum", "exclusiveMinimum", is_low=True)
        high = bound_of(flat, "maximum", "exclusiveMaximum", is_low=False)
        if name == "integer":
            return self.integer(flat, low, high)
        written: Schema = {"type": "number"}
        for bound, key, open_key in ((low, "minimum", "exclusiveMinimum"), (high, "maximum", "exclusiveMaximum")):
            if bound is None:
                continue
            value, is_open = bound
            if abs(value) > 1e12 or (value and round(value, FINEST_DECIMALS) != value):
                self.relaxed.add(open_key if is_open else key)
            else:
                written[open_key if is_open else key] = value
        if low is not None and high is not None:
            is_open = low[1] or high[1]
            if low[0] > high[0] or (low[0] == high[0] and is_open):
                raise _NothingFitsError
        if "multipleOf" in flat:
            self.relaxed.add("multipleOf")
        return written

    def integer(self, flat: Schema, low: tuple[float, bool] | None, high: tuple[float, bool] | None) -> Schema:
        written: Schema = {"type": "integer"}
        if low is not None:
            least = math.floor(low[0]) + 1 if low[1] else math.ceil(low[0])
            written["minimum"] = least
        if high is not None:
            most = math.ceil(high[0]) - 1 if high[1] else math.floor(high[0])
            written["maximum"] = most
        if "minimum" in written and "maximum" in written and written["minimum"] > written["maximum"]:
            raise _NothingFitsError
        for key in ("minimum", "maximum"):
            if abs(written.get(key, 0)) > WIDEST_INTEGER:
                self.relaxed.add(key)
                del written[key]
        step = flat.get("multipleOf")
        if step is not None:
            if (
                is_of(step, "integer")
                and step > 0
                and len(written) == 1
                and math.lcm(self.step, int(step)) <= COARSEST_STEP
                and self.may_weigh(int(step) ** 2 // 5000 + 1)
            ):
                self.step = math.lcm(self.step, int(step))
                written["multipleOf"] = int(step)
            elif step != 1:
                self.relaxed.add("multipleOf")
        return written

    def array(self, flat: Schema, depth: int) -> Schema:
        least, most = self.counts(flat, "minItems", "maxItems")
        written: Schema = {"type": "array"}
        prefix = flat.get("prefixItems")
        items = flat.get("items", True)
        if isinstance(items, list):  # as prefixItems were written before 2020
            prefix, items = items, flat.get("additionalItems", True)
        if isinstance(prefix, list) and prefix:
            return self.tuple(prefix, flat, depth)
        if items is False:
            return {"type": "array", "maxItems": 0}
        try:
            written["items"] = self.part(items, depth + 1)
        except _NothingFitsError:
            if least:
                raise
            return {"type": "array", "maxItems": 0}
        return written | least | most

    def tuple(self, prefix: Sequence[Any], flat: Schema, depth: int) -> Schema:
        """Return a list of exactly the described items: what may follow them is left out."""
        low, high = count_of(flat.get("minItems")), count_of(flat.get("maxItems"))
        if high is not None and high < len(prefix):
            prefix = prefix[:high]
        if low is not None and low > len(prefix):
            self.relaxed.add("minItems")
        return {
            "type": "array",
            "prefixItems": [self.part(each, depth + 1) for each in prefix],
            "items": False,
            "minItems": len(prefix),
            "maxItems": len(prefix),
        }

    def object(self, flat: Schema, depth: int) -> Schema:
        properties = flat.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = [name for name in flat.get("required") or () if isinstance(name, str) and not self.is_open]
        more = flat.get("additionalProperties")
        written: Schema = {}
        for name, each in properties.items():
            try:
                written[name] = self.part(each, depth + 1)
            except _NothingFitsError:
                if name in required:
                    raise
        for name in required:
            if name not in written:
                written[name] = self.part(more if isinstance(more, dict) else more is not False, depth + 1)
        if len(written.keys() - set(required)) > MOST_OPTIONAL and not self.is_open:
            raise UnenforceableError("properties")
        found: Schema = {"type": "object"}
        if written or properties:
            # With properties named, no others are written: a name twice would make the first one void.
            found |= {
                "properties": written,
                "required": [name for name in written if name in required],
                "additionalProperties": False,
            }
            self.relaxed.update(flat.keys() & {"patternProperties", "propertyNames"})
            if self.is_open and written:  # each name once; which of them come twice, no grammar counts
                return found | {"maxProperties": len(written)}
            least, most = count_of(flat.get("minProperties")), count_of(flat.get("maxProperties"))
            if (least or 0) > len(found["required"]):
                self.relaxed.add("minProperties")
            if most is not None and most < len(written):
                self.relaxed.add("maxProperties")
            return found
        return found | self.open_object(flat, more, depth)

    def open_object(self, flat: Schema, more: Any, depth: int) -> Schema:
        """Return the rules of an object whose names are not known."""
        self.relaxed.update(flat.keys() & {"minProperties"})  # one name could come twice and count twice
        by_pattern = flat.get("patternProperties")
        if isinstance(by_pattern, dict) and by_pattern:
            self.relaxed.update(flat.keys() & {"propertyNames", "maxProperties"})
            patterns = {self.expression(name): each for name, each in by_pattern.items()}
            if None in patterns or len(patterns) > 1 or isinstance(more, dict):
                self.relaxed.add("patternProperties")
                return {"additionalProperties": {}}
            return {
                "patternProperties": {name: self.part(each, depth + 1) for name, each in patterns.items()},
                "additionalProperties": False,
            }
        found: Schema = {}
        names = flat.get("propertyNames")
        if isinstance(names, dict):
            pattern = self.expression(names.get("pattern"))
            if pattern is None or len(names.keys() - _ANNOTATIONS - {"type"}) > 1 or more is not None:
                self.relaxed.add("propertyNames")
            else:
                found["propertyNames"] = {"pattern": pattern}
        if more is False:
            return {"properties": {}, "additionalProperties": False}
        if not found:
            found["additionalProperties"] = self.part(more if isinstance(more, dict) else True, depth + 1)
        most = count_of(flat.get("maxProperties"))
        if most is not None:
            found["maxProperties"] = most
        return found


def _any_of(found: list[Schema]) -> Schema:
    if not found:
        raise _NothingFitsError
    return found[0] if len(found) == 1 else {"anyOf": found}
