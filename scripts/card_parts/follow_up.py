"""The part that times the first token of follow-ups: their end read in one captured step, and plainly."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from typing import Any

from qwen_vl_app.chat import Message, SamplingParams, Size
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, TokenStep
from qwen_vl_app.engine.local.chunks import SlabChunks
from qwen_vl_app.engine.local.device_clock import wait_for
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.slab import SlabSize, StaticStepper
from qwen_vl_app.engine.local.steps import GrowingStepper, Rounds
from scripts.card_parts.asking import question
from scripts.card_parts.job import Job


def follow_up(job: Job) -> dict[str, Any]:
    """Time the first token of follow-ups about one picture of 1 Mpx: their end read in one captured step, and plainly."""
    job.begin()
    engine, parts = job.loaded()
    captured, plain = parts.rounds, Rounds(parts.rounds._steppers)
    if job.device == "cpu":
        # Nothing is captured here: the same steps are run each time anew, so that times say nothing and tokens do.
        static = StaticStepper(parts.decoder.text, parts.model.device, SlabSize(1, 2048))
        steppers = (static, GrowingStepper(parts.decoder.text, parts.model.device))
        captured = Rounds(steppers, chunks=SlabChunks(parts.decoder.text, *static.memory))
        plain = Rounds(steppers)
    side, turns = (64, 3) if job.is_dry else (256, 3) if job.device == "cpu" else (1024, 5)
    first = question(engine, 31, Size(side, side))
    cold = _first_token(engine, job.device, (first,), tokens=8)
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
            came = _first_token(engine, job.device, (first, Message("assistant", cold.text), asked), tokens=1)
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


def _first_token(engine: LocalEngine, device: str, messages: tuple[Message, ...], *, tokens: int) -> _First:
    """Answer with so many tokens in the conversation that is measured."""
    request = GenerationRequest(messages, SamplingParams(max_new_tokens=tokens), "follow-up")
    wait_for(device)  # what the answer before it left is not this one's
    began, first_s, token_id, text, read = time.perf_counter(), 0.0, -1, "", 0
    for step in engine.generate(request, should_stop=lambda: False):
        if isinstance(step, TokenStep | FinishedStep):
            text += step.text
        if isinstance(step, TokenStep) and token_id < 0:
            first_s, token_id = time.perf_counter() - began, step.token_id
        if isinstance(step, FinishedStep):
            read = step.usage.prompt_tokens - step.usage.cached_tokens
    return _First(first_s, token_id, read, text)
