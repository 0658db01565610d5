"""How the suite is shared between two processes: whether there is room, what stays together, and what comes first.

A file's tests stay in one process, and so do all files that drive Chromium: never do two browsers compete for the machine.
These take longest, so they begin. Knows names of files and the machine, and nothing of what is tested.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import psutil
import pytest
from xdist.scheduler import LoadFileScheduling

from qwen_vl_app.doctor.machine import measure_memory

PROCESSES = 2
NEEDED_BYTES = 6 * 2**30
"""Twice what the two processes, the app they serve and a browser were seen to take together."""
BROWSING = "browsing"
_ALSO_BROWSING = ("test_prove_offline.py",)


def processes() -> int:
    """Return how many processes this machine carries; 0 means that the tests run in pytest's own."""
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1
    has_room = measure_memory().available_bytes >= NEEDED_BYTES
    return PROCESSES if cores >= PROCESSES and has_room else 0


def is_browsing(nodeid: str) -> bool:
    """Whether a test stands in a file that drives Chromium."""
    file = nodeid.partition("::")[0]
    return file.endswith(("_browser.py", *_ALSO_BROWSING))


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Put what drives Chromium before everything else, and leave the order as it is otherwise."""
    return sorted(items, key=lambda item: not is_browsing(item.nodeid))


class Sharing(LoadFileScheduling):  # type: ignore[misc]
    """Gives a process one file at a time, and all that drives Chromium to the first one that asks."""

    def _split_scope(self, nodeid: str) -> str:
        return BROWSING if is_browsing(nodeid) else str(super()._split_scope(nodeid))
