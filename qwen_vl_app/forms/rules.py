"""What must hold of values, one by one and between fields, and the sentence where it does not.

Knows ranges, patterns, check digits, the order of dates and sums. Judges; changes nothing. Does not know pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise

import regex

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.errors import Reason
from qwen_vl_app.forms.checksums import holds
from qwen_vl_app.forms.fields import FieldType, FormField, shown_names
from qwen_vl_app.forms.numbers import NumberReading, read_number, written_out
from qwen_vl_app.forms.template import FormRule, FormTemplate, RuleKind
from qwen_vl_app.forms.units import convert
from qwen_vl_app.forms.values import FieldValue
from qwen_vl_app.texts import Language, t

PATTERN_TIMEOUT_S = 1.0
FIELD_FACTS = ("first", "second", "total", "column")
"""Facts of these sentences that are keys of fields: `told` puts the names there, in the reader's language."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that does not hold, and the fields it is about."""

    keys: tuple[str, ...]
    reason: Reason


def breaches(
    template: FormTemplate, values: Mapping[str, FieldValue], *, today: date | None = None
) -> tuple[Breach, ...]:
    """Return everything that does not hold, the fields' own rules first. `today` is the site's, as dates on pictures are."""
    now = today or datetime.now().astimezone().date()
    found = [
        Breach((field.key,), reason)
        for field in template.fields
        for reason in _of_field(field, values.get(field.key, FieldValue()), now)
    ]
    for rule in template.rules:
        breach = _of_rule(rule, values)
        if breach is not None:
            found.append(breach)
    return tuple(found)


def _of_field(field: FormField, value: FieldValue, today: date) -> Iterator[Reason]:
    if value.is_null:
        if field.is_required:
            yield Reason("forms.rule.required")
        return
    if value.problem is not None:
        yield value.problem
        return
    if isinstance(value.value, int | float) and not isinstance(value.value, bool):
        yield from _of_range(field, float(value.value), float(value.value))
    elif field.type in (FieldType.INTEGER, FieldType.NUMBER) and (limit := _limit(field, value.value)) is not None:
        yield from _of_limit(field, limit)
    if field.type is FieldType.DATE and isinstance(value.value, str):
        earliest, latest = _bound(field.earliest, today), _bound(field.latest, today)
        if earliest and value.value < earliest[: len(value.value)]:
            yield Reason("forms.rule.before", limit=earliest)
        if latest and value.value > latest[: len(value.value)]:
            yield Reason("forms.rule.after", limit=latest)
    if field.pattern and not field.type.has_parts and not _matches(field.pattern, value):
        yield Reason("forms.rule.pattern", pattern=field.pattern)
    if field.checksum is not None and not holds(field.checksum, value.written):
        yield Reason("forms.rule.checksum", kind=field.checksum.value)
    if field.type is FieldType.TABLE and isinstance(value.value, list):
        yield from _of_cells(field, value.value, today)


def _of_range(field: FormField, least: float, most: float) -> Iterator[Reason]:
    """Yield what is wrong with a number of which only that is known: it is no smaller than `least`, no larger than `most`."""
    if field.minimum is not None and most < field.minimum:
        yield Reason("forms.rule.below", limit=_shown(field.minimum, field))
    if field.maximum is not None and least > field.maximum:
        yield Reason("forms.rule.above", limit=_shown(field.maximum, field))


def _of_limit(field: FormField, limit: NumberReading) -> Iterator[Reason]:
    """Yield what is wrong whatever the number is that has this limit; where it may be right, the limit's own doubt stands."""
    at = float(limit.value)
    match limit.bound:
        case "<":
            yield from _of_range(field, -math.inf, math.nextafter(at, -math.inf))
        case "≤":
            yield from _of_range(field, -math.inf, at)
        case ">":
            yield from _of_range(field, math.nextafter(at, math.inf), math.inf)
        case "≥":
            yield from _of_range(field, at, math.inf)


def _limit(field: FormField, value: JsonValue) -> NumberReading | None:
    reading = read_number(value, decimal_mark=field.decimal_mark) if isinstance(value, str) else None
    return reading if reading is not None and reading.bound else None


def _of_cells(field: FormField, rows: list[JsonValue], today: date) -> Iterator[Reason]:
    for number, row in enumerate(rows, 1):
        for column in field.columns:
            cell = row.get(column.key) if isinstance(row, dict) else None
            text = "" if cell is None else str(cell)
            for reason in _of_field(column, FieldValue(text, cell, text), today):
                yield Reason(
                    "forms.rule.cell",
                    **{**reason.facts, "row": number, "column": f"{field.key}.{column.key}", "why": reason.code},
                )
                break


def _matches(pattern: str, value: FieldValue) -> bool:
    text = value.written if isinstance(value.value, str) else value.shown
    try:
        return regex.fullmatch(pattern, text, timeout=PATTERN_TIMEOUT_S) is not None
    except (TimeoutError, regex.error):  # a pattern that goes back and forth without end matches nothing
        return False


def _of_rule(rule: FormRule, values: Mapping[str, FieldValue]) -> Breach | None:
    match rule.kind:
        case RuleKind.ORDER:
            return _order(rule, values)
        case RuleKind.SUM:
            return _sum(rule, values)
        case RuleKind.EQUAL:
            return _equal(rule, values)


def _order(rule: FormRule, values: Mapping[str, FieldValue]) -> Breach | None:
    known = [(key, found) for key in rule.fields if (found := _comparable(values.get(key))) is not None]
    for (key, first), (other, second) in pairwise(known):
        if isinstance(first, str) and isinstance(second, str):
            length = min(len(first), len(second))  # a month beside a day: only the month is compared
            if first[:length] > second[:length]:
                return Breach((key, other), Reason("forms.rule.order_dates", first=key, second=other))
        elif isinstance(first, Decimal) and isinstance(second, Decimal) and first > second:
            return Breach((key, other), Reason("forms.rule.order", first=key, second=other))
    return None


def _sum(rule: FormRule, values: Mapping[str, FieldValue]) -> Breach | None:
    *parts, total_key = rule.fields
    total = _comparable(values.get(total_key))
    if not isinstance(total, Decimal):
        return None
    added = Decimal(0)
    for key in parts:
        numbers = _numbers(key, values)
        if numbers is None:
            return None  # what is not known adds up to nothing that could be judged
        added += sum(numbers, Decimal(0))
    if abs(added - total) <= Decimal(str(rule.tolerance)) + Decimal("1e-9"):
        return None
    keys = tuple(
        dict.fromkeys(key.partition(".")[0] if "." in key and key not in values else key for key in rule.fields)
    )
    return Breach(keys, Reason("forms.rule.sum", total=total_key, found=f"{total:f}", added=f"{added:f}"))


def _equal(rule: FormRule, values: Mapping[str, FieldValue]) -> Breach | None:
    known = [(key, values[key]) for key in rule.fields if key in values and not values[key].is_null]
    for (key, first), (other, second) in pairwise(known):
        if not _is_same(first, second):
            return Breach((key, other), Reason("forms.rule.equal", first=key, second=other))
    return None


def _is_same(first: FieldValue, second: FieldValue) -> bool:
    """True for 12.50 kg and 12.5 kg, for one date in two formats, and for words that are written alike."""
    one, other = _comparable(first), _comparable(second)
    if not isinstance(one, Decimal) or not isinstance(other, Decimal):
        return first.compared == second.compared or (one is not None and one == other)
    units = [value.shown.partition(" ")[2] for value in (first, second)]
    if all(units) and units[0] != units[1]:
        return convert(other, units[1], units[0]) == one
    return one == other


def _numbers(key: str, values: Mapping[str, FieldValue]) -> list[Decimal] | None:
    if key in values:
        found = _comparable(values[key])
        return [found] if isinstance(found, Decimal) else None
    table, _, column = key.partition(".")
    rows = values[table].value if table in values else None
    if not isinstance(rows, list):
        return None
    numbers: list[Decimal] = []
    for row in rows:
        cell = row.get(column) if isinstance(row, dict) else None
        if not isinstance(cell, int | float) or isinstance(cell, bool):
            return None
        numbers.append(Decimal(str(cell)))
    return numbers


def _comparable(value: FieldValue | None) -> Decimal | str | None:
    if value is None or value.is_null or value.problem is not None:
        return None
    if isinstance(value.value, bool):
        return None
    if isinstance(value.value, int | float):
        return Decimal(str(value.value))
    if any(note.code == "forms.value.limit" for note in value.notes):
        return None  # what is only known to be below 0.05 has no place in an order, and adds up to nothing
    return value.value if isinstance(value.value, str) else None


def told(reason: Reason, template: FormTemplate, language: Language) -> str:
    """Return the sentence of a rule, with fields by their names in the reader's language."""
    facts = dict(reason.facts)
    for fact in FIELD_FACTS:
        if isinstance(facts.get(fact), str):
            facts[fact] = _name(template, str(facts[fact]), language)
    if "why" in facts:
        facts["why"] = t(str(facts["why"]), language, **{name: fact for name, fact in facts.items() if name != "why"})
    return t(reason.code, language, **facts)


def _name(template: FormTemplate, key: str, language: Language) -> str:
    head, _, column = key.partition(".")
    names = shown_names(template.fields, language)
    if key in names:
        return names[key]
    columns = next((field.columns for field in template.fields if field.key == head), ())
    return shown_names(columns, language).get(column, key)


def _bound(text: str, today: date) -> str:
    return today.isoformat() if text == "today" else text


def _shown(limit: float, field: FormField) -> str:
    return f"{written_out(limit)} {field.unit}".strip()
