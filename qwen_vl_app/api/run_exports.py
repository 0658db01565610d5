"""Downloads of the batch page: a run in each of its forms, and what changed since an earlier one.

Annotated pictures are handed over while they are drawn: a thousand photos are neither in memory nor on the disk, and nobody
waits for the last one before the first has come. Knows the browser's profile. Does not know what an export looks like.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen_vl_app.api.handing_over import Made, handed_over, made_on_disk, owner_of, refused
from qwen_vl_app.api.uploads import language_of
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchRuns, DrawnPicture, ExportKind, LeftOut, left_out_text, rounds_csv, rounds_pdf
from qwen_vl_app.batch.columns import text
from qwen_vl_app.errors import AppError, BatchError, UsageError
from qwen_vl_app.texts import Language, t

RUNS = "/app/runs"
LEFT_OUT = "left-out.txt"
"""In the archive: which pictures could not be drawn, and why."""
_MIMES = {
    ExportKind.CSV: ("csv", "text/csv"),
    ExportKind.XLSX: ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ExportKind.JSONL: ("jsonl", "application/x-ndjson"),
    ExportKind.ANNOTATED: ("zip", "application/zip"),
    ExportKind.PDF: ("pdf", "application/pdf"),
}
_ROUND_KINDS = (ExportKind.CSV, ExportKind.PDF)


def run_export_routes(current: Callable[[], Assistant], current_runs: Callable[[], BatchRuns]) -> list[Route]:
    """Return the routes; both functions are called in a thread, for they may have to open something."""

    async def take(request: Request) -> Response:
        run_id, name = request.path_params["run_id"], request.path_params["kind"]
        try:
            if name not in set(ExportKind):
                raise UsageError("api.unknown_address")
            owner, kind, language = owner_of(request), ExportKind(name), language_of(request)
            assistant = await run_in_threadpool(current)
            runs = await run_in_threadpool(current_runs)
            make = partial(_made, assistant, runs, run_id, owner=owner, kind=kind, language=language)
            made = await run_in_threadpool(make)
        except (AppError, OSError) as error:
            return refused(error, request)
        ending, mime = _MIMES[kind]
        return handed_over(made, name=f"{run_id}.{ending}", mime=mime)

    async def take_round(request: Request) -> Response:
        run_id, earlier, name = (request.path_params[each] for each in ("run_id", "earlier", "kind"))
        try:
            if name not in _ROUND_KINDS:
                raise UsageError("api.unknown_address")
            owner, kind, language = owner_of(request), ExportKind(name), language_of(request)
            assistant = await run_in_threadpool(current)
            runs = await run_in_threadpool(current_runs)
            tag = request.query_params.get("tag", "").strip()
            rounds = _Rounds(runs, run_id, earlier, owner=owner, tag=tag, language=language)
            write = partial(rounds.write, kind)
            make = partial(made_on_disk, assistant, owner, name=f"round.{kind.value}", write=write)
            made = await run_in_threadpool(make)
        except (AppError, OSError) as error:
            return refused(error, request)
        return handed_over(made, name=f"{run_id}-since-{earlier}.{kind.value}", mime=_MIMES[kind][1])

    return [
        Route(RUNS + "/{run_id}/{kind}", take, methods=["GET"]),
        Route(RUNS + "/{run_id}/since/{earlier}/{kind}", take_round, methods=["GET"]),
    ]


def _made(
    assistant: Assistant, runs: BatchRuns, run_id: str, *, owner: str, kind: ExportKind, language: Language
) -> Made | Iterator[bytes]:
    _require_own(runs, run_id, owner)
    if kind is ExportKind.ANNOTATED:
        pictures = runs.drawn_pictures(run_id)
        first = next(pictures, None)
        if first is None:
            raise BatchError("batch.no_boxes")
        return _zipped(chain([first], pictures), language)

    def write(target: Path) -> object:
        return runs.export(run_id, kind, target, language=language)

    return made_on_disk(assistant, owner, name=f"run.{_MIMES[kind][0]}", write=write)


def _require_own(runs: BatchRuns, run_id: str, owner: str) -> None:
    if runs.plan(run_id).owner != owner:
        raise BatchError("batch.unknown", run=run_id)


class _Rounds:
    """What changed between two runs of one browser."""

    def __init__(self, runs: BatchRuns, run_id: str, earlier: str, *, owner: str, tag: str, language: Language) -> None:
        self._runs, self._run_id, self._earlier = runs, run_id, earlier
        self._owner, self._tag, self._language = owner, tag, language

    def write(self, kind: ExportKind, target: Path) -> None:
        """Write the report. Raises BatchError."""
        runs, language = self._runs, self._language
        for each in (self._run_id, self._earlier):
            _require_own(runs, each, self._owner)
        rows = runs.compare(self._run_id, self._earlier, tag=self._tag)
        if kind is ExportKind.CSV:
            rounds_csv(rows, target, language=language)
            return
        name = text(runs.plan(self._run_id).folder.name)
        rounds_pdf(
            rows,
            target,
            title=t("ui.batch.compare_title", language, name=name),
            before=lambda row: runs.thumbnail(self._earlier, row),
            after=lambda row: runs.thumbnail(self._run_id, row),
            language=language,
        )


def _zipped(pictures: Iterator[DrawnPicture | LeftOut], language: Language) -> Iterator[bytes]:
    """Yield a ZIP while its pictures come."""
    outlet, left_out = _Outlet(), []
    with zipfile.ZipFile(cast(IO[bytes], outlet), "w", zipfile.ZIP_STORED) as archive:
        for picture in pictures:
            if isinstance(picture, LeftOut):
                left_out.append(picture)
                continue
            archive.writestr(picture.file_name, picture.data)
            yield outlet.taken()
        if left_out:
            archive.writestr(LEFT_OUT, "\n".join(left_out_text(left_out, language)) + "\n")
    yield outlet.taken()


class _Outlet:
    """Where an archive is written to and taken from."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
