"""Kills a process that writes into a history, many times, and checks that nothing acknowledged was lost: python scripts/history_kills.py.

POSIX only: the writer is forked, so that each kill costs no new start of Python. The tests do the same five times.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qwen_vl_app.chat import Rendition, TurnState
from qwen_vl_app.history import HistoryStore
from tests.history import writer


def main() -> int:
    """Kill, open, compare, as often as asked; return 1 where anything was lost or broken."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--longest-s", type=float, default=0.4, help="the longest a writer lives after it has opened")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    chance = random.Random(given.seed)
    started = time.monotonic()
    questions = answers = interrupted = lost = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        for run in range(given.kills):
            lines = _killed_writer(folder, f"run{run}", after_s=chance.uniform(0, given.longest_s))
            store = HistoryStore(folder)
            store.open()
            lost += len(store.notices)
            for line in lines:
                what, turn_id, text, picture_id = line.split()
                turn = store.turn("owner", int(turn_id))
                picture = store.picture_bytes("owner", int(picture_id), Rendition.UPLOAD).data
                is_kept = turn.question == text and picture == text.encode() * 1000
                if what == "done":
                    answers += 1
                    is_kept &= turn.state is TurnState.DONE and turn.answer is not None
                    is_kept &= turn.answer is not None and turn.answer.text == text * 100
                else:
                    questions += 1
                    interrupted += turn.state is TurnState.INTERRUPTED
                if not is_kept:
                    lost += 1
                    print(f"lost: {line}")
            if not store.verify_audit().is_sound:
                lost += 1
                print(f"the audit file does not fit after kill {run + 1}")
            store.close()
            with closing(sqlite3.connect(folder / "history.db")) as connection:
                found = connection.execute("PRAGMA integrity_check").fetchall()
                found += connection.execute("PRAGMA foreign_key_check").fetchall()
                connection.execute("INSERT INTO turn_search (turn_search) VALUES ('integrity-check')")
            if found != [("ok",)]:
                lost += 1
                print(f"damaged after kill {run + 1}: {found}")
    print(
        f"{given.kills} kills in {time.monotonic() - started:.0f} s: {questions} questions and {answers} answers"
        f" acknowledged, {interrupted} turns marked interrupted, {lost} lost or damaged"
    )
    return 1 if lost else 0


def _killed_writer(folder: Path, run: str, *, after_s: float) -> list[str]:
    """Let a process write for a while, kill it, and return what it had acknowledged."""
    if sys.platform == "win32":
        sys.exit("this script needs a POSIX system: it forks and kills with a signal")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        sys.stdout = os.fdopen(writing, "w", encoding="utf-8")
        try:
            writer.main(str(folder), run)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as told:
        if told.readline() != "open\n":
            sys.exit("the writer could not open the history")
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        lines = told.readlines()
    os.waitpid(child, 0)
    # The last line may be cut by the kill.
    return [line for line in lines if line.endswith("\n") and len(line.split()) == 4]


if __name__ == "__main__":
    sys.exit(main())
