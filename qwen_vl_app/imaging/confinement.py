"""What the decoder child may cost the machine and do to it, imposed on the running process by the system itself.

Memory: on Linux the address space is limited; macOS refuses that limit; on Windows the process puts itself into a job
object with a memory limit, which Windows 8 and later allow also inside other jobs. Rights: on Linux, see `linux_rights`;
elsewhere the child keeps those of its account. Each is done as far as the system goes along, and what holds is told.

What stays open everywhere: a decoder that a file has taken over could read what this account may read, change times and
permissions of its files, and use its processor until the clock ends it. It could tell nobody but the app.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.imaging.linux_rights import give_up_calls, give_up_files, give_up_privileges


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the system holds a process to. Without `has_memory_limit`, the clock alone ends what fills the memory."""

    has_memory_limit: bool = False
    is_without_files: bool = False
    """True where it can neither write, make nor remove files."""
    is_without_network: bool = False
    """True where it can open no socket and start no program."""

    @property
    def is_full(self) -> bool:
        """True where there is nothing left that this app knows how to take away."""
        return self.has_memory_limit and self.is_without_files and self.is_without_network

    def to_json(self) -> dict[str, JsonValue]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: JsonValue) -> Confinement:
        """Return what a child says of itself; nothing is believed but what is plainly said."""
        told = value if isinstance(value, Mapping) else {}
        return cls(**{name: told.get(name) is True for name in cls.__slots__})


def confine_this_process(memory_bytes: int, *, keeps_rights: bool = False) -> Confinement:
    """Limit the memory of the running process, keep it from dumping core and, without `keeps_rights`, from all it needs not.

    Raises nothing; what holds is told.
    """
    if sys.platform == "win32":
        return Confinement(has_memory_limit=_confine_windows(memory_bytes))
    has_memory_limit = _limit_posix(memory_bytes)
    if keeps_rights or not sys.platform.startswith("linux"):
        return Confinement(has_memory_limit)
    try:
        if not give_up_privileges():
            return Confinement(has_memory_limit)
        # The calls last: the others are system calls themselves.
        return Confinement(has_memory_limit, is_without_files=give_up_files(), is_without_network=give_up_calls())
    except (OSError, AttributeError, ctypes.ArgumentError):  # a C library without one of the functions
        return Confinement(has_memory_limit)


def _limit_posix(memory_bytes: int) -> bool:
    if sys.platform == "win32":
        return False
    import resource  # noqa: PLC0415 - POSIX only

    is_limited = False
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_AS, memory_bytes),
    ):
        try:
            resource.setrlimit(kind, (limit, limit))
            is_limited = kind == resource.RLIMIT_AS
        except (OSError, ValueError):  # a stricter limit holds already, or the system knows the name alone (macOS)
            is_limited = False
    return is_limited


def _confine_windows(memory_bytes: int) -> bool:
    if sys.platform != "win32":
        return False

    class BasicLimits(ctypes.Structure):
        _fields_ = (
            ("per_process_user_time", ctypes.c_int64),
            ("per_job_user_time", ctypes.c_int64),
            ("limit_flags", ctypes.c_uint32),
            ("minimum_working_set", ctypes.c_size_t),
            ("maximum_working_set", ctypes.c_size_t),
            ("active_process_limit", ctypes.c_uint32),
            ("affinity", ctypes.c_size_t),
            ("priority_class", ctypes.c_uint32),
            ("scheduling_class", ctypes.c_uint32),
        )

    class ExtendedLimits(ctypes.Structure):
        _fields_ = (
            ("basic", BasicLimits),
            ("io_counters", ctypes.c_uint64 * 6),
            ("process_memory", ctypes.c_size_t),
            ("job_memory", ctypes.c_size_t),
            ("peak_process_memory", ctypes.c_size_t),
            ("peak_job_memory", ctypes.c_size_t),
        )

    process_memory_flag, extended_limits_class = 0x100, 9
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateJobObjectW.restype = ctypes.c_void_p
    kernel.CreateJobObjectW.argtypes = (ctypes.c_void_p, ctypes.c_wchar_p)
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.SetInformationJobObject.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)
    kernel.AssignProcessToJobObject.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    job = kernel.CreateJobObjectW(None, None)
    if not job:
        return False
    told = ExtendedLimits()
    told.basic.limit_flags = process_memory_flag
    told.process_memory = memory_bytes
    # The job's handle stays open: it lives as long as this process.
    return bool(
        kernel.SetInformationJobObject(job, extended_limits_class, ctypes.byref(told), ctypes.sizeof(told))
        and kernel.AssignProcessToJobObject(job, kernel.GetCurrentProcess())
    )
