"""What OpenAI's clients get back: models, completions and the pieces of a stream, as OpenAI writes them.

Knows shapes only. Beside OpenAI's own fields a completion may carry `notes`: what was done on the way that a person
should know, such as pictures made smaller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from qwen_vl_app.chat import EngineState, EngineStatus, FinishReason, ScoredToken, Usage

FINISH_REASONS: dict[FinishReason, Literal["stop", "length"]] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.REPETITION: "length",  # it was cut off, though not by the limit; a note says so
}


class Shape(BaseModel):
    """A part of a reply."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ModelSizes(Shape):
    """What this app tells beside OpenAI's fields, so that a command can prepare pictures as the app itself would."""

    family: str
    default: str
    rungs: list[tuple[str, int, int]]
    """Name, most pixels, most tokens, ascending."""
    min_pixels: int
    """Smaller pictures are seen as large as this."""
    at_a_time: int = 1
    """How many answers for which nobody waits are made at a time."""


class Model(Shape):
    """One name under which the loaded model answers; `root` is its own."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "local"
    root: str
    max_model_len: int | None = None
    sizes: ModelSizes | None = None


def model_of(name: str, status: EngineStatus, *, created: int, at_a_time: int = 1) -> Model:
    """Return the entry of one name of the loaded model. The sizes are there once it may be asked, and not before."""
    plan = status.plan
    if plan is None or status.state is not EngineState.READY:
        return Model(id=name, created=created, root=status.model)
    rungs = [(rung.detail.value, rung.max_pixels, rung.max_tokens) for rung in plan.rungs]
    sizes = ModelSizes(
        family=status.family,
        default=plan.default.value,
        rungs=rungs,
        min_pixels=plan.min_pixels,
        at_a_time=at_a_time,
    )
    return Model(id=name, created=created, root=status.model, max_model_len=plan.context_tokens, sizes=sizes)


class ModelList(Shape):
    """Every name under which the loaded model answers."""

    object: Literal["list"] = "list"
    data: list[Model]


class PromptDetails(Shape):
    """Parts of the prompt's tokens."""

    cached_tokens: int
    image_tokens: int


class CompletionUsage(Shape):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class LikelyLogprob(Shape):
    """A token and the natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(LikelyLogprob):
    """A token of the answer, and the likeliest ones in its place, where they were asked for."""

    top_logprobs: list[LikelyLogprob] = []


class ChoiceLogprobs(Shape):
    """The tokens of an answer."""

    content: list[TokenLogprob]
    refusal: None = None


class CompletionMessage(Shape):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(Shape):
    """The one answer."""

    index: Literal[0] = 0
    message: CompletionMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class Note(Shape):
    """Something that a person should know about the answer."""

    code: str
    message: str


class Completion(Shape):
    """A whole chat completion. `model` is the one that answered, whatever name was asked for."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    system_fingerprint: str
    notes: list[Note] = []


class ErrorBody(Shape):
    """Why not. `param` names the field that it is about."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(Shape):
    """A refusal."""

    error: ErrorBody


def in_one_line(content: Mapping[str, object]) -> str:
    """Return JSON that is one line to every client: some split a stream where Unicode says that a line ends."""
    text = json.dumps(content, ensure_ascii=False)
    return text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def usage_of(usage: Usage) -> CompletionUsage:
    """Return token counts in OpenAI's shape."""
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=usage.cached_tokens, image_tokens=usage.picture_tokens),
    )


def logprobs_of(tokens: Sequence[ScoredToken]) -> ChoiceLogprobs:
    """Return the tokens whose probability is known. One inside a character is written as U+FFFD; its bytes are its own."""
    return ChoiceLogprobs(
        content=[
            TokenLogprob(
                **_written(token.raw or token.text.encode(), token.logprob),
                top_logprobs=[LikelyLogprob(**_written(each.raw, each.logprob)) for each in token.likely],
            )
            for token in tokens
            if token.logprob is not None
        ]
    )


def _written(raw: bytes, logprob: float) -> dict[str, Any]:
    return {"token": raw.decode(errors="replace"), "logprob": logprob + 0.0, "bytes": list(raw)}
