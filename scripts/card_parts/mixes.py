"""The part that compares the memory that was predicted with what was taken, over mixes of pictures and words."""

from __future__ import annotations

import random
from typing import Any

import torch

from qwen_vl_app.chat import Message, Size
from qwen_vl_app.engine.local.bench_arms import random_picture
from scripts.card_parts.asking import asked
from scripts.card_parts.job import Job


def mixes(job: Job) -> dict[str, Any]:
    """Compare the memory that was predicted with what was taken, over mixes of pictures and words."""
    job.begin()
    engine, parts = job.loaded()
    dice = random.Random(5)
    rows: list[dict[str, Any]] = []
    for number in range(3 if job.is_dry else 30):
        sides = [dice.choice((64, 96) if job.is_dry else (384, 768, 1280, 1920)) for _ in range(dice.randrange(1, 4))]
        sizes = [engine.seen_size(Size(side, side * 3 // 4)) for side in sides]
        pictures = tuple(random_picture(7000 + 10 * number + n, seen.size) for n, seen in enumerate(sizes))
        words = dice.choice((10, 100) if job.is_dry else (20, 400, 3000))
        parts.prefixes.clear()
        parts.features.clear()
        predicted = engine.predict([seen.tokens for seen in sizes], text_tokens=words).memory_bytes
        before = 0
        if job.device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        list(asked(engine, Message("user", "one " * words, pictures), tokens=2))
        taken = None if job.device == "cpu" else torch.cuda.max_memory_allocated() - before
        rows.append({"tokens": [seen.tokens for seen in sizes], "words": words, "predicted": predicted, "taken": taken})
    offs = sorted(float(row["predicted"]) / float(row["taken"]) - 1 for row in rows if row["taken"])
    found: dict[str, Any] = {"mixes": rows, "within_10_percent": sum(abs(off) <= 0.1 for off in offs)}
    return {**found, "off": {"least": offs[0], "middle": offs[len(offs) // 2], "most": offs[-1]}} if offs else found
