"""The Ollama-compatible addresses: what models there are, and answers whole or as lines of JSON.

Knows Ollama's requests and replies. Does not know the model or the queue; `asking` does. Durations are in nanoseconds, as
Ollama gives them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from qwen_vl_app import __version__
from qwen_vl_app.api.asking import Call, Reply, SentMessage, ask, make_form, model_names, require_model, stage
from qwen_vl_app.api.bodies import read_json
from qwen_vl_app.api.doors import Door, GetAssistant, Handler
from qwen_vl_app.api.following import LEFT, LiveResponse, unless_left
from qwen_vl_app.api.forms import AnswerForm
from qwen_vl_app.api.ollama_requests import ChatRequest, GenerateRequest, OllamaRequest, ShowRequest
from qwen_vl_app.api.openai_replies import FINISH_REASONS, in_one_line, logprobs_of
from qwen_vl_app.api.pictures import SentPicture
from qwen_vl_app.chat import EngineState, EngineStatus, ScoredToken
from qwen_vl_app.errors import UsageError

SHOW_LIMIT_BYTES = 64_000
LINE_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "Content-Encoding": "identity",  # or the compression behind would hold lines back until it has enough of them
}
_STARTED = datetime.now(UTC)


def ollama_routes(get_assistant: GetAssistant) -> list[BaseRoute]:
    """Return the addresses under `/api`."""
    doors: dict[str, dict[str, Handler]] = {
        "/api/version": {"GET": version},
        "/api/tags": {"GET": tags},
        "/api/ps": {"GET": running},
        "/api/show": {"POST": show},
        "/api/generate": {"POST": generate},
        "/api/chat": {"POST": chat},
    }
    return [Route(path, Door(get_assistant, handlers, is_ollama=True)) for path, handlers in doors.items()]


async def version(_: Call) -> Response:
    """Return the app's own version."""
    return JSONResponse({"version": __version__})


async def tags(call: Call) -> Response:
    """Return every name under which the loaded model answers."""
    status = call.assistant.status.engine
    names = model_names(call.settings, status) if status.model else ()
    return JSONResponse({"models": [_listed(name, status) for name in names]})


async def running(call: Call) -> Response:
    """Return the loaded model; nothing before it is ready."""
    status = call.assistant.status.engine
    if status.state is not EngineState.READY:
        return JSONResponse({"models": []})
    context = {} if status.plan is None else {"context_length": status.plan.context_tokens}
    never = datetime(9999, 1, 1, tzinfo=UTC).isoformat()
    loaded = _listed(status.model, status) | {"expires_at": never, "size_vram": status.weights_bytes} | context
    return JSONResponse({"models": [loaded]})


async def show(call: Call) -> Response:
    """Describe the loaded model by any of its names. Raises UsageError for a name it does not answer to."""
    wanted = await read_json(call.request, ShowRequest, limit_bytes=SHOW_LIMIT_BYTES)
    name = wanted.model or wanted.name or ""
    status = call.assistant.status.engine
    known = {each.lower() for each in model_names(call.settings, status)} if status.model else set()
    if name.lower() not in known and name.lower().removesuffix(":latest") not in known:
        raise UsageError("api.unknown_model", field="model")
    info: dict[str, object] = {"general.architecture": status.family, "general.basename": status.model}
    if status.plan is not None:
        info[f"{status.family}.context_length"] = status.plan.context_tokens
    return JSONResponse(
        {
            "modified_at": _STARTED.isoformat(),
            "modelfile": "",
            "parameters": "",
            "template": "",
            "license": "",
            "details": _details(status),
            "model_info": info,
            "capabilities": ["completion", "vision"],
        }
    )


async def generate(call: Call) -> Response:
    """Answer one prompt."""
    wanted = await read_json(call.request, GenerateRequest, limit_bytes=call.settings.api_max_body_mb * 2**20)
    system = (SentMessage("system", wanted.system),) if wanted.system else ()
    pictures = _pictures(wanted.images, "images")
    is_empty = not wanted.prompt and not pictures
    messages = () if is_empty else (*system, SentMessage("user", wanted.prompt or "", pictures))
    return await _answer(call, wanted, messages, is_chat=False)


async def chat(call: Call) -> Response:
    """Answer a conversation."""
    wanted = await read_json(call.request, ChatRequest, limit_bytes=call.settings.api_max_body_mb * 2**20)
    messages = tuple(
        SentMessage(message.role, message.content or "", _pictures(message.images, f"messages.{at}.images"))
        for at, message in enumerate(wanted.messages or ())
    )
    return await _answer(call, wanted, messages, is_chat=True)


async def _answer(call: Call, wanted: OllamaRequest, messages: Sequence[SentMessage], *, is_chat: bool) -> Response:
    form = await _form(call, wanted)
    status = require_model(call, wanted.model)
    head = _Head(wanted.model, is_chat=is_chat)
    if not messages:
        only = head.line("") | {"done": True, "done_reason": "load"}
        return _lines_of(only) if wanted.is_stream else JSONResponse(only)
    staged = await stage(call, messages)
    if form is not None:
        staged = (*staged[:-1], replace(staged[-1], text=f"{staged[-1].text}\n\n{form.instruction()}".strip()))
    sampling = wanted.sampling(default_max_new_tokens=call.settings.max_new_tokens)
    job = await ask(call, staged, sampling, form=form)
    reply = Reply(call, job, messages=staged, sampling=sampling, form=form, is_live=wanted.is_stream)
    if wanted.is_stream:
        lines = _lines(call, reply, head, with_logprobs=bool(wanted.logprobs))
        return LiveResponse(lines, media_type="application/x-ndjson", headers=LINE_HEADERS)
    if not await unless_left(call.request, reply.to_the_end):
        return LEFT
    if reply.refusal is not None:
        return reply.refusal.response(call.language, is_ollama=True)
    logprobs = _logprobs(reply.tokens) if wanted.logprobs and reply.tokens else {}
    return JSONResponse(head.line(reply.text) | logprobs | _ending(reply, status))


class _Head:
    """What every line of one answer begins with. The name is the one that was asked for, by which clients file it."""

    def __init__(self, model: str, *, is_chat: bool) -> None:
        self._model = model
        self._is_chat = is_chat

    def line(self, text: str) -> dict[str, object]:
        said = {"message": {"role": "assistant", "content": text}} if self._is_chat else {"response": text}
        return {"model": self._model, "created_at": datetime.now(UTC).isoformat(), **said, "done": False}


async def _lines(call: Call, reply: Reply, head: _Head, *, with_logprobs: bool) -> AsyncGenerator[bytes, None]:
    """Yield a stream: the text line by line, an empty line of it as a sign of life, and how it ended."""
    async with aclosing(reply.news()) as all_news:
        async for news in all_news:
            logprobs = _logprobs(news.tokens) if with_logprobs and news.tokens else {}
            yield _line(head.line(news.text) | logprobs)
    if reply.refusal is not None:
        yield _line(reply.refusal.ollama(call.language))
        return
    yield _line(head.line("") | _ending(reply, call.assistant.status.engine))


def _ending(reply: Reply, status: EngineStatus) -> dict[str, object]:
    timing = reply.answer.timing
    first_s = timing.total_s if timing.first_token_s is None else timing.first_token_s
    return {
        "done": True,
        "done_reason": FINISH_REASONS[reply.answer.finish_reason],
        "total_duration": _nanoseconds(timing.queued_s + timing.total_s),
        "load_duration": 0,
        "prompt_eval_count": reply.usage.prompt_tokens,
        "prompt_eval_duration": _nanoseconds(first_s),
        "eval_count": reply.usage.completion_tokens,
        "eval_duration": _nanoseconds(timing.total_s - first_s),
        "answered_by": status.model,
    }


def _nanoseconds(seconds: float) -> int:
    return max(round(seconds * 1e9), 0)


def _logprobs(tokens: Sequence[ScoredToken]) -> dict[str, object]:
    return {"logprobs": logprobs_of(tokens).model_dump()["content"]}


def _pictures(images: Sequence[str] | None, field: str) -> tuple[SentPicture, ...]:
    return tuple(SentPicture(image, f"{field}.{at}", is_base64=True) for at, image in enumerate(images or ()))


async def _form(call: Call, wanted: OllamaRequest) -> AnswerForm | None:
    if wanted.top_logprobs and not wanted.logprobs:
        raise UsageError("api.needs_other", field="top_logprobs", other="logprobs")
    if not wanted.format:
        return None
    schema = None if isinstance(wanted.format, str) else wanted.format
    return await make_form(call, schema, must_be_object=schema is None, field="format")


def _listed(name: str, status: EngineStatus) -> dict[str, object]:
    return {
        "name": name,
        "model": name,
        "modified_at": _STARTED.isoformat(),
        "size": status.weights_bytes,
        "digest": status.fingerprint,
        "details": _details(status),
    }


def _details(status: EngineStatus) -> dict[str, object]:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": status.family,
        "families": [status.family],
        "parameter_size": "",
        "quantization_level": status.dtype,
    }


def _line(content: Mapping[str, object]) -> bytes:
    return f"{in_one_line(content)}\n".encode()


def _lines_of(content: Mapping[str, object]) -> Response:
    return Response(_line(content), media_type="application/x-ndjson")
