"""A kit of tiny wheels for this very machine."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from scripts.kit import folder as kits


def describe_kit(kit: Path, requirements: Path, /, **changes: object) -> str:
    """Make a kit of the wheels in a folder, and return its mark. `changes` are fields of KIT.json."""
    told = {
        "target": "linux-cpu",
        "system": "windows" if sys.platform == "win32" else sys.platform,
        "machine": platform.machine().lower().replace("amd64", "x86_64"),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "glibc": "",
        "torch": "9.9",
        "cuda": "",
        "driver": "",
        "flash_attn": "",
        "has_tests": False,
        "packages": len(list(kit.glob("*.whl"))),
        "wheel_bytes": kits.wheel_bytes(kit),
        "built_at": "2026-11-21T00:00:00+00:00",
        "requirements": {requirements.name: kits.digest_of(requirements)},
    }
    kits.write_kit(kit, kits.Kit(**{**told, **changes}))  # type: ignore[arg-type]
    kits.write_lock(kit)
    return kits.write_sums(kit)
