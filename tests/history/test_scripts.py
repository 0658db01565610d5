"""The scripts that measure and that kill work, on a small scale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *arguments: str) -> str:
    """Run a script and return what it says."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_bench_prints_a_ratio_for_every_call() -> None:
    """Every line of the table has both medians and their ratio."""
    said = run("history_bench.py", "--small", "20", "--large", "60", "--rounds", "1").splitlines()
    rows = [line for line in said if line.startswith(("search", "list", "browse", "cache", "turns of"))]
    assert len(rows) >= 15
    assert all(float(number) > 0 for row in rows for number in row.split()[-3:])


@pytest.mark.skipif(os.name != "posix", reason="forks and kills with a signal")
def test_kills_lose_nothing() -> None:
    """Three kills: something was acknowledged, nothing was lost."""
    said = run("history_kills.py", "--kills", "3")
    assert "3 kills" in said
    assert said.rstrip().endswith(" 0 lost or damaged")
