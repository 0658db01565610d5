"""Clocks for what a device does: a graphics card is told what to do and told more before it has done it.

Knows how to wait for a card, and marks in its queue. Does not know what is computed. A clock that is read without waiting
tells how long the telling took, and charges the work to whoever next has to wait for a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


def wait_for(device: torch.device | str) -> None:
    """Return when the device has done all that it was told; a processor has, always."""
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.synchronize(where)


@dataclass(frozen=True, slots=True)
class Clock:
    """Tells seconds, having waited for the device. `is_card` says whether there is anything to wait for."""

    is_card: bool = False
    wait: Callable[[], None] = lambda: None
    now: Callable[[], float] = time.monotonic

    def __call__(self) -> float:
        """Return the seconds, of which differences count."""
        self.wait()
        return self.now()


def clock_of(device: torch.device) -> Clock:
    """Return a clock for what is computed there."""
    return Clock(is_card=device.type == "cuda", wait=lambda: wait_for(device))


class StepTimes:
    """Adds up how long something takes on the device, each time that it is called.

    On a card by marks in its own queue: to wait for it at each step would hold up what is told it meanwhile, and with it the
    answer whose speed is being measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = 0.0
        self._marks: list[tuple[Any, Any]] = []

    def around(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same, with its time added up."""

        def on_processor(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*given, **named)
            finally:
                self._seconds += time.perf_counter() - began

        def on_card(*given: Any, **named: Any) -> Any:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            try:
                return inner(*given, **named)
            finally:
                end.record()
                self._marks.append((begin, end))

        return on_card if self._device.type == "cuda" else on_processor

    @property
    def seconds(self) -> float:
        """All of it until now. Waits for the device."""
        wait_for(self._device)
        self._seconds += sum(begin.elapsed_time(end) for begin, end in self._marks) / 1000
        self._marks.clear()
        return self._seconds
