"""One new token over a long memory: each way gives the plain one's numbers, and the fastest right one is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qwen_vl_app.chat import Message
from qwen_vl_app.engine.local import chunk_choice, slab
from qwen_vl_app.engine.local.attending import added_mask, attend_one
from qwen_vl_app.engine.local.graphs import _fastest_way
from qwen_vl_app.engine.local.one_token import AttendOne, by_products, device_stopwatch, timed
from qwen_vl_app.engine.local.slab import EagerRecorder, SlabSize, StaticStepper
from qwen_vl_app.engine.local.steps import Rounds
from tests.engine.harness import Pair, ask
from tests.engine.tape import TapeRecorder

CPU = torch.device("cpu")


def memories(rows: int, length: int, *, layers: int = 2, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Parts of a larger slab, as a step sees them: not contiguous."""
    whole = torch.randn(layers, rows + 1, 2, length + 50, 16, generator=torch.Generator().manual_seed(3)).to(dtype)
    return [layer[:rows, :, :length] for layer in whole]


@pytest.mark.parametrize(("rows", "heads", "length"), [(1, 14, 300), (3, 4, 64), (8, 2, 1), (2, 12, 1000)])
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_products_give_the_kernels_numbers(
    rows: int, heads: int, length: int, dtype: torch.dtype, allowed: float
) -> None:
    """For rows that may look at one token, at some and at all, whatever stands behind what they may look at."""
    keys, values = memories(rows, length, dtype=dtype)
    query = torch.randn(rows, heads, 16, generator=torch.Generator().manual_seed(4)).to(dtype)
    lengths = torch.linspace(0, length - 1, rows).long()
    mask = added_mask(lengths, torch.arange(length), dtype)[:, None, None]
    plain = attend_one(query, keys, values, mask).float()
    assert (by_products(query, keys, values, mask).float() - plain).abs().max() <= allowed * plain.abs().max()


def test_a_step_copies_no_keys() -> None:
    """Rows of a slab are taken as they lie: a copy of the memory at every token would cost what the way is to save."""
    keys, values = memories(2, 200)
    tape = TapeRecorder()
    mask = torch.zeros(2, 1, 1, 200)
    tape.record(lambda: by_products(torch.zeros(2, 4, 16), keys, values, mask))
    assert "bmm" in tape.names and not tape.names & {"clone", "_to_copy", "contiguous", "copy_"}


def fake_stopwatch(*seconds: float) -> Callable[[Callable[[], object]], float]:
    """Tell these seconds, one after the other, for whatever was run."""
    left = list(seconds)
    return lambda body: (body(), left.pop(0))[1]


def test_the_fastest_right_way_comes_first() -> None:
    """One that cannot be recorded here, or gives other numbers, is left out however fast."""

    def broken(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    def wrong(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return attend_one(query, keys, values, torch.zeros_like(mask))

    keys = values = memories(2, 200)
    ways: dict[str, AttendOne] = {"kernel": attend_one, "broken": broken, "wrong": wrong, "products": by_products}
    recorder = EagerRecorder()
    for seconds, order in (((2.0, 1.0), ["products", "kernel"]), ((1.0, 2.0), ["kernel", "products"])):
        found = timed(keys, values, 4, record=recorder.record, stopwatch=fake_stopwatch(*seconds), ways=ways)
        assert list(found) == order
    with pytest.raises(RuntimeError):  # without a measure nothing can be said
        timed(keys, values, 4, record=recorder.record, stopwatch=fake_stopwatch(), ways={"broken": broken})


class Refusing(TapeRecorder):
    """A driver that refuses to capture products, and counts how often it is asked to."""

    asked = 0

    def record(self, body: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        recorded = super().record(body)
        if "bmm" in self.names:
            Refusing.asked += 1
            raise RuntimeError("operation not permitted when stream is capturing")
        return recorded  # type: ignore[no-any-return]


@pytest.mark.parametrize("of_chunks", [False, True])
def test_a_way_that_cannot_be_recorded_is_tried_once(monkeypatch: pytest.MonkeyPatch, of_chunks: bool) -> None:
    """For no other length or number of rows: each capture that fails may keep memory. A choice of its own tries anew."""
    monkeypatch.setattr(Refusing, "asked", 0)
    watch = fake_stopwatch(*[1.0] * 20)
    for tried in (1, 2):
        choose: Callable[..., str] = chunk_choice._fastest_way(Refusing, watch) if of_chunks else _fastest_way(Refusing)
        for length in (20, 40, 80):
            keys = values = memories(1, length)
            assert choose(keys, values, 4, *([16] if of_chunks else [])) == "kernel"
        assert Refusing.asked == tried


def test_what_differs_at_one_length_is_tried_at_the_others() -> None:
    """It runs, and keeps nothing that it should not."""
    failed: set[str] = set()

    def wrong(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return attend_one(query, keys, values, torch.zeros_like(mask))

    keys = values = memories(1, 40)
    ways: dict[str, AttendOne] = {"kernel": attend_one, "wrong": wrong}
    record = EagerRecorder().record
    timed(keys, values, 4, record=record, stopwatch=fake_stopwatch(1.0), ways=ways, failed=failed)
    assert not failed


def test_memory_that_runs_out_is_no_way_s_fault() -> None:
    """It ends the choice, so that steps are not captured where there is no room for them."""

    def hungry(*_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    keys = values = memories(1, 20)
    ways: dict[str, AttendOne] = {"kernel": attend_one, "hungry": hungry}
    with pytest.raises(torch.OutOfMemoryError):
        timed(keys, values, 4, record=EagerRecorder().record, stopwatch=fake_stopwatch(1.0), ways=ways)


def test_a_real_stopwatch_tells_seconds() -> None:
    """Of the best turn."""
    assert 0.0 <= device_stopwatch(CPU)(lambda: None) < math.inf


@pytest.mark.parametrize("recorder", [EagerRecorder(), TapeRecorder()])
def test_an_answer_by_products_is_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, recorder: EagerRecorder | TapeRecorder
) -> None:
    """Chosen for some lengths only, over buckets that the answer crosses; the memory is clean again after choosing, but for what recording wrote."""
    monkeypatch.setattr(slab, "SHORTEST_BUCKET", 32)
    parts = pair.engine._parts
    assert parts is not None
    told = ask(pair.engine, Message("user", "Say something."), max_new_tokens=90).ids
    asked: list[tuple[int, int]] = []

    def choose(keys: list[torch.Tensor], values: list[torch.Tensor], heads: int) -> str:
        assert keys[0].abs().sum() > 0 and values[0].abs().sum() > 0
        asked.append((keys[0].shape[0], keys[0].shape[2]))
        return "kernel" if keys[0].shape[2] == 48 else "products"

    stepper = StaticStepper(parts.decoder.text, CPU, SlabSize(2, 300), recorder=recorder, choose_way=choose)  # type: ignore[arg-type]
    with torch.inference_mode():
        stepper.prepare()
    assert all(not part[:, :, 1:].any() for part in (*stepper._keys, *stepper._values))
    assert len(asked) == len(set(asked)) == len(stepper.ways)
    pair.engine._parts = replace(parts, rounds=Rounds((stepper, *parts.rounds._steppers)))
    try:
        assert ask(pair.engine, Message("user", "Say something."), max_new_tokens=90).ids == told
    finally:
        pair.engine._parts = parts


def test_ways_are_timed_as_they_will_run() -> None:
    """Recorded anew for each length, by recorders that share nothing."""
    made: list[TapeRecorder] = []

    def make() -> TapeRecorder:
        made.append(TapeRecorder())
        return made[-1]

    keys = values = memories(1, 64)
    choose = _fastest_way(make)
    assert {choose(keys, values, 4), choose(keys, values, 4)} <= {"kernel", "products"}
    assert [each.recorded for each in made] == [2, 2] and all(each.replayed > 2 for each in made)
