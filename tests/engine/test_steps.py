"""Decode steps, one answer or several, growing or static, recorded or not: the tokens are the library's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from qwen_vl_app.chat import FinishReason, Message, SamplingParams
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, Step, TokenStep
from qwen_vl_app.engine.local import slab
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.slab import EagerRecorder, SlabSize, StaticStepper, buckets_of
from qwen_vl_app.engine.local.steps import GrowingStepper, Rounds
from qwen_vl_app.errors import OutOfMemoryError
from tests.engine.harness import Pair, ask, never
from tests.engine.tape import TapeRecorder

CPU = torch.device("cpu")
WAYS = ("plain", "static", "recorded")


def seat_steppers(pair: Pair, way: str, *, rows: int = 4, tokens: int = 600) -> TapeRecorder:
    """Let the engine decode in one of the ways; return what recorded it."""
    parts = pair.engine._parts
    assert parts is not None
    text = parts.decoder.text
    recorder = TapeRecorder()
    plain = GrowingStepper(text, CPU, most_rows=rows)
    size = SlabSize(rows, tokens)
    steppers = {
        "plain": (plain,),
        "static": (StaticStepper(text, CPU, size, recorder=EagerRecorder()), plain),
        "recorded": (StaticStepper(text, CPU, size, recorder=recorder), plain),
    }[way]
    pair.engine._parts = replace(parts, rounds=Rounds(steppers))
    return recorder


@pytest.fixture
def stepped(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """The pair, with its own way of decoding put back afterwards, and buckets short enough to be crossed."""
    monkeypatch.setattr(slab, "SHORTEST_BUCKET", 32)
    parts = pair.engine._parts
    assert parts is not None
    yield pair
    pair.engine._parts = parts


def in_turns(
    engine: LocalEngine, requests: list[GenerationRequest], *, order: list[int] | None = None
) -> list[list[int]]:
    """Run answers a step each in turn; return their tokens. `order` says who comes when, then all in turn."""
    runs = [engine.generate(request, should_stop=never) for request in requests]
    said: list[list[int]] = [[] for _ in runs]
    going = set(range(len(runs)))
    for place in itertools.chain(order or (), itertools.cycle(range(len(runs)))):
        if not going:
            return said
        if place not in going:
            continue
        step: Step | None = next(runs[place], None)
        if step is None or isinstance(step, FinishedStep):
            going.discard(place)
        elif isinstance(step, TokenStep):
            said[place].append(step.token_id)
    return said


@pytest.mark.parametrize("way", WAYS)
def test_a_long_answer_crosses_buckets(stepped: Pair, way: str) -> None:
    """From a short prompt through several buckets, and over the slab's end into the plain way."""
    recorder = seat_steppers(stepped, way, tokens=130)
    question = Message("user", "Tell me all.", (stepped.picture(50),))
    assert ask(stepped.engine, question, max_new_tokens=160).ids == stepped.expected(question, max_new_tokens=160)
    if way == "recorded":
        assert recorder.recorded >= 3
        assert recorder.replayed > 40


@pytest.mark.parametrize("way", WAYS)
def test_what_was_decoded_serves_the_next_question(stepped: Pair, way: str) -> None:
    """Keys and values go into the slab and come back out: the follow-up finds them and says what the library says."""
    seat_steppers(stepped, way)
    first = Message("user", "What is it?", (stepped.picture(51),))
    said = ask(stepped.engine, first, key="a")
    again = (first, Message("assistant", said.text), Message("user", "And the second?"))
    parts = stepped.engine._parts
    assert parts is not None
    ids = list(stepped.engine._prompt(parts, again, "a").token_ids)
    follow = ask(stepped.engine, *again, key="a")
    assert follow.finish.usage.cached_tokens >= said.finish.usage.prompt_tokens + len(said.ids) - 1
    assert follow.ids == stepped.expected(*again, ids=ids)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_answers_in_turns_are_what_each_would_be_alone(stepped: Pair, way: str, count: int) -> None:
    """Several answers of unlike lengths about unlike pictures share their steps, also more of them than rows."""
    seat_steppers(stepped, way, rows=4)
    questions = [
        Message("user", "What is it? " * (1 + 3 * number), (stepped.picture(60 + number, 1 + number, 3),))
        for number in range(count)
    ]
    requests = [
        GenerationRequest((question,), SamplingParams(max_new_tokens=12 + 7 * number), f"turn-{number}")
        for number, question in enumerate(questions)
    ]
    said = in_turns(stepped.engine, requests)
    for number, question in enumerate(questions):
        assert said[number] == stepped.expected(question, max_new_tokens=12 + 7 * number)


@pytest.mark.parametrize("way", WAYS)
def test_answers_come_and_go_in_any_order(stepped: Pair, way: str) -> None:
    """One begins while another speaks, one rests for long, the first one ends early: rows move and nothing mixes."""
    seat_steppers(stepped, way, rows=3)
    questions = [
        Message("user", text, (stepped.picture(70 + n),)) for n, text in enumerate(("One?", "Two is it?", "3"))
    ]
    lengths = (9, 30, 30)
    requests = [
        GenerationRequest((question,), SamplingParams(max_new_tokens=length))
        for question, length in zip(questions, lengths, strict=True)
    ]
    order = [0] * 12 + [1] * 14 + [0] + [2] * 12 + [0, 1] * 3 + [2] * 4 + [0] * 20
    said = in_turns(stepped.engine, requests, order=order)
    for number, question in enumerate(questions):
        assert said[number] == stepped.expected(question, max_new_tokens=lengths[number])


@pytest.mark.parametrize("way", WAYS)
def test_a_step_is_shared_by_all_who_spoke(stepped: Pair, way: str) -> None:
    """Three answers of equal length take as many steps as one."""
    seat_steppers(stepped, way)
    parts = stepped.engine._parts
    assert parts is not None
    stepper = parts.rounds._steppers[0]
    rows: list[int] = []
    inner = stepper.step
    stepper.step = lambda seats: (rows.append(len(seats)), inner(seats))[1]  # type: ignore[func-returns-value,method-assign]
    requests = [
        GenerationRequest((Message("user", "What is it?"),), SamplingParams(max_new_tokens=11), str(n))
        for n in range(3)
    ]
    said = in_turns(stepped.engine, requests)
    assert [len(ids) for ids in said] == [11, 11, 11]
    assert rows.count(3) >= 8
    assert len(rows) <= 14


@pytest.mark.parametrize("way", WAYS)
def test_who_walks_away_does_not_hold_a_row(stepped: Pair, way: str) -> None:
    """A closed or stopped answer leaves its row; those beside it go on undisturbed."""
    seat_steppers(stepped, way, rows=2)
    parts = stepped.engine._parts
    assert parts is not None
    stay = Message("user", "What is it?", (stepped.picture(80),))
    run = stepped.engine.generate(GenerationRequest((stay,), SamplingParams(max_new_tokens=20)), should_stop=never)
    said = [step.token_id for step in itertools.islice(run, 9) if isinstance(step, TokenStep)]
    for number in range(4):
        other = stepped.engine.generate(
            GenerationRequest((Message("user", f"Nr {number}"),), SamplingParams(max_new_tokens=40)), should_stop=never
        )
        for _ in range(8):
            next(other)
        other.close()  # type: ignore[attr-defined]
    said += [step.token_id for step in run if isinstance(step, TokenStep)]
    assert said == stepped.expected(stay, max_new_tokens=20)
    assert not parts.rounds._seated


@pytest.mark.parametrize("way", WAYS)
def test_a_step_that_fails_harms_nobody_else(stepped: Pair, way: str) -> None:
    """Out of memory in one answer's step ends that answer; the one beside it says what it would have said."""
    seat_steppers(stepped, way)
    stay, fall = (Message("user", text, (stepped.picture(90),)) for text in ("What is it?", "And that?"))
    one, two = (
        stepped.engine.generate(GenerationRequest((asked,), SamplingParams(max_new_tokens=20)), should_stop=never)
        for asked in (stay, fall)
    )
    said = [step.token_id for step in itertools.islice(one, 9) if isinstance(step, TokenStep)]
    for _ in range(8):
        next(two)

    def fail(at: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    stepped.engine._fault = fail
    with pytest.raises(OutOfMemoryError):
        list(two)
    stepped.engine._fault = lambda at: None
    said += [step.token_id for step in one if isinstance(step, TokenStep)]
    assert said == stepped.expected(stay, max_new_tokens=20)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: out of memory")]
)
@pytest.mark.parametrize("tokens", [600, 60])
def test_memory_that_runs_out_on_the_way_out_leaves_nothing_behind(
    stepped: Pair, tokens: int, error: Exception
) -> None:
    """Where an answer cannot be brought out of the slab, at its end it stands, half-way it fails; the next one works."""
    seat_steppers(stepped, "static", rows=1, tokens=tokens)
    parts = stepped.engine._parts
    assert parts is not None
    stepper = parts.rounds._steppers[0]

    def fails(seat: object) -> None:
        raise error

    question = Message("user", "What is it?", (stepped.picture(91),))
    expected = stepped.expected(question, max_new_tokens=40)
    stepper._copy_out = fails  # type: ignore[attr-defined]
    if tokens == 600:
        assert ask(stepped.engine, question, max_new_tokens=40).ids == expected
    else:
        with pytest.raises(OutOfMemoryError):
            ask(stepped.engine, question, max_new_tokens=40)
    del stepper._copy_out  # type: ignore[attr-defined]
    assert parts.prefixes.running_bytes == 0
    assert not stepper._seats  # type: ignore[attr-defined]
    assert ask(stepped.engine, question, max_new_tokens=40).ids == expected


def test_what_could_not_be_brought_out_is_not_taken_from_the_row_of_another(pair: Pair) -> None:
    """An answer too long for the slab fails on its way out, and another moves into its row before it is put away."""
    parts = pair.engine._parts
    assert parts is not None
    stepper = StaticStepper(parts.decoder.text, CPU, SlabSize(2, 8))
    rounds = Rounds((stepper, GrowingStepper(parts.decoder.text, CPU)))
    long, other = (rounds.join(KVCache(parts.decoder.layers), 0) for _ in range(2))
    for token in range(7):
        rounds.say(long, token)
        rounds.hear(long)

    def fails(seat: object) -> None:
        raise ValueError("a driver's mood")

    stepper._copy_out = fails  # type: ignore[method-assign]
    rounds.say(long, 7)
    with pytest.raises(ValueError, match="mood"):
        rounds.hear(long)
    del stepper._copy_out
    rounds.leave(long)
    assert (long.cache.length, other.row) == (0, 0)


def test_sampling_in_turns_follows_each_seed(stepped: Pair) -> None:
    """Answers with seeds of their own draw what they would draw alone."""
    seat_steppers(stepped, "static")
    question = Message("user", "Say something.")
    params = [SamplingParams(max_new_tokens=16, temperature=0.8, top_p=0.9, seed=seed) for seed in (1, 2)]
    said = in_turns(stepped.engine, [GenerationRequest((question,), each) for each in params])
    for ids, each in zip(said, params, strict=True):
        alone = ask(stepped.engine, question, max_new_tokens=16, temperature=0.8, top_p=0.9, seed=each.seed)
        assert alone.ids == ids
        assert alone.finish.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("tokens", [40, 256, 257, 1000, 8192])
def test_buckets_reach_the_end_without_large_steps(tokens: int) -> None:
    """Each is at most half as long again, or twice where it is short; the last is the whole."""
    buckets = buckets_of(tokens)
    assert buckets[-1] == tokens
    assert list(buckets) == sorted(set(buckets))
    assert all(after <= before * 1.5 for before, after in itertools.pairwise(buckets))


def test_a_row_with_nothing_valid_behind_it_stays_clean(pair: Pair) -> None:
    """What an earlier answer left in a row, NaN even, never reaches the next one."""
    parts = pair.engine._parts
    assert parts is not None
    stepper = StaticStepper(parts.decoder.text, CPU, SlabSize(1, 64))
    for part in (*stepper._keys, *stepper._values):
        part.fill_(float("nan"))
    rounds = Rounds((stepper,))
    cache = KVCache(parts.decoder.layers)
    seat = rounds.join(cache, 0)
    rounds.say(seat, 5)
    assert rounds.hear(seat).isfinite().all()


def test_a_row_that_moves_leaves_behind_what_was_in_its_new_place(pair: Pair) -> None:
    """An answer whose numbers are none ends, and a shorter one moves into its row: it goes on as it would have."""
    parts = pair.engine._parts
    assert parts is not None
    stepper = StaticStepper(parts.decoder.text, CPU, SlabSize(2, 64))
    rounds = Rounds((stepper,))
    broken, sound = (rounds.join(KVCache(parts.decoder.layers), 0) for _ in range(2))
    for token in range(5, 15):
        rounds.say(broken, token)
        rounds.hear(broken)
    stepper._whole[:, :, broken.row, :, : broken.length] = float("nan")
    rounds.leave(broken)
    assert sound.row == 0
    rounds.say(sound, 5)
    assert rounds.hear(sound).isfinite().all()


def test_what_a_step_is_told_is_not_written_over_by_the_next(pair: Pair) -> None:
    """A card takes it when it comes to it; a step that nobody waited for, since its answer was stopped, may not have begun."""
    parts = pair.engine._parts
    assert parts is not None
    stepper = StaticStepper(parts.decoder.text, CPU, SlabSize(2, 64))
    rounds = Rounds((stepper,))
    seats = [rounds.join(KVCache(parts.decoder.layers), 0) for _ in range(2)]
    given: list[tuple[torch.Tensor, list[list[int]]]] = []

    class Noted(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.copy_.default and args[0] is stepper._told:
                given.append((args[1], args[1].tolist()))
            return func(*args, **(kwargs or {}))

    with Noted():
        for token in (5, 6, 7):
            rounds.say(seats[0], token)
            rounds.hear(seats[0])
    assert [was for _, was in given] == [
        [[token, 0], [number, 0], [number, 0]] for number, token in enumerate((5, 6, 7))
    ]
    assert all(told.tolist() == was for told, was in given)


def test_recording_everything_ahead_leaves_nothing_to_record(pair: Pair) -> None:
    """After preparing, no answer waits for a recording."""
    parts = pair.engine._parts
    assert parts is not None
    recorder = TapeRecorder()
    stepper = StaticStepper(parts.decoder.text, CPU, SlabSize(3, 300), recorder=recorder)
    with torch.inference_mode():
        stepper.prepare()
    assert recorder.recorded == 3 * len(buckets_of(300))
    rounds = Rounds((stepper,))
    seats = [rounds.join(KVCache(parts.decoder.layers), 0) for _ in range(2)]
    for number in range(6):
        for seat in seats:
            rounds.say(seat, number)
        assert all(rounds.hear(seat).isfinite().all() for seat in seats)
    assert recorder.recorded == 3 * len(buckets_of(300))


def test_a_model_on_disk_is_decoded_in_the_plain_way_on_a_processor(models_dir: Path) -> None:
    """On a processor nothing is gained by fixed memory, and none is taken for it."""
    engine = LocalEngine(models_dir, model="qwen3_vl", device="cpu", precision="fp32", threads=1)
    engine.load()
    assert engine._parts is not None
    assert engine._parts.rounds.name == "plain"
    engine.close()
