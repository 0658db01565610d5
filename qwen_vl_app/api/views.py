"""The routes behind what is looked at: a part cut out of a kept picture, samples, and pages that a model wrote.

Knows the browser's profile and whose picture or turn is asked for. A page goes out only into a frame of the app, under a
policy that lets it run nothing and load nothing. Does not know what the page around it shows.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from qwen_vl_app.answers import page_of
from qwen_vl_app.api.guard import profile_of
from qwen_vl_app.api.page_walls import PAGE_POLICY, SCRIPTS_POLICY, walled_in
from qwen_vl_app.api.row_numbers import know_row_numbers
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Box, Rendition
from qwen_vl_app.errors import AppError, UsageError
from qwen_vl_app.imaging import crop_region
from qwen_vl_app.texts import Language, render

PICTURES = "/app/pictures"
PAGES = "/app/pages"
SAMPLES = "/app/samples"
_NO_STORE = {"Cache-Control": "no-store"}


def view_routes(current: Callable[[], Assistant]) -> list[Route]:
    """Return the routes; `current` returns the assistant and is called in a thread, for it may have to open it."""
    know_row_numbers()
    doors = _Views(current)
    return [
        Route(PICTURES + "/{picture_id:row}/cut", doors.cut, methods=["GET"]),
        Route(SAMPLES + "/{number:row}", doors.sample, methods=["GET"]),
        Route(PAGES + "/{turn_id:row}/{number:row}", doors.page, methods=["GET"]),
    ]


class _Views:
    def __init__(self, current: Callable[[], Assistant]) -> None:
        self._current = current

    async def cut(self, request: Request) -> Response:
        return await self._answering(request, _cut)

    async def sample(self, request: Request) -> Response:
        return await self._answering(request, _sample)

    async def page(self, request: Request) -> Response:
        return await self._answering(request, _page)

    async def _answering(self, request: Request, work: Callable[[Assistant, str, Request], Response]) -> Response:
        """Do the work in a thread for the browser that asks; a refusal is one sentence in its language."""

        def in_thread() -> Response:
            owner = profile_of(request.headers.get("cookie", ""))
            if owner is None:
                raise UsageError("staging.no_browser")
            return work(self._current(), owner, request)

        try:
            return await run_in_threadpool(in_thread)
        except AppError as error:
            language = Language.from_locale(request.headers.get("accept-language"))
            return PlainTextResponse(f"{render(error, language)}\n", status_code=404, headers=_NO_STORE)


def _cut(assistant: Assistant, owner: str, request: Request) -> Response:
    """Cut a box out of a picture; `box` is left, top, right, bottom in pixels of an original of `size`."""
    numbers = [*_whole(request.query_params.get("box", ""), 4), *_whole(request.query_params.get("size", ""), 2)]
    x1, y1, x2, y2, width, height = numbers
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise UsageError("staging.bad_request")
    view = assistant.picture(owner, request.path_params["picture_id"], Rendition.VIEW).data
    box = Box(x1 / width, y1 / height, x2 / width, y2 / height)
    cut = crop_region(view, box, margin=0.0, as_png=True)
    stem = request.query_params.get("name", "")[:100].rpartition(".")[0] or "picture"
    name = quote(f"{stem}-{x1}-{y1}-{x2}-{y2}.png", safe="")
    headers = {**_NO_STORE, "Content-Disposition": f"attachment; filename*=utf-8''{name}"}
    return Response(cut, media_type="image/png", headers=headers)


def _sample(assistant: Assistant, owner: str, request: Request) -> Response:
    """Send the picture of a sample that came with the model: everybody's, and the same for as long as its address is."""
    del owner
    samples, number = assistant.samples(), request.path_params["number"]
    if number >= len(samples):
        raise UsageError("staging.bad_request")
    kind = mimetypes.guess_type(samples[number].name)[0] or ""
    is_picture = kind.startswith("image/") and "svg" not in kind
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(
        samples[number].data, media_type=kind if is_picture else "application/octet-stream", headers=headers
    )


def _whole(text: str, count: int) -> list[int]:
    parts = text.split(",")
    if len(parts) != count or not all(re.fullmatch(r"[0-9]{1,7}", part) for part in parts):
        raise UsageError("staging.bad_request")
    return [int(part) for part in parts]


def _page(assistant: Assistant, owner: str, request: Request) -> Response:
    """Show a page of one of the owner's answers, in a frame only: alone in a tab, a link in it could lead away."""
    if request.headers.get("sec-fetch-dest") != "iframe":
        raise UsageError("preview.only_inside")
    turn = assistant.turn(owner, request.path_params["turn_id"])
    page = page_of(turn.answer.text, request.path_params["number"]) if turn.answer is not None else None
    if page is None:
        raise UsageError("preview.not_here")
    runs = request.query_params.get("scripts") == "1"
    headers = {
        **_NO_STORE,
        "Content-Security-Policy": SCRIPTS_POLICY if runs else PAGE_POLICY,
        "X-DNS-Prefetch-Control": "off",
    }
    return Response(walled_in(page.source, runs=runs), media_type="text/html; charset=utf-8", headers=headers)
