"""Servers in processes of their own: a port that stays theirs, a start that is waited for, an end that always comes."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from qwen_vl_app.config import ROOT
from tests.hub_parts import wait_until

START_S = 180.0
END_S = 60.0
_FIRST, _COUNT = 20_000, 12_000
"""Below what Linux (32768), Windows and macOS (49152) give to whoever asks for any port, and to every outgoing connection."""
_numbers = itertools.count(os.getpid() * 101)


def free_port() -> int:
    """Return a loopback port that nobody listens at, and that nobody gets by chance before it is used.

    A port that the system gives away may be given away again as soon as the probe is closed.
    """
    for number in _numbers:
        port = _FIRST + number % _COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable")


def answers(url: str) -> bool:
    """Whether a server answers a GET with 200."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=10) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


@contextmanager
def serving(
    command: Sequence[str],
    *,
    log: Path,
    is_ready: Callable[[], bool],
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; what it says goes into `log`, and is what a failed start is told with."""
    with log.open("wb") as told:
        server = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdout=told,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: server.poll() is not None or is_ready(), START_S)
        assert server.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        yield server
    finally:
        server.terminate()
        try:
            server.wait(END_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(END_S)
