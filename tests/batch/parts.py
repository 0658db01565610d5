"""Parts for tests of runs: an engine that answers any number of questions, and folders of drawn files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from qwen_vl_app.batch import BatchProgress, BatchRuns
from qwen_vl_app.engine.base import GenerationRequest, Step
from qwen_vl_app.engine.fake import FAKE_PLAN, FakeEngine, PiecesThen, Reply
from tests.hub_parts import WAIT_S, a_file

Answering = Callable[[GenerationRequest], Reply | PiecesThen]


class AnsweringEngine(FakeEngine):
    """A fake engine without an end: the reply is made from the request. With a `gate`, as its parent has it.

    It says that it gains from `at_a_time` answers in one step.
    """

    def __init__(
        self,
        answer: Answering = lambda request: f"Answer to {request.messages[-1].text}",
        *,
        gate: threading.Semaphore | None = None,
        at_a_time: int = 1,
    ) -> None:
        plan = replace(FAKE_PLAN, spare_tokens=100_000)
        super().__init__(gate=gate, plan=plan, gains={at_a_time: float(at_a_time)} if at_a_time > 1 else None)
        self._answer_to = answer

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        self.replies.append(self._answer_to(request))
        return super().generate(request, should_stop=should_stop)

    @property
    def asked(self) -> list[tuple[int, int, str]]:
        """Width and height of the seen picture and the question, of every request in order."""
        return [
            (message.images[0].size.width, message.images[0].size.height, message.text)
            for request in self.requests
            for message in request.messages
        ]


def fill(folder: Path, count: int, *, first: int = 0) -> list[str]:
    """Write that many different pictures that the fake decoder reads; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"photo {number}.png" for number in range(first, first + count)]
    for number, name in enumerate(names, first):
        (folder / name).write_bytes(a_file(280 + 28 * number, 280))
    return names


def until(runs: BatchRuns, run_id: str, is_so: Callable[[BatchProgress], bool]) -> BatchProgress:
    """Wait for a progress; fails when it does not come."""
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.02)):
        progress = runs.progress(run_id)
        if is_so(progress):
            return progress
        pause.wait(0.02)
    raise AssertionError(f"it never came to that: {runs.progress(run_id)}")
