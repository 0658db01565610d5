"""Tells a process to end as a person does: by a signal, or on Windows by a key in the console that it has for itself."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import pytest

OWN_CONSOLE: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""What a process must have been started with, so that a key on Windows reaches it and not the tests."""
CANNOT_PRESS = 71
# A process has one console at a time, so the tests' own one stays theirs only if another process goes to that of the other.
PRESS = f"""
import ctypes, sys
kernel = ctypes.WinDLL("kernel32", use_last_error=True)
kernel.FreeConsole()
if not kernel.AttachConsole(int(sys.argv[1])):
    sys.exit(f"no console: {{ctypes.get_last_error()}}")
kernel.SetConsoleCtrlHandler(None, True)
if not kernel.GenerateConsoleCtrlEvent(int(sys.argv[2]), 0):
    sys.exit({CANNOT_PRESS})
"""
WINDOWS_KEYS = {"SIGINT": 0, "SIGBREAK": 1}


def press(process: subprocess.Popen[str], name: str) -> None:
    """Send a signal by its name. Skips the test where this system knows no such one, or its console no such key."""
    if sys.platform != "win32":
        if not hasattr(signal, name):
            pytest.skip("a key of Windows")
        process.send_signal(getattr(signal, name))
        return
    if name not in WINDOWS_KEYS:
        pytest.skip("the other systems' way of being told to end")
    command = [sys.executable, "-c", PRESS, str(process.pid), str(WINDOWS_KEYS[name])]
    pressed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if pressed.returncode == CANNOT_PRESS and name == "SIGBREAK":
        pytest.skip("this console has no Ctrl+Break, as Wine's has none")
    if pressed.returncode != 0:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may have ended meanwhile
            process.wait(timeout=60)
        assert process.poll() is not None, pressed.stderr
