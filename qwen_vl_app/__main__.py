"""`python -m qwen_vl_app`: the command line.

Knows that it may have been started by a Python without the app's libraries, and says so calmly.
"""

from __future__ import annotations

import sys

from qwen_vl_app.logs import keep_words_out
from qwen_vl_app.texts import Language, t

INTERRUPTED = 130


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
    except KeyboardInterrupt:  # while the libraries are read
        return INTERRUPTED
    return run()


if __name__ == "__main__":
    keep_words_out()
    sys.exit(main())
