"""Downloads of the batch page: a run in each of its forms.

Annotated pictures are handed over while they are drawn: a thousand photos are neither in memory nor on the disk, and nobody
waits for the last one before the first has come. Knows the browser's profile. Does not know what an export looks like.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import IO, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen_vl_app.api.handing_over import Made, handed_over, owner_of, refused
from qwen_vl_app.api.uploads import language_of
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchRuns, DrawnPicture, ExportKind, LeftOut, left_out_text
from qwen_vl_app.errors import AppError, BatchError, UsageError
from qwen_vl_app.texts import Language

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

    return [Route(RUNS + "/{run_id}/{kind}", take, methods=["GET"])]


def _made(
    assistant: Assistant, runs: BatchRuns, run_id: str, *, owner: str, kind: ExportKind, language: Language
) -> Made | Iterator[bytes]:
    if runs.plan(run_id).owner != owner:
        raise BatchError("batch.unknown", run=run_id)
    if kind is ExportKind.ANNOTATED:
        return _zipped(runs.drawn_pictures(run_id), language)
    with ExitStack() as ending:
        target = ending.enter_context(assistant.scratch.directory(owner)) / f"run.{_MIMES[kind][0]}"
        runs.export(run_id, kind, target, language=language)
        return Made(ending.enter_context(target.open("rb")), ending.pop_all())


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
