"""A run with several answers in the making: written as soon as they are over, in the order of names, behind everybody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchPlan, BatchRuns, RunState
from qwen_vl_app.chat import FinishReason, Question, Usage
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, Step, TokenStep
from tests.batch.parts import AnsweringEngine, fill, until
from tests.hub_parts import WAIT_S, an_assistant

AT_A_TIME = 4


class LongEngine(AnsweringEngine):
    """Its answers to runs go on, a token a step, until `ends` says so of their picture's width."""

    def __init__(self) -> None:
        super().__init__(at_a_time=AT_A_TIME)
        self.ending: set[int] = set()
        self.ends_all = False
        self.under_way: list[int] = []
        self.most = 0

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        if request.messages[-1].text == "person":
            return super().generate(request, should_stop=should_stop)
        self.requests.append(request)
        return self._long(request.messages[-1].images[0].size.width, should_stop)

    def _long(self, width: int, should_stop: Callable[[], bool]) -> Iterator[Step]:
        self.under_way.append(width)
        self.most = max(self.most, len(self.under_way))
        made = 0
        try:
            while not (self.ends_all or width in self.ending or should_stop()):
                made += 1
                yield TokenStep("more ", token_id=1, logprob=-0.1)
            finish = FinishReason.STOPPED if should_stop() else FinishReason.STOP
            yield FinishedStep(finish, Usage(completion_tokens=made), f"{width}")
        finally:
            self.under_way.remove(width)


@pytest.fixture
def engine() -> LongEngine:
    return LongEngine()


@pytest.fixture
def assistant(engine: LongEngine, tmp_path: Path) -> Iterator[Assistant]:
    with an_assistant(engine, tmp_path / "data") as assistant:
        yield assistant


@pytest.fixture
def runs(assistant: Assistant) -> Iterator[BatchRuns]:
    made = BatchRuns(assistant)
    yield made
    made.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    fill(tmp_path / "photos", 9)
    return tmp_path / "photos"


def width_of(number: int) -> int:
    return 280 + 28 * number


def test_as_many_as_gain_are_in_the_making_and_no_more(engine: LongEngine, runs: BatchRuns, photos: Path) -> None:
    """The run says how many, and why."""
    run_id = runs.start(BatchPlan(photos, ("?",)))
    progress = until(runs, run_id, lambda _: len(engine.under_way) == AT_A_TIME)
    assert progress.at_a_time == AT_A_TIME and progress.why is not None and progress.why.code == "batch.width.gain"
    engine.ends_all = True
    assert runs.wait(run_id, WAIT_S)
    assert runs.progress(run_id).answered == 9 and engine.most == AT_A_TIME
    assert len(engine.requests) == 9


def test_what_is_over_is_on_the_disk_though_one_before_it_goes_on(
    engine: LongEngine, runs: BatchRuns, photos: Path
) -> None:
    """Rows come as they are made and are told in the order of names; a stop costs only what was in the making."""
    run_id = runs.start(BatchPlan(photos, ("?",)))
    until(runs, run_id, lambda _: len(engine.under_way) == AT_A_TIME)
    for number in (2, 1):
        engine.ending.add(width_of(number))
        until(runs, run_id, lambda progress, number=number: progress.answered == 3 - number)  # type: ignore[misc]
    assert [row.name for row in runs.latest_rows(run_id, 9)] == ["photo 1.png", "photo 2.png"]
    assert [row.name for row in runs.current_rows(run_id)] == ["photo 1.png", "photo 2.png"]
    runs.stop(run_id)
    assert runs.progress(run_id).state is RunState.STOPPED
    kept = runs.current_rows(run_id)
    assert [row.name for row in kept] == ["photo 1.png", "photo 2.png"]
    engine.ends_all = True
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    rows = runs.current_rows(run_id)
    assert [row.name for row in rows] == [f"photo {number}.png" for number in range(9)]
    assert rows[1:3] == kept
    asked = [request.messages[-1].images[0].size.width for request in engine.requests]
    assert [asked.count(width_of(number)) for number in (1, 2)] == [1, 1]


def test_a_pause_writes_down_all_that_are_in_the_making(engine: LongEngine, runs: BatchRuns, photos: Path) -> None:
    """They are answered to their ends, and nothing new is begun."""
    run_id = runs.start(BatchPlan(photos, ("?",)))
    until(runs, run_id, lambda progress: len(engine.under_way) == AT_A_TIME and progress.current == "photo 5.png")
    runs.pause(run_id)
    engine.ends_all = True
    paused = until(runs, run_id, lambda progress: progress.answered == AT_A_TIME + 1)
    assert paused.state is RunState.PAUSED and len(engine.requests) == AT_A_TIME + 1
    runs.go_on(run_id)
    assert runs.wait(run_id, WAIT_S)
    assert runs.progress(run_id).answered == 9


def test_a_person_waits_for_none_of_them(
    engine: LongEngine, assistant: Assistant, runs: BatchRuns, photos: Path
) -> None:
    """The answer to a person is made while four of the run stand still; a stop reaches those as well."""
    run_id = runs.start(BatchPlan(photos, ("?",)))
    until(runs, run_id, lambda _: len(engine.under_way) == AT_A_TIME)
    job = assistant.ask(Question("person"), owner="browser")
    answer = job.wait(WAIT_S)
    assert answer is not None and answer.text == "Answer to person"
    assert runs.progress(run_id).answered == 0 and len(engine.under_way) == AT_A_TIME
    runs.stop(run_id)
    assert runs.progress(run_id).state is RunState.STOPPED


def test_questions_about_one_picture_still_follow_each_other(engine: LongEngine, runs: BatchRuns, photos: Path) -> None:
    """Never two at a time about one picture: the second finds it read."""
    run_id = runs.start(BatchPlan(photos, ("1", "2", "3")))
    until(runs, run_id, lambda _: len(engine.under_way) == AT_A_TIME)
    assert len(set(engine.under_way)) == AT_A_TIME
    engine.ends_all = True
    assert runs.wait(run_id, WAIT_S)
    rows = runs.current_rows(run_id)
    assert [(row.name, row.question) for row in rows] == [
        (f"photo {number}.png", asked) for number in range(9) for asked in "123"
    ]


def test_two_runs_share_what_there_is(engine: LongEngine, runs: BatchRuns, photos: Path, tmp_path: Path) -> None:
    """Together they have no more in the making than one alone."""
    fill(tmp_path / "others", 6, first=20)
    ids = [runs.start(BatchPlan(folder, ("?",))) for folder in (photos, tmp_path / "others")]
    until(runs, ids[0], lambda _: len(engine.under_way) == AT_A_TIME)
    engine.ends_all = True
    assert all(runs.wait(run_id, WAIT_S) for run_id in ids)
    assert [runs.progress(run_id).answered for run_id in ids] == [9, 6]
    assert engine.most == AT_A_TIME
