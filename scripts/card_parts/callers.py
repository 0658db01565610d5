"""The part that counts tokens of several answers at a time, and how long a newcomer among them waits."""

from __future__ import annotations

import itertools
import time
from typing import Any

from qwen_vl_app.chat import Size
from qwen_vl_app.engine.base import TokenStep
from qwen_vl_app.engine.local.device_clock import wait_for
from qwen_vl_app.engine.local.engine import LocalEngine
from scripts.card_parts.asking import asked, question
from scripts.card_parts.job import Job

CALLERS = (1, 2, 4, 8)


def callers(job: Job) -> dict[str, Any]:
    """Count tokens a second of 1, 2, 4 and 8 answers at a time, and how long a newcomer waits for a first token."""
    job.begin()
    engine = job.engine(decode_batch=8)
    # A processor takes a second for a picture that a card takes no time for, and is asked about smaller ones.
    side, tokens = (64, 6) if job.is_dry else (256, 24) if job.device == "cpu" else (512, 96)
    found: dict[str, Any] = {str(count): {"tokens_per_s": 0.0} for count in CALLERS}
    for turn, count in itertools.product(range(2 if job.is_dry else 3), CALLERS):
        runs = [
            asked(
                engine,
                question(engine, 1000 * turn + 10 * count + n, Size(side, side)),
                tokens=tokens,
                key=f"{turn}-{n}",
            )
            for n in range(count)
        ]
        for run in runs:
            next(step for step in run if isinstance(step, TokenStep))
        wait_for(job.device)
        began, said = time.perf_counter(), 0
        while runs:
            for run in tuple(runs):
                step = next(run, None)
                said += isinstance(step, TokenStep)
                if step is None:
                    runs.remove(run)
        wait_for(job.device)
        rate = said / (time.perf_counter() - began)
        found[str(count)]["tokens_per_s"] = max(found[str(count)]["tokens_per_s"], rate)
    for count in CALLERS:
        found[str(count)]["times_one"] = found[str(count)]["tokens_per_s"] / found["1"]["tokens_per_s"]
    found["newcomer"] = _newcomer(engine, job, Size(side, side), tokens=10 * tokens)
    return found


def _newcomer(engine: LocalEngine, job: Job, size: Size, *, tokens: int) -> dict[str, float]:
    """Return the seconds to a first token, alone and while seven others are answered."""
    found = {}
    for others in (0, 7):
        runs = [asked(engine, question(engine, 9000 + n, size), tokens=tokens) for n in range(others)]
        for run in runs:
            next(step for step in run if isinstance(step, TokenStep))
        new = asked(engine, question(engine, 9900 + others, size), tokens=2)
        wait_for(job.device)
        began = time.perf_counter()
        while not isinstance(next(new), TokenStep):
            for run in runs:
                next(run, None)
        found[f"beside_{others}_s"] = time.perf_counter() - began
        for run in (*runs, new):
            run.close()  # type: ignore[attr-defined]
    return found
