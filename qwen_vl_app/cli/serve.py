"""`serve`: the app itself, as `streamlit run app.py` starts it.

Knows where `app.py` stands and how flags reach it. Does not know what it does.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import FAILED, INTERRUPTED, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.config import ADDRESS, ROOT, pass_on
from qwen_vl_app.errors import AppError, Reason, UsageError

END_TIMEOUT_S = 20.0


def serve(parts: Parts, *, overrides: Mapping[str, Any]) -> int:
    """Run the app until it ends; return its exit status. Settings that cannot be meant are refused before it starts."""
    terminal = Terminal(language=language_of(overrides))
    try:
        settings = parts.settings(overrides)
        if settings.data_dir.exists() and not settings.data_dir.is_dir():
            raise UsageError("cli.serve.data_is_a_file", name=settings.data_dir.name)
    except AppError as error:
        terminal.fail(error)
        return status_of(error)
    app = ROOT / "app.py"
    if not app.is_file():
        terminal.note(Reason("cli.serve.no_app"))
        return FAILED
    pass_on(overrides)
    # Streamlit looks for its own settings in the working folder, and takes no address or port from anywhere but flags.
    command = [sys.executable, "-m", "streamlit", "run", str(app)]
    command += ["--server.address", ADDRESS, "--server.port", str(settings.port), "--server.headless", "true"]
    with subprocess.Popen(command, cwd=ROOT) as running, _passing_on(running):
        try:
            return running.wait()
        except KeyboardInterrupt:  # the app got it too and puts its things in order
            try:
                running.wait(END_TIMEOUT_S)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                running.kill()
            return INTERRUPTED


@contextmanager
def _passing_on(running: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let the app hear it where this process is told to end; it would else stay behind, with its port and its memory."""
    before: dict[int, Any] = {}
    if sys.platform != "win32":  # there, the console tells both
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]  # as under nohup
    for number in heard:
        signal.signal(number, lambda *_: running.terminate())
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
