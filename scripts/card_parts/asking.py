"""Questions that several parts ask an engine: random pictures, the benchmark's words, answers step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qwen_vl_app.chat import Message, SamplingParams, Size
from qwen_vl_app.engine.base import GenerationRequest
from qwen_vl_app.engine.local.bench_arms import QUESTION, random_picture
from qwen_vl_app.engine.local.engine import LocalEngine


def question(seed: int, size: Size) -> Message:
    """Return the benchmark's question about a random picture of so many pixels."""
    return Message("user", QUESTION, (random_picture(seed, size),))


def asked(engine: LocalEngine, message: Message, *, tokens: int, key: str | None = None) -> Iterator[Any]:
    """Begin an answer of at most so many tokens, and return its steps."""
    request = GenerationRequest((message,), SamplingParams(max_new_tokens=tokens), key)
    return iter(engine.generate(request, should_stop=lambda: False))
