"""The part that times one new token over long memories, by each way that captured steps may attend."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from qwen_vl_app.engine.local.graphs import CudaRecorder
from qwen_vl_app.engine.local.one_token import device_stopwatch, timed
from qwen_vl_app.engine.local.slab import EagerRecorder
from scripts.card_parts.job import GB, Job

HEADS, KV_HEADS, HEAD_SIZE, LAYERS = 28, 4, 128, 28
"""Of the 7B's text model."""


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
