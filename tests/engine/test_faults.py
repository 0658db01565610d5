"""Out of memory, again and again: the engine lets go, says so, and answers the next question right."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable

import psutil
import pytest
import torch

from qwen_vl_app.chat import Message
from qwen_vl_app.errors import OutOfMemoryError
from tests.engine.harness import Pair, ask

TIMES = 200
POINTS = ("encode", "prefill", "decode")


def failing(point: str, *, after: int) -> Callable[[str], None]:
    """Return a fault that comes at the given pass of a point, with the tensors of a real one alive in its frame."""
    left = after

    def fail(at: str) -> None:
        nonlocal left
        if at != point:
            return
        left -= 1
        if left < 0:
            ballast = torch.ones(2**18)
            raise torch.OutOfMemoryError(f"CUDA out of memory with {ballast.nbytes} bytes alive")

    return fail


def test_out_of_memory_again_and_again_leaves_memory_flat(pair: Pair, request: pytest.FixtureRequest) -> None:
    """Whatever point fails, nothing stays held, the next question is right, and memory does not grow."""
    dice = random.Random(7)
    question = Message("user", "What is it?", (pair.picture(40),))
    expected = pair.expected(question)
    parts = pair.engine._parts
    assert parts is not None
    process = psutil.Process()
    settled = 0
    # The engine collects garbage after each fault; what was there before this test need not be looked at every time.
    gc.collect()
    gc.freeze()
    request.addfinalizer(gc.unfreeze)
    for number in range(TIMES):
        pair.engine._fault = failing(POINTS[number % 3], after=dice.randrange(3) if number % 3 == 2 else 0)
        with pytest.raises(OutOfMemoryError):
            ask(pair.engine, question, key=f"k{number}")
        assert parts.features.nbytes == parts.prefixes.nbytes == 0
        if number % 20 == 19:
            pair.engine._fault = lambda at: None
            assert ask(pair.engine, question, key="after").ids == expected
            parts.prefixes.clear()
            parts.features.clear()
        if number == 39:
            gc.collect()
            settled = process.memory_info().rss
    gc.collect()
    # Each fault held a megabyte: kept tensors of the last 80 would be far over this.
    assert process.memory_info().rss - settled < 32 * 2**20
