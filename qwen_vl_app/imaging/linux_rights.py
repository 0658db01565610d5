"""Rights that the decoder child gives up on Linux before it sees a stranger's bytes: Landlock and a filter of system calls.

Both are offers of the kernel to every process, need no privilege, hold for good and for everything the process starts.
Kernels without them, or that refuse them, leave things as they are: the functions tell what holds, and raise nothing.
Reading files stays allowed, since fonts, codecs and libraries are loaded when a picture needs them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys

_NO_NEW_PRIVILEGES = 38
# The numbers of these calls are the same on every processor.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ASK_VERSION = 1
_EXECUTE, _WRITE_FILE, _REMOVE_AND_MAKE = 1 << 0, 1 << 1, 0x1FF0
_FROM_VERSION = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Linking elsewhere, truncating, and controlling devices."""
_TRUNCATES_FROM, _NETWORK_FROM, _SCOPES_FROM = 3, 4, 6
_TCP, _SIGNALS_AND_SOCKETS = 0b11, 0b11

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_SET_FILTER, _ALL_THREADS = 1, 1
_FOREIGN_CALLS = 0x40000000
"""From here on x86-64 counts the calls of another kind of process once more."""
_PROCESSORS = {
    # The name in the kernel's audit records; seccomp itself; socket, execve, execveat, ptrace, process_vm_readv,
    # process_vm_writev, kill; the last two are pidfd_send_signal and io_uring_setup, which opens sockets as well.
    "x86_64": (0xC000003E, 317, (41, 59, 322, 101, 310, 311, 62, 424, 425)),
    "aarch64": (0xC00000B7, 277, (198, 221, 281, 117, 270, 271, 129, 424, 425)),
}


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Step(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("steps", ctypes.POINTER(_Step)))


def give_up_privileges() -> bool:
    """Let no program that is started here have more rights than this process; the rest needs it. Tell whether it holds."""
    return bool(_library().prctl(_NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0))) == 0)


def give_up_files() -> bool:
    """Let this process neither write, make, rename, cut nor remove a file from now on; tell whether all of that holds.

    What is open stays open. Where the kernel knows how, it takes TCP and signals to other processes away as well.
    """
    library = _library()
    version = int(
        library.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    )
    if version < 1:
        return False
    rules = _Ruleset(files=_EXECUTE | _WRITE_FILE | _REMOVE_AND_MAKE)
    for since, right in _FROM_VERSION.items():
        rules.files |= right if version >= since else 0
    size = 8
    if version >= _NETWORK_FROM:
        rules.network, size = _TCP, 16
    if version >= _SCOPES_FROM:
        rules.scopes, size = _SIGNALS_AND_SOCKETS, 24
    # No rule follows that would allow any of this somewhere.
    ruleset = int(
        library.syscall(ctypes.c_long(_CREATE_RULESET), ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
    )
    if ruleset < 0:
        return False
    try:
        is_held = library.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    finally:
        os.close(ruleset)
    return is_held and version >= _TRUNCATES_FROM


def give_up_calls() -> bool:
    """Let this process open no socket, start no program and touch no other process; tell whether that holds."""
    processor = _PROCESSORS.get(platform.machine()) if sys.platform == "linux" else None
    if processor is None or sys.maxsize < 2**32:  # a narrow process on a wide kernel counts its calls in another way
        return False
    architecture, seccomp, calls = processor
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 0, len(calls) + 3, architecture), (_LOAD, 0, 0, 0)]
    steps.append((_AT_LEAST, len(calls) + 1, 0, _FOREIGN_CALLS))
    steps += [(_EQUAL, len(calls) - at, 0, call) for at, call in enumerate(calls)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    program = _Filter(len(steps), (_Step * len(steps))(*(_Step(*step) for step in steps)))
    library = _library()
    library.syscall(
        ctypes.c_long(seccomp), ctypes.c_uint(_SET_FILTER), ctypes.c_uint(_ALL_THREADS), ctypes.byref(program)
    )
    return _is_refused(library.socket(1, 1, 0)) and _is_refused(library.execve(b"/nothing/of/that/name", None, None))


def _is_refused(result: int) -> bool:
    if result >= 0:
        os.close(result)
        return False
    return ctypes.get_errno() == errno.EACCES


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
