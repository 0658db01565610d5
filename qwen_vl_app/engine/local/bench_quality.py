"""Quality beside speed: the demo model's answers about held-out pictures, in each precision against the full one.

Knows a folder of pictures with `expected.json`, and how to ask and count. Does not know how boxes are written: an answer
with boxes counts as the same or not, and never as right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from qwen_vl_app.chat import ImageInput, Message, SamplingParams, Size
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, TokenStep
from qwen_vl_app.engine.local.engine import LocalEngine

FULL = "fp32"
NEW_TOKENS = 256
EXPECTED = "expected.json"


@dataclass(frozen=True, slots=True)
class Examination:
    """A model, a precision, and how many of the pictures in `pictures` it is asked about."""

    model: Path
    pictures: Path
    precision: str
    count: int
    threads: int


def examine(work: Examination) -> list[dict[str, Any]]:
    """Ask every question about the first pictures; return text and likelihood of each answer, and whether it is right."""
    engine = LocalEngine(
        work.model.parent,
        model=work.model.name,
        device="cpu",
        precision=work.precision,
        threads=work.threads,
        memory_reserve_mb=0,
    )
    engine.load()
    papers = json.loads((work.pictures / EXPECTED).read_text(encoding="utf-8"))["pictures"][: work.count]
    given = []
    for paper in papers:
        image = _seen(engine, work.pictures / paper["file"])
        for question in paper["questions"]:
            text, logprob = _answer(engine, Message("user", question["question"], (image,)))
            given.append({"text": text, "logprob": logprob, "is_right": is_right(question, text)})
    engine.close()
    return given


def is_right(question: Mapping[str, Any], text: str) -> bool | None:
    """Return whether an answer is what was expected, word for word; None where that is a matter of boxes."""
    if "lines" in question:
        return text.strip() == "\n".join(question["lines"])
    if "text" in question:
        return text.strip() == str(question["text"]).strip()
    if "data" in question:
        try:
            return bool(json.loads(text) == question["data"])
        except ValueError:
            return False
    return None


def compared(answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return, for each precision: how many questions, how many answers are those of the full one, and how many are right.

    `likelihood_off` is the mean difference of the answers' mean log-probabilities.
    """
    full = answers[FULL]
    told = []
    for precision, given in answers.items():
        marked = [one["is_right"] for one in given if one["is_right"] is not None]
        offs = [abs(one["logprob"] - other["logprob"]) for one, other in zip(given, full, strict=True)]
        told.append(
            {
                "precision": precision,
                "asked": len(given),
                "same": sum(one["text"] == other["text"] for one, other in zip(given, full, strict=True)),
                "marked": len(marked),
                "right": sum(marked),
                "likelihood_off": sum(offs) / max(len(offs), 1),
            }
        )
    return told


def _seen(engine: LocalEngine, file: Path) -> ImageInput:
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    size = engine.seen_size(Size(*image.size)).size
    rgb = image.resize((size.width, size.height), Image.Resampling.BICUBIC).tobytes()
    return ImageInput(hashlib.sha256(rgb).hexdigest(), size, rgb)


def _answer(engine: LocalEngine, message: Message) -> tuple[str, float]:
    text, logprobs = "", []
    request = GenerationRequest((message,), SamplingParams(max_new_tokens=NEW_TOKENS))
    for step in engine.generate(request, should_stop=lambda: False):
        if isinstance(step, TokenStep | FinishedStep):
            text += step.text
        if isinstance(step, TokenStep):
            logprobs.append(step.logprob or 0.0)
    return text, sum(logprobs) / max(len(logprobs), 1)
