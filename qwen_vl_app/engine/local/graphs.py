"""Which way decode steps are run on this machine: captured as a CUDA graph where that works, else the plain way.

Knows recorders, their test against the plain way, and what each choice is called. Does not know a step's contents. A
decode step launches some hundreds of small kernels; a graph launches them as one, which needs neither Triton nor a
compiler on the machine.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from qwen_vl_app.engine.local.graph_trial import off_at_lengths
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.one_token import ChooseWay, device_stopwatch, timed
from qwen_vl_app.engine.local.slab import Body, Recorder, SlabSize, StaticStepper
from qwen_vl_app.engine.local.steps import MOST_ROWS, GrowingStepper, Rounds, Stepper
from qwen_vl_app.engine.local.text import TextModel
from qwen_vl_app.errors import ModelError, Reason

log = logging.getLogger(__name__)

WARM_UPS = 2
TESTED_TOKENS = 12
MOST_COMPILED = 128
"""Steps for each number of rows and each length, more than there can be."""


@dataclass(frozen=True, slots=True)
class StepsChoice:
    """The ways to run a step, in the order they are tried, and why the first one is the first."""

    steppers: tuple[Stepper, ...]
    reason: Reason

    @property
    def name(self) -> str:
        """The first way's."""
        return self.steppers[0].name


class CudaRecorder:
    """Captures a step as a CUDA graph. All graphs share one pool of memory, since only one runs at a time.

    All recorders warm up and capture on one stream: for each stream that multiplied something, torch may keep a workspace
    of cuBLAS for good, of 8 MiB on most cards and 32 MiB on an H100, and streams of their own would be thirty-two.
    """

    _aside: ClassVar[Any] = None

    def __init__(self) -> None:
        self._pool: Any = None

    def record(self, body: Body) -> Body:
        """See `Recorder.record`. Raises what capturing raises: a host read within the step, memory, a driver's mood."""
        here = torch.cuda.current_stream()
        try:
            return self._recorded(body)
        finally:
            # torch leaves the stream of a capture that fails as the current one, and everything later would run there.
            torch.cuda.set_stream(here)

    def _recorded(self, body: Body) -> Body:
        if CudaRecorder._aside is None:
            CudaRecorder._aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside = CudaRecorder._aside
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            # Libraries choose kernels and take workspace at their first calls, which a capture must not see.
            for _ in range(WARM_UPS):
                body()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads may ask the card how much memory is free meanwhile, which must not end the capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=aside, capture_error_mode="thread_local"):
            out = body()
        self._pool = self._pool or graph.pool()

        def replay() -> torch.Tensor:
            graph.replay()
            return out

        return replay


class CompilingRecorder:
    """Has a step compiled before another recorder takes it."""

    def __init__(self, inner: Recorder) -> None:
        self._inner = inner

    def record(self, body: Body) -> Body:
        """See `Recorder.record`. The first call of a compiled step takes a minute for a large model."""
        from torch._dynamo import config  # noqa: PLC0415 - it takes seconds to import, and few machines compile

        # All steps are one function to the compiler, which gives up on it after eight and says so in a warning alone.
        with config.patch(recompile_limit=MOST_COMPILED):
            return self._inner.record(torch.compile(body, dynamic=False))


def can_compile() -> bool:
    """Return whether Triton and a compiler are on this machine."""
    programs = ("cl",) if sys.platform == "win32" else ("cc", "gcc", "clang")
    return importlib.util.find_spec("triton") is not None and any(map(shutil.which, programs))


def choose_steps(
    wanted: str,
    text: TextModel,
    device: torch.device,
    *,
    rows: int,
    slab: SlabSize | None,
    make_recorder: Callable[[], Recorder] = CudaRecorder,
) -> StepsChoice:
    """Return how steps of up to `rows` answers are run, for `auto`, `graph`, `compiled` or `plain`.

    `slab` is the fixed memory there is room for, None where there is too little. What does not work or does not agree with
    the plain way is not used; raises ModelError where it was asked for by name.
    """
    # On a processor a row more costs nothing ahead, and runs over folders ask for several.
    plain = GrowingStepper(text, device, most_rows=MOST_ROWS if device.type == "cpu" else rows)
    if wanted == "plain":
        return StepsChoice((plain,), Reason("engine.choice.steps.wanted", steps="plain"))
    if wanted == "auto" and device.type != "cuda":
        return StepsChoice((plain,), Reason("engine.choice.steps.processor"))
    if slab is None:
        return _without(wanted, plain, "engine.choice.steps.memory")
    if device.type != "cuda" and make_recorder is CudaRecorder:
        raise ModelError("engine.steps.not_here", steps=wanted)
    if wanted == "compiled" and not can_compile():
        raise ModelError("engine.steps.no_compiler")
    allowed = 1e-4 if text.dtype == torch.float32 else 0.05
    try:
        recorder = make_recorder()
        if wanted == "compiled":
            recorder = CompilingRecorder(recorder)
        static = StaticStepper(
            text,
            device,
            slab,
            recorder=recorder,
            name="compiled graph" if wanted == "compiled" else "graph",
            # A compiler fuses either way with what stands around it, and takes a minute for each that it is to time.
            choose_way=None if wanted == "compiled" else _fastest_way(make_recorder),
        )
        with torch.inference_mode():
            static.prepare()
        off = self_test(static, plain, layers=len(text.layers))
        if off <= allowed:
            off = off_at_lengths(static, plain, layers=len(text.layers))
    except torch.OutOfMemoryError:
        log.info("captured decode steps do not fit into memory")
        return _without(wanted, plain, "engine.choice.steps.memory")
    except Exception as error:  # noqa: BLE001 - capturing fails in many ways, and each of them only means: not this one
        log.info("decode steps cannot be captured here: %s: %s", type(error).__name__, error)
        return _without(wanted, plain, "engine.choice.steps.failed")
    if not off <= allowed:
        log.warning("captured decode steps differ from the plain ones by %.3g and are not used", off)
        return _without(wanted, plain, "engine.choice.steps.differs")
    code = "engine.choice.steps.graph" if wanted == "auto" else "engine.choice.steps.wanted"
    return StepsChoice((static, plain), Reason(code, steps=static.name))


def _fastest_way(make_recorder: Callable[[], Recorder]) -> ChooseWay:
    """Return what times the ways to attend as they will run: recorded, each time by a recorder of its own.

    A graph's memory ends with the last graph that shares it and must not be asked for again. A way that could not be recorded
    once is not tried again.
    """
    failed: set[str] = set()

    def choose(keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor], heads: int) -> str:
        watch = device_stopwatch(keys[0].device)
        found = timed(keys, values, heads, record=make_recorder().record, stopwatch=watch, failed=failed)
        rows, _, length, _ = keys[0].shape
        log.info("decode attention, %d rows of up to %d tokens: %s", rows, length, found)
        return next(iter(found))

    return choose


def _without(wanted: str, plain: GrowingStepper, code: str) -> StepsChoice:
    if wanted != "auto":
        raise ModelError("engine.steps.not_here", steps=wanted)
    return StepsChoice((plain,), Reason(code))


def self_test(stepper: Stepper, plain: Stepper, *, layers: int) -> float:
    """Return the largest difference of logits between two ways, as a part of the largest logit.

    Two answers of unlike lengths where there are rows for two, one of which leaves half-way: how rows are kept, in the
    shortest steps. The others are tested by `off_at_lengths`.
    """
    heard = [_heard(way, layers=layers, answers=min(2, stepper.most_rows)) for way in (stepper, plain)]
    off = (heard[0] - heard[1]).abs().max() / heard[1].abs().max()
    return float(off)


def _heard(way: Stepper, *, layers: int, answers: int) -> torch.Tensor:
    rounds = Rounds((way,))
    seats = [rounds.join(KVCache(layers), 0)]
    told: list[torch.Tensor] = []
    for number in range(TESTED_TOKENS):
        if number == 2 and answers == 2:
            seats.append(rounds.join(KVCache(layers), 0))
        if number == TESTED_TOKENS // 2 and len(seats) == 2:
            rounds.leave(seats.pop(0))
        for place, seat in enumerate(seats):
            rounds.say(seat, 7 * number + 3 * place + 1)
        told.extend(rounds.hear(seat).float() for seat in seats)
    for seat in seats:
        rounds.leave(seat)
    return torch.stack(told)
