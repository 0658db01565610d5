"""The machine's own Chromium, started once for a module, and again where it has fallen over."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 60_000
"""The patience with a page. Playwright's own five seconds are too few for a machine that does other things as well."""


@contextmanager
def chromium(flags: Sequence[str]) -> Iterator[Callable[[], Browser]]:
    """Return what gives a running browser; skips the test where the machine has none."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("there is no Chromium on this machine")
    expect.set_options(timeout=WAIT_MS)
    started: list[Browser] = []
    with sync_playwright() as playwright:

        def running() -> Browser:
            if not started or not started[-1].is_connected():
                launch = playwright.chromium.launch
                started.append(launch(executable_path=executable, args=list(flags), timeout=2 * WAIT_MS))
            return started[-1]

        yield running
        if started and started[-1].is_connected():
            started[-1].close()
