"""Which mark a form's numbers are written with, told by the others on it.

Knows that `1.234` is a little more than one wherever the point begins the decimals, and a thousand where the comma does. Nearly
everywhere it is the first, so it is doubted only where the same form says otherwise. Does not know pictures or people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.errors import Reason
from qwen_vl_app.forms.fields import FieldType, FormField
from qwen_vl_app.forms.numbers import NumberReading, plain_decimal, plain_signs, read_number
from qwen_vl_app.forms.template import FormTemplate

MAX_DOUBTS = 10
_NUMBERS = (FieldType.INTEGER, FieldType.NUMBER)
_POINT_OR_GROUP = re.compile(r"(?<![\d.,])[1-9]\d{0,2}\.\d{3}(?![\d.,])")
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])(?:\d+,(?:\d{1,2}|\d{4,})|0,\d+|\d{1,3}(?:\.\d{3})+,\d+)(?![\d.,])")


def point_doubts(template: FormTemplate, written: Mapping[str, JsonValue]) -> dict[str, tuple[Reason, ...]]:
    """Return, by field, which numbers with a point may be thousands: the form writes its decimals with a comma elsewhere."""
    numbers = [(each, field, text) for each in template.fields for field, text in _texts(each, written.get(each.key))]
    if not any(field.decimal_mark == "," or _has_decimal_comma(text) for _, field, text in numbers):
        return {}
    found: dict[str, tuple[Reason, ...]] = {}
    for each, field, text in numbers:
        reading = read_number(text)
        if field.decimal_mark or reading is None or not _POINT_OR_GROUP.search(plain_signs(text)):
            continue
        is_of_the_range = reading.unit in ("", field.unit)
        if is_of_the_range and _fits(field, reading, 1) and not _fits(field, reading, 1000):
            continue  # a thousand times as much cannot be, and that settles it
        doubt = Reason("forms.value.ambiguous_number", text=text, taken=plain_decimal(reading.value))
        if doubt not in found.get(each.key, ()) and len(found.get(each.key, ())) < MAX_DOUBTS:
            found[each.key] = (*found.get(each.key, ()), doubt)
    return found


def _texts(field: FormField, written: JsonValue) -> Iterator[tuple[FormField, str]]:
    """Yield the texts of numbers, each with its field: a table's cells have their columns."""
    if field.type in _NUMBERS and isinstance(written, str):
        yield field, written
    elif field.type is FieldType.TABLE:
        by_name = {name: column for column in field.columns for name in _names(column)}
        for row in written if isinstance(written, list) else ():
            cells: list[tuple[FormField | None, JsonValue]] = []
            if isinstance(row, dict):
                cells = [(by_name.get(str(name)), cell) for name, cell in row.items()]
            elif isinstance(row, list):
                cells = [*zip(field.columns, row, strict=False)]
            for column, cell in cells:
                if column is not None and column.type in _NUMBERS and isinstance(cell, str):
                    yield column, cell


def _names(column: FormField) -> tuple[str, ...]:
    return (column.key, column.asked_as("en"), column.asked_as("zh"))


def _has_decimal_comma(text: str) -> bool:
    """True where a comma begins the decimals, and nothing else can be meant."""
    return read_number(text) is not None and _DECIMAL_COMMA.search(plain_signs(text)) is not None


def _fits(field: FormField, reading: NumberReading, times: int) -> bool:
    value = float(reading.value) * times
    return (field.minimum is None or value >= field.minimum) and (field.maximum is None or value <= field.maximum)
