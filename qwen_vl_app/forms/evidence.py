"""Judged forms as columns and documents: what a spreadsheet, a report or a program gets of each.

Knows titles in both languages. Does not know files; boxes are in whole pixels of the upright original.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from qwen_vl_app.answers import names_beside
from qwen_vl_app.chat import JsonValue
from qwen_vl_app.forms.fields import shown_names
from qwen_vl_app.forms.filled import LookOutcome
from qwen_vl_app.forms.judging import FieldState, JudgedField, JudgedForm
from qwen_vl_app.forms.rules import told
from qwen_vl_app.forms.template import as_document
from qwen_vl_app.texts import Language, render, t

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class FormColumn:
    """A field's column: its key and title, for forms of all templates that have it."""

    key: str
    title: str


def columns_of(forms: Iterable[JudgedForm], language: Language) -> tuple[FormColumn, ...]:
    """Return a column for each field that any of the forms has, in the templates' order, no two with one title."""
    found: dict[str, JudgedField] = {}
    for judged in forms:
        for each in judged.fields:
            found.setdefault(each.field.key, each)
    titles = shown_names([each.field for each in found.values()], language)
    return tuple(FormColumn(key, title) for key, title in titles.items())


def names_of(judged: JudgedForm, language: Language) -> dict[str, str]:
    """Return the names of a form's fields as a person reads them, by key: the same as in the sentences about them."""
    return shown_names(judged.form.template.fields, language)


def cell_of(judged: JudgedForm, key: str) -> Cell:
    """Return a form's value for a spreadsheet: numbers are numbers, everything else is text, null is an empty cell.

    A number with more digits than a spreadsheet keeps is text as well, and so is one that is only a limit (<0.05), which
    no sum of a spreadsheet counts.
    """
    each = next((each for each in judged.fields if each.field.key == key), None)
    if each is None or each.value.is_null:
        return None
    value = each.value.value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return value
    if isinstance(value, str) and any(note.code == "forms.value.limit" for note in each.value.notes):
        return value  # without its unit, as the numbers above and below it
    return each.value.shown


def state_text(state: FieldState, language: Language) -> str:
    """Return where a field stands, in a word."""
    return t(f"forms.state.{state.value}", language)


def look_text(each: JudgedField, language: Language) -> str:
    """Return what the second look came to; empty where there was none."""
    look = each.reading.look
    if look is None:
        return ""
    said = t(f"forms.look.{look.outcome.value}", language)
    return f"{said}: {look.written}" if look.outcome is LookOutcome.DIFFER and look.written else said


def doubt_texts(
    each: JudgedField, judged: JudgedForm, language: Language, *, but: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the sentences that speak against a field, without those whose codes are told otherwise (`but`)."""
    return tuple(told(reason, judged.form.template, language) for reason in each.doubts if reason.code not in but)


def form_state_text(judged: JudgedForm, language: Language) -> str:
    """Return where a form stands, in a word."""
    if judged.is_reviewed:
        return t("forms.form_state.reviewed", language)
    if judged.doubtful:
        return t("forms.form_state.doubtful", language, count=judged.doubtful)
    return t("forms.form_state.unseen", language)


def reviewers(judged: JudgedForm) -> str:
    """Return who decided, each once."""
    return ", ".join(dict.fromkeys(each.decision.who for each in judged.fields if each.decision is not None))


def reviewed_at(judged: JudgedForm) -> str:
    """Return when the last decision fell, UTC."""
    times = [each.decision.at for each in judged.fields if each.decision is not None]
    return moment(max(times)) if times else ""


def form_document(judged: JudgedForm, language: Language) -> dict[str, JsonValue]:
    """Return a form as a program gets it: every value with its evidence."""
    form = judged.form
    return {
        "form_id": form.form_id,
        "template": {
            "name": form.template.name,
            "version": form.template.version,
            "document": as_document(form.template),
        },
        "picture": form.picture_name,
        "page": form.page + 1,
        "sha256": form.content_hash,
        "width": form.size.width if form.size else None,
        "height": form.size.height if form.size else None,
        "seen_width": form.seen.width if form.seen else None,
        "seen_height": form.seen.height if form.seen else None,
        "model": form.model,
        "fingerprint": form.fingerprint,
        "precision": form.precision,
        "device": form.device,
        "filled_at": form.filled_at.isoformat(),
        "seconds": form.seconds,
        "source": form.source or None,
        "text": form.text,
        "notes": [render(note, language) for note in form.notes],
        "is_reviewed": judged.is_reviewed,
        "values": {each.field.key: each.value.value for each in judged.fields},
        "fields": {each.field.key: _field_document(each, judged, language) for each in judged.fields},
    }


def _field_document(each: JudgedField, judged: JudgedForm, language: Language) -> dict[str, JsonValue]:
    reading, look, size, decision = each.reading, each.reading.look, judged.form.size, each.decision
    return {
        "name": {"en": each.field.names.en, "zh": each.field.names.zh},
        "type": each.field.type.value,
        "value": each.value.value,
        "shown": each.value.shown,
        "unit": each.field.unit or None,
        "written": reading.written,
        "confidence": reading.confidence,
        "box": list(reading.box.to_pixels(size)) if reading.box is not None and size is not None else None,
        "crop": reading.crop or None,
        "second_look": None
        if look is None
        else {
            "outcome": look.outcome.value,
            "written": look.written,
            "reason": None if look.reason is None else render(look.reason, language),
        },
        "state": each.state.value,
        "doubts": [
            {"code": reason.code, "message": sentence}
            for reason, sentence in zip(each.doubts, doubt_texts(each, judged, language), strict=True)
        ],
        "notes": [render(note, language) for note in each.value.notes],
        "decision": None
        if decision is None
        else {
            "kind": decision.kind.value,
            "written": decision.written,
            "who": decision.who,
            "at": decision.at.isoformat(),
        },
    }


def form_row(judged: JudgedForm, columns: Sequence[FormColumn], language: Language) -> tuple[Cell, ...]:
    """Return a form as the cells under `row_titles`."""
    form = judged.form
    confidence = judged.confidence
    return (
        printable(form.picture_name),
        form.page + 1,
        form.template.titled(language),
        form_state_text(judged, language),
        *(cell_of(judged, column.key) for column in columns),
        None if confidence is None else round(confidence, 4),
        reviewers(judged),
        reviewed_at(judged),
        form.model,
        moment(form.filled_at),
        form.content_hash,
    )


def row_titles(columns: Sequence[FormColumn], language: Language) -> tuple[str, ...]:
    """Return the titles over `form_row`; no two are one: plates have a "Model" of their own."""
    front = ("picture", "page", "template", "state")
    back = ("confidence", "reviewed_by", "reviewed_at", "model", "filled_at", "sha256")
    before, after = ([t(f"forms.column.{name}", language) for name in names] for names in (front, back))
    return (*before, *names_beside([column.title for column in columns], (*before, *after)), *after)


def moment(at: datetime) -> str:
    """Return a time to the second, UTC, as a spreadsheet understands it."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def printable(name: str) -> str:
    """Return text that any file can hold: a name's stray bytes become visible."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
