"""Write the reference part of `docs/cli.md` from the commands themselves: python scripts/cli_reference.py

Knows typer's commands and the mark in the document. Does not know what any command does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qwen_vl_app.cli.program import spoken
from qwen_vl_app.texts import Language

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
MARK = "<!-- From here on written by scripts/cli_reference.py -->"


def written(document: str) -> str:
    """Return the document with its reference part made anew, in English."""
    reference = "\n".join(_lines(spoken(Language.ENGLISH), ()))
    return f"{document.partition(MARK)[0]}{MARK}\n{reference}\n"


def _lines(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    below = getattr(command, "commands", {})
    if path:
        yield f"\n{'#' * (len(path) + 2)} `{' '.join(path)}`\n"
        yield " ".join((command.help or "").split())
        context = command.context_class(command, info_name=path[-1])
        records = [parameter.get_help_record(context) for parameter in command.params]
        rows = [f"| {_cell(name)} | {_cell(what)} |" for name, what in filter(None, records) if "--help" not in name]
        if rows and not below:
            yield "\n| | |\n|---|---|"
            yield from rows
    for name, each in below.items():
        yield from _lines(each, (*path, name))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {DOCUMENT.name}")
