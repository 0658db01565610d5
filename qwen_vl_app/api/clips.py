"""The route behind the player: a kept clip, to the browser that it belongs to, in the pieces that a player asks for.

Knows the browser's profile and byte ranges. A player jumps to a time only where it may ask for the bytes from there on. Does
not decode; what is no clip by its bytes goes nowhere from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from qwen_vl_app.api.guard import profile_of
from qwen_vl_app.api.row_numbers import know_row_numbers
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Rendition
from qwen_vl_app.errors import AppError, HistoryError, UsageError
from qwen_vl_app.imaging import CLIP_MIMES, sniff_clip
from qwen_vl_app.texts import Language, render

CLIPS = "/app/clips"
PIECE_BYTES = 8 * 2**20
"""The most that goes out at once; a player asks for the next piece when it needs it."""
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes from `start` up to but not `end`."""

    start: int
    end: int


def clip_routes(current: Callable[[], Assistant]) -> list[Route]:
    """Return the routes; `current` returns the assistant and is called in a thread, for it may have to open it."""
    know_row_numbers()

    async def play(request: Request) -> Response:
        return await run_in_threadpool(_play, current, request)

    return [Route(CLIPS + "/{picture_id:row}", play, methods=["GET"])]


def _play(current: Callable[[], Assistant], request: Request) -> Response:
    try:
        owner = profile_of(request.headers.get("cookie", ""))
        if owner is None:
            raise UsageError("staging.no_browser")
        data = current().picture(owner, request.path_params["picture_id"], Rendition.UPLOAD).data
        kind = sniff_clip(data)
        if kind is None:
            raise HistoryError("history.not_found")
    except AppError as error:
        sentence = render(error, Language.from_locale(request.headers.get("accept-language")))
        return PlainTextResponse(f"{sentence}\n", status_code=404)
    # Nothing of it may lie in the browser's own store when it is erased here.
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-store"}
    wanted = request.headers.get("range")
    if wanted is None:
        return Response(data, media_type=CLIP_MIMES[kind], headers=headers)
    piece = piece_of(wanted, len(data))
    if piece is None:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {piece.start}-{piece.end - 1}/{len(data)}"
    return Response(data[piece.start : piece.end], 206, media_type=CLIP_MIMES[kind], headers=headers)


def piece_of(header: str, size: int) -> Piece | None:
    """Return the piece of a file of that size that a Range header asks for, cut to `PIECE_BYTES`; None where it is none.

    Several ranges in one header, which no player asks for, are none either.
    """
    match = _RANGE.fullmatch(header.strip().lower().replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start = int(match[1])
        end = min(int(match[2]) + 1, size) if match[2] else size
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        return None
    return Piece(start, min(end, start + PIECE_BYTES))
