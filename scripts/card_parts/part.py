"""One part's run: in a process of its own, with a time of its own, its failure and the engine's words in its report."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qwen_vl_app.engine.local.bench import in_child
from scripts.card_parts.job import Job

MOST_SAID, SAID_LENGTH = 60, 300
"""Lines that a part's report keeps of what the engine said, and their length."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part and its job, for the process that measures."""

    run: Callable[[Job], dict[str, Any]]
    job: Job
    has_children: bool = False
    """Whether it starts a process for each thing that it measures, and so needs none itself."""


def _reported(part: Part) -> dict[str, Any]:
    """Return what a part found, or how it failed; and what the engine said meanwhile, which tells why it chose as it did."""
    with _listening() as said:
        try:
            found = part.run(part.job)
        except Exception as error:  # noqa: BLE001 - whatever breaks in one part is told, and the others still run
            where = traceback.format_exc().splitlines()[-12:]
            found = {"failed": f"{type(error).__name__}: {error}"[:400], "where": where}
    return {**found, "said": said}


@contextmanager
def _listening() -> Iterator[list[str]]:
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(said) < MOST_SAID:
                said.append(record.getMessage()[:SAID_LENGTH])

    listener, loggers = Listener(), [logging.getLogger(name) for name in ("qwen_vl_app", "py.warnings")]
    levels = [logger.level for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(listener)
        logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logging.captureWarnings(False)
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(listener)
            logger.setLevel(level)


def measured(part: Part) -> dict[str, Any]:
    """Run a part; return what it found or how it failed, and the seconds it took."""
    began = time.perf_counter()
    if part.job.is_dry or part.has_children:
        found = _reported(part)
    else:
        try:
            found = in_child(_reported, part, limit_s=part.job.limit_s)
        except Exception as error:  # noqa: BLE001 - a process that hung, or that the system or the driver ended
            found = {"failed": f"{type(error).__name__}: {error}"[:400]}
    return {**found, "took_s": round(time.perf_counter() - began, 1)}
