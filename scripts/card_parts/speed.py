"""The part that runs the benchmark's arms."""

from __future__ import annotations

import time
from typing import Any

from qwen_vl_app.chat import Size
from qwen_vl_app.engine.local.bench import ratios, run_bench
from scripts.card_parts.job import Job


def speed(job: Job) -> dict[str, Any]:
    """Run the benchmark's arms for this model."""
    sizes = (Size(64, 64),) if job.is_dry else (Size(512, 512), Size(1024, 1024), Size(1920, 1080))
    report = run_bench(
        model=job.folder, sizes=sizes, tokens=4 if job.is_dry else 64, rounds=1, repeats=1,
        threads=1, device=job.device, cap_bytes=job.cap_bytes, is_apart=not job.is_dry,
        ends_at=None if job.limit_s is None else time.monotonic() + job.limit_s,
    )  # fmt: skip
    return {**report, "ratios": ratios(report)}
