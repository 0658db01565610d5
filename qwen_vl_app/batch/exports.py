"""A run's rows as files to take away: CSV, XLSX with thumbnails, JSON lines, annotated pictures, a report as PDF.

Knows formats and spreadsheets. Does not know how rows came about. A file appears under its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from operator import methodcaller
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import xlsxwriter

from qwen_vl_app.answers import to_csv
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch.columns import (
    ROUND_TITLES,
    as_document,
    columns_of,
    field_names,
    notes_text,
    outcome_text,
    page_text,
    round_cells,
    round_title,
    text,
)
from qwen_vl_app.batch.plan import BatchPlan
from qwen_vl_app.batch.rounds import RoundChange, RoundRow
from qwen_vl_app.batch.rows import BatchRow, RowOutcome
from qwen_vl_app.batch.source import SourceFolder, reading_order
from qwen_vl_app.chat import Region, StagedPicture, Table
from qwen_vl_app.errors import AppError, BatchError, PictureError, Reason
from qwen_vl_app.forms.numbers import written_out
from qwen_vl_app.imaging import clean_name, draw_regions
from qwen_vl_app.imaging.encoding import THUMBNAIL_SIDE
from qwen_vl_app.imaging.report import ReportEntry, write_report
from qwen_vl_app.texts import Language, render, t

MAX_CELL = 32_767
"""Characters that a cell of a workbook takes."""
MAX_REPORT_TEXT = 1_500
_THUMBNAIL_CELL_PX = 96
_Rows: TypeAlias = Callable[[], Iterator[BatchRow]]
_Thumbnail: TypeAlias = Callable[[BatchRow], bytes | None]


class ExportKind(StrEnum):
    """What rows can be taken away as."""

    CSV = "csv"
    XLSX = "xlsx"
    JSONL = "jsonl"
    ANNOTATED = "annotated"
    """A folder of pictures with their boxes drawn in."""
    PDF = "pdf"


@dataclass(frozen=True, slots=True)
class Export:
    """What was written. `left_out` names pictures that could not be drawn, with the reason."""

    kind: ExportKind
    path: Path
    count: int
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A picture of a run with its boxes drawn in, under a name that no other of them has."""

    file_name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A picture that could not be drawn, by its name in the folder."""

    name: str
    reason: Reason


def export_rows(
    kind: ExportKind,
    target: Path,
    *,
    rows: _Rows,
    thumbnail: _Thumbnail,
    assistant: Assistant,
    plan: BatchPlan,
    language: Language,
) -> Export:
    """Write the rows; `rows` begins anew at each call. Raises BatchError `batch.target_unwritable`."""
    try:
        match kind:
            case ExportKind.ANNOTATED:
                return _annotated(target, rows=rows, assistant=assistant, plan=plan)
            case ExportKind.CSV:
                count = _whole(target, lambda partial: _csv(partial, rows, language))
            case ExportKind.JSONL:
                count = _whole(target, lambda partial: _jsonl(partial, rows, language))
            case ExportKind.XLSX:
                count = _whole(target, lambda partial: _workbook(partial, rows, thumbnail, language))
            case ExportKind.PDF:
                count = _whole(target, lambda partial: _report(partial, rows, thumbnail, plan=plan, language=language))
    except OSError as error:
        raise BatchError("batch.target_unwritable", name=target.name) from error
    return Export(kind, target, count)


def rounds_csv(rows: tuple[RoundRow, ...], target: Path, *, language: Language) -> int:
    """Write the report of a round as CSV for Excel; return the number of lines. Raises BatchError `batch.target_unwritable`."""
    cells = [tuple(_cell(value) for value in line) for line in round_cells(rows, language)]
    titles = tuple(t(f"batch.round.{title}", language) for title in ROUND_TITLES)
    try:
        return _whole(target, lambda partial: partial.write_bytes(to_csv(Table(titles, tuple(cells)))) and len(cells))
    except OSError as error:
        raise BatchError("batch.target_unwritable", name=target.name) from error


def rounds_pdf(
    rows: tuple[RoundRow, ...],
    target: Path,
    *,
    title: str,
    before: _Thumbnail,
    after: _Thumbnail,
    language: Language,
) -> int:
    """Write the report of a round as PDF, what is the same left out; return the number of entries.

    Each entry has the picture of this round, or of the earlier one where it has vanished. Raises BatchError
    `batch.target_unwritable`.
    """
    changed = [row for row in rows if row.change is not RoundChange.SAME]

    def entries() -> Iterator[ReportEntry]:
        for row in changed:
            lines = [text(row.question)] if row.question else []
            for _, _, change, field, was, now, delta, percent in round_cells([row], language):
                moved = (
                    ""
                    if delta is None
                    else f" ({float(delta):+.4g}" + (")" if percent is None else f", {float(percent):+.1f} %)")
                )
                lines.append(f"{change}: {field} {was} → {now}{moved}" if field else f"{change}: {was} → {now}")
            side, thumbnail, new = (row.after, after, True) if row.after is not None else (row.before, before, False)
            picture = None if side is None else thumbnail(side)
            regions = row.new_regions if new else row.vanished_regions
            if picture is not None and regions:
                picture = draw_regions(picture, regions, labels=False)
            yield ReportEntry(title=round_title(row), lines=tuple(lines), picture=picture)

    footer = t("batch.report.footer", language)
    try:
        _whole(target, lambda partial: write_report(partial, entries(), title=title, footer=footer))
    except OSError as error:
        raise BatchError("batch.target_unwritable", name=target.name) from error
    return len(changed)


def _whole(target: Path, write: Callable[[Path], int]) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    try:
        count = write(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _csv(target: Path, rows: _Rows, language: Language) -> int:
    columns = columns_of(field_names(rows()), language)
    titles = tuple(column.title for column in columns)
    cells = tuple(tuple(_cell(column.cell(row)) for column in columns) for row in rows())
    target.write_bytes(to_csv(Table(titles, cells)))
    return len(cells)


def _cell(value: str | int | float | None) -> str:
    if isinstance(value, float):
        return written_out(value)
    return "" if value is None else str(value)


def _jsonl(target: Path, rows: _Rows, language: Language) -> int:
    count = 0
    with target.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        for row in rows():
            file.write(json.dumps(as_document(row, language), ensure_ascii=False) + "\n")
            count += 1
    return count


def _workbook(target: Path, rows: _Rows, thumbnail: _Thumbnail, language: Language) -> int:
    columns = columns_of(field_names(rows()), language)
    # Text is text: nothing a model or a file name says becomes a formula or a link.
    packed = io.BytesIO()  # a full disk would leave the library's own file open, which complains once more as it goes
    book = xlsxwriter.Workbook(
        packed, {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    )
    sheet = book.add_worksheet(t("batch.sheet", language))
    head = book.add_format({"bold": True, "valign": "top", "bottom": 1})
    cell = book.add_format({"valign": "top", "text_wrap": True})
    sheet.freeze_panes(1, 2)
    sheet.set_column(0, 0, 14)
    sheet.set_column(1, len(columns), 18, cell)
    sheet.set_column(5, 5, 60, cell)
    sheet.write_string(0, 0, t("batch.column.picture", language), head)
    for at, column in enumerate(columns, 1):
        sheet.write_string(0, at, column.title[:MAX_CELL], head)
    count = 0
    for row in rows():
        count += 1
        picture = thumbnail(row)
        if picture is not None:
            sheet.set_row_pixels(count, _THUMBNAIL_CELL_PX)
            scale = _THUMBNAIL_CELL_PX / THUMBNAIL_SIDE
            options = {"image_data": io.BytesIO(picture), "x_scale": scale, "y_scale": scale, "object_position": 1}
            sheet.insert_image(count, 0, row.thumbnail, options)
        for at, column in enumerate(columns, 1):
            value = column.cell(row)
            if isinstance(value, int | float):
                _write_number(sheet, count, at, value=value, cell=cell)
            elif value:
                sheet.write_string(count, at, value[:MAX_CELL], cell)
    sheet.autofilter(0, 0, max(count, 1), len(columns))
    try:
        book.close()
    except xlsxwriter.exceptions.FileCreateError as error:
        raise OSError(str(error)) from error
    target.write_bytes(packed.getbuffer())
    return count


def _write_number(sheet: xlsxwriter.worksheet.Worksheet, row: int, at: int, *, value: float, cell: object) -> None:
    # A workbook's numbers have 15 digits: a longer one is an identifier, and stays as it was written.
    if abs(value) < 1e15:
        sheet.write_number(row, at, value, cell)
    else:
        sheet.write_string(row, at, str(value), cell)


def _report(target: Path, rows: _Rows, thumbnail: _Thumbnail, *, plan: BatchPlan, language: Language) -> int:
    count = 0

    def entries() -> Iterator[ReportEntry]:
        nonlocal count
        for row in rows():
            count += 1
            picture = thumbnail(row)
            if picture is not None and row.answer is not None and row.answer.parsed.regions:
                picture = draw_regions(picture, row.answer.parsed.regions, labels=False)
            lines = [text(row.question)] if row.question else []
            said = text(row.answer.text) if row.answer is not None else outcome_text(row, language)
            lines.append(said if len(said) <= MAX_REPORT_TEXT else f"{said[:MAX_REPORT_TEXT]}…")
            if notes := notes_text(row, language):
                lines.append(notes)
            name = text(row.name)
            yield ReportEntry(title=f"{name}{page_text(row)}", lines=tuple(lines), picture=picture)

    title = t("batch.report.title", language, name=text(plan.folder.name))
    write_report(target, entries(), title=title, footer=t("batch.report.footer", language))
    return count


def _annotated(target: Path, *, rows: _Rows, assistant: Assistant, plan: BatchPlan) -> Export:
    target.mkdir(parents=True, exist_ok=True)
    left_out: list[LeftOut] = []
    count = 0
    for picture in draw_pictures(rows, assistant=assistant, plan=plan):
        if isinstance(picture, LeftOut):
            left_out.append(picture)
        else:
            _whole(target / picture.file_name, methodcaller("write_bytes", picture.data))
            count += 1
    return Export(ExportKind.ANNOTATED, target, count, tuple(left_out))


def draw_pictures(rows: _Rows, *, assistant: Assistant, plan: BatchPlan) -> Iterator[DrawnPicture | LeftOut]:
    """Draw the boxes of all questions about a page into the picture itself, read anew where it is still the same.

    The rows are read at once, the pictures one at a time, as somebody takes them.
    """
    # Only names and hashes of what has boxes, so that a long run stays small; boxes of one page stand together.
    found = sorted(
        (
            (row.name, row.page, row.content_hash, row.answer.parsed.regions)
            for row in rows()
            if row.outcome is RowOutcome.ANSWERED and row.answer is not None and row.answer.parsed.regions
        ),
        key=lambda entry: (reading_order(entry[0]), entry[1]),
    )

    def one_by_one() -> Iterator[DrawnPicture | LeftOut]:
        taken: set[str] = set()
        for (name, page, content_hash), group in groupby(found, key=lambda entry: entry[:3]):
            regions = tuple(replace(region, picture_index=0) for entry in group for region in entry[3])
            try:
                drawn = _drawn(name, page, content_hash=content_hash, regions=regions, assistant=assistant, plan=plan)
            except (BatchError, PictureError) as error:
                yield LeftOut(name, error.reason)
                continue
            except AppError as error:
                raise BatchError(error.code, **error.facts) from error
            ending = ".jpg" if drawn.startswith(b"\xff\xd8") else ".png"
            yield DrawnPicture(_free_name(name, page, ending=ending, taken=taken), drawn)

    return one_by_one()


def _drawn(
    name: str, page: int, *, content_hash: str, regions: tuple[Region, ...], assistant: Assistant, plan: BatchPlan
) -> bytes:
    picture = read_picture(name, page, content_hash=content_hash, assistant=assistant, plan=plan)
    return draw_regions(picture.view, regions)


def read_picture(name: str, page: int, *, content_hash: str, assistant: Assistant, plan: BatchPlan) -> StagedPicture:
    """Return a picture that was asked about, read anew where it is still the same.

    Raises UsageError where the folder is gone, BatchError `batch.file.*`, PictureError, ModelNotLoadedError.
    """
    _, data = SourceFolder(plan.folder).read(name, max_bytes=assistant.settings.max_upload_mb * 2**20)
    if hashlib.sha256(data).hexdigest() != content_hash:
        raise BatchError("batch.file.changed")
    return assistant.stage(data, name, page=page, detail=plan.detail)


def _free_name(name: str, page: int, *, ending: str, taken: set[str]) -> str:
    """Return a name for a picture of any subfolder, in one folder, on a file system that may not tell case apart."""
    path = PurePosixPath(text(name))
    stem = clean_name("__".join((*path.parts[:-1], path.stem)))
    stem = f"{stem}-{page + 1}" if page else stem
    free, number = f"{stem}{ending}", 1
    while free.casefold() in taken:
        number += 1
        free = f"{stem}-{number}{ending}"
    taken.add(free.casefold())
    return free


def left_out_text(left_out: Iterable[LeftOut], language: Language) -> tuple[str, ...]:
    """Return a sentence for each picture that was left out."""
    return tuple(f"{text(each.name)}: {render(each.reason, language)}" for each in left_out)
