"""The addresses of the systems that came before: one picture in a form, one description out.

Knows their forms and replies. `POST /describe-image/` takes `file` and returns `description`, `inference_time`, `model`;
`POST /api/v1/analyze` takes `image` and `query` and returns `text`.
"""

from __future__ import annotations

import time

from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from qwen_vl_app.api.asking import Call, Reply, StagedMessage, ask, require_ready, stage_upload
from qwen_vl_app.api.bodies import read_form
from qwen_vl_app.api.doors import Door, GetAssistant
from qwen_vl_app.api.following import LEFT, unless_left
from qwen_vl_app.chat import SamplingParams, StagedPicture
from qwen_vl_app.errors import UsageError

DESCRIBE = "Describe this image in detail."
LONGEST_QUERY_CHARS = 100_000


def prior_routes(get_assistant: GetAssistant) -> list[BaseRoute]:
    """Return the addresses, with and without the last slash."""
    describe_door = Door(get_assistant, {"POST": describe})
    analyze_door = Door(get_assistant, {"POST": analyze})
    return [
        Route("/describe-image/", describe_door),
        Route("/describe-image", describe_door),
        Route("/api/v1/analyze", analyze_door),
        Route("/api/v1/analyze/", analyze_door),
    ]


async def describe(call: Call) -> Response:
    """Describe the picture in `file`. `inference_time` is in seconds and counts the waiting for the model as well."""
    started = time.monotonic()
    async with read_form(call.request, limit_bytes=_limit(call), fields=("file",)) as form:
        status = require_ready(call)
        picture = await _picture(call, form, "file")
    reply = await _answered(call, picture, DESCRIBE)
    if reply is None:
        return LEFT
    if reply.refusal is not None:
        return reply.refusal.response(call.language)
    taken = round(time.monotonic() - started, 3)
    return JSONResponse({"description": reply.text, "inference_time": taken, "model": status.model})


async def analyze(call: Call) -> Response:
    """Answer `query` about the picture in `image`."""
    async with read_form(call.request, limit_bytes=_limit(call), fields=("image", "query")) as form:
        query = form.get("query")
        if not isinstance(query, str) or not query.strip():
            raise UsageError("api.missing_field", field="query")
        if len(query) > LONGEST_QUERY_CHARS:
            raise UsageError("api.bad_field", field="query")
        require_ready(call)
        picture = await _picture(call, form, "image")
    reply = await _answered(call, picture, query)
    if reply is None:
        return LEFT
    if reply.refusal is not None:
        return reply.refusal.response(call.language)
    return JSONResponse({"text": reply.text})


def _limit(call: Call) -> int:
    return call.settings.api_max_body_mb * 2**20


async def _picture(call: Call, form: FormData, field: str) -> StagedPicture:
    sent = form.get(field)
    if not isinstance(sent, UploadFile):
        raise UsageError("api.missing_field", field=field)
    return await stage_upload(call, await sent.read(), sent.filename or field)


async def _answered(call: Call, picture: StagedPicture, text: str) -> Reply | None:
    """Ask, and wait for the whole answer; None where the client left."""
    messages = (StagedMessage("user", text, (picture,)),)
    sampling = SamplingParams(max_new_tokens=call.settings.max_new_tokens)
    job = await ask(call, messages, sampling)
    reply = Reply(call, job, messages=messages, sampling=sampling, is_live=False)
    return reply if await unless_left(call.request, reply.to_the_end) else None
