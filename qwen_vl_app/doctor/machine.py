"""Findings about the machine: Python, packages, memory, the disk, the clock, fonts. Knows no torch and no model."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from qwen_vl_app.doctor.finding import Finding, Verdict
from qwen_vl_app.errors import Reason

OLDEST_PYTHON = (3, 11)
LITTLE_DISK_BYTES = 2**30
NO_DISK_BYTES = 2**20
LITTLE_MEMORY_BYTES = 2 * 2**30
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows a container its own limits."""
A_DAY = timedelta(days=1)
"""A stick keeps times without their zone, so that they may be some hours off."""
WRITTEN_IN = 2026
"""No clock that is right shows an earlier year."""

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)\s*\Z")


@dataclass(frozen=True, slots=True)
class Memory:
    """The machine's memory in bytes. `limit_bytes` is a container's limit, None where there is none."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None = None


def python_finding(version: tuple[int, ...], *, is_64_bit: bool) -> Finding:
    """Judge the Python that runs."""
    told = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding("python", Verdict.PROBLEM, Reason("doctor.python.too_old", version=told, oldest=oldest))
    if not is_64_bit:
        return Finding("python", Verdict.PROBLEM, Reason("doctor.python.narrow", version=told))
    system = f"{platform.system()} {platform.machine()}"
    return Finding("python", Verdict.OK, Reason("doctor.python.fine", version=platform.python_version(), system=system))


def packages_finding(requirements: Path) -> Finding:
    """Compare what is installed with the pinned versions; only installed metadata is read, nothing is imported."""
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return Finding("packages", Verdict.NOTE, Reason("doctor.packages.unknown"))
    pins = [match.groups() for line in lines if (match := _PIN.match(line.strip()))]
    installed = {name: _installed(name) for name, _ in pins}
    missing = [name for name, _ in pins if not installed[name]]
    # A build of torch carries its device behind a plus sign: 2.13.0+cpu is the pinned 2.13.0.
    other = [name for name, version in pins if installed[name] and installed[name].partition("+")[0] != version]
    if missing:
        return Finding("packages", Verdict.PROBLEM, Reason("doctor.packages.missing", names=", ".join(missing)))
    if other:
        told = ", ".join(f"{name} {installed[name]}" for name in other)
        return Finding("packages", Verdict.NOTE, Reason("doctor.packages.other_versions", names=told))
    return Finding("packages", Verdict.OK, Reason("doctor.packages.fine", count=len(pins)))


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def data_folder_findings(folder: Path) -> Iterator[Finding]:
    """Try whether the history's folder can be written, without making it: a check leaves nothing behind."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(4096))  # an empty file still has a place on a full disk
            file.flush()
        free = shutil.disk_usage(existing).free
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = "doctor.data_folder.full" if is_full else "doctor.data_folder.not_writable"
        yield Finding("data_folder", Verdict.PROBLEM, Reason(code))
        return
    if free < NO_DISK_BYTES:
        yield Finding("data_folder", Verdict.PROBLEM, Reason("doctor.data_folder.full"))
        return
    if free < LITTLE_DISK_BYTES:
        yield Finding("data_folder", Verdict.NOTE, Reason("doctor.data_folder.little_space", free=free))
    else:
        yield Finding("data_folder", Verdict.OK, Reason("doctor.data_folder.fine", free=free))


def measure_memory(cgroup: Path = CGROUP) -> Memory:
    """Return the memory there is; within a container, no more is available than its limit."""
    memory = psutil.virtual_memory()
    limit = _container_limit(cgroup)
    if limit is None or limit >= memory.total:
        return Memory(memory.total, memory.available)
    return Memory(memory.total, min(memory.available, limit), limit)


def _container_limit(cgroup: Path) -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            told = (cgroup / name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if told.isdigit():  # "max" where there is no limit; the older version writes a number beyond any memory
            return int(told)
    return None


def memory_finding(memory: Memory) -> Finding:
    """Judge the memory."""
    total, available = memory.total_bytes, memory.available_bytes
    if available < LITTLE_MEMORY_BYTES:
        return Finding("memory", Verdict.NOTE, Reason("doctor.memory.little", total=total, available=available))
    if memory.limit_bytes is None:
        return Finding("memory", Verdict.OK, Reason("doctor.memory.fine", total=total, available=available))
    reason = Reason("doctor.memory.limited", total=total, available=available, limit=memory.limit_bytes)
    return Finding("memory", Verdict.OK, reason)


def clock_finding(now: datetime | None = None, *, written: datetime | None = None) -> Finding:
    """Judge the clock: a machine without network and with an empty battery writes wrong dates under every answer.

    `written` is when something here was written last: no clock that is right shows an earlier time.
    """
    now = now or datetime.now(UTC)
    shown = now.strftime("%Y-%m-%d %H:%M")
    if now.year < WRITTEN_IN:
        return Finding("clock", Verdict.NOTE, Reason("doctor.clock.behind", now=shown))
    if written is not None and now < written - A_DAY:
        reason = Reason("doctor.clock.before_files", now=shown, written=written.strftime("%Y-%m-%d"))
        return Finding("clock", Verdict.NOTE, reason)
    return Finding("clock", Verdict.OK, Reason("doctor.clock.fine", now=shown, zone=time.strftime("%Z")))


def last_written(*files: Path) -> datetime | None:
    """Return when the youngest of some files was written; None where there is none of them."""
    times = []
    for file in files:
        with contextlib.suppress(OSError, OverflowError, ValueError):  # it is not there, or its time is no time
            times.append(datetime.fromtimestamp(file.stat().st_mtime, UTC))
    return max(times, default=None)


def fonts_finding(has_chinese: bool) -> Finding:
    """Judge the fonts that labels on pictures are written with; pages are written with the browser's own."""
    if has_chinese:
        return Finding("fonts", Verdict.OK, Reason("doctor.fonts.fine"))
    return Finding("fonts", Verdict.NOTE, Reason("doctor.fonts.no_chinese"))
