"""Measures everything that only a graphics card can tell, in under ten minutes: python scripts/card.py --json card.json.

Single parts run on a processor as well: `--device cpu --parts callers --shapes 0.4b`. Speed at 7B and 3B shape, captured steps against plain ones, follow-ups read in one captured step, ways to attend over long memories, the vision tower's ways, several callers, memory predicted
against taken, and faults under a cap. `--dry` does the same in small on the processor, to see that it would run: its
figures mean nothing. Each part has a process of its own and a time of its own; one that fails or hangs says so, with what the
engine said meanwhile, and leaves the others standing. The report is written anew after each part, so that whoever ends this keeps the others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from qwen_vl_app.chat import Message, SamplingParams, Size
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, TokenStep
from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.attending import leave_cudnn_out
from qwen_vl_app.engine.local.attention import WAYS, choose_attention
from qwen_vl_app.engine.local.bench import _in_child, ratios, run_bench
from qwen_vl_app.engine.local.bench_arms import QUESTION, _picture, cap_memory
from qwen_vl_app.engine.local.bench_models import SHAPES, make_model
from qwen_vl_app.engine.local.chunks import SlabChunks
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.graphs import CudaRecorder
from qwen_vl_app.engine.local.one_token import device_stopwatch, timed
from qwen_vl_app.engine.local.slab import EagerRecorder, SlabSize, StaticStepper
from qwen_vl_app.engine.local.steps import GrowingStepper, Rounds
from qwen_vl_app.errors import AppError, ModelError

GB = 10**9
PEAKS = {"H200": (4800, 989), "H100": (3350, 989), "A100": (2039, 312), "RTX 4090": (1008, 165)}
"""GB/s of memory and dense TFLOP/s in bf16 that the makers publish; the 4090's with sums in fp32."""
CALLERS = (1, 2, 4, 8)
PARTS = ("steps", "follow_up", "attending", "vision", "callers", "mixes", "faults", "speed")
TOWER = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
PART_S = 150.0
"""The longest that a part is waited for on a card; the benchmark's arms may take it twice."""
MOST_SAID, SAID_LENGTH = 60, 300
"""Lines that a part's report keeps of what the engine said, and their length."""
HEADS, KV_HEADS, HEAD_SIZE, LAYERS = 28, 4, 128, 28
"""Of the 7B's text model."""
TINY_TOWER = {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 4, "out_hidden_size": 64}


@dataclass(frozen=True, slots=True)
class Job:
    """What a part is to measure: a model's folder, on a device, with so much of its memory (0: all)."""

    folder: Path
    device: str
    cap_bytes: int = 0
    is_dry: bool = False
    precision: str = ""
    """Empty takes bf16, or under a cap what fits."""
    threads: int = 0
    limit_s: float | None = None
    """How long the part may take, where that is limited."""

    def engine(self, **options: Any) -> LocalEngine:
        """Return a loaded engine that answers to any length."""
        precision = self.precision or ("auto" if self.cap_bytes else "bf16")
        given = {"precision": precision, "memory_reserve_mb": 0, "runs_to_length": True, **options}
        given["threads"] = 1 if self.is_dry else self.threads
        engine = LocalEngine(self.folder.parent, model=self.folder.name, device=self.device, **given)
        engine.load()
        return engine

    def begin(self) -> None:
        """Set the cap, in the process that measures."""
        leave_cudnn_out()  # as the engine does, for the parts without one
        if self.device != "cpu":
            cap_memory(self.cap_bytes)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _question(seed: int, size: Size, text: str = QUESTION) -> Message:
    return Message("user", text, (_picture(seed, size),))


def _run(engine: LocalEngine, message: Message, *, tokens: int, key: str | None = None) -> Iterator[Any]:
    request = GenerationRequest((message,), SamplingParams(max_new_tokens=tokens), key)
    return iter(engine.generate(request, should_stop=lambda: False))


def vision(job: Job) -> dict[str, Any]:
    """Time the tower of the published 7B, which has windows, for a picture of 1 Mpx in every way there is."""
    job.begin()
    dtype = torch.float32 if job.is_dry else torch.bfloat16
    tower_config = Qwen2_5_VLConfig(vision_config={**(TINY_TOWER if job.is_dry else TOWER)}).vision_config
    tower_config._attn_implementation = "sdpa"
    with torch.device(job.device):
        tower = Qwen2_5_VisionTransformerPretrainedModel(tower_config).to(dtype).eval()
    side = 112 if job.is_dry else 1036
    down = side // 14
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(down * down, 1176, generator=generator).to(job.device, dtype)
    grid = torch.tensor([[1, down, down]], device=job.device)
    found: dict[str, Any] = {"patches": down * down}
    plain: torch.Tensor | None = None
    for way in ("sdpa", *WAYS):
        try:
            choice = choose_attention(
                way,
                device=torch.device(job.device),
                dtype=dtype,
                heads=tower_config.num_heads,
                head_dim=tower_config.hidden_size // tower_config.num_heads,
            )
        except ModelError as error:
            found[way] = {"left_out": error.code}
            continue
        tower.config._attn_implementation = choice.implementation
        times = []
        with torch.inference_mode():
            for _ in range(2 if job.is_dry else 6):
                _wait(job.device)
                began = time.perf_counter()
                out = tower(pixels, grid).pooler_output
                _wait(job.device)
                times.append(time.perf_counter() - began)
        plain = out if plain is None else plain
        off = float((out.float() - plain.float()).abs().max() / plain.float().abs().max())
        found[way] = {"s": min(times), "off": off}
    for way in WAYS:
        if "s" in found[way]:
            found[way]["sooner_than_sdpa"] = found["sdpa"]["s"] / found[way]["s"]
    return found


def attending(job: Job) -> dict[str, Any]:
    """Time one new token over memories of the 7B's shape, all layers, by each way that captured steps may attend."""
    job.begin()
    device = torch.device(job.device)
    layers, size = (2, 16) if job.is_dry else (LAYERS, HEAD_SIZE)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    found: dict[str, Any] = {}
    for rows, length in itertools.product(
        (1, 2) if job.is_dry else (1, 4, 8), (64,) if job.is_dry else (256, 1024, 4096, 16384)
    ):
        shape = (layers, rows, KV_HEADS, length, size)
        keys, values = (list(torch.randn(shape, device=device, dtype=dtype)) for _ in range(2))
        recorder = EagerRecorder() if device.type == "cpu" else CudaRecorder()
        took = timed(keys, values, HEADS, record=recorder.record, stopwatch=device_stopwatch(device))
        nbytes = 2 * keys[0].nbytes * layers
        told = {f"{way}_ms": seconds * 1000 for way, seconds in took.items()}
        found[f"{rows} rows, {length} tokens"] = {**told, "best_gb_per_s": nbytes / min(took.values()) / GB}
    return found


def steps(job: Job) -> dict[str, Any]:
    """Time a token in the plain way and captured, behind short and long prompts; compare what is said."""
    job.begin()
    found: dict[str, Any] = {}
    said: dict[str, list[int]] = {}
    # Not "graph", which is an error where it does not work: what is taken instead, and why, is wanted as well.
    for way in ("plain", "auto"):
        began = time.perf_counter()
        engine = job.engine(decode=way)
        load_s = time.perf_counter() - began
        ids: list[int] = []
        for words in (8, 64) if job.is_dry else (200, 1500, 5000):
            times: list[float] = []
            for step in _run(engine, Message("user", "one " * words), tokens=12 if job.is_dry else 64):
                if isinstance(step, TokenStep):
                    times.append(time.perf_counter())
                    ids.append(step.token_id)
            found[f"{way}, {words} words"] = {"tokens_per_s": (len(times) - 1) / (times[-1] - times[0])}
        found[way] = {"load_s": load_s, "reasons": [reason.code for reason in engine.status.choices]}
        said[way] = ids
        engine.close()
    first, *rest = said.values()
    same = [one == two for ids in rest for one, two in zip(first, ids, strict=True)]
    found["same_tokens"] = f"{sum(same)} of {len(same)}"
    return found


def follow_up(job: Job) -> dict[str, Any]:
    """Time the first token of follow-ups about one picture of 1 Mpx: their end read in one captured step, and plainly."""
    job.begin()
    engine = job.engine()
    parts = engine._parts
    if parts is None:
        raise RuntimeError("nothing is loaded")
    captured, plain = parts.rounds, Rounds(parts.rounds._steppers)
    if job.device == "cpu":
        # Nothing is captured here: the same steps are run each time anew, so that times say nothing and tokens do.
        static = StaticStepper(parts.decoder.text, parts.model.device, SlabSize(1, 2048))
        steppers = (static, GrowingStepper(parts.decoder.text, parts.model.device))
        captured = Rounds(steppers, chunks=SlabChunks(parts.decoder.text, *static.memory))
        plain = Rounds(steppers)
    side, turns = (64, 3) if job.is_dry else (256, 3) if job.device == "cpu" else (1024, 5)
    first = _question(31, Size(side, side))
    cold = _first_token(engine, (first,), tokens=8)
    reasons = [reason for reason in engine.status.choices if ".chunks." in reason.code]
    found: dict[str, Any] = {
        "cold_ms": cold.seconds * 1000,
        "chosen": "; ".join(f"{reason.code} {dict(reason.facts)}" for reason in reasons) or "not captured here",
    }
    for words in (1, 20, 50, 100):
        took: dict[str, list[float]] = {"plain": [], "captured": []}
        tokens: dict[tuple[str, int], int] = {}
        read = 0
        for turn, (way, rounds, shift) in itertools.product(
            range(turns), (("plain", plain, 0), ("captured", captured, 2))
        ):
            # Never the same words twice in a row, of which all but the last token would be held.
            place = (turn + shift) % turns
            asked = Message("user", f"{'ABCDE'[place]} " + "one " * words)
            engine._parts = replace(parts, rounds=rounds)
            came = _first_token(engine, (first, Message("assistant", cold.text), asked), tokens=1)
            took[way].append(came.seconds)
            tokens[way, place] = came.token_id
            read = max(read, came.read)
        same = sum(tokens["plain", place] == tokens["captured", place] for place in range(turns))
        plain_s, captured_s = (min(took[way]) for way in ("plain", "captured"))
        found[f"{read} new tokens"] = {
            "plain_ms": plain_s * 1000,
            "captured_ms": captured_s * 1000,
            "times": plain_s / captured_s,
            "of_cold": captured_s / cold.seconds,
            "same_first_token": f"{same} of {turns}",
        }
    return found


@dataclass(frozen=True, slots=True)
class _First:
    """A first token, after how many seconds it came, how many tokens were read for it, and the whole answer."""

    seconds: float
    token_id: int
    read: int
    text: str


def _first_token(engine: LocalEngine, messages: tuple[Message, ...], *, tokens: int) -> _First:
    """Answer with so many tokens in the conversation that is measured."""
    request = GenerationRequest(messages, SamplingParams(max_new_tokens=tokens), "follow-up")
    began, first_s, token_id, text, read = time.perf_counter(), 0.0, -1, "", 0
    for step in engine.generate(request, should_stop=lambda: False):
        if isinstance(step, TokenStep | FinishedStep):
            text += step.text
        if isinstance(step, TokenStep) and token_id < 0:
            first_s, token_id = time.perf_counter() - began, step.token_id
        if isinstance(step, FinishedStep):
            read = step.usage.prompt_tokens - step.usage.cached_tokens
    return _First(first_s, token_id, read, text)


def callers(job: Job) -> dict[str, Any]:
    """Count tokens a second of 1, 2, 4 and 8 answers at a time, and how long a newcomer waits for a first token."""
    job.begin()
    engine = job.engine(decode_batch=8)
    # A processor takes a second for a picture that a card takes no time for, and is asked about smaller ones.
    side, tokens = (64, 6) if job.is_dry else (256, 24) if job.device == "cpu" else (512, 96)
    found: dict[str, Any] = {str(count): {"tokens_per_s": 0.0} for count in CALLERS}
    for turn, count in itertools.product(range(2 if job.is_dry else 3), CALLERS):
        runs = [
            _run(engine, _question(1000 * turn + 10 * count + n, Size(side, side)), tokens=tokens, key=f"{turn}-{n}")
            for n in range(count)
        ]
        for run in runs:
            next(step for step in run if isinstance(step, TokenStep))
        began, said = time.perf_counter(), 0
        while runs:
            for run in tuple(runs):
                step = next(run, None)
                said += isinstance(step, TokenStep)
                if step is None:
                    runs.remove(run)
        rate = said / (time.perf_counter() - began)
        found[str(count)]["tokens_per_s"] = max(found[str(count)]["tokens_per_s"], rate)
    for count in CALLERS:
        found[str(count)]["times_one"] = found[str(count)]["tokens_per_s"] / found["1"]["tokens_per_s"]
    found["newcomer"] = _newcomer(engine, Size(side, side), tokens=10 * tokens)
    return found


def _newcomer(engine: LocalEngine, size: Size, *, tokens: int) -> dict[str, float]:
    """Return the seconds to a first token, alone and while seven others are answered."""
    found = {}
    for others in (0, 7):
        runs = [_run(engine, _question(9000 + n, size), tokens=tokens) for n in range(others)]
        for run in runs:
            next(step for step in run if isinstance(step, TokenStep))
        new = _run(engine, _question(9900 + others, size), tokens=2)
        began = time.perf_counter()
        while not isinstance(next(new), TokenStep):
            for run in runs:
                next(run, None)
        found[f"beside_{others}_s"] = time.perf_counter() - began
        for run in (*runs, new):
            run.close()  # type: ignore[attr-defined]
    return found


def mixes(job: Job) -> dict[str, Any]:
    """Compare the memory that was predicted with what was taken, over mixes of pictures and words."""
    job.begin()
    engine = job.engine()
    parts = engine._parts
    if parts is None:
        raise RuntimeError("nothing is loaded")
    dice = random.Random(5)
    rows: list[dict[str, Any]] = []
    for number in range(3 if job.is_dry else 30):
        sides = [dice.choice((64, 96) if job.is_dry else (384, 768, 1280, 1920)) for _ in range(dice.randrange(1, 4))]
        sizes = [engine.seen_size(Size(side, side * 3 // 4)) for side in sides]
        pictures = tuple(_picture(7000 + 10 * number + n, seen.size) for n, seen in enumerate(sizes))
        words = dice.choice((10, 100) if job.is_dry else (20, 400, 3000))
        parts.prefixes.clear()
        parts.features.clear()
        predicted = engine.predict([seen.tokens for seen in sizes], text_tokens=words).memory_bytes
        before = 0
        if job.device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        list(_run(engine, Message("user", "one " * words, pictures), tokens=2))
        taken = None if job.device == "cpu" else torch.cuda.max_memory_allocated() - before
        rows.append({"tokens": [seen.tokens for seen in sizes], "words": words, "predicted": predicted, "taken": taken})
    offs = sorted(float(row["predicted"]) / float(row["taken"]) - 1 for row in rows if row["taken"])
    found: dict[str, Any] = {"mixes": rows, "within_10_percent": sum(abs(off) <= 0.1 for off in offs)}
    return {**found, "off": {"least": offs[0], "middle": offs[len(offs) // 2], "most": offs[-1]}} if offs else found


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
    large = tuple(_picture(500 + n, Size(side, side)) for n in range(min(many, 1 if job.is_dry else 24)))
    found: dict[str, Any] = {"precision": engine.status.dtype, "context_tokens": plan.context_tokens}
    found["as many large pictures as fit"] = _told(engine, Message("user", QUESTION, large), job)
    found["a context too long"] = _told(engine, Message("user", "very " * words), job)
    with _less_memory(engine, job):
        found["memory taken away"] = _failing(engine, _question(77, Size(side, side)))
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
        last = list(_run(engine, message, tokens=4))[-1]
    except AppError as error:
        return {"told": error.code}
    return {"told": last.finish_reason.value if isinstance(last, FinishedStep) else "nothing"}


def _told(engine: LocalEngine, message: Message, job: Job) -> dict[str, Any]:
    return {**_failing(engine, message), "next_answered": _answers(engine, job)}


def _answers(engine: LocalEngine, job: Job) -> bool:
    side = 64 if job.is_dry else 512
    told_of = _failing(engine, _question(random.randrange(10**6), Size(side, side)))["told"]
    return bool(told_of == "length")


def speed(job: Job) -> dict[str, Any]:
    """Run the benchmark's arms for this model."""
    sizes = (Size(64, 64),) if job.is_dry else (Size(512, 512), Size(1024, 1024), Size(1920, 1080))
    report = run_bench(
        model=job.folder, sizes=sizes, tokens=4 if job.is_dry else 64, rounds=1, repeats=1,
        threads=1, device=job.device, cap_bytes=job.cap_bytes, is_apart=not job.is_dry,
        ends_at=None if job.limit_s is None else time.monotonic() + job.limit_s,
    )  # fmt: skip
    return {**report, "ratios": ratios(report)}


def projected(report: Mapping[str, Any], device: str, *, onto: str = "RTX 4090") -> dict[str, Any]:
    """Return what the figures of one card say of another, with what is assumed for it."""
    here = next((name for name in PEAKS if name in device), None)
    if here is None:
        return {"left_out": f"the makers' figures of {device} are not known here"}
    bandwidth, compute = (there / ours for there, ours in zip(PEAKS[onto], PEAKS[here], strict=True))
    arms = {
        arm["name"]: {
            size: {
                "decode_tokens_per_s": figures["decode_tokens_per_s"] * bandwidth,
                "first_token_s": figures["first_token_s"] / compute,
            }
            for size, figures in arm["sizes"].items()
        }
        for arm in report["arms"]
    }
    return {
        "card": onto,
        "assumed": [
            f"decoding reaches the same share of the memory's speed: times {bandwidth:.3f} ({PEAKS[here][0]} to {PEAKS[onto][0]} GB/s)",
            f"the first token takes the same share of the products' speed: times {1 / compute:.2f} ({PEAKS[here][1]} to {PEAKS[onto][1]} TFLOP/s)",
            "launching kernels costs no more there than here, which arms without captured steps feel most",
            "the model and its pictures fit the smaller card: see the part that is capped at 24 GB",
        ],
        "arms": arms,
    }


@dataclass(frozen=True, slots=True)
class _Part:
    """A part and its job, for the process that measures."""

    run: Callable[[Job], dict[str, Any]]
    job: Job


def _reported(part: _Part) -> dict[str, Any]:
    """Return what a part found, or how it failed; and what the engine said meanwhile, which tells why it chose as it did."""
    with _listening() as said:
        try:
            found = part.run(part.job)
        except Exception as error:  # noqa: BLE001 - whatever breaks in one part is told, and the others still run
            where = traceback.format_exc().splitlines()[-12:]
            found = {"failed": f"{type(error).__name__}: {error}"[:400], "where": where}
    return {**found, "said": said}


@contextmanager
def _listening() -> Iterator[list[str]]:
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(said) < MOST_SAID:
                said.append(record.getMessage()[:SAID_LENGTH])

    listener, loggers = Listener(), [logging.getLogger(name) for name in ("qwen_vl_app", "py.warnings")]
    levels = [logger.level for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(listener)
        logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logging.captureWarnings(False)
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(listener)
            logger.setLevel(level)


def _measured(part: _Part) -> dict[str, Any]:
    began = time.perf_counter()
    # Not in a child of its own where there is nothing to keep apart, or where every arm has one already.
    if part.job.is_dry or part.run is speed:
        found = _reported(part)
    else:
        try:
            found = _in_child(_reported, part, limit_s=part.job.limit_s)
        except Exception as error:  # noqa: BLE001 - a process that hung, or that the system or the driver ended
            found = {"failed": f"{type(error).__name__}: {error}"[:400]}
    return {**found, "took_s": round(time.perf_counter() - began, 1)}


def measure(
    shapes: tuple[str, ...],
    parent: Path,
    *,
    is_dry: bool,
    limit_s: float,
    device: str = "cpu",
    precision: str = "",
    threads: int = 0,
    parts: tuple[str, ...] = (),
    keep: Callable[[Mapping[str, Any]], None] = lambda report: None,
) -> dict[str, Any]:
    """Run every part, or those that are named, the most wanted first, until the time is up; return the report.

    `keep` gets the report after each part, with those that are done.
    """
    began = time.perf_counter()
    report: dict[str, Any] = {
        "device": hardware.device_name(hardware.choose_device(device).device),
        "versions": {"torch": str(torch.__version__), "cuda": str(torch.version.cuda)},
        "is_dry": is_dry,
    }
    jobs = {
        shape: Job(parent / f"random-{shape}", device, is_dry=is_dry, precision=precision, threads=threads)
        for shape in shapes
    }
    first = jobs[shapes[0]]
    tight, tighter = replace(first, cap_bytes=24 * GB), replace(first, cap_bytes=12 * GB)
    plan: list[tuple[str, Callable[[Job], dict[str, Any]], Job]] = [
        ("steps", steps, first),
        (f"speed {shapes[0]} at 24 GB", speed, tight),
        ("follow_up", follow_up, first),
        ("attending", attending, first),
        ("vision", vision, first),
        ("callers", callers, first),
        ("mixes", mixes, first),
        ("faults at 24 GB", faults, tight),
        ("faults at 12 GB", faults, tighter),
        *((f"speed {shape}", speed, job) for shape, job in jobs.items() if shape != shapes[0]),
    ]
    for name, part, job in plan:
        if parts and part.__name__ not in parts:
            continue
        failed = None if time.perf_counter() - began > limit_s else _making(job)
        left_s = limit_s - (time.perf_counter() - began)
        if failed is None and left_s < 0:
            report[name] = {"left_out": "the time was up"}
            continue
        _say(f"{limit_s - left_s:5.0f} s  {name}")
        # A processor takes its time, and nobody pays for it by the minute.
        longest_s = None if device == "cpu" else min(left_s, 2 * PART_S if part is speed else PART_S)
        report[name] = failed or _measured(_Part(part, replace(job, limit_s=longest_s)))
        keep(report)
    main_speed = report.get(f"speed {shapes[0]} at 24 GB", {})
    report["projection"] = projected(main_speed, report["device"]) if "arms" in main_speed else {}
    return {**report, "took_s": round(time.perf_counter() - began, 1)}


def _making(job: Job) -> dict[str, Any] | None:
    """Make the model of a job where there is none yet; return how that failed."""
    if job.folder.exists():
        return None
    shape = job.folder.name.removeprefix("random-")
    _say(f"making a random model of the shape {shape}")
    try:
        make_model(shape, job.folder)
    except Exception as error:  # noqa: BLE001 - a disk that is full, or a library that cannot write
        shutil.rmtree(job.folder, ignore_errors=True)
        return {"failed": f"the model could not be made: {type(error).__name__}: {error}"[:400]}
    return None


def told(report: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the report as lines for a terminal, without the long lists."""
    for name, value in report.items():
        if isinstance(value, Mapping):
            flat = {key: one for key, one in value.items() if not isinstance(one, Mapping | list)}
            yield f"{indent}{name}: " + ", ".join(f"{key} {_short(one)}" for key, one in flat.items())
            yield from told({key: one for key, one in value.items() if isinstance(one, Mapping)}, indent + "  ")
            for arm in value.get("arms", ()) if isinstance(value.get("arms"), list) else ():
                yield from told({arm["name"]: arm["sizes"]}, indent + "  ")
        elif not indent and not isinstance(value, list):
            yield f"{name}: {_short(value)}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, measure, and write the report. Returns 1 where there is no card or a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="7b,3b", help="random models of these shapes, the main one first")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--precision", default="", help="of the parts that do not compare precisions; bf16 if not given"
    )
    parser.add_argument("--threads", type=int, default=0, help="on a processor; 0 takes its cores")
    parser.add_argument("--parts", default="", help=f"only these, with commas: {', '.join(PARTS)}")
    parser.add_argument("--dry", action="store_true", help="in small on the processor, to see that everything runs")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="no part begins after so long, or on a card is waited for"
    )
    parser.add_argument("--json", type=Path, help="where to write the report")
    given = parser.parse_args(arguments)
    device = "cpu" if given.dry else given.device
    if device == "cuda" and not torch.cuda.is_available():
        print("There is no graphics card that torch can use here. Try --dry.", file=sys.stderr)
        return 1
    shapes = ("tiny",) if given.dry else tuple(given.shapes.split(","))
    if unknown := [shape for shape in shapes if shape not in SHAPES]:
        print(f"There is no shape called {unknown[0]}. There are: {', '.join(SHAPES)}.", file=sys.stderr)
        return 1
    if wrong := [part for part in given.parts.split(",") if part and part not in PARTS]:
        print(f"There is no part called {wrong[0]}. There are: {', '.join(PARTS)}.", file=sys.stderr)
        return 1
    parent = Path(tempfile.mkdtemp(prefix="qwen-vl-card-"))

    def keep(report: Mapping[str, Any]) -> None:
        if given.json is not None:
            given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    try:
        report = measure(
            shapes,
            parent,
            is_dry=given.dry,
            limit_s=given.minutes * 60,
            device=device,
            precision=given.precision,
            threads=given.threads,
            parts=tuple(part for part in given.parts.split(",") if part),
            keep=keep,
        )
    finally:
        shutil.rmtree(parent, ignore_errors=True)
    keep(report)
    for line in told(report):
        print(line)
    return 1 if any(isinstance(part, dict) and "failed" in part for part in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
