"""From what a model wrote down to a field's value: understood, in the field's unit, or with a sentence why not.

The model copies what stands on the picture, and everything after that is computed here, so that a value can be held against
its crop. Empty is null: nothing there. Never raises, on anything. Does not know pictures or confidence.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.errors import Reason
from qwen_vl_app.forms.dates import read_date, write_date
from qwen_vl_app.forms.fields import FieldType, FormField
from qwen_vl_app.forms.numbers import plain_decimal, read_number, written_out
from qwen_vl_app.forms.units import convert, unit_of

MAX_TEXT = 4_000
MAX_ITEMS = 500
_NOTHING = frozenset(
    {"", "null", "none", "n/a", "na", "nil", "unknown", "not visible", "-", "--", "—", "无", "空", "未知", "看不清"}
)


UNCERTAIN = frozenset(
    f"forms.value.{note}" for note in ("ambiguous_number", "limit", "ambiguous_date", "short_year", "several_dates")
)
"""Notes that a person has to look at: what stands there was taken in one of several ways."""
MAX_NOTES = 10


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A value. `written` is as the model copied it, `value` what it means: text, a number, an ISO date, a list of these.
    A number that is only a limit, as below what can be detected, is the text `<0.05`, so that nothing reckons with it.

    `shown` is how a person reads and types it. `problem` is why it could not be understood; `notes` are what a person
    should know although it could be.
    """

    written: str = ""
    value: JsonValue = None
    shown: str = ""
    problem: Reason | None = None
    notes: tuple[Reason, ...] = ()

    @property
    def is_null(self) -> bool:
        """True where nothing stands there."""
        return not self.written

    @property
    def compared(self) -> str:
        """What two readings of one value have in common."""
        return " ".join(unicodedata.normalize("NFKC", self.shown or self.written).casefold().split())


def value_of(field: FormField, written: JsonValue) -> FieldValue:
    """Return the value of what a model, or a person, wrote for a field."""
    match field.type:
        case FieldType.LIST:
            return _list(field, written)
        case FieldType.TABLE:
            return _table(field, written)
    text = _as_text(written, decimal_mark=field.decimal_mark)
    if text.casefold() in _NOTHING and not _is_a_choice(field, text):
        return FieldValue()
    match field.type:
        case FieldType.INTEGER | FieldType.NUMBER:
            return _number(field, text)
        case FieldType.DATE:
            return _date(field, text)
        case FieldType.CHOICE:
            return _choice(field, text)
    return FieldValue(text, text, text)


def _as_text(written: JsonValue, *, decimal_mark: str = "") -> str:
    if written is None:
        return ""
    if isinstance(written, bool):
        return "true" if written else "false"
    if isinstance(written, float) and decimal_mark == ",":  # a number of JSON, whose mark is the point everywhere
        return plain_decimal(Decimal(written_out(written)), decimal_mark=decimal_mark)
    text = written if isinstance(written, str) else json.dumps(written, ensure_ascii=False)
    return " ".join(text.split())[:MAX_TEXT]


def _number(field: FormField, text: str) -> FieldValue:
    reading = read_number(text, decimal_mark=field.decimal_mark)
    if reading is None:
        return FieldValue(text, text, text, Reason("forms.value.no_number"))
    notes: list[Reason] = []
    value: Decimal = reading.value
    if reading.is_ambiguous:
        notes.append(Reason("forms.value.ambiguous_number", text=text, taken=plain_decimal(value)))
    if reading.unit and field.unit:
        turned = convert(value, reading.unit, field.unit)
        if turned is None:
            return FieldValue(
                text, text, text, Reason("forms.value.wrong_unit", unit=reading.unit[:20], wanted=field.unit)
            )
        if reading.bound == "±":  # a difference: one of 1 °F is no -17 °C
            turned = (turned - (convert(Decimal(0), reading.unit, field.unit) or Decimal(0))).normalize()
        if turned != value:
            notes.append(Reason("forms.value.converted", text=text, unit=field.unit))
        value = turned
    elif reading.unit and unit_of(reading.unit) is None:
        return FieldValue(text, text, text, Reason("forms.value.no_number"))
    if field.type is FieldType.INTEGER and value != value.to_integral_value():
        return FieldValue(text, text, text, Reason("forms.value.no_integer"), tuple(notes))
    number: int | float = int(value) if field.type is FieldType.INTEGER else float(value)
    whole = value.to_integral_value() if field.type is FieldType.INTEGER else value
    shown = plain_decimal(whole, decimal_mark=field.decimal_mark)  # a person corrects what is shown
    unit = field.unit or reading.unit
    if reading.bound:
        notes.append(Reason("forms.value.limit", text=text))
        number_or_limit: JsonValue = f"{reading.bound}{shown}"
    else:
        number_or_limit = number
    return FieldValue(text, number_or_limit, f"{reading.bound}{shown} {unit}".strip(), notes=tuple(notes))


def _date(field: FormField, text: str) -> FieldValue:
    reading = read_date(text, format=field.format)
    if reading is None:
        return FieldValue(text, text, text, Reason("forms.value.no_date"))
    notes: list[Reason] = []
    if reading.is_ambiguous:
        notes.append(Reason("forms.value.ambiguous_date", text=text, taken=reading.iso))
    if reading.has_short_year:
        notes.append(Reason("forms.value.short_year", year=reading.year))
    if reading.has_others:
        notes.append(Reason("forms.value.several_dates", text=text, taken=reading.iso))
    return FieldValue(text, reading.iso, write_date(reading.iso, field.format), notes=tuple(notes))


def _choice(field: FormField, text: str) -> FieldValue:
    wanted = _folded(text)
    for choice in field.choices:
        if wanted in map(_folded, (choice.value, *choice.also)):
            return FieldValue(text, choice.value, choice.value)
    return FieldValue(text, text, text, Reason("forms.value.no_choice", text=text[:60]))


def _is_a_choice(field: FormField, text: str) -> bool:
    folded = _folded(text)
    return any(folded in map(_folded, (choice.value, *choice.also)) for choice in field.choices)


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _list(field: FormField, written: JsonValue) -> FieldValue:
    if isinstance(written, str):
        written = _unpacked(written) or [part for part in (each.strip() for each in written.split(",")) if part]
    items = written if isinstance(written, list) else [] if written is None else [written]
    texts = [text for item in items[:MAX_ITEMS] if (text := _as_text(item)).casefold() not in _NOTHING]
    shown = ", ".join(texts)
    return FieldValue(shown, list[JsonValue](texts), shown) if texts else FieldValue()


def _table(field: FormField, written: JsonValue) -> FieldValue:
    if isinstance(written, str):
        written = _unpacked(written)
    lines = written if isinstance(written, list) else [written] if isinstance(written, dict) else []
    rows: list[JsonValue] = []
    shown: list[str] = []
    notes: list[Reason] = []
    problem: Reason | None = None
    for line in lines[:MAX_ITEMS]:
        cells = _cells(field, line)
        if all(cell.is_null for cell in cells):
            continue
        rows.append({column.key: cell.value for column, cell in zip(field.columns, cells, strict=True)})
        shown.append(" | ".join(cell.shown for cell in cells))
        notes += [note for cell in cells for note in cell.notes if note.code in UNCERTAIN and note not in notes]
        wrong = next((column for column, cell in zip(field.columns, cells, strict=True) if cell.problem), None)
        if wrong is not None and problem is None:
            problem = Reason("forms.value.bad_cell", row=len(rows), column=wrong.key)
    if not rows:
        return FieldValue()
    return FieldValue(json.dumps(rows, ensure_ascii=False), rows, "\n".join(shown), problem, tuple(notes[:MAX_NOTES]))


def _cells(field: FormField, line: JsonValue) -> list[FieldValue]:
    if isinstance(line, list):
        padded = [*line, *[None] * len(field.columns)]
        return [value_of(column, cell) for column, cell in zip(field.columns, padded, strict=False)]
    if not isinstance(line, dict):
        return [FieldValue() for _ in field.columns]
    by_name = {_folded(str(name)): cell for name, cell in line.items()}
    asked = {_folded(column.asked_as(language)) for column in field.columns for language in ("en", "zh")}
    # A key may be another column's name, as of one that was renamed: a row has keys, or it has names.
    has_keys = by_name.keys() <= {_folded(column.key) for column in field.columns} and not by_name.keys() <= asked
    return [value_of(column, _found(column, by_name, asked, has_keys=has_keys)) for column in field.columns]


def _found(column: FormField, by_name: Mapping[str, JsonValue], asked: Collection[str], *, has_keys: bool) -> JsonValue:
    key = _folded(column.key)
    if has_keys:
        return by_name.get(key)
    for name in (column.asked_as("en"), column.asked_as("zh")):
        if _folded(name) in by_name:
            return by_name[_folded(name)]
    return by_name.get(key) if key not in asked else None


def _unpacked(text: str) -> JsonValue:
    """Return the JSON of a text, as a person edits a table; None where it is none."""
    try:
        found: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list | dict) else None
