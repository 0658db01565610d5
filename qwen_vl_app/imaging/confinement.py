"""What the decoder child may cost the machine, imposed on the running process by the system itself.

On Linux the address space is limited. macOS refuses that limit. On Windows the process puts itself into a job object with
a memory limit, which Windows 8 and later allow also inside other jobs. Where it is refused, the clock alone remains.
"""

from __future__ import annotations

import ctypes
import sys


def confine_this_process(memory_bytes: int) -> bool:
    """Limit the memory of the running process, keep it from writing files and dumping core; tell whether memory is limited."""
    if sys.platform == "win32":
        return _confine_windows(memory_bytes)
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
