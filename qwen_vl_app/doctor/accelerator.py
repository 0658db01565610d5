"""Findings about torch and graphics cards: the build against the driver, and what the driver itself says.

Knows torch through what it is told, and NVIDIA's own program, which needs no torch. Does not know models.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from qwen_vl_app.doctor.finding import Finding, Verdict
from qwen_vl_app.doctor.probe import TorchFacts
from qwen_vl_app.engine.driver import Driver, ask_driver
from qwen_vl_app.errors import Reason

OLDEST_DRIVERS = {"12": ((525, 60), (528, 33)), "13": ((580, 65), (580, 88))}
"""By CUDA's major version: the oldest driver for it, on Linux and on Windows."""
NEWEST_CUDA = max(OLDEST_DRIVERS, key=int)
PCI_DEVICES = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY_CLASS = "0x10de", "0x03"


def has_nvidia_card(devices: Path = PCI_DEVICES) -> bool:
    """Return whether Linux itself sees a graphics card of NVIDIA's, with or without a driver; False where it cannot tell."""
    for device in devices.glob("*"):
        try:
            vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        except (OSError, ValueError):
            continue
        if vendor == _NVIDIA and kind.startswith(_DISPLAY_CLASS):
            return True
    return False


def torch_problem() -> Reason:
    """Return why the engine's libraries could not be imported just now."""
    if importlib.util.find_spec("torch") is None:
        return Reason("doctor.torch.missing")
    # What fails to be imported is not left behind: if torch itself is there, another library stumbled.
    return Reason("doctor.torch.transformers_broken" if "torch" in sys.modules else "doctor.torch.broken")


def torch_findings(
    facts: TorchFacts,
    *,
    driver: Callable[[], Driver | None] = ask_driver,
    has_card: Callable[[], bool] = has_nvidia_card,
) -> Iterator[Finding]:
    """Judge torch's build, the devices it can use, and the driver between them."""
    if facts.cuda_build:
        reason = Reason("doctor.torch.cuda", version=facts.version, cuda=facts.cuda_build)
    else:
        reason = Reason("doctor.torch.cpu", version=facts.version)
    yield Finding("torch", Verdict.OK, reason)
    for card in facts.accelerators:
        reason = Reason("doctor.device.gpu", name=card.name, total=card.total_bytes, free=card.free_bytes)
        yield Finding("device", Verdict.OK, reason)
    found = driver()
    if facts.accelerators:
        if found is not None and found.version:
            yield Finding("driver", Verdict.OK, Reason("doctor.driver.fine", version=found.version))
        return
    if found is None:
        yield _without_driver(facts.cuda_build, has_card=has_card())
    elif not facts.cuda_build:
        yield Finding(
            "device", Verdict.NOTE, Reason("doctor.device.gpu_unused", name=", ".join(found.cards) or "NVIDIA")
        )
        if found.version:  # so that a kit for the card is not carried here in vain
            unused = _unused(NEWEST_CUDA, found)
            is_fine = unused.about.code == "doctor.device.driver"
            about = Reason("doctor.driver.fine", version=found.version) if is_fine else unused.about
            yield Finding("driver", Verdict.OK if is_fine else Verdict.NOTE, about)
    else:
        yield _unused(facts.cuda_build, found)


def _unused(cuda: str, driver: Driver) -> Finding:
    """Say why torch cannot use a card that is there."""
    wanted = _oldest_driver(cuda)
    told = ".".join(map(str, wanted))
    if not driver.version:
        return Finding("driver", Verdict.NOTE, Reason("doctor.driver.silent", cuda=cuda, wanted=told))
    if tuple(map(int, re.findall(r"\d+", driver.version)[:2])) < wanted:
        reason = Reason("doctor.driver.too_old", version=driver.version, cuda=cuda, wanted=told)
        return Finding("driver", Verdict.PROBLEM, reason)
    return Finding("driver", Verdict.NOTE, Reason("doctor.device.driver", cuda=cuda, version=driver.version))


def _without_driver(cuda: str, *, has_card: bool) -> Finding:
    """Say what a machine without NVIDIA's driver makes of this build of torch."""
    wanted = ".".join(map(str, _oldest_driver(cuda)))
    if has_card and cuda:
        return Finding("driver", Verdict.NOTE, Reason("doctor.driver.missing", cuda=cuda, wanted=wanted))
    if has_card:
        return Finding("device", Verdict.NOTE, Reason("doctor.device.gpu_unused", name="NVIDIA"))
    if cuda:
        reason = Reason("doctor.device.idle", cuda=cuda, wanted=wanted, threads=_threads())
        return Finding("device", Verdict.OK, reason)
    return Finding("device", Verdict.OK, Reason("doctor.device.cpu", threads=_threads()))


def _oldest_driver(cuda: str) -> tuple[int, int]:
    oldest = OLDEST_DRIVERS.get(cuda.partition(".")[0])
    return oldest[1 if sys.platform == "win32" else 0] if oldest else (0, 0)


def _threads() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
