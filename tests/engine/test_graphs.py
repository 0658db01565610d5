"""How decode steps are run: captured where that works and agrees, else the plain way, each with its reason."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from qwen_vl_app.engine.local import graphs, slab
from qwen_vl_app.engine.local.graph_trial import off_at_lengths
from qwen_vl_app.engine.local.graphs import choose_steps, self_test
from qwen_vl_app.engine.local.slab import Body, EagerRecorder, Recorder, SlabSize, StaticStepper
from qwen_vl_app.engine.local.steps import GrowingStepper
from qwen_vl_app.errors import ModelError
from tests.engine.harness import Pair
from tests.engine.tape import TapeRecorder

CPU = torch.device("cpu")
SLAB = SlabSize(2, 300)


class Broken:
    """A driver that refuses to capture."""

    def record(self, body: Body) -> Body:
        raise RuntimeError("operation not permitted when stream is capturing")


class Full:
    """A card whose memory ends while steps are captured."""

    def record(self, body: Body) -> Body:
        raise torch.OutOfMemoryError("CUDA out of memory")


class Wrong:
    """A capture that gives other numbers, as one of a step with a host read would."""

    def record(self, body: Body) -> Body:
        return lambda: body().flip(-1)


def choice(
    pair: Pair, wanted: str, make_recorder: Callable[[], Recorder], slab: SlabSize | None = SLAB
) -> graphs.StepsChoice:
    """Choose as on a card, with a recorder that works here."""
    parts = pair.engine._parts
    assert parts is not None
    return choose_steps(wanted, parts.decoder.text, CPU, rows=2, slab=slab, make_recorder=make_recorder)


def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what is called a card, whose steps run on the processor."""

    class Card:
        type = "cuda"

    monkeypatch.setattr(
        graphs, "StaticStepper", lambda text, device, *rest, **named: StaticStepper(text, CPU, *rest, **named)
    )
    monkeypatch.setattr(graphs, "GrowingStepper", lambda text, device, **named: GrowingStepper(text, CPU, **named))
    return Card()


def test_a_recorder_that_works_is_used_first(pair: Pair) -> None:
    """Everything is recorded ahead, and the plain way stays for what is too long."""
    made: list[TapeRecorder] = []

    def make() -> TapeRecorder:
        made.append(TapeRecorder())
        return made[-1]

    chosen = choice(pair, "graph", make)
    assert [stepper.name for stepper in chosen.steppers] == ["graph", "plain"]
    assert chosen.reason.code == "engine.choice.steps.wanted"
    assert made[0].recorded > 0 and made[0].replayed > 0


def test_the_self_test_tells_right_from_wrong(pair: Pair) -> None:
    """Two answers, one leaving half-way: the static way agrees with the plain one, a broken one does not."""
    parts = pair.engine._parts
    assert parts is not None
    text = parts.decoder.text
    plain = GrowingStepper(text, CPU)
    for recorder, is_right in ((EagerRecorder(), True), (TapeRecorder(), True), (Wrong(), False)):
        off = self_test(StaticStepper(text, CPU, SLAB, recorder=recorder), plain, layers=len(text.layers))
        assert (off < 1e-5) is is_right


@pytest.mark.parametrize(
    ("make_recorder", "slab", "code"),
    [
        (Broken, SLAB, "engine.choice.steps.failed"),
        (Full, SLAB, "engine.choice.steps.memory"),
        (Wrong, SLAB, "engine.choice.steps.differs"),
        (EagerRecorder, None, "engine.choice.steps.memory"),
    ],
)
def test_what_does_not_work_falls_back_with_a_reason(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, make_recorder: Callable[[], Recorder], slab: SlabSize | None, code: str
) -> None:
    """On a card the plain way is taken and says why; asked for by name, it is an error in a sentence."""
    parts = pair.engine._parts
    assert parts is not None
    with pytest.raises(ModelError, match=r"engine\.steps\.not_here"):
        choice(pair, "graph", make_recorder, slab)

    device = card(monkeypatch)
    chosen = choose_steps("auto", parts.decoder.text, device, rows=2, slab=slab, make_recorder=make_recorder)
    assert [stepper.name for stepper in chosen.steppers] == ["plain"]
    assert chosen.reason.code == code


LONG = SlabSize(4, 600)
STEPS = [(rows, length) for rows in (1, 2, 4) for length in (256, 384, 512, 600)]


def test_every_captured_step_is_replayed_once(pair: Pair) -> None:
    """For each number of rows and each length, behind the last token it is for; and it leaves no seat and nothing to record."""
    parts = pair.engine._parts
    assert parts is not None
    text, recorder = parts.decoder.text, TapeRecorder()
    told: list[tuple[tuple[int, int], list[int]]] = []
    static = StaticStepper(text, CPU, LONG, recorder=recorder)
    static.prepare()

    def noted(step: tuple[int, int], body: Body) -> Body:
        def replay() -> torch.Tensor:
            told.append((step, static._told[1].tolist()))
            return body()

        return replay

    static._steps = {step: noted(step, body) for step, body in static._steps.items()}
    assert off_at_lengths(static, GrowingStepper(text, CPU), layers=len(text.layers)) < 1e-5
    assert [step for step, _ in told] == STEPS and recorder.replayed == recorder.recorded == len(STEPS)
    for (rows, length), lengths in told:
        assert lengths[rows - 1] == length - (2 if length == 600 else 1), "the last token of that length"
        assert all(0 < other < 10 for other in lengths[: rows - 1]) and not any(lengths[rows:])
    assert not static._seats


@pytest.mark.parametrize("step", STEPS)
def test_one_wrong_step_is_enough(pair: Pair, monkeypatch: pytest.MonkeyPatch, step: tuple[int, int]) -> None:
    """Wherever it is, captured steps are not used, and the reason is that they differ."""
    inner = StaticStepper._body

    def body(self: StaticStepper, rows: int, length: int) -> Body:
        right = inner(self, rows, length)
        return (lambda: right() * 1.01) if (rows, length) == step else right

    monkeypatch.setattr(StaticStepper, "_body", body)
    parts = pair.engine._parts
    assert parts is not None
    static = StaticStepper(parts.decoder.text, CPU, LONG)
    plain = GrowingStepper(parts.decoder.text, CPU)
    off = off_at_lengths(static, plain, layers=len(parts.decoder.text.layers))
    assert off == pytest.approx(0.01, rel=0.1)
    chosen = choose_steps("auto", parts.decoder.text, card(monkeypatch), rows=4, slab=LONG, make_recorder=EagerRecorder)
    assert [stepper.name for stepper in chosen.steppers] == ["plain"]
    assert chosen.reason.code == "engine.choice.steps.differs"


@pytest.mark.parametrize(("factor", "is_known"), [(float("nan"), False), (1.0, True)])
def test_numbers_that_are_none_are_not_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, factor: float, is_known: bool
) -> None:
    """What is no number in the middle of the lengths is not lost behind those that are right."""
    inner = StaticStepper._body

    def body(self: StaticStepper, rows: int, length: int) -> Body:
        right = inner(self, rows, length)
        return (lambda: right() * factor) if (rows, length) == (2, 384) else right

    monkeypatch.setattr(StaticStepper, "_body", body)
    parts = pair.engine._parts
    assert parts is not None
    text = parts.decoder.text
    off = off_at_lengths(StaticStepper(text, CPU, LONG), GrowingStepper(text, CPU), layers=len(text.layers))
    assert (off <= 1e-4) is is_known


def test_a_step_that_forgets_a_part_of_its_memory_is_seen(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel would that was captured for a shorter one: what stands there repeats itself, and still each part counts."""
    inner = slab._SlabAttending.__init__

    def forgetful(self: Any, keys: Any, values: Any, lengths: torch.Tensor, way: Any) -> None:
        inner(self, keys, values, lengths, way)
        if keys[0].shape[2] == 512:
            self._mask = self._mask.masked_fill(torch.arange(512) < 128, -math.inf)

    monkeypatch.setattr(slab._SlabAttending, "__init__", forgetful)
    parts = pair.engine._parts
    assert parts is not None
    text = parts.decoder.text
    static, plain = StaticStepper(text, CPU, LONG), GrowingStepper(text, CPU)
    assert self_test(static, plain, layers=len(text.layers)) < 1e-5, "the first lengths are right"
    assert off_at_lengths(static, plain, layers=len(text.layers)) > 0.05


def test_on_a_processor_captured_steps_are_refused_by_name(pair: Pair) -> None:
    """There is nothing to capture; auto says so, `plain` is always there."""
    parts = pair.engine._parts
    assert parts is not None
    text = parts.decoder.text
    assert choose_steps("auto", text, CPU, rows=1, slab=SLAB).reason.code == "engine.choice.steps.processor"
    assert choose_steps("plain", text, CPU, rows=1, slab=None).name == "plain"
    with pytest.raises(ModelError, match=r"engine\.steps\.not_here"):
        choose_steps("graph", text, CPU, rows=1, slab=SLAB)


def test_compiling_needs_its_tools(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Triton or a compiler, compiled steps are refused in a sentence that names them."""
    monkeypatch.setattr(graphs, "can_compile", lambda: False)
    with pytest.raises(ModelError, match=r"engine\.steps\.no_compiler"):
        choice(pair, "compiled", EagerRecorder)


def test_a_capture_that_fails_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own way out of a capture raises before it puts the stream back; what is computed later belongs on the old one."""
    current = ["own"]
    monkeypatch.setattr(graphs.CudaRecorder, "_aside", None)

    @contextmanager
    def stream(name: str) -> Iterator[None]:
        before, current[0] = current[0], name
        yield
        current[0] = before

    class Capture:
        def __init__(self, *given: Any, **named: Any) -> None: ...

        def __enter__(self) -> None:
            current[0] = "capture"

        def __exit__(self, *unused: object) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

    class Stream:
        def wait_stream(self, other: object) -> None: ...

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "stream", lambda other: stream("aside"))
    own = Stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: own)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda other: current.__setitem__(0, "own" if other is own else "?"))
    with pytest.raises(RuntimeError, match="previous error"):
        graphs.CudaRecorder().record(lambda: torch.zeros(1))
    assert current == ["own"]


def test_all_captures_share_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stream with a product on it keeps a workspace of the card's memory for good, and a load makes a hundred recordings."""
    made: list[object] = []
    captured: list[object] = []

    class Stream:
        def __init__(self) -> None:
            made.append(self)

        def wait_stream(self, other: object) -> None: ...

    class Graph:
        def pool(self) -> object:
            return 1, 0

        def replay(self) -> None: ...

    @contextmanager
    def capture(graph: object, *, stream: object, **named: Any) -> Iterator[None]:
        captured.append(stream)
        yield

    warmed: list[object] = []

    @contextmanager
    def on(stream: object) -> Iterator[None]:
        warmed.append(stream)
        yield

    own = Stream()
    monkeypatch.setattr(graphs.CudaRecorder, "_aside", None)
    for name, value in (
        ("Stream", Stream), ("CUDAGraph", Graph), ("graph", capture), ("stream", on),
        ("current_stream", lambda: own), ("set_stream", lambda stream: None),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    for _ in range(3):
        recorder = graphs.CudaRecorder()
        for _ in range(2):
            assert float(recorder.record(lambda: torch.ones(1))()) == 1
    assert len(made) == 2 and captured == warmed == [made[1]] * 6


def test_every_step_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the ninth, for a longer memory: the compiler takes all of them for one function that changes too often."""
    compiled = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=compiled))

    class Runs:
        def record(self, body: Body) -> Body:
            body()
            return body

    def step(length: int) -> Body:
        keys = torch.ones(length)
        return lambda: keys + 1

    recorder = graphs.CompilingRecorder(Runs())
    for length in range(3, 15):
        assert recorder.record(step(length))().shape == (length,)
    assert compiled.frame_count == 12
