"""Runs the app as ever and writes down what its socket guard counted: `python -m qwen_vl_app.witness FILE STREAMLIT-ARGUMENTS`.

Knows the guard. Does not know who reads the file. It is written anew every second, so that it is there however the app ends.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import sys
import threading
from pathlib import Path

from qwen_vl_app import offline

EVERY_S = 1.0


def main(arguments: list[str]) -> None:
    """Run Streamlit with the arguments after the first, which names the file."""
    offline.go_offline()
    file = Path(arguments[0])
    stop = threading.Event()
    writing = threading.Thread(target=_write_again_and_again, args=(file, stop), name="witness", daemon=True)
    writing.start()
    sys.argv = ["streamlit", *arguments[1:]]
    try:
        runpy.run_module("streamlit", run_name="__main__", alter_sys=True)
    finally:
        stop.set()
        writing.join(5.0)
        _write(file)


def _write_again_and_again(file: Path, stop: threading.Event) -> None:
    while not stop.wait(EVERY_S):
        _write(file)


def _write(file: Path) -> None:
    told = {
        "guarding": offline.is_guarding(),
        "refused": offline.refused(),
        "targets": list(offline.refused_targets()),
        "beyond_loopback": list(offline.listening_beyond_loopback()),
    }
    draft = file.with_suffix(".draft")
    with contextlib.suppress(OSError):
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.replace(file)


if __name__ == "__main__":
    main(sys.argv[1:])
