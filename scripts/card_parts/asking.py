"""Questions that several parts ask an engine: random pictures, the benchmark's words, answers step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qwen_vl_app.chat import Message, SamplingParams, Size
from qwen_vl_app.engine.base import GenerationRequest
from qwen_vl_app.engine.families import smart_resize
from qwen_vl_app.engine.local.bench_arms import QUESTION, random_picture
from qwen_vl_app.engine.local.engine import LocalEngine


def question(engine: LocalEngine, seed: int, size: Size) -> Message:
    """Return the benchmark's question about a random picture of about that size: the nearest on the model's own grid."""
    plan = engine.status.plan
    if plan is None:
        raise RuntimeError("there is no plan")
    area = plan.factor**2
    fitted = smart_resize(size, plan.factor, min_pixels=area, max_pixels=16384 * area)
    return Message("user", QUESTION, (random_picture(seed, fitted),))


def asked(engine: LocalEngine, message: Message, *, tokens: int, key: str | None = None) -> Iterator[Any]:
    """Begin an answer of at most so many tokens, and return its steps."""
    request = GenerationRequest((message,), SamplingParams(max_new_tokens=tokens), key)
    return iter(engine.generate(request, should_stop=lambda: False))
