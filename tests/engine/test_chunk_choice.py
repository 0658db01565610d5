"""How the end of a prompt is read: captured for each width that works, agrees and gains, else plainly, with the reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from qwen_vl_app.chat import Message
from qwen_vl_app.engine.local import assembling, chunk_choice
from qwen_vl_app.engine.local.assembling import Options, assemble, prepare
from qwen_vl_app.engine.local.card_products import CARD_KINDS
from qwen_vl_app.engine.local.chunk_choice import ChunksChoice, _fastest_way, choose_chunks
from qwen_vl_app.engine.local.chunks import SlabChunks
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.graphs import StepsChoice
from qwen_vl_app.engine.local.memory import CHUNK_WIDTHS
from qwen_vl_app.engine.local.one_token import Stopwatch
from qwen_vl_app.engine.local.slab import Body, EagerRecorder, Recorder, SlabSize, StaticStepper
from qwen_vl_app.engine.local.steps import GrowingStepper, Rounds
from qwen_vl_app.errors import Reason
from qwen_vl_app.texts import Language, render
from tests.engine.harness import Pair, ask
from tests.engine.tape import TapeRecorder

CPU = torch.device("cpu")
SLAB = SlabSize(2, 700)


class Broken:
    """A driver that refuses to capture."""

    def record(self, body: Body) -> Body:
        raise RuntimeError("operation not permitted when stream is capturing")


class Full:
    """A card without room for another graph."""

    def record(self, body: Body) -> Body:
        raise torch.OutOfMemoryError("CUDA out of memory")


class Wrong:
    """A capture that gives other numbers."""

    def record(self, body: Body) -> Body:
        return lambda: body().flip(-1)


class Lost:
    """A capture that gives no numbers."""

    def record(self, body: Body) -> Body:
        return lambda: body() * float("nan")


def watch(*pairs: tuple[float, float]) -> Stopwatch:
    """Tell these seconds of the plain way and of the captured one, width by width."""
    left = itertools.cycle(itertools.chain.from_iterable(pairs))

    def seconds(body: Callable[[], object]) -> float:
        body()
        return next(left)

    return seconds


FASTER = watch((3.0, 2.0))


@pytest.fixture(autouse=True)
def one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only whole steps ask the stopwatch; ways to attend have a test of their own."""
    monkeypatch.setattr(chunk_choice, "_fastest_way", lambda *_: lambda *_: "products")


def choice(
    pair: Pair, make_recorder: Callable[[], Recorder], stopwatch: Stopwatch, *, has_room: bool = True
) -> ChunksChoice:
    """Choose as on a card, with a recorder that works here."""
    parts = pair.engine._parts
    assert parts is not None
    stepper = StaticStepper(parts.decoder.text, CPU, SLAB)
    found = choose_chunks(
        parts.decoder, stepper, CPU, has_room=has_room, make_recorder=make_recorder, stopwatch=stopwatch
    )
    assert not stepper._seats
    return found


def test_each_width_that_gains_is_taken(pair: Pair) -> None:
    """And says which, how much at least, in both languages; what was refused is not held."""
    made: list[TapeRecorder] = []

    def make() -> TapeRecorder:
        made.append(TapeRecorder())
        return made[-1]

    found = choice(pair, make, watch((4.0, 2.0), (1.0, 2.0), (3.0, 2.0), (9.0, 9.0)))
    assert found.chunks is not None and found.reason is not None
    assert found.chunks.widths == (16, 64) and {width for width, _ in found.chunks._steps} == {16, 64}
    assert found.gains == {16: 2.0, 32: 0.5, 64: 1.5, 128: 1.0}
    assert (found.reason.code, dict(found.reason.facts)) == (
        "engine.choice.chunks.graph",
        {"widths": "16, 64", "times": 1.5},
    )
    assert "16, 64" in render(found.reason) and "1.5" in render(found.reason, Language.CHINESE)
    assert made[0].recorded == len(CHUNK_WIDTHS) * len(found.chunks.lengths) and made[0].replayed


@pytest.mark.parametrize(
    ("make_recorder", "stopwatch", "code"),
    [
        (Broken, FASTER, "failed"),
        (Full, FASTER, "memory"),
        (Wrong, FASTER, "differs"),
        (Lost, FASTER, "differs"),
        (EagerRecorder, watch((1.0, 1.5)), "slower"),
    ],
)
def test_what_does_not_work_or_gain_falls_back_with_a_reason(
    pair: Pair, make_recorder: Callable[[], Recorder], stopwatch: Stopwatch, code: str
) -> None:
    """The plain way is taken, and the answers are what they were."""
    found = choice(pair, make_recorder, stopwatch)
    assert found.reason is not None and found.reason.code == f"engine.choice.chunks.{code}"
    assert render(found.reason) != found.reason.code != render(found.reason, Language.CHINESE)
    assert found.chunks is None or not (found.chunks.widths or found.chunks._steps)


def test_a_trial_that_breaks_off_takes_no_row(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is the decode step behind the reading that fails."""

    def fails(*_: object) -> torch.Tensor:
        raise RuntimeError("CUDA error: invalid argument")

    monkeypatch.setattr(StaticStepper, "step", fails)
    found = choice(pair, EagerRecorder, FASTER)
    assert found == ChunksChoice(reason=Reason("engine.choice.chunks.failed"))


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_a_width_that_differs_anywhere_leaves_the_others(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    """One wrong number at one length is enough, or one that is none; the lengths behind it are right."""
    inner = SlabChunks._body

    def body(self: SlabChunks, width: int, bucket: int) -> Body:
        right = inner(self, width, bucket)
        return (lambda: right() * wrong) if (width, bucket) == (32, 512) else right

    monkeypatch.setattr(SlabChunks, "_body", body)
    found = choice(pair, EagerRecorder, FASTER)
    assert found.chunks is not None and found.chunks.widths == (16, 64, 128)


def test_without_captured_steps_or_room_there_is_nothing(pair: Pair) -> None:
    """The first says nothing of its own: why steps are not captured stands beside it."""
    parts = pair.engine._parts
    assert parts is not None
    assert choose_chunks(parts.decoder, GrowingStepper(parts.decoder.text, CPU), CPU) == ChunksChoice()
    found = choice(pair, EagerRecorder, FASTER, has_room=False)
    assert found.chunks is None
    assert found.reason == Reason("engine.choice.chunks.memory")


@pytest.fixture
def as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let models be loaded with steps that are run each time anew, in place of captured ones."""

    def steps(wanted: str, text: object, device: torch.device, *, rows: int, slab: SlabSize | None) -> StepsChoice:
        assert slab is not None
        static = StaticStepper(text, device, slab, name="graph")  # type: ignore[arg-type]
        return StepsChoice((static, GrowingStepper(text, device)), Reason("engine.choice.steps.graph"))  # type: ignore[arg-type]

    monkeypatch.setattr(assembling, "choose_steps", steps)
    chosen = partial(choose_chunks, make_recorder=EagerRecorder, stopwatch=FASTER)
    monkeypatch.setattr(assembling, "choose_chunks", chosen)
    yield


@pytest.mark.usefixtures("as_on_a_card")
def test_a_loaded_engine_says_so_and_counts_its_memory(
    pair: Pair, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the steps hold is not promised to conversations; a follow-up is read by them."""
    engine = LocalEngine(models_dir, model=pair.family, device="cpu", precision="fp32", threads=1)
    engine.load()
    parts = engine._parts
    assert parts is not None
    codes = [reason.code for reason in engine.status.choices]
    assert codes.index("engine.choice.chunks.graph") == codes.index("engine.choice.steps.graph") + 1
    chunks = parts.rounds._chunks
    assert isinstance(chunks, SlabChunks) and chunks.widths == CHUNK_WIDTHS
    counts: list[int] = []
    inner = chunks.read

    def read(row: int, length: int, token_ids: Sequence[int], positions: torch.Tensor) -> torch.Tensor:
        counts.append(len(token_ids))
        return inner(row, length, token_ids, positions)

    monkeypatch.setattr(chunks, "read", read)
    first = Message("user", "What is it?", (pair.picture(150),))
    said = ask(engine, first, key="a")
    again = (first, Message("assistant", said.text), Message("user", "And the second?"))
    ids = list(engine._prompt(parts, again, "a").token_ids)
    counts.clear()
    assert ask(engine, *again, key="a").ids == pair.expected(*again, ids=ids)
    assert len(counts) == 1
    prepared = prepare(models_dir, Options(model=pair.family, device="cpu", precision="fp32"))
    tight = replace(prepared, budget=replace(prepared.budget, free_bytes=10**7, reserve_bytes=0))
    with_graphs, without = (assembling._prefix_store(tight, None, graph_bytes=nbytes) for nbytes in (10**6, 0))
    assert without._budget_bytes - with_graphs._budget_bytes == 10**6
    engine.close()


def test_ways_to_attend_are_timed_as_they_will_run() -> None:
    """Recorded anew for each width and length; where scores would take too much, the products are not tried."""
    made: list[TapeRecorder] = []

    def make() -> TapeRecorder:
        made.append(TapeRecorder())
        return made[-1]

    keys = values = list(torch.randn(2, 1, 2, 64, 16, generator=torch.Generator().manual_seed(6)))
    for seconds, name in (((2.0, 1.0), "products"), ((1.0, 2.0), "kernel")):
        assert _fastest_way(make, watch(seconds))(keys, values, 4, 16) == name
    assert [each.recorded for each in made] == [2, 2]
    assert _fastest_way(make, watch((2.0, 1.0)))(keys, values, 10**6, 16) == "kernel"
    assert len(made) == 2


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_weights_of_eight_bits_are_read_so_too(models_dir: Path, kind: str) -> None:
    """What fills a step up does not move the numbers of what counts: every token has a scale of its own."""
    options = Options(model="qwen3_vl", device="cpu", precision="bf16", threads=1)
    prepared = prepare(models_dir, options)
    small = replace(prepared, precision=replace(prepared.precision, products=CARD_KINDS[kind]))
    parts = assemble(small, options).parts
    text = parts.decoder.text
    stepper = StaticStepper(text, CPU, SlabSize(1, 300))
    chunks = SlabChunks(text, *stepper.memory, recorder=TapeRecorder())
    chunks.prepare()
    rounds = Rounds((stepper, GrowingStepper(text, CPU)), chunks=chunks)
    trial = chunk_choice._Trial(parts.decoder, chunks, rounds, CPU)
    for width in CHUNK_WIDTHS:
        assert trial.off(width) <= 0.05
