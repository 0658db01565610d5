"""Downloads of the records page: everything that a browser has kept, and a backup of the whole history.

Knows the browser's profile and files that are handed over and then gone. Does not know what is in them. Strangers are
turned away by the guard in front of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from qwen_vl_app.api.guard import profile_of
from qwen_vl_app.api.uploads import language_of
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.errors import AppError, HistoryError, UsageError
from qwen_vl_app.texts import Language, render

EVERYTHING = "/app/records/everything.zip"
BACKUP = "/app/records/backup.zip"
_PIECE_BYTES = 2**18


def records_routes(current: Callable[[], Assistant]) -> list[Route]:
    """Return the routes; `current` returns the assistant and is called in a thread, for it may have to open it."""
    doors = _Downloads(current)
    return [
        Route(EVERYTHING, doors.everything, methods=["GET"]),
        Route(BACKUP, doors.backup, methods=["GET"]),
    ]


class _Downloads:
    def __init__(self, current: Callable[[], Assistant]) -> None:
        self._current = current

    async def everything(self, request: Request) -> Response:
        return await self._answering(request, _export, name="conversations")

    async def backup(self, request: Request) -> Response:
        return await self._answering(request, _back_up, name="backup")

    async def _answering(
        self, request: Request, make: Callable[[Assistant, str, Language], _Made], *, name: str
    ) -> Response:
        language = language_of(request)
        try:
            owner = profile_of(request.headers.get("cookie", ""))
            if owner is None:
                raise UsageError("staging.no_browser")
            assistant = await run_in_threadpool(self._current)
            made = await run_in_threadpool(make, assistant, owner, language)
        except (AppError, OSError) as error:
            told = error if isinstance(error, AppError) else HistoryError("history.storage_failed")
            return PlainTextResponse(render(told, language), status_code=409, headers={"Cache-Control": "no-store"})
        return StreamingResponse(
            made.pieces(),
            media_type="application/zip",
            headers={
                "Content-Disposition": f'attachment; filename="{name}-{datetime.now(UTC):%Y-%m-%d}.zip"',
                "Content-Length": str(made.size_bytes),
                "Cache-Control": "no-store",
            },
        )


class _Made:
    """A file that is handed over once; it goes when it was, or when nobody takes it any longer."""

    def __init__(self, stream: IO[bytes], ending: ExitStack) -> None:
        self._stream = stream
        self._ending = ending
        self.size_bytes = stream.seek(0, 2)
        stream.seek(0)

    def pieces(self) -> Iterator[bytes]:
        """Yield the file."""
        with self._ending:
            while piece := self._stream.read(_PIECE_BYTES):
                yield piece


def _export(assistant: Assistant, owner: str, language: Language) -> _Made:
    with ExitStack() as ending:
        file = ending.enter_context(assistant.scratch.directory(owner)) / "everything.zip"
        stream = ending.enter_context(file.open("w+b"))
        assistant.records.export(stream, owner=owner, language=language)
        return _Made(stream, ending.pop_all())


def _back_up(assistant: Assistant, owner: str, _language: Language) -> _Made:
    if not assistant.records.is_only_owner(owner):
        raise HistoryError("records.others_are_here")
    with ExitStack() as ending:
        file = ending.enter_context(assistant.scratch.directory(owner)) / "backup.zip"
        assistant.records.backup(file)
        return _Made(ending.enter_context(file.open("rb")), ending.pop_all())
