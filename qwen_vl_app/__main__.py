"""`python -m qwen_vl_app`: the command line.

Knows that it may have been started by a Python without the app's libraries, and says so calmly; and that Ctrl-C may come
while those are read, which within an import can become any error.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

INTERRUPTED = 130


def _end(*_: object) -> NoReturn:
    os._exit(INTERRUPTED)


if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)

from qwen_vl_app.logs import keep_words_out  # noqa: E402
from qwen_vl_app.texts import Language, t  # noqa: E402


def _open_streams() -> None:
    """Lead each stream that was closed before the start to nowhere: the next pipe or file would else take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - it stays open


def main() -> int:
    """Run the command line and return its exit status."""
    try:
        from qwen_vl_app.cli import main as run  # noqa: PLC0415 - what is missing becomes a sentence
    except ModuleNotFoundError as error:
        missing = (error.name or "?").partition(".")[0]
        if missing == __package__:
            raise
        for language in Language:
            sys.stderr.write(t("cli.libraries_missing", language, library=missing) + "\n")
        return 1
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on each command ends in its own way
    try:
        return run()
    except KeyboardInterrupt:  # before the command was there to hear it
        return INTERRUPTED


if __name__ == "__main__":
    _open_streams()
    keep_words_out()
    sys.exit(main())
