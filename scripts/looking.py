"""What a script needs to look at the app as a person does: a server on a free port, and the machine's own Chromium.

Knows processes and the browser. Does not know what is looked at.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PORT = "PORT"
START_S = 120.0
END_S = 30.0
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def serving(command: Sequence[str], **environment: str) -> Iterator[str]:
    """Run a server on a free port, which is put in the place of `PORT` in its command and environment; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    given: Mapping[str, str] = {name: value.replace(PORT, port) for name, value in environment.items()}
    server = subprocess.Popen(
        [part.replace(PORT, port) for part in command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **given},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}/"
        _await_page(address, server)
        yield address
    finally:
        server.terminate()
        server.wait(END_S)


def _await_page(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urlopen(address, timeout=2):
                return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Open the machine's own Chromium; the script ends with a sentence where there is none."""
    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if executable is None:
        sys.exit("There is no Chromium on this machine. Install it first; on Debian: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
