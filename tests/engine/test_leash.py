"""A measuring process ends with the command that started it, also when that was killed."""

from __future__ import annotations

import subprocess
import sys

import psutil

from qwen_vl_app.config import ROOT

PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from qwen_vl_app.engine.local.leash import end_with_parent

with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=end_with_parent) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_a_child_ends_with_a_killed_parent() -> None:
    """Nothing is left holding memory and processors."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=ROOT, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, alive = psutil.wait_procs([child], timeout=60)
    assert gone == [child] and alive == []
