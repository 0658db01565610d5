"""Answers in a form: what the model is told, whether its answer fits, and what it is told when it does not.

Knows JSON and JSON schemas of the subset that can be checked safely. Follows no reference out of the schema and gives up
where one multiplies itself. Regular expressions are never run here, for one of them can keep a thread busy for years; the
engine holds answers to them in another way. A schema holds the form, not the truth: a field can be well-formed and wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from qwen_vl_app.answers import canonical_schema
from qwen_vl_app.api.form_words import words_of, written
from qwen_vl_app.chat import Answer, JsonValue
from qwen_vl_app.errors import UsageError
from qwen_vl_app.present_model import FormSupport

LARGEST_SCHEMA_CHARS = 64_000
MOST_REFERENCES = 10_000
"""References that one check follows; a schema whose references double at every level would never end."""
_REGULAR_EXPRESSIONS = frozenset({"pattern", "patternProperties"})
_BESIDE_PATTERNS = frozenset({"additionalProperties", "unevaluatedProperties"})
_BY_NAME = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
_DATA = frozenset({"enum", "const", "default", "examples", "required", "dependentRequired"})


class AnswerForm:
    """JSON, of a schema where one is given. Raises UsageError for a schema that cannot be used.

    `support` is what the engine holds of it. A form that `is_strict` is refused where the engine does not hold to one of
    its regular expressions; an answer that does not fit it is not passed on.
    """

    def __init__(
        self,
        schema: Mapping[str, JsonValue] | None = None,
        *,
        must_be_object: bool,
        field: str,
        is_strict: bool = True,
        support: Callable[[str], FormSupport] = lambda _: FormSupport(is_held=False),
    ) -> None:
        self.is_strict = is_strict
        self._must_be_object = must_be_object
        self._schema = schema = None if schema is None else _without_dialect(schema)
        self._checked: Mapping[str, JsonValue] | None = None
        if schema is not None:
            _require_safe(schema, field)
            try:
                Draft202012Validator.check_schema(schema)
                resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
                for key, value in _rules(schema):
                    if key == "$ref":
                        resolver.lookup(str(value))
            except (SchemaError, Unresolvable) as error:
                raise UsageError("api.bad_schema", field=field) from error
            self._checked = _without_expressions(schema)
        self.text = canonical_schema(schema if schema is not None else {"type": "object"})
        """The schema that the engine is given."""
        held = support(self.text)
        self.is_held = held.is_held and not held.unheld
        """Whether every rule is held to while the answer is written, so that it can go out as it comes."""
        if schema is not None and is_strict:
            unheld = _REGULAR_EXPRESSIONS if not held.is_held else _REGULAR_EXPRESSIONS & set(held.unheld)
            for key, _ in _rules(schema):
                if key in unheld:
                    raise UsageError("api.schema_rule", field=field, rule=key)

    def instruction(self) -> str:
        """Return what the model is told in addition to the question."""
        return words_of(self._schema, is_held=self.is_held)

    def misfit(self, text: str, answer: Answer | None) -> str | None:
        """Return what is wrong with an answer, in the words the model is told; None where it fits."""
        found, data = self._read(text, answer)
        if not found:
            return "the answer is not valid JSON"
        if self._must_be_object and not isinstance(data, dict):
            return "the answer is not a JSON object"
        if self._checked is None:
            return None
        try:
            errors = sorted(_checker(self._checked).iter_errors(data), key=_depth)
        except (
            Unresolvable,
            _TooManyReferencesError,
            RecursionError,
            OverflowError,
        ):  # of 1e400 no rule can be reckoned
            return "the answer does not fit the schema"
        return None if not errors else _said(errors[0])

    def fitted(self, text: str, answer: Answer | None) -> str:
        """Return the JSON alone of an answer that fits, as the model wrote it where it wrote nothing else."""
        try:
            _loads(text)
        except (ValueError, RecursionError):
            found, data = self._read(text, answer)
            return json.dumps(data, ensure_ascii=False) if found else text
        return text.strip()

    def repair(self, misfit: str) -> str:
        """Return what the model is told when its answer did not fit."""
        return f"That was not right: {misfit}. {self.instruction()}"

    @staticmethod
    def _read(text: str, answer: Answer | None) -> tuple[bool, Any]:
        try:
            return True, _loads(text)
        except (ValueError, RecursionError):
            parsed = answer.parsed if answer is not None else None
        if parsed is None or not parsed.has_data:
            return False, None
        try:
            json.dumps(parsed.data, allow_nan=False)
        except ValueError:
            return False, None
        return True, parsed.data


def _loads(text: str) -> Any:
    """Read JSON as other languages do: NaN and Infinity, which Python reads as well, are none."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise ValueError(name)


class _TooManyReferencesError(Exception):
    pass


def _checker(schema: Mapping[str, JsonValue]) -> Any:
    """Return a validator for one check: it counts the references that it follows."""
    follow = Draft202012Validator.VALIDATORS["$ref"]
    followed = count()

    def ref(validator: Any, target: str, instance: object, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
        if next(followed) >= MOST_REFERENCES:
            raise _TooManyReferencesError
        yield from follow(validator, target, instance, schema)

    # An empty registry: jsonschema would otherwise fetch what a reference names.
    counting = extend(Draft202012Validator, {"$ref": ref})  # type: ignore[no-untyped-call]
    return counting(schema, registry=Registry())


def _require_safe(schema: Mapping[str, JsonValue], field: str) -> None:
    if len(written(schema)) > LARGEST_SCHEMA_CHARS or _reaches_beyond_reckoning(schema):
        raise UsageError("api.bad_schema", field=field)
    for key, value in _rules(schema):
        if key == "$dynamicRef" or (key == "$ref" and not (isinstance(value, str) and value.startswith("#"))):
            raise UsageError("api.bad_schema", field=field)


def _reaches_beyond_reckoning(schema: object) -> bool:
    """Return whether there is a number in it, as a limit or as data, with which nobody can reckon, such as 1e400."""
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, int | float):
            try:
                if not math.isfinite(each):
                    return True
            except OverflowError:
                return True
    return False


def _rules(schema: object) -> Iterator[tuple[str, object]]:
    """Yield every rule of a schema and of those inside it; the names of properties and plain data are no rules."""
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            for key, value in each.items():
                yield key, value
                if key in _BY_NAME and isinstance(value, Mapping):
                    waiting.extend(value.values())
                elif key not in _DATA:
                    waiting.append(value)
        elif isinstance(each, list):
            waiting.extend(each)


def _without_expressions(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Leave out the regular expressions, and what has a meaning only beside them."""

    def without(value: JsonValue, *, is_schema: bool) -> JsonValue:
        if isinstance(value, list):
            return [without(each, is_schema=is_schema) for each in value]
        if not isinstance(value, dict):
            return value
        if not is_schema:
            return {name: without(each, is_schema=True) for name, each in value.items()}
        left_out = _REGULAR_EXPRESSIONS if "patternProperties" not in value else _REGULAR_EXPRESSIONS | _BESIDE_PATTERNS
        return {
            key: each if key in _DATA else without(each, is_schema=key not in _BY_NAME)
            for key, each in value.items()
            if key not in left_out
        }

    return {str(key): each for key, each in _as_object(without(dict(schema), is_schema=True)).items()}


def _as_object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _without_dialect(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Leave out which dialect the schema says it is of: the checker would change to one that does not count."""

    def without(value: JsonValue) -> JsonValue:
        if isinstance(value, dict):
            return {key: without(each) for key, each in value.items() if key != "$schema"}
        return [without(each) for each in value] if isinstance(value, list) else value

    return {key: without(value) for key, value in schema.items() if key != "$schema"}


def _depth(error: ValidationError) -> int:
    return len(error.absolute_path)


def _said(error: ValidationError) -> str:
    place = "/".join(str(part) for part in error.absolute_path) or "the whole answer"
    return f"at {place}, it breaks the rule {error.validator}: {json.dumps(error.validator_value)[:200]}"
