"""What the doctor asks of the engine's room, in words. Knows no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from qwen_vl_app.chat import Detail, EngineStatus
from qwen_vl_app.engine.folders import ModelFolder


class Accelerator(Protocol):
    """A graphics card as torch sees it."""

    @property
    def name(self) -> str:
        """What its maker calls it."""
        ...

    @property
    def total_bytes(self) -> int:
        """All of its memory."""
        ...

    @property
    def free_bytes(self) -> int:
        """What nobody uses now."""
        ...


class TorchFacts(Protocol):
    """What torch says of itself. `cuda_build` is the CUDA version it was built for, empty for a build without."""

    @property
    def version(self) -> str:
        """As torch tells it: `2.13.0+cpu`."""
        ...

    @property
    def cuda_build(self) -> str:
        """As torch tells it: `13.0`."""
        ...

    @property
    def accelerators(self) -> Sequence[Accelerator]:
        """The cards that torch can use."""
        ...


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model has room here at a precision. `largest` is the largest size of pictures then, None where it has none."""

    model: str
    precision: str
    needed_bytes: int
    free_bytes: int
    largest: Detail | None = None
    max_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RunningApp:
    """An app that runs on the data folder: where it answers, and its model, empty while that still begins to load."""

    port: int
    model: str


class Probe(Protocol):
    """What the engine's room can tell without loading a model. Nothing heavy happens before the first call."""

    def models(self) -> tuple[ModelFolder, ...]:
        """Return the model folders there are, damaged ones with their problem."""
        ...

    def torch(self) -> TorchFacts:
        """Import torch and ask it. Raises whatever a missing or damaged installation raises."""
        ...

    def fits(self) -> Sequence[Fit]:
        """Return for every whole model and every precision whether it has room on the device that would be taken."""
        ...

    def prepared(self) -> EngineStatus:
        """Return what would be loaded and how, with its reasons and its plan of sizes. Raises ModelError."""
        ...

    def running(self) -> RunningApp | None:
        """Return the app that runs on the data folder already; None where none answers."""
        ...
