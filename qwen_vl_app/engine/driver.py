"""NVIDIA's driver, as its own program tells of it: which needs no torch, and also answers where torch cannot be imported.

Knows that program. Does not know what a version is good for.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

SMI_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Driver:
    """What NVIDIA's driver says. `version` is empty where it is installed and does not answer."""

    version: str
    cards: tuple[str, ...] = ()


def ask_driver() -> Driver | None:
    """Ask the driver's own program; None where there is no such program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SMI_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return Driver("")
    rows = [line.partition(",") for line in told.splitlines() if "," in line]
    return Driver(rows[0][0].strip() if rows else "", tuple(row[2].strip() for row in rows))
