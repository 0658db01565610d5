"""Downloads of one conversation: as a ZIP, as a report, for programs.

Knows the browser's profile. Does not know what the files look like; `qwen_vl_app.takeaway` does.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, timedelta, timezone, tzinfo
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen_vl_app.api.handing_over import Made, handed_over, made_on_disk, owner_of, refused
from qwen_vl_app.api.uploads import language_of
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.errors import AppError, UsageError
from qwen_vl_app.private import is_private
from qwen_vl_app.takeaway import Taker, write_json, write_pdf, write_zip

CONVERSATIONS = "/app/conversations"
_KINDS = {
    "zip": (write_zip, "application/zip"),
    "pdf": (write_pdf, "application/pdf"),
    "json": (write_json, "application/json"),
}


def conversation_export_routes(current: Callable[[], Assistant]) -> list[Route]:
    """Return the routes; `current` returns the assistant and is called in a thread, for it may have to open it."""

    async def take(request: Request) -> Response:
        number, kind = int(request.path_params["number"]), request.path_params["kind"]
        try:
            if kind not in _KINDS:
                raise UsageError("api.unknown_address")
            owner, language, zone = owner_of(request), language_of(request), _zone_of(request)
            assistant = await run_in_threadpool(current)
            made = await run_in_threadpool(_made, Taker(assistant, owner, language, zone), number, kind)
        except (AppError, OSError) as error:
            return refused(error, request)
        return handed_over(made, name=f"conversation-{number}.{kind}", mime=_KINDS[kind][1])

    return [Route(CONVERSATIONS + "/{number:int}/{kind}", take, methods=["GET"])]


def _made(taker: Taker, number: int, kind: str) -> Made:
    conversation = taker.assistant.conversation(taker.owner, number)
    write = partial(_KINDS[kind][0], taker, conversation)
    if is_private(number) or taker.assistant.settings.keep == "nothing":  # of these nothing is ever on the disk
        stream = io.BytesIO()
        write(stream)
        return Made(stream, ExitStack())

    def write_file(path: Path) -> None:
        with path.open("w+b") as file:
            write(file)

    return made_on_disk(taker.assistant, taker.owner, name=f"conversation.{kind}", write=write_file)


def _zone_of(request: Request) -> tzinfo:
    """Return the zone of the reader's clock, by its name or by its minutes east of Greenwich."""
    name = request.query_params.get("zone", "")
    try:
        return timezone(timedelta(minutes=int(name))) if name.lstrip("-").isdecimal() else ZoneInfo(name)
    except (KeyError, ValueError, OSError, OverflowError):
        return UTC
