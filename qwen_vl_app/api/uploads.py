"""The composer's own routes: a file is staged as soon as it is dropped, and edited before anything is asked.

Knows the browser's profile, bodies with a limit, and how a staged picture is told to the page. Does not know what is
asked later. Strangers are turned away by the guard in front of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from qwen_vl_app.api.bodies import HELD, Turns, read_patiently
from qwen_vl_app.api.guard import profile_of
from qwen_vl_app.api.row_numbers import know_row_numbers
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Box, Detail, Rendition, StagedPicture
from qwen_vl_app.corrections import text_as_it_stands
from qwen_vl_app.errors import AppError, HistoryError, ImageTooLargeError, UsageError
from qwen_vl_app.imaging import edit_view, sniff_clip
from qwen_vl_app.texts import Language, render, t

UPLOADS = "/app/uploads"
ANSWERS = "/app/answers"
PICTURES = "/app/pictures"
BODIES_AT_ONCE = 4
"""Of one browser, and files that are looked at; the rest wait."""
EDIT_BYTES = 4096
HEADER_BYTES = 8192
"""Enough to tell a clip from a picture."""
PREFLIGHT = "preflight."
"""What the look before the question found begins with this; the other notes tell what was done on arrival."""


def upload_routes(current: Callable[[], Assistant]) -> list[Route]:
    """Return the routes; `current` returns the assistant and is called in a thread, for it may have to open it."""
    know_row_numbers()
    doors = _Uploads(current)
    return [
        Route(UPLOADS, doors.add, methods=["POST"]),
        Route(UPLOADS, doors.tell, methods=["GET"]),
        Route(UPLOADS + "/{staged_id}", doors.edit, methods=["POST"]),
        Route(UPLOADS + "/{staged_id}", doors.remove, methods=["DELETE"]),
        Route(UPLOADS + "/{staged_id}/view", doors.view, methods=["GET"]),
        Route(PICTURES + "/{picture_id:row}/{rendition}", doors.picture, methods=["GET"]),
        Route(ANSWERS + "/{turn_id:row}", doors.answer, methods=["GET"]),
    ]


IN_PARTS = "parts"
"""The choice of detail that looks at a picture part by part."""
WORTH_TELLING_S = 0.5
"""A shorter wait is none: a person would only wonder at "0.0 s"."""


@dataclass(frozen=True, slots=True)
class _Edit:
    """What the page wants of a staged picture. `crop` is in fractions of the turned picture."""

    quarter_turns: int = 0
    crop: Box | None = None
    page: int | None = None
    detail: Detail | None = None
    in_parts: bool = False
    keeps: bool = False
    """True where the picture stays and the edited one comes beside it: one more page."""


class _Uploads:
    def __init__(self, current: Callable[[], Assistant]) -> None:
        self._current = current
        self._bodies = Turns(BODIES_AT_ONCE)
        self._looks = asyncio.Semaphore(BODIES_AT_ONCE)

    async def add(self, request: Request) -> Response:
        async def work(assistant: Assistant, owner: str) -> Response:
            async with self._bodies.of(owner):
                settings = assistant.settings
                data = await body_of(
                    request, limit=settings.max_upload_mb * 2**20, clip_limit=settings.max_clip_mb * 2**20
                )
                name = request.query_params.get("name", "")[:255]
                detail = _detail(request.query_params.get("detail", ""))
                async with self._looks:
                    picture = await run_in_threadpool(assistant.intake.stage_first_readable, data, name, detail=detail)
                picture = replace(picture, in_parts=request.query_params.get("detail") == IN_PARTS)
            assistant.staging.put(owner, picture)
            return JSONResponse(_chip(assistant, picture, request))

        return await self._answering(request, work)

    async def tell(self, request: Request) -> Response:
        async def work(assistant: Assistant, owner: str) -> Response:
            chips = []
            for staged_id in request.query_params.get("ids", "").split(",")[:64]:
                try:
                    chips.append(_chip(assistant, assistant.staging.get(owner, staged_id), request))
                except UsageError:  # gone meanwhile: the page forgets it, too
                    continue
            return JSONResponse(chips)

        return await self._answering(request, work)

    async def edit(self, request: Request) -> Response:
        async def work(assistant: Assistant, owner: str) -> Response:
            wanted = _edit(await body_of(request, limit=EDIT_BYTES))
            old = assistant.staging.get(owner, request.path_params["staged_id"])
            new = await run_in_threadpool(_edited, assistant, old, wanted)
            assistant.staging.put(owner, new)
            if not wanted.keeps:
                assistant.staging.discard(owner, [old.staged_id])
            return JSONResponse(_chip(assistant, new, request))

        return await self._answering(request, work)

    async def remove(self, request: Request) -> Response:
        async def work(assistant: Assistant, owner: str) -> Response:
            assistant.staging.discard(owner, [request.path_params["staged_id"]])
            return Response(status_code=204)

        return await self._answering(request, work)

    async def view(self, request: Request) -> Response:
        async def work(assistant: Assistant, owner: str) -> Response:
            picture = assistant.staging.get(owner, request.path_params["staged_id"])
            return Response(picture.view, media_type=picture.view_mime, headers={"Cache-Control": "no-store"})

        return await self._answering(request, work)

    async def answer(self, request: Request) -> Response:
        async def work(assistant: Assistant, owner: str) -> Response:
            text = await run_in_threadpool(
                _said, assistant, owner, request.path_params["turn_id"], language_of(request)
            )
            return PlainTextResponse(text, headers={"Cache-Control": "no-store"})

        return await self._answering(request, work)

    async def picture(self, request: Request) -> Response:
        async def work(assistant: Assistant, owner: str) -> Response:
            rendition = request.path_params["rendition"]
            if rendition not in (Rendition.VIEW, Rendition.SEEN, Rendition.THUMBNAIL):
                raise HistoryError("history.not_found")
            kept = await run_in_threadpool(
                assistant.picture, owner, request.path_params["picture_id"], Rendition(rendition)
            )
            # Nothing of it may lie in the browser's own store when it is erased here.
            return Response(kept.data, media_type=kept.mime, headers={"Cache-Control": "no-store"})

        return await self._answering(request, work)

    async def _answering(self, request: Request, work: Callable[[Assistant, str], Awaitable[Response]]) -> Response:
        """Do the work for the browser that asks; a refusal is one sentence in its language."""
        try:
            owner = profile_of(request.headers.get("cookie", ""))
            if owner is None:
                raise UsageError("staging.no_browser")
            assistant = await run_in_threadpool(self._current)
            return await work(assistant, owner)
        except AppError as error:
            # A file that is no picture is an ordinary answer to the composer: browsers cry out over any other status.
            status = 200 if request.method == "POST" else 404
            return JSONResponse({"problem": render(error, language_of(request))}, status_code=status)
        except ClientDisconnect:
            return Response(status_code=499)
        finally:
            HELD.give_back(request.scope)


def _said(assistant: Assistant, owner: str, turn_id: int, language: Language) -> str:
    turn = assistant.turn(owner, turn_id)
    if turn.answer is None:
        return ""
    added = assistant.records.corrections(owner, turn_id)
    return text_as_it_stands(turn.answer, added, sizes=[each.size for each in turn.pictures], language=language)


def _chip(assistant: Assistant, picture: StagedPicture, request: Request) -> dict[str, Any]:
    return chip(
        picture,
        language_of(request),
        seconds=assistant.intake.expected_seconds(picture.looks),
        parts=assistant.intake.part_count(picture),
    )


def chip(picture: StagedPicture, language: Language, *, seconds: float | None = None, parts: int = 0) -> dict[str, Any]:
    """Return a staged picture as the composer shows it: ids and numbers, and lines in the reader's language.

    `seconds` is the time to the first word of an answer that sees it whole, where that is known; `parts` in how many it
    could be looked at, 0 where that shows nothing more. `among` is what holds while other pictures wait beside it.
    """
    facts = [
        t(
            "staging.chip.facts",
            language,
            format=picture.format,
            width=picture.size.width,
            height=picture.size.height,
        )
    ]
    if picture.clip is not None:
        facts.append(t("clip.chip_length", language, seconds=picture.clip.seconds))
    if picture.page_count > 1:
        facts.append(t("staging.chip.page", language, page=picture.page + 1, count=picture.page_count))
    seen = picture.seen
    cost = [
        t(
            "staging.chip.seen" if picture.clip is None else "clip.chip_seen",
            language,
            **({} if picture.clip is None else {"count": len(picture.clip.moments)}),
            width=seen.size.width,
            height=seen.size.height,
            tokens=seen.tokens,
        )
    ]
    notes = [
        render(note, language)
        for note in picture.notes
        if note.code != "image.page_of" and not note.code.startswith(PREFLIGHT)
    ]

    def lines(parts_code: str, *, looks: int = 1) -> list[str]:
        told = [t(parts_code, language, count=parts)] if picture.in_parts else []
        if seconds is not None and seconds * looks >= WORTH_TELLING_S:
            told.append(t("staging.chip.seconds", language, seconds=seconds * looks))
        return [" · ".join(facts), " · ".join(cost + told)]

    looks = parts + 1 if picture.in_parts else 1
    offer = [t("staging.chip.offer_parts", language, count=parts)] if parts and not picture.in_parts else []
    return {
        "id": picture.staged_id,
        "name": picture.name,
        "thumbnail": f"data:image/jpeg;base64,{base64.b64encode(picture.thumbnail).decode()}",
        "page": picture.page,
        "pages": picture.page_count,
        "width": picture.size.width,
        "height": picture.size.height,
        "is_clip": picture.clip is not None,
        "lines": lines("staging.chip.parts" if parts else "staging.chip.no_parts", looks=looks),
        "notes": notes + offer,
        "among": {"lines": lines("staging.chip.several" if parts else "staging.chip.no_parts"), "notes": notes},
        "warnings": [render(note, language) for note in picture.notes if note.code.startswith(PREFLIGHT)],
    }


def _edited(assistant: Assistant, old: StagedPicture, wanted: _Edit) -> StagedPicture:
    return replace(_restaged(assistant, old, wanted), in_parts=wanted.in_parts)


def _restaged(assistant: Assistant, old: StagedPicture, wanted: _Edit) -> StagedPicture:
    # In parts, the whole is seen as ever.
    detail = wanted.detail or (None if wanted.in_parts or old.in_parts else old.seen.detail)
    if old.clip is not None and (wanted.quarter_turns % 4 or wanted.crop is not None):
        raise UsageError("clip.as_it_is")
    if wanted.quarter_turns % 4 or wanted.crop is not None:
        data = edit_view(old.view, quarter_turns=wanted.quarter_turns, crop=wanted.crop)
        ending = "png" if old.view_mime == "image/png" else "jpg"
        return assistant.stage(data, f"{PurePath(old.name).stem}.{ending}", detail=detail)
    page = old.page if wanted.page is None else wanted.page
    return assistant.stage_upload(old.upload, old.name, page=page, detail=detail)


def _edit(body: bytes) -> _Edit:
    """Return what a request's body asks for. Raises UsageError where it is nothing that can be done."""
    try:
        said = json.loads(body)
        crop = said.get("crop")
        box = None if crop is None else Box(*(float(value) for value in crop))
        if box is not None and not all(math.isfinite(v) for v in (box.x1, box.y1, box.x2, box.y2)):
            raise ValueError("no numbers")
        page = said.get("page")
        return _Edit(
            quarter_turns=int(said.get("turn", 0)),
            crop=box,
            page=None if page is None else int(page),
            detail=_detail(str(said.get("detail") or "")),
            in_parts=said.get("detail") == IN_PARTS,
            keeps=bool(said.get("keep", False)),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UsageError("staging.bad_request") from error


async def body_of(request: Request, *, limit: int, clip_limit: int = 0) -> bytes:
    """Return a body of at most `limit` bytes, of a clip at most `clip_limit`, where that is more.

    Raises ImageTooLargeError without having held more than that, and what `read_patiently` raises.
    """
    most = max(limit, clip_limit)
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise ImageTooLargeError("image.too_many_bytes", size=int(announced), limit=most)
    parts = bytearray()
    async for part in read_patiently(request):
        parts += part
        if len(parts) > limit:
            allowed = limit if sniff_clip(bytes(parts[:HEADER_BYTES])) is None else most
            if len(parts) > allowed:
                raise ImageTooLargeError("image.too_many_bytes", size=len(parts), limit=allowed)
    return bytes(parts)


def _detail(name: str) -> Detail | None:
    return Detail(name) if name in list(Detail) else None


def language_of(request: Request) -> Language:
    """Return the language that the page was asked in, else the browser's."""
    chosen = request.query_params.get("lang", "")
    if chosen in list(Language):
        return Language(chosen)
    return Language.from_locale(request.headers.get("accept-language"))
