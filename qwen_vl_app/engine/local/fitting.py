"""Which models have room on this machine, at which precision, and for how large pictures.

Knows arithmetic on folders and on the memory there is now. Loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from qwen_vl_app.chat import Detail
from qwen_vl_app.engine.folders import ModelFolder, list_models
from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.assembling import CHUNK_TOKENS
from qwen_vl_app.engine.local.memory import Budget, make_plan, read_image_settings, read_limits
from qwen_vl_app.engine.local.sizing import weight_bytes
from qwen_vl_app.errors import ModelError


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model has room at a precision. `largest` is the largest size of pictures then, None where it has none."""

    model: str
    precision: str
    needed_bytes: int
    free_bytes: int
    largest: Detail | None = None
    max_tokens: int = 0


def find_fits(models_dir: Path, *, device: str, reserve_bytes: int) -> Iterator[Fit]:
    """Give a line for every whole model and precision. Raises ModelError where the device asked for is not there."""
    where = hardware.choose_device(device).device
    free = hardware.free_bytes(where)
    precisions = ("fp32", "bf16", *hardware.compact_precisions(where))
    for folder in list_models(models_dir):
        if folder.problem is None:
            for precision in precisions:
                yield _fit(folder, precision, where, free=free, reserve_bytes=reserve_bytes)


def _fit(folder: ModelFolder, name: str, device: torch.device, *, free: int, reserve_bytes: int) -> Fit:
    assert folder.family is not None and folder.shape is not None  # noqa: S101 - it is whole
    precision = hardware.precision_named(name, device)
    is_cpu = device.type == "cpu"
    weights = weight_bytes(name, folder, is_cpu=is_cpu)
    reserve = min(reserve_bytes, max(free - weights, 0) // 4)
    needed = weights + reserve
    if weights >= free:
        return Fit(folder.name, name, needed, free)
    budget = Budget(
        free_bytes=free - weights,
        reserve_bytes=reserve,
        dtype_bytes=precision.activation_bytes,
        chunk_tokens=CHUNK_TOKENS[device.type],
        is_cpu=is_cpu,
        parameters=folder.parameters,
    )
    try:
        limits = read_limits(read_image_settings(folder.path), folder.family, model=folder.name)
    except ModelError:  # what is wrong with it is told where it is to be loaded
        return Fit(folder.name, name, needed, free)
    plan = make_plan(folder.family, folder.shape, limits, budget)
    if any(reason.code == "engine.plan.tight" for reason in plan.reasons):
        return Fit(folder.name, name, needed, free)
    return Fit(folder.name, name, needed, free, plan.rungs[-1].detail, plan.rungs[-1].max_tokens)
