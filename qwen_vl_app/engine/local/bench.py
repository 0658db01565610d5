"""The benchmark: several ways to run the same weights on the same pictures and questions, in turns, within one run.

Knows the order of things and how the figures become one. Does not know how an arm does its work, nor who prints.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

from qwen_vl_app.chat import Size
from qwen_vl_app.engine.families import smart_resize
from qwen_vl_app.engine.folders import ModelFolder, inspect_folder
from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.bench_arms import ARMS, CARD_ARMS, Arm, Reading, Work, measure_arm, measure_bandwidth
from qwen_vl_app.engine.local.bench_models import SHAPES, make_model
from qwen_vl_app.engine.local.bench_quality import FULL, Examination, compared, examine
from qwen_vl_app.engine.local.leash import end_with_parent
from qwen_vl_app.engine.local.sizing import weight_bytes
from qwen_vl_app.errors import ModelError, ModelFolderError, Reason

FIGURES = (
    *("first_token_s", "decode_tokens_per_s", "follow_up_first_token_s", "mixed_s"),
    *("load_s", "peak_bytes", "gb_per_s", "share_of_limit"),
)
QUALITY_PICTURES = 10
_PREFIX = "qwen-vl-bench-"
CHOICES: Mapping[str, Callable[[tuple[Arm, ...]], tuple[Arm, ...]]] = {
    "all": lambda arms: arms,
    "ends": lambda arms: (arms[0], arms[-1]),
    "ours": lambda arms: arms[-1:],
}
CHILD_OVERHEAD_BYTES = 800_000_000
Progress = Callable[[Reason], None]


def run_bench(
    *,
    shape: str = "0.4b",
    model: Path | None = None,
    sizes: Iterable[Size] = (Size(512, 512), Size(1024, 1024)),
    chosen: str = "all",
    tokens: int = 32,
    rounds: int = 2,
    repeats: int = 2,
    threads: int = 0,
    device: str = "cpu",
    cap_bytes: int = 0,
    quality: tuple[Path, Path] | None = None,
    is_apart: bool = True,
    ends_at: float | None = None,
    on_progress: Progress = lambda reason: None,
) -> dict[str, Any]:
    """Measure every arm at every size and return the report, ready for JSON.

    `sizes` are the pictures' in pixels, before they are fitted to the family's grid; `model` is a folder, else random weights of `shape` are made and thrown away
    again. Each round runs all arms, every second one backwards, so that a machine that warms up or slows down does so to
    all of them; the best of all rounds counts. `quality` is a model's folder and a folder of held-out pictures, of which
    each precision is asked, on the processor. `cap_bytes` is what an arm may have of a graphics card, 0 for all. Without `is_apart` arms run in this process, which is quick and measures no peak of memory. Arms that do not fit into memory are left out and named in the report.
    With `ends_at`, on `time.monotonic`, no arm begins or is waited for behind that, the first and the last are measured
    first, and one that breaks is named under `failed` while the others go on.
    `chosen` is one of CHOICES: all arms, the `ends` (stock as it comes and ours at its best), or `ours` at its best alone.
    Raises ModelFolderError.
    """
    with _folder(shape, model, on_progress) as folder:
        known = inspect_folder(folder)
        if known.problem is not None or known.family is None:
            problem = known.problem or Reason("engine.folder.bad_config", model=known.name)
            raise ModelFolderError(problem.code, **problem.facts)
        threads = hardware.choose_threads(threads, parameters=known.parameters)
        factor = known.family.factor
        where = hardware.choose_device(device).device
        choices = ARMS if where.type == "cpu" else CARD_ARMS
        choices = CHOICES[chosen](choices)
        fitted = tuple(smart_resize(size, factor, min_pixels=factor**2, max_pixels=16384 * factor**2) for size in sizes)
        graded = [] if quality is None else _quality(*quality, threads=threads, on_progress=on_progress)
        reading = Reading(threads, where.type)
        limit = in_child(measure_bandwidth, reading, **_until(ends_at)) if is_apart else measure_bandwidth(reading)
        arms: dict[str, dict[str, Any]] = {}
        left_out: list[str] = []
        failed: dict[str, str] = {}
        for number in range(rounds):
            for arm in _hurried(choices) if ends_at is not None else choices if number % 2 == 0 else choices[::-1]:
                if ends_at is not None and time.monotonic() > ends_at:
                    left_out.append(arm.name)
                    continue
                needed = _needed_bytes(known, arm.precision, is_cpu=where.type == "cpu")
                if needed > min(hardware.free_bytes(where), cap_bytes or needed):
                    left_out.append(arm.name)
                    continue
                on_progress(Reason("engine.bench.arm", arm=arm.name, round=number + 1, rounds=rounds))
                work = Work(arm, folder, fitted, tokens, repeats, threads, number, where.type, cap_bytes)
                try:
                    found = in_child(measure_arm, work, **_until(ends_at)) if is_apart else measure_arm(work)
                except ModelError as error:  # a precision or a way to decode that this card cannot do
                    on_progress(error.reason)
                    left_out.append(arm.name)
                    continue
                except Exception as error:
                    if ends_at is None:
                        raise
                    failed[arm.name] = f"{type(error).__name__}: {error}"[:400]
                    continue
                arms[arm.name] = _better(arms.get(arm.name), found)
        return {
            "model": known.name,
            "parameters": known.parameters,
            "tokens": tokens,
            "rounds": rounds,
            "repeats": repeats,
            "threads": threads,
            "limit_gb_per_s": limit,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": hardware.device_name(where),
            "cap_bytes": cap_bytes,
            "machine": _machine(),
            "left_out": sorted(set(left_out)),
            "failed": failed,
            "quality": graded,
            "arms": [_report(arms[arm.name], limit) for arm in choices if arm.name in arms],
        }


def _quality(model: Path, pictures: Path, *, threads: int, on_progress: Progress) -> list[dict[str, Any]]:
    answers = {}
    for precision in (FULL, "bf16", *hardware.compact_precisions(torch.device("cpu"))):
        on_progress(Reason("engine.bench.quality", precision=precision))
        answers[precision] = in_child(examine, Examination(model, pictures, precision, QUALITY_PICTURES, threads))
    return compared(answers)


@contextmanager
def _folder(shape: str, model: Path | None, on_progress: Progress) -> Iterator[Path]:
    if model is not None:
        yield model
        return
    if shape not in SHAPES:
        raise ModelFolderError("engine.bench.no_shape", shape=shape, shapes=", ".join(SHAPES))
    on_progress(Reason("engine.bench.making", shape=shape))
    sweep_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as parent:
        folder = Path(parent) / f"random-{shape}"
        make_model(shape, folder)
        yield folder


def sweep_leftovers() -> int:
    """Remove the random models of benchmarks that were killed, and return how many; those of living processes stay."""
    swept = 0
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        number = left.name.removeprefix(_PREFIX).partition("-")[0]
        if number.isascii() and number.isdigit() and not left.is_symlink() and not psutil.pid_exists(int(number)):
            shutil.rmtree(left, ignore_errors=True)
            swept += 1
    return swept


def _hurried(arms: tuple[Arm, ...]) -> list[Arm]:
    # What all are compared with and ours at its best come first; a compiler takes minutes, and comes last.
    ends = [*arms[:1], *arms[1:][-1:]]
    return sorted((*ends, *(arm for arm in arms if arm not in ends)), key=lambda arm: arm.decode == "compiled")


def _until(ends_at: float | None) -> dict[str, float]:
    return {} if ends_at is None else {"limit_s": max(0.0, ends_at - time.monotonic())}


def in_child(work: Callable[[Any], Any], given: Any, *, limit_s: float | None = None) -> Any:
    """Return what `work` makes of `given` in a process of its own. Raises TimeoutError, and ends it, after `limit_s`.

    It is ended as well where this process is told to end meanwhile.
    """
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=start, initializer=end_with_parent) as child:
        waited = child.submit(work, given)
        processes = tuple((child._processes or {}).values())
        try:
            return waited.result(timeout=limit_s)
        except BaseException as why:
            if waited.done():  # what it raised itself
                raise
            for process in processes:
                process.kill()
            if isinstance(why, TimeoutError):
                raise TimeoutError(f"not done after {limit_s:.0f} s") from None
            raise


def _needed_bytes(folder: ModelFolder, precision: str, *, is_cpu: bool) -> int:
    if not is_cpu:
        return weight_bytes(precision, folder, is_cpu=False)
    return folder.parameters * (4 if precision == "fp32" else 2) + CHILD_OVERHEAD_BYTES


def _better(held: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    if held is None:
        return found
    sizes = {
        size: {
            name: max(value, held["sizes"][size][name]) if "_per_s" in name else min(value, held["sizes"][size][name])
            for name, value in figures.items()
        }
        for size, figures in found["sizes"].items()
    }
    return {
        "arm": found["arm"],
        "load_s": min(held["load_s"], found["load_s"]),
        "peak_bytes": max(held["peak_bytes"], found["peak_bytes"]),
        "sizes": sizes,
    }


def _report(arm: Mapping[str, Any], limit: float) -> dict[str, Any]:
    return {
        "name": arm["arm"]["name"],
        "precision": arm["arm"]["precision"],
        "is_stock": arm["arm"]["is_stock"],
        "sizes": {
            size: {
                **figures,
                "load_s": arm["load_s"],
                "peak_bytes": arm["peak_bytes"],
                "share_of_limit": figures["gb_per_s"] / limit,
            }
            for size, figures in arm["sizes"].items()
        },
    }


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor_name(),
        "cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": str(transformers.__version__),
        "has_bf16": hardware.has_fast_bf16_cpu(),
        "has_vnni": bool(torch.cpu._is_vnni_supported()),
    }


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def ratios(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return, for each size, how many times sooner and faster ours at its best is, and what its loop adds.

    Cold first token and decoding are against the first stock arm that was measured; the follow-up is against ours cold.
    """
    ours = [arm["sizes"] for arm in report["arms"] if not arm["is_stock"]]
    if not ours:
        return {}
    stock, best = next((arm["sizes"] for arm in report["arms"] if arm["is_stock"]), None), ours[-1]
    told = {}
    for size, figures in best.items():
        told[size] = {
            "follow_up_sooner": figures["first_token_s"] / figures["follow_up_first_token_s"],
            "loop_share": figures["loop_share"],
        }
        if stock is not None:
            told[size]["first_token_sooner"] = stock[size]["first_token_s"] / figures["first_token_s"]
            told[size]["decode_faster"] = figures["decode_tokens_per_s"] / stock[size]["decode_tokens_per_s"]
    return told
