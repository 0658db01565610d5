"""A run whose process is killed in the middle: what has its row is never asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qwen_vl_app.config import ROOT
from tests.batch.parts import fill

PICTURES = 12
PATIENCE_S = 120
CHILD = """
import os, sys, time
from pathlib import Path
from qwen_vl_app.batch import BatchPlan, BatchRuns
from tests.batch.parts import AnsweringEngine
from tests.hub_parts import an_assistant

photos, data, log = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])

def answer(request):
    # On the disk before the answer begins: what was asked, by whoever is killed next.
    image = request.messages[-1].images[0]
    with log.open("a") as file:
        file.write(f"{image.size.width} {request.messages[-1].text}\\n")
        file.flush()
        os.fsync(file.fileno())
    time.sleep(0.03)
    return ["an ", "answer"]

with an_assistant(AnsweringEngine(answer, at_a_time=int(sys.argv[4])), data) as assistant:
    runs = BatchRuns(assistant)
    known = runs.list()
    run_id = known[0].run_id if known else runs.start(BatchPlan(photos, ("1", "2")))
    if known:
        runs.resume(run_id)
    runs.wait(run_id)
    progress = runs.progress(run_id)
    print(progress.state.value, progress.answered, flush=True)
    runs.close()
"""


def _rows(data: Path) -> list[tuple[str, int]]:
    """The rows that are whole lines of the journal."""
    journals = list((data / "batches").glob("*/journal.jsonl")) if (data / "batches").exists() else []
    lines = [line for journal in journals for line in journal.read_bytes().split(b"\n")[:-1]]
    records = [json.loads(line) for line in lines]
    return [(record["name"], record["question_index"]) for record in records if record["kind"] == "row"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_run_that_is_killed_again_and_again_does_nothing_twice(tmp_path: Path) -> None:
    """Three real kills in the middle, one at a time and four: every question has one row, and only what was under way is asked again."""
    photos, data, log = tmp_path / "photos", tmp_path / "data", tmp_path / "asked"
    fill(photos, PICTURES)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def command(at_a_time: int) -> list[str]:
        return [sys.executable, "-c", CHILD, str(photos), str(data), str(log), str(at_a_time)]

    done: list[tuple[str, int]] = []
    lost = 0
    for wanted, at_a_time in ((3, 1), (9, 4), (15, 4)):
        process = subprocess.Popen(command(at_a_time), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while len(_rows(data)) < wanted:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE_S)
        # What was in the making, or had been answered and waited to be written: never what had its row.
        lost += 1 if at_a_time == 1 else 2 * at_a_time
        asked_then = _asked(log)
        rows = _rows(data)
        assert rows[: len(done)] == done, "a row that was acknowledged is gone"
        done = rows
        assert len(set(asked_then)) >= len(done)
    ended = subprocess.run(
        command(4), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert ended.stdout.split() == ["finished", str(2 * PICTURES)]
    rows = _rows(data)
    assert len(rows) == len(set(rows)) == 2 * PICTURES
    assert 2 * PICTURES <= len(_asked(log)) <= 2 * PICTURES + lost


def _asked(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines()
