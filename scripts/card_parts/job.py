"""What a part of the card's measurement is given: a model, a device, a share of its memory, and the time it has.

It knows how the engine is opened for measuring; not what is measured, which the parts know, each in a file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_vl_app.engine.local.assembling import Parts
from qwen_vl_app.engine.local.attending import leave_cudnn_out
from qwen_vl_app.engine.local.bench_arms import cap_memory
from qwen_vl_app.engine.local.engine import LocalEngine

GB = 10**9


@dataclass(frozen=True, slots=True)
class Job:
    """What a part is to measure: a model's folder, on a device, with so much of its memory (0: all)."""

    folder: Path
    device: str
    cap_bytes: int = 0
    is_dry: bool = False
    precision: str = ""
    """Empty takes bf16, or under a cap what fits."""
    threads: int = 0
    limit_s: float | None = None
    """How long the part may take, where that is limited."""

    def engine(self, **options: Any) -> LocalEngine:
        """Return a loaded engine that answers to any length."""
        precision = self.precision or ("auto" if self.cap_bytes else "bf16")
        given = {"precision": precision, "memory_reserve_mb": 0, "runs_to_length": True, **options}
        given["threads"] = 1 if self.is_dry else self.threads
        engine = LocalEngine(self.folder.parent, model=self.folder.name, device=self.device, **given)
        engine.load()
        return engine

    def loaded(self) -> tuple[LocalEngine, Parts]:
        """Return a loaded engine with what it is made of."""
        engine = self.engine()
        if engine._parts is None:
            raise RuntimeError("nothing is loaded")
        return engine, engine._parts

    def begin(self) -> None:
        """Set the cap, in the process that measures."""
        leave_cudnn_out()  # as the engine does, for the parts without one
        if self.device != "cpu":
            cap_memory(self.cap_bytes)
