"""The part that asks too much of a card, and then whether the next question is still answered."""

from __future__ import annotations

import random
from typing import Any

import torch

from qwen_vl_app.chat import Message, Size
from qwen_vl_app.engine.base import FinishedStep
from qwen_vl_app.engine.local.bench_arms import QUESTION, random_picture
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.errors import AppError
from scripts.card_parts.asking import asked, question
from scripts.card_parts.job import Job


def faults(job: Job) -> dict[str, Any]:
    """Ask too much in three ways under a cap; each time the next question has to be answered."""
    job.begin()
    engine = job.engine()
    plan = engine.status.plan
    if plan is None:
        raise RuntimeError("there is no plan")
    rung = plan.rungs[-1]
    side = max(plan.factor, int(rung.max_pixels**0.5) // plan.factor * plan.factor)
    words = plan.context_tokens + 1000
    if job.is_dry:
        side, words = 4 * plan.factor, words // 2  # no word of "very" is a token there
    many = max(1, (plan.context_tokens - 200) // max(1, side * side // plan.factor**2))
    large = tuple(random_picture(500 + n, Size(side, side)) for n in range(min(many, 1 if job.is_dry else 24)))
    found: dict[str, Any] = {"precision": engine.status.dtype, "context_tokens": plan.context_tokens}
    found["as many large pictures as fit"] = _failing_and_next(engine, Message("user", QUESTION, large), job)
    found["a context too long"] = _failing_and_next(engine, Message("user", "very " * words), job)
    with _less_memory(engine, job):
        found["memory taken away"] = _failing(engine, question(engine, 77, Size(side, side)))
    found["memory taken away"]["next_answered"] = _answers(engine, job)
    return found


class _less_memory:  # noqa: N801 - used like a function
    """Take nearly all that is left of the card; on a processor the next encoding fails as if it were so."""

    def __init__(self, engine: LocalEngine, job: Job) -> None:
        self._engine, self._job = engine, job
        self._ballast: list[torch.Tensor] = []

    def __enter__(self) -> None:
        if self._job.device == "cpu":

            def fail(point: str) -> None:
                raise torch.OutOfMemoryError("CUDA out of memory")

            self._engine._fault = fail
            return
        block = 2**28
        while block >= 2**24:
            try:
                self._ballast.append(torch.empty(block, dtype=torch.uint8, device=self._job.device))
            except torch.OutOfMemoryError:
                block //= 2

    def __exit__(self, *unused: object) -> None:
        self._ballast.clear()
        self._engine._fault = lambda point: None


def _failing(engine: LocalEngine, message: Message) -> dict[str, Any]:
    try:
        last = list(asked(engine, message, tokens=4))[-1]
    except AppError as error:
        return {"told": error.code}
    return {"told": last.finish_reason.value if isinstance(last, FinishedStep) else "nothing"}


def _failing_and_next(engine: LocalEngine, message: Message, job: Job) -> dict[str, Any]:
    return {**_failing(engine, message), "next_answered": _answers(engine, job)}


def _answers(engine: LocalEngine, job: Job) -> bool:
    side = 64 if job.is_dry else 512
    told_of = _failing(engine, question(engine, random.randrange(10**6), Size(side, side)))["told"]
    return bool(told_of == "length")
