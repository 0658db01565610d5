"""What Ollama's clients get back: lists, and answers whole or line by line. Knows shapes only; durations are nanoseconds.

Beside Ollama's own fields an answer carries `answered_by`, the model that answered, whatever name was asked for.
"""

from __future__ import annotations

from typing import Any, Literal

from qwen_vl_app.api.openai_replies import Shape, TokenLogprob


class Version(Shape):
    """The app's version."""

    version: str


class Details(Shape):
    """What kind of model it is."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Listed(Shape):
    """One name under which the loaded model answers."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(Shape):
    """Every name under which the loaded model answers."""

    models: list[Listed]


class RunningModel(Listed):
    """The loaded model."""

    expires_at: str
    size_vram: int
    context_length: int | None = None


class RunningModels(Shape):
    """The loaded model, or nothing."""

    models: list[RunningModel]


class Shown(Shape):
    """About the loaded model."""

    modified_at: str
    modelfile: str
    parameters: str
    template: str
    license: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]


class Line(Shape):
    """What every answer, and every line of one, has."""

    model: str
    created_at: str
    done: bool
    done_reason: Literal["stop", "length", "load"] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[TokenLogprob] | None = None
    answered_by: str | None = None


class GenerateLine(Line):
    """An answer to a prompt."""

    response: str


class Said(Shape):
    """A message, or a piece of one."""

    role: Literal["assistant"]
    content: str


class ChatLine(Line):
    """An answer in a conversation."""

    message: Said


class OllamaError(Shape):
    """Why not."""

    error: str
