"""The part that times decoding: steps that were captured once against steps that are launched anew."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from qwen_vl_app.chat import Message
from qwen_vl_app.engine.base import TokenStep
from qwen_vl_app.engine.local.device_clock import wait_for
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.graphs import choose_steps
from qwen_vl_app.engine.local.slab import EagerRecorder, SlabSize
from qwen_vl_app.engine.local.steps import Rounds
from qwen_vl_app.errors import Reason
from scripts.card_parts.asking import asked
from scripts.card_parts.job import Job


def steps(job: Job) -> dict[str, Any]:
    """Time a token in the plain way and captured, behind short and long prompts; compare what is said."""
    job.begin()
    found: dict[str, Any] = {}
    said: dict[str, list[int]] = {}
    # Not "graph", which is an error where it does not work: what is taken instead, and why, is wanted as well.
    for way in ("plain", "auto"):
        began = time.perf_counter()
        engine = job.engine(decode=way)
        wait_for(job.device)
        load_s = time.perf_counter() - began
        reasons = list(engine.status.choices)
        if job.is_dry and way == "auto":
            reasons.append(_as_on_a_card(engine))
        ids: list[int] = []
        for words in (8, 64) if job.is_dry else (200, 1500, 5000):
            times: list[float] = []
            for step in asked(engine, Message("user", "one " * words), tokens=12 if job.is_dry else 64):
                if isinstance(step, TokenStep):
                    times.append(time.perf_counter())
                    ids.append(step.token_id)
            found[f"{way}, {words} words"] = {"tokens_per_s": (len(times) - 1) / (times[-1] - times[0])}
        found[way] = {"load_s": load_s, "reasons": [reason.code for reason in reasons]}
        said[way] = ids
        engine.close()
    first, *rest = said.values()
    same = [one == two for ids in rest for one, two in zip(first, ids, strict=True)]
    found["same_tokens"] = f"{sum(same)} of {len(same)}"
    return found


def _as_on_a_card(engine: LocalEngine) -> Reason:
    """Have the steps that a card would capture run each time anew, chosen and tested as there; return why they are taken."""
    parts = engine._parts
    if parts is None:
        raise RuntimeError("nothing is loaded")
    text, device = parts.decoder.text, parts.model.device
    chosen = choose_steps("graph", text, device, rows=1, slab=SlabSize(1, 1024), make_recorder=EagerRecorder)
    engine._parts = replace(parts, rounds=Rounds(chosen.steppers))
    return chosen.reason
