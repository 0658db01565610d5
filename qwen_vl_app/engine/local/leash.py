"""What keeps a child process from outliving the one that started it.

Knows processes and a thread. Does not know what either of them computes.
"""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Let this process end when its parent has, however that ended; the first thing that such a child runs.

    A measurement holds gigabytes and every core for minutes: nobody would look for it after the command is gone.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
