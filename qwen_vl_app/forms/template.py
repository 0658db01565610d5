"""A template: the fields of a form and the rules between them, as a site writes it down and shares it.

Knows the document (JSON) and what cannot be meant in it. Does not know where templates lie.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import regex
from pydantic import ConfigDict, TypeAdapter, ValidationError

from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.fields import FieldType, FormField, Names
from qwen_vl_app.forms.units import is_unit

if TYPE_CHECKING:
    pass

MAX_FIELDS = 60
MAX_TEMPLATE_BYTES = 512 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
_KEY = re.compile(r"[\w.-]{1,80}")


class RuleKind(StrEnum):
    """What can be said of several fields at once."""

    ORDER = "order"
    """Each field is not after (or above) the next one."""
    SUM = "sum"
    """The last field is the sum of those before it; a `table.column` is the sum of its cells."""
    EQUAL = "equal"
    """All fields have the same value."""


@dataclass(frozen=True, slots=True)
class FormRule:
    """A rule between fields, by their keys. `tolerance` is for sums, in the fields' own unit."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: RuleKind
    fields: tuple[str, ...]
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class FormTemplate:
    """A form. `name` is its file's; `version` counts what a site saved under it, 0 for what ships with the app."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    fields: tuple[FormField, ...]
    title: Names = Names()
    version: int = 0
    rules: tuple[FormRule, ...] = ()
    about: Names = Names()
    """A sentence for whoever chooses among templates."""

    def field(self, key: str) -> FormField:
        """Return a field by its key. Raises KeyError."""
        for field in self.fields:
            if field.key == key:
                return field
        raise KeyError(key)

    def titled(self, language: str) -> str:
        """Return the title in a language, or the name."""
        return self.title.of(language) or self.name


def load_template(document: str | bytes) -> FormTemplate:
    """Return the template of a document. Raises FormError, naming the place in it that is wrong."""
    if len(document) > MAX_TEMPLATE_BYTES:
        raise FormError("forms.template.too_large", limit=MAX_TEMPLATE_BYTES)
    try:
        found = json.loads(document.decode("utf-8-sig") if isinstance(document, bytes) else document)
    except (ValueError, RecursionError) as error:
        raise FormError("forms.template.not_json") from error
    return template_from(found)


def template_from(document: object) -> FormTemplate:
    """Return the template that a JSON document holds. Raises FormError."""
    if not isinstance(document, dict):
        raise FormError("forms.template.not_json")
    try:
        template = _adapter().validate_python(document, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in first["loc"])
        raise FormError("forms.template.bad_value", place=place or "?") from error
    return checked(template)


def dump_template(template: FormTemplate) -> str:
    """Return the template as a JSON document; what is as usual is left out."""
    document = _adapter().dump_python(template, mode="json", exclude_defaults=True)
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def as_document(template: FormTemplate) -> dict[str, Any]:
    """Return the template as what a JSON document holds."""
    found: dict[str, Any] = _adapter().dump_python(template, mode="json", exclude_defaults=True)
    return found


def checked(template: FormTemplate) -> FormTemplate:
    """Return a template that can be meant. Raises FormError with the field that cannot."""
    if not _NAME.fullmatch(template.name):
        raise FormError("forms.template.bad_name", name=template.name[:60])
    if not template.fields:
        raise FormError("forms.template.no_fields")
    if len(template.fields) > MAX_FIELDS:
        raise FormError("forms.template.too_many_fields", limit=MAX_FIELDS)
    _check_keys(template.fields)
    for language in ("en", "zh"):
        asked = Counter(field.asked_as(language).casefold() for field in template.fields)
        twice = next((name for name, count in asked.items() if count > 1), None)
        if twice is not None:
            raise FormError("forms.template.name_twice", name=twice)
    for field in template.fields:
        _check_field(field)
    keys = {field.key for field in template.fields}
    keys |= {f"{field.key}.{column.key}" for field in template.fields for column in field.columns}
    for rule in template.rules:
        missing = next((key for key in rule.fields if key not in keys), None)
        if missing is not None:
            raise FormError("forms.template.rule_unknown_field", key=missing)
        if len(rule.fields) < 2:
            raise FormError("forms.template.rule_too_short")
    return template


def _check_keys(fields: Iterable[FormField]) -> None:
    keys = Counter(field.key for field in fields)
    for key, count in keys.items():
        if not _KEY.fullmatch(key):
            raise FormError("forms.template.bad_key", key=key[:60])
        if count > 1:
            raise FormError("forms.template.name_twice", name=key)


def _check_field(field: FormField, *, is_column: bool = False) -> None:
    name = field.names.of("en") or field.key
    if field.type is FieldType.CHOICE and not field.choices:
        raise FormError("forms.template.no_choices", name=name)
    if field.type is FieldType.TABLE and (is_column or not field.columns):
        raise FormError("forms.template.no_columns", name=name)
    if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
        raise FormError("forms.template.empty_range", name=name)
    if field.unit and not is_unit(field.unit):
        raise FormError("forms.template.unknown_unit", name=name, unit=field.unit)
    if field.decimal_mark not in ("", ".", ","):
        raise FormError("forms.template.bad_value", place=f"{field.key}.decimal_mark")
    if field.format and not all(letter in field.format for letter in "YMD"):
        raise FormError("forms.template.bad_date_format", name=name)
    if not all(_is_bound(bound) for bound in (field.earliest, field.latest)):
        raise FormError("forms.template.bad_bound", name=name)
    if field.pattern:
        try:
            regex.compile(field.pattern)
        except regex.error as error:
            raise FormError("forms.template.bad_pattern", name=name) from error
    if field.columns:
        _check_keys(field.columns)
        for column in field.columns:
            _check_field(column, is_column=True)


def _is_bound(text: str) -> bool:
    try:
        return text in ("", "today") or date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def slug(text: str, *, fallback: str = "form") -> str:
    """Return a name for a template, or a key for a field, from anything a person wrote."""
    found = re.sub(r"[^a-z0-9]+", "_", text.casefold().replace("-", "_")).strip("_")
    return found[:50].strip("_") or fallback


@cache
def _adapter() -> TypeAdapter[FormTemplate]:
    return TypeAdapter(FormTemplate)
