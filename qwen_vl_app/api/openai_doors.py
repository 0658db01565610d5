"""The OpenAI-compatible addresses: models and chat completions, whole or as server-sent events.

Knows OpenAI's requests, replies and events. Does not know the model or the queue; `asking` does.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from qwen_vl_app.answer_job import JobProgress, JobState
from qwen_vl_app.api.asking import Call, Reply, SentMessage, ask, make_form, model_names, require_model, stage
from qwen_vl_app.api.bodies import read_json
from qwen_vl_app.api.doors import Door, GetAssistant
from qwen_vl_app.api.following import LEFT, LiveResponse, unless_left
from qwen_vl_app.api.forms import AnswerForm
from qwen_vl_app.api.openai_replies import (
    FINISH_REASONS,
    Choice,
    Completion,
    CompletionMessage,
    ModelList,
    Note,
    in_one_line,
    logprobs_of,
    model_of,
    usage_of,
)
from qwen_vl_app.api.openai_requests import (
    DETAILS,
    ChatCompletionRequest,
    ChatMessage,
    ClipPart,
    ImagePart,
    ResponseFormat,
)
from qwen_vl_app.api.pictures import SentPicture
from qwen_vl_app.chat import FinishReason
from qwen_vl_app.errors import Reason, UsageError
from qwen_vl_app.texts import render

STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second keeps nginx from holding events back."""
_STARTED = int(time.time())


def openai_routes(get_assistant: GetAssistant) -> list[BaseRoute]:
    """Return the addresses under `/v1`."""
    return [
        Route("/v1/models", Door(get_assistant, {"GET": list_models})),
        Route("/v1/models/{name:path}", Door(get_assistant, {"GET": show_model})),
        Route("/v1/chat/completions", Door(get_assistant, {"POST": complete})),
    ]


async def list_models(call: Call) -> Response:
    """Return every name under which the loaded model answers; none before it is known which one it is."""
    status = call.assistant.status.engine
    names = model_names(call.settings, status) if status.model else ()
    models = [model_of(name, status, created=_STARTED, at_a_time=call.assistant.run_width.count) for name in names]
    return JSONResponse(ModelList(data=models).model_dump())


async def show_model(call: Call) -> Response:
    """Return one name. Raises UsageError where the model does not answer to it."""
    name = call.request.path_params["name"]
    status = call.assistant.status.engine
    known = {each.lower(): each for each in model_names(call.settings, status)} if status.model else {}
    if name.lower() not in known:
        raise UsageError("api.unknown_model", field="model")
    return JSONResponse(model_of(known[name.lower()], status, created=_STARTED).model_dump())


async def complete(call: Call) -> Response:
    """Answer a chat completion, whole or as a stream."""
    limit_bytes = call.settings.api_max_body_mb * 2**20
    wanted = await read_json(call.request, ChatCompletionRequest, limit_bytes=limit_bytes)
    _require_consistent(wanted)
    status = require_model(call, wanted.model)
    form = await _form(call, wanted.response_format)
    staged = await stage(call, sent_messages(wanted.messages))
    if form is not None:
        staged = (*staged[:-1], replace(staged[-1], text=f"{staged[-1].text}\n\n{form.instruction()}".strip()))
    sampling = wanted.sampling(default_max_new_tokens=call.settings.max_new_tokens)
    job = await ask(call, staged, sampling, form=form, may_wait=wanted.may_wait)
    is_live = bool(wanted.stream)
    reply = Reply(call, job, messages=staged, sampling=sampling, form=form, is_live=is_live)
    head = _Head(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), status.model, status.fingerprint[:32])
    if is_live:
        events = _events(call, reply, head, wanted)
        return LiveResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)
    if not await unless_left(call.request, reply.to_the_end):
        return LEFT
    if reply.refusal is not None:
        return reply.refusal.response(call.language)
    completion = Completion(
        id=head.id,
        created=head.created,
        model=reply.answer.model or head.model,
        choices=[
            Choice(
                message=CompletionMessage(content=reply.text),
                logprobs=logprobs_of(reply.tokens) if wanted.logprobs and reply.tokens else None,
                finish_reason=FINISH_REASONS[reply.answer.finish_reason],
            )
        ],
        usage=usage_of(reply.usage),
        system_fingerprint=head.fingerprint,
        notes=[Note(**note) for note in notes_of(call, reply)],
    )
    return JSONResponse(completion.model_dump())


def sent_messages(messages: list[ChatMessage]) -> tuple[SentMessage, ...]:
    """Return messages as the app knows them: the text in one piece, the pictures before it."""
    sent: list[SentMessage] = []
    for at, message in enumerate(messages):
        role = "system" if message.role == "developer" else message.role
        if message.content is None or isinstance(message.content, str):
            sent.append(SentMessage(role, message.content or ""))
            continue
        texts: list[str] = []
        pictures: list[SentPicture] = []
        for number, part in enumerate(message.content):
            if isinstance(part, ClipPart):
                clip = part.video_url
                source = clip if isinstance(clip, str) else clip.url
                pictures.append(SentPicture(source, f"messages.{at}.content.{number}.video_url", is_clip=True))
                continue
            if not isinstance(part, ImagePart):
                texts.append(part.text)
                continue
            address = part.image_url
            field = f"messages.{at}.content.{number}.image_url"
            if isinstance(address, str):
                pictures.append(SentPicture(address, field))
            else:
                pictures.append(SentPicture(address.url, field, detail=DETAILS[address.detail or "auto"]))
        sent.append(SentMessage(role, "\n".join(texts), tuple(pictures)))
    return tuple(sent)


def notes_of(call: Call, reply: Reply) -> list[dict[str, str]]:
    """Return what should be known about an answer, in the caller's language."""
    reasons = [*reply.answer.notes, *reply.notes]
    if reply.answer.finish_reason is FinishReason.REPETITION:
        reasons.append(Reason("api.cut_repetition"))
    return [{"code": reason.code, "message": render(reason, call.language)} for reason in reasons]


@dataclass(frozen=True, slots=True)
class _Head:
    id: str
    created: int
    model: str
    fingerprint: str


async def _events(call: Call, reply: Reply, head: _Head, wanted: ChatCompletionRequest) -> AsyncGenerator[bytes, None]:
    """Yield a stream: comments while it waits, the text, how it ended, what it cost, and `[DONE]`."""
    with_usage = wanted.stream_options is not None and bool(wanted.stream_options.include_usage)

    def event(choices: list[dict[str, object]], **more: object) -> bytes:
        chunk: dict[str, object] = {
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
            "system_fingerprint": head.fingerprint,
            "choices": choices,
        }
        if with_usage:
            chunk["usage"] = None
        return _data(chunk | more)

    def choice(delta: Mapping[str, object], **more: object) -> list[dict[str, object]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} | more]

    is_begun = False
    async with aclosing(reply.news()) as all_news:
        async for news in all_news:
            if news.progress is not None:
                if not news.progress.state.is_over:
                    yield _comment(news.progress)
                continue
            delta: dict[str, object] = {"content": news.text}
            if not is_begun:
                delta, is_begun = {"role": "assistant"} | delta, True
            logprobs = logprobs_of(news.tokens).model_dump() if wanted.logprobs and news.tokens else None
            yield event(choice(delta, logprobs=logprobs))
    if reply.refusal is not None:
        yield _data(reply.refusal.openai(call.language))
        return
    delta = {} if is_begun else {"role": "assistant", "content": ""}
    notes = notes_of(call, reply)
    more = {"notes": notes} if notes else {}
    yield event(choice(delta, finish_reason=FINISH_REASONS[reply.answer.finish_reason]), **more)
    if with_usage:
        yield event([], usage=usage_of(reply.usage).model_dump())
    yield b"data: [DONE]\n\n"


def _data(content: Mapping[str, object]) -> bytes:
    return f"data: {in_one_line(content)}\n\n".encode()


def _comment(progress: JobProgress) -> bytes:
    """Return a sign of life that every reader of events skips: the place in the queue, or how far the reading is."""
    if progress.state is JobState.QUEUED and progress.position is not None:
        wait_s = progress.expected_wait_s
        expected = "" if wait_s is None else f", about {math.ceil(wait_s)} s"
        return f": queued {progress.position}{expected}\n\n".encode()
    return f": {progress.state.value} {progress.read_fraction:.2f}\n\n".encode()


async def _form(call: Call, wanted: ResponseFormat | None) -> AnswerForm | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return await make_form(call, None, must_be_object=True, field="response_format")
    form = wanted.json_schema
    if form is None:
        raise UsageError("api.missing_field", field="response_format.json_schema")
    return await make_form(
        call,
        form.json_schema,
        must_be_object=False,
        field="response_format.json_schema.schema",
        is_strict=form.strict is True,
    )


def _require_consistent(wanted: ChatCompletionRequest) -> None:
    if wanted.top_logprobs and not wanted.logprobs:
        raise UsageError("api.needs_other", field="top_logprobs", other="logprobs")
    if wanted.max_tokens is not None and wanted.max_completion_tokens is not None:
        raise UsageError("api.one_of_both", field="max_tokens", other="max_completion_tokens")
