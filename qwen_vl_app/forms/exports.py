"""Judged forms as files to take away: CSV, a workbook with crops, JSON with all evidence, a report to sign as PDF.

Knows formats. Does not know how forms came about. A file appears under its name only when it is whole.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import xlsxwriter

from qwen_vl_app.answers import to_csv
from qwen_vl_app.chat import JsonValue, Region, Table
from qwen_vl_app.errors import FormError, UnreadableImageError
from qwen_vl_app.forms.evidence import (
    Cell,
    columns_of,
    doubt_texts,
    form_document,
    form_row,
    form_state_text,
    look_text,
    moment,
    names_of,
    printable,
    reviewed_at,
    reviewers,
    row_titles,
    state_text,
)
from qwen_vl_app.forms.judging import JudgedField, JudgedForm
from qwen_vl_app.forms.numbers import written_out
from qwen_vl_app.imaging import draw_regions, size_of
from qwen_vl_app.imaging.report import ReportEntry, write_report
from qwen_vl_app.texts import Language, t

MAX_CELL = 32_767
_CROP_CELL_PX = 44
_CROP_CELL_WIDTH_PX = 190
_FileOf = Callable[[str, str], bytes | None]
"""A file beside a form, by the form's id and its name."""


class FormExport(StrEnum):
    """What forms can be taken away as."""

    CSV = "csv"
    XLSX = "xlsx"
    JSON = "json"
    PDF = "pdf"


def export_forms(
    kind: FormExport, target: Path, forms: Sequence[JudgedForm], *, file_of: _FileOf, language: Language
) -> int:
    """Write the forms to a file and return how many. Raises FormError `forms.target_unwritable`."""
    partial = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case FormExport.CSV:
                partial.write_bytes(forms_csv(forms, language))
            case FormExport.JSON:
                partial.write_text(forms_json(forms, language), encoding="utf-8", errors="replace", newline="\n")
            case FormExport.XLSX:
                _workbook(partial, forms, file_of, language)
            case FormExport.PDF:
                _report(partial, forms, file_of, language)
        partial.replace(target)
    except OSError as error:
        raise FormError("forms.target_unwritable", name=target.name) from error
    finally:
        with contextlib.suppress(OSError):  # where its folder is none, there is nothing to remove either
            partial.unlink(missing_ok=True)
    return len(forms)


def forms_csv(forms: Sequence[JudgedForm], language: Language) -> bytes:
    """Return a line for each form, as CSV for Excel."""
    columns = columns_of(forms, language)
    cells = tuple(tuple(_text(cell) for cell in form_row(judged, columns, language)) for judged in forms)
    return to_csv(Table(row_titles(columns, language), cells))


def forms_json(forms: Sequence[JudgedForm], language: Language) -> str:
    """Return the forms as one JSON document, with all evidence."""
    documents = [form_document(judged, language) for judged in forms]
    return json.dumps({"forms": documents}, ensure_ascii=False, indent=1) + "\n"


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return written_out(cell)
    return "" if cell is None else str(cell)


def _workbook(target: Path, forms: Sequence[JudgedForm], file_of: _FileOf, language: Language) -> None:
    # Text is text: nothing a model or a file name says becomes a formula or a link.
    packed = io.BytesIO()  # a full disk would leave the library's own file open, which complains once more as it goes
    book = xlsxwriter.Workbook(
        packed, {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    )
    styles = {
        "head": book.add_format({"bold": True, "valign": "top", "bottom": 1, "text_wrap": True}),
        "cell": book.add_format({"valign": "top", "text_wrap": True}),
        "doubtful": book.add_format({"valign": "top", "text_wrap": True, "bg_color": "#FFF2CC"}),
    }
    _values_sheet(book, forms, styles, language)
    _evidence_sheet(book, forms, styles, file_of, language)
    try:
        book.close()
    except xlsxwriter.exceptions.FileCreateError as error:
        raise OSError(str(error)) from error
    target.write_bytes(packed.getbuffer())


def _values_sheet(book: Any, forms: Sequence[JudgedForm], styles: dict[str, Any], language: Language) -> None:
    columns = columns_of(forms, language)
    sheet = book.add_worksheet(t("forms.sheet.values", language))
    titles = row_titles(columns, language)
    sheet.freeze_panes(1, 1)
    sheet.set_column(0, len(titles), 18, styles["cell"])
    for at, title in enumerate(titles):
        sheet.write_string(0, at, title[:MAX_CELL], styles["head"])
    for line, judged in enumerate(forms, 1):
        doubtful = {
            4 + at
            for at, column in enumerate(columns)
            if any(each.field.key == column.key and each.doubts and not each.state.is_settled for each in judged.fields)
        }
        for at, cell in enumerate(form_row(judged, columns, language)):
            _write(sheet, line, at, cell, styles["doubtful" if at in doubtful else "cell"])
    sheet.autofilter(0, 0, max(len(forms), 1), len(titles) - 1)


def _evidence_sheet(
    book: Any, forms: Sequence[JudgedForm], styles: dict[str, Any], file_of: _FileOf, language: Language
) -> None:
    sheet = book.add_worksheet(t("forms.sheet.evidence", language))
    names = ("picture", "field", "crop", "value", "written", "confidence", "look", "doubts", "state", "who", "when")
    sheet.freeze_panes(1, 2)
    sheet.set_column(0, len(names), 18, styles["cell"])
    sheet.set_column_pixels(2, 2, _CROP_CELL_WIDTH_PX, styles["cell"])
    sheet.set_column(7, 7, 48, styles["cell"])
    for at, name in enumerate(names):
        sheet.write_string(0, at, t(f"forms.column.{name}", language), styles["head"])
    line = 0
    for judged in forms:
        titles = names_of(judged, language)
        for each in judged.worst_first:
            line += 1
            style = styles["doubtful" if each.doubts and not each.state.is_settled else "cell"]
            for at, cell in enumerate(_evidence_cells(titles[each.field.key], each, judged, language)):
                _write(sheet, line, at, cell, style)
            _insert_crop(sheet, line, file_of(judged.form.form_id, each.reading.crop))
    sheet.autofilter(0, 0, max(line, 1), len(names) - 1)


def _evidence_cells(name: str, each: JudgedField, judged: JudgedForm, language: Language) -> tuple[Cell, ...]:
    written, confidence, decision = each.reading.written, each.reading.confidence, each.decision
    return (
        printable(judged.form.picture_name),
        name,
        None,
        each.value.shown,
        "" if written is None else _plain(written),
        None if confidence is None else round(confidence, 4),
        look_text(each, language),
        "\n".join(doubt_texts(each, judged, language)),
        state_text(each.state, language),
        "" if decision is None else decision.who,
        "" if decision is None else moment(decision.at),
    )


def _insert_crop(sheet: Any, line: int, crop: bytes | None) -> None:
    if not crop:
        return
    try:
        # Small in the file as well: a workbook of a thousand forms shall still open.
        small = draw_regions(crop, (), max_side=2 * _CROP_CELL_WIDTH_PX)
        size = size_of(small)
    except UnreadableImageError:
        return
    scale = min(_CROP_CELL_WIDTH_PX / size.width, _CROP_CELL_PX / size.height)
    sheet.set_row_pixels(line, _CROP_CELL_PX + 4)
    options = {
        "image_data": io.BytesIO(small),
        "x_scale": scale,
        "y_scale": scale,
        "object_position": 1,
        "x_offset": 2,
        "y_offset": 2,
    }
    sheet.insert_image(line, 2, "crop", options)


def _write(sheet: Any, line: int, at: int, cell: Cell, style: Any) -> None:
    if isinstance(cell, int | float) and abs(cell) < 1e15:
        sheet.write_number(line, at, cell, style)
    else:
        sheet.write_string(line, at, _text(cell)[:MAX_CELL], style)


def _report(target: Path, forms: Sequence[JudgedForm], file_of: _FileOf, language: Language) -> None:
    titles = {judged.form.template.titled(language) for judged in forms}
    title = titles.pop() if len(titles) == 1 else t("forms.report.title", language)
    signatures = tuple(t(f"forms.report.{line}", language) for line in ("checked_by", "date", "signature"))
    write_report(
        target,
        _entries(forms, file_of, language),
        title=title,
        footer=t("forms.report.footer", language),
        signatures=signatures,
    )


def _entries(forms: Sequence[JudgedForm], file_of: _FileOf, language: Language) -> Iterator[ReportEntry]:
    for judged in forms:
        form = judged.form
        names = names_of(judged, language)
        lines = [_report_line(names[each.field.key], each, judged, language) for each in judged.fields]
        who = reviewers(judged)
        if who:
            lines.append(t("forms.report.reviewed", language, who=who, at=reviewed_at(judged)))
        lines.append(t("forms.report.read_by", language, model=form.model, at=moment(form.filled_at)))
        page = f" ({form.page + 1}/{form.page_count})" if form.page_count > 1 else ""
        heading = f"{printable(form.picture_name)}{page}: {form_state_text(judged, language)}"
        yield ReportEntry(heading, tuple(lines), _marked(judged, file_of, language))


def _report_line(name: str, each: JudgedField, judged: JudgedForm, language: Language) -> str:
    value = each.value.shown.replace("\n", " / ") or t("forms.nothing_there", language)
    told = [state_text(each.state, language)] if each.state.is_settled else list(doubt_texts(each, judged, language))
    if each.decision is not None and each.decision.written != each.reading.written:
        was = "" if each.reading.written is None else _plain(each.reading.written)
        told.append(t("forms.report.was", language, value=was[:60] or t("forms.nothing_there", language)))
    mark = " · " if each.state.is_settled else " "
    return f"{name}: {value}" + (f"  [{mark.join(told)}]" if told else "")


def _plain(written: JsonValue) -> str:
    return written if isinstance(written, str) else json.dumps(written, ensure_ascii=False)


def _marked(judged: JudgedForm, file_of: _FileOf, language: Language) -> bytes | None:
    view = file_of(judged.form.form_id, "view")
    if not view:
        return None
    names = names_of(judged, language)
    regions = [
        Region(each.reading.box, names[each.field.key]) for each in judged.fields if each.reading.box is not None
    ]
    try:
        return draw_regions(view, regions, labels=False, max_side=900)
    except UnreadableImageError:
        return None
