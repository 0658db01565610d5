"""A run's rows as columns: what a spreadsheet, a report or a program gets of each.

Knows which fields the answers have. Does not know files; boxes are in whole pixels of the upright original.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from qwen_vl_app.answers import names_beside, regions_to_json
from qwen_vl_app.batch.rounds import RoundRow
from qwen_vl_app.batch.rows import BatchRow
from qwen_vl_app.chat import FinishReason, JsonValue
from qwen_vl_app.texts import Language, render, t

MAX_FIELD_COLUMNS = 60
"""More fields than this are no form but something else; the answer's text has them all."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, and a row's cell. Numbers are numbers, everything else is text."""

    title: str
    cell: Callable[[BatchRow], str | int | float | None]


def _field(name: str, title: str) -> Column:
    return Column(title, lambda row: simple_fields(row).get(name))


def field_names(rows: Iterable[BatchRow]) -> tuple[str, ...]:
    """Return the fields that answers of the form {"name": value} have, in the order they are met."""
    names: dict[str, None] = {}
    for row in rows:
        for name in simple_fields(row):
            names.setdefault(name, None)
            if len(names) >= MAX_FIELD_COLUMNS:
                return tuple(names)
    return tuple(names)


def simple_fields(row: BatchRow) -> dict[str, str | int | float]:
    """Return the fields of an answer that is one JSON object of plain values; none of any other."""
    if row.values is not None:
        return {
            text(name): value if isinstance(value, str | int | float) else _packed(value)
            for name, value in row.values.items()
        }
    data = row.answer.parsed.data if row.answer is not None and row.answer.parsed.has_data else None
    if not isinstance(data, dict):
        return {}
    return {
        text(name): text(value) if isinstance(value, str) else str(value) if isinstance(value, bool) else value
        for name, value in data.items()
        if isinstance(value, str | int | float)
    }


def _packed(value: JsonValue) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def columns_of(fields: Iterable[str], language: Language) -> tuple[Column, ...]:
    """Return the columns of a run whose answers have these fields. No two have one title: plates have a "Model" of their own."""
    front: list[Column] = [
        Column(t("batch.column.file", language), lambda row: text(row.name)),
        Column(t("batch.column.page", language), lambda row: row.page + 1),
        Column(t("batch.column.question", language), lambda row: text(row.question)),
        Column(t("batch.column.outcome", language), lambda row: outcome_text(row, language)),
        Column(t("batch.column.answer", language), lambda row: text(row.answer.text) if row.answer else ""),
    ]
    back: list[Column] = [
        Column(t("batch.column.boxes", language), _boxes),
        Column(t("batch.column.confidence", language), _confidence),
        Column(t("batch.column.notes", language), lambda row: notes_text(row, language)),
        Column(t("batch.column.seen", language), lambda row: str(row.seen.size) if row.seen else ""),
        Column(t("batch.column.size", language), lambda row: str(row.size) if row.size else ""),
        Column(
            t("batch.column.seconds", language), lambda row: round(row.answer.timing.total_s, 2) if row.answer else None
        ),
        Column(t("batch.column.model", language), lambda row: text(row.answer.model) if row.answer else ""),
        Column(t("batch.column.finished_at", language), lambda row: row.finished_at.isoformat(timespec="seconds")),
        Column(t("batch.column.content_hash", language), lambda row: row.content_hash),
    ]
    own = (t("batch.column.picture", language), *(column.title for column in (*front, *back)))
    names = tuple(fields)
    return (*front, *map(_field, names, names_beside(names, own)), *back)


def outcome_text(row: BatchRow, language: Language) -> str:
    """Return what became of a row in a word."""
    return t(f"batch.outcome.{row.outcome.value}", language)


def notes_text(row: BatchRow, language: Language) -> str:
    """Return why there is no answer, or what a person should know about it."""
    told = []
    if row.error is not None:
        told.append(render(row.error, language))
    if row.duplicate_of:
        told.append(t("batch.same_as", language, name=text(row.duplicate_of)))
    if row.answer is not None:
        if row.answer.finish_reason in (FinishReason.LENGTH, FinishReason.REPETITION):
            told.append(t(f"batch.cut.{row.answer.finish_reason.value}", language))
        told += [render(note, language) for note in (*row.answer.notes, *row.answer.parsed.notes)]
    return " ".join(told)


def as_document(row: BatchRow, language: Language) -> dict[str, JsonValue]:
    """Return a row as a program gets it: boxes in pixels of the upright original, times in UTC."""
    answer = row.answer
    return {
        "file": text(row.name),
        "page": row.page + 1,
        "question": row.question,
        "outcome": row.outcome.value,
        "text": answer.text if answer else None,
        "data": answer.parsed.data if answer and answer.parsed.has_data else None,
        "regions": list(_regions(row)),
        "tables": [
            {"columns": list(table.columns), "rows": [list(cells) for cells in table.rows]}
            for table in (answer.parsed.tables if answer else ())
        ],
        "confidence": row.confidence,
        "values": None if row.values is None else dict(row.values),
        "form": row.form_id or None,
        "error": None if row.error is None else {"code": row.error.code, "message": render(row.error, language)},
        "duplicate_of": text(row.duplicate_of) or None,
        "width": row.size.width if row.size else None,
        "height": row.size.height if row.size else None,
        "seen_width": row.seen.size.width if row.seen else None,
        "seen_height": row.seen.size.height if row.seen else None,
        "finish_reason": answer.finish_reason.value if answer else None,
        "completion_tokens": answer.usage.completion_tokens if answer else None,
        "seconds": round(answer.timing.total_s, 3) if answer else None,
        "model": answer.model if answer else None,
        "notes": notes_text(row, language),
        "finished_at": row.finished_at.isoformat(),
        "sha256": row.content_hash,
    }


ROUND_TITLES = ("file", "question", "change", "field", "before", "after", "delta", "percent")


def round_cells(rows: Iterable[RoundRow], language: Language) -> Iterator[tuple[str | float | None, ...]]:
    """Yield the report of a round as cells under `ROUND_TITLES`: a line for each value and each box that changed."""
    for row in rows:
        head = (round_title(row), text(row.question))
        changed = t(f"batch.change.{row.change.value}", language)
        lines = 0
        for field in row.fields:
            lines += 1
            name = text(field.field) or t("batch.change.answer", language)
            yield (*head, changed, name, text(field.before), text(field.after), field.delta, field.percent)
        for code, side, regions in (
            ("batch.change.new_box", row.after, row.new_regions),
            ("batch.change.vanished_box", row.before, row.vanished_regions),
        ):
            if side is None or side.size is None:
                continue
            for place in regions_to_json(regions, [side.size]):
                lines += 1
                box = json.dumps(place.get("bbox") or place.get("point"))
                is_new = side is row.after
                yield (
                    *head,
                    t(code, language),
                    text(str(place["label"])),
                    "" if is_new else box,
                    box if is_new else "",
                    None,
                    None,
                )
        if not lines:
            before, after = (side.answer.text if side and side.answer else "" for side in (row.before, row.after))
            yield (*head, changed, "", text(before), text(after), None, None)


def round_title(row: RoundRow) -> str:
    """Return what a line of the report is about: the key of its pictures, and what tells those apart that share it."""
    sides = [side for side in (row.before, row.after) if side is not None]
    if row.is_one_of_several:
        return text(f"{row.key} · {' → '.join(dict.fromkeys(f'{side.name}{page_text(side)}' for side in sides))}")
    count = max((side.page_count for side in sides), default=1)
    return text(row.key if row.page is None or count == 1 else f"{row.key} ({row.page + 1}/{count})")


def page_text(row: BatchRow) -> str:
    """Return which page of its file a row is about, to stand behind its name; nothing where there is one."""
    return f" ({row.page + 1}/{row.page_count})" if row.page_count > 1 else ""


def text(value: str) -> str:
    """Return text that any file can hold: a name's stray bytes become visible, and nothing else changes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _regions(row: BatchRow) -> list[dict[str, JsonValue]]:
    if row.answer is None or row.size is None:
        return []
    return regions_to_json(row.answer.parsed.regions, [row.size])


def _boxes(row: BatchRow) -> str:
    found = _regions(row)
    return json.dumps(found, ensure_ascii=False) if found else ""


def _confidence(row: BatchRow) -> float | None:
    return None if row.confidence is None else round(row.confidence, 4)
