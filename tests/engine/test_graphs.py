"""How decode steps are run: captured where that works and agrees, else the plain way, each with its reason."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from qwen_vl_app.engine.local import graphs
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

    class Card:
        type = "cuda"

    monkeypatch.setattr(
        graphs, "StaticStepper", lambda text, device, *rest, **named: StaticStepper(text, CPU, *rest, **named)
    )
    monkeypatch.setattr(graphs, "GrowingStepper", lambda text, device, **named: GrowingStepper(text, CPU, **named))
    card: Any = Card()
    chosen = choose_steps("auto", parts.decoder.text, card, rows=2, slab=slab, make_recorder=make_recorder)
    assert [stepper.name for stepper in chosen.steppers] == ["plain"]
    assert chosen.reason.code == code


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
