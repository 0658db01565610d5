"""The parts in their order, the most wanted first, with the models they need, until the time is up."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.bench_models import make_model
from scripts.card_parts.attending import attending
from scripts.card_parts.callers import callers
from scripts.card_parts.faults import faults
from scripts.card_parts.follow_up import follow_up
from scripts.card_parts.job import GB, Job
from scripts.card_parts.mixes import mixes
from scripts.card_parts.part import Part, measured
from scripts.card_parts.projection import projected
from scripts.card_parts.speed import speed
from scripts.card_parts.steps import steps
from scripts.card_parts.vision import vision

PARTS = ("steps", "follow_up", "attending", "vision", "callers", "mixes", "faults", "speed")
PART_S = 150.0
"""The longest that a part is waited for on a card; the benchmark's arms may take it twice."""


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
    first, others = jobs[shapes[0]], {shape: job for shape, job in jobs.items() if shape != shapes[0]}
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
        *((f"speed {shape}", speed, job) for shape, job in others.items()),
    ]
    if is_dry:  # of steps and their ends, each family has its own, and in small they take no time
        for shape, job in others.items():
            plan += [(f"steps {shape}", steps, job), (f"follow_up {shape}", follow_up, job)]
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
        report[name] = failed or measured(Part(part, replace(job, limit_s=longest_s), has_children=part is speed))
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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
