"""The command line: `ask`, `look`, `batch`, `models`, `doctor`, `history`, `bench`, `serve`.

Each command is a file; `program` puts them together.

Knows arguments, exit statuses and terminals. Does not know how anything is done: it asks the hub.

Exit statuses of all commands: 0 done, 1 failed, 2 wrong usage or input, 130 stopped by Ctrl-C.
"""

from qwen_vl_app.cli.program import main

__all__ = ["main"]
