"""Downloads of the records page: everything that a browser has kept, and a backup of the whole history.

Knows the browser's profile and files that are handed over and then gone. Does not know what is in them. Strangers are
turned away by the guard in front of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen_vl_app.api.handing_over import Made, handed_over, made_on_disk, owner_of, refused
from qwen_vl_app.api.uploads import language_of
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.errors import AppError, HistoryError
from qwen_vl_app.texts import Language

EVERYTHING = "/app/records/everything.zip"
BACKUP = "/app/records/backup.zip"


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
        self, request: Request, make: Callable[[Assistant, str, Language], Made], *, name: str
    ) -> Response:
        language = language_of(request)
        try:
            owner = owner_of(request)
            assistant = await run_in_threadpool(self._current)
            made = await run_in_threadpool(make, assistant, owner, language)
        except (AppError, OSError) as error:
            return refused(error, request)
        return handed_over(made, name=f"{name}-{datetime.now(UTC):%Y-%m-%d}.zip", mime="application/zip")


def _export(assistant: Assistant, owner: str, language: Language) -> Made:
    def write(file: Path) -> None:
        with file.open("w+b") as stream:
            assistant.records.export(stream, owner=owner, language=language)

    return made_on_disk(assistant, owner, name="everything.zip", write=write)


def _back_up(assistant: Assistant, owner: str, _language: Language) -> Made:
    if not assistant.records.is_only_owner(owner):
        raise HistoryError("records.others_are_here")
    return made_on_disk(assistant, owner, name="backup.zip", write=assistant.records.backup)
