"""This machine, as far as a model cares: device, precision, free memory, threads; each choice with its reason.

Knows processors, cgroup limits and CUDA. Does not know models beyond a count of parameters and of bytes.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from qwen_vl_app.engine.driver import ask_driver
from qwen_vl_app.engine.local.card_products import CARD_KINDS, works
from qwen_vl_app.engine.local.products import CPU_INT8, DENSE, ProductKind, int8_works
from qwen_vl_app.errors import ModelError, Reason

log = logging.getLogger(__name__)

CGROUP = Path("/sys/fs/cgroup")
SMALL_MODEL_PARAMETERS = 100_000_000
"""Below this, half precision saves nothing worth having on a CPU."""
TOLD_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED")
"""A card that is asked past torch, an allocation on a processor and the same on Windows, a library of products on a card."""


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """Where the model runs, and why there."""

    device: torch.device
    reason: Reason


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """The number format of the weights, and why. `dtype` is what they are read as, `activation_bytes` what keys, values and
    the text model's activations take, `products` what the text model's weights become."""

    dtype: torch.dtype
    name: str
    reason: Reason
    activation_bytes: int
    products: ProductKind = DENSE


def choose_device(wanted: str) -> DeviceChoice:
    """Return the device for `auto`, `cpu` or `cuda`; `auto` takes a card only where it computes.

    Raises ModelError where CUDA is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ModelError("engine.device.no_cuda")
    if has_cuda and wanted != "cpu":
        name = torch.cuda.get_device_name(0)
        if wanted == "auto" and not _computes(torch.device("cuda", 0)):
            return DeviceChoice(torch.device("cpu"), Reason("engine.choice.device.cuda_too_old", name=name))
        return DeviceChoice(torch.device("cuda", 0), Reason("engine.choice.device.cuda", name=name))
    code = "engine.choice.device.cpu_wanted" if wanted == "cpu" else "engine.choice.device.cpu"
    return DeviceChoice(torch.device("cpu"), Reason(code))


def _computes(card: torch.device) -> bool:
    # A card that is too old for this build of torch is found, named and given memory; only its first sum fails.
    try:
        return float(torch.ones(2, device=card).sum()) == 2
    except torch.OutOfMemoryError:
        return True
    except Exception as error:  # noqa: BLE001 - what a driver raises has many names, and each of them only means: not here
        log.warning("the graphics card does not compute: %s: %s", type(error).__name__, error)
        return False


def free_bytes(device: torch.device) -> int:
    """Return the memory of the device that nobody uses, on a CPU within the limit of this process's cgroup."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # A process may have been given a share of the card; what it has reserved of that counts as used.
        share = int(total * torch.cuda.get_per_process_memory_fraction(device))
        return max(0, min(free, share - torch.cuda.memory_reserved(device)))
    free = int(psutil.virtual_memory().available)
    limit, used = _cgroup_bytes("memory.max"), _cgroup_bytes("memory.current")
    if limit is not None and used is not None:
        # The page cache counts as used but leaves when it must.
        free = min(free, max(0, limit - used + _cgroup_inactive_file()))
    return free


def build_name() -> str:
    """Return torch's version and the CUDA version that it was built for: a change of either may change an answer."""
    cuda = f" (CUDA {torch.version.cuda})" if torch.version.cuda else ""
    return f"torch {torch.__version__}{cuda}"


def driver_version(device: torch.device) -> str:
    """Return the version of a card's driver; empty on a processor, and where the driver's own program does not tell."""
    driver = ask_driver() if device.type == "cuda" else None
    return "" if driver is None else driver.version


def driver_is_lost(device: torch.device) -> bool:
    """Return whether a card answers this process no more, as after a kernel that went astray: every later call fails too."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return not isinstance(error, torch.OutOfMemoryError)
    return False


def _cgroup_bytes(name: str) -> int | None:
    try:
        text = (CGROUP / name).read_text(encoding="ascii").strip()
        return int(text)
    except (OSError, ValueError):
        return None


def _cgroup_inactive_file() -> int:
    try:
        for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                return int(value)
    except (OSError, ValueError):
        pass
    return 0


def has_fast_bf16_cpu() -> bool:
    """Return whether this processor multiplies bf16 in hardware; others emulate it, far slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return " avx512_bf16" in flags or " amx_bf16" in flags


def compact_precisions(device: torch.device) -> tuple[str, ...]:
    """Return the precisions of eight bits and less that work on this device, the best first."""
    if device.type == "cpu":
        return ("int8",) if int8_works() else ()
    return tuple(name for name, kind in CARD_KINDS.items() if works(kind, device))


def choose_precision(
    wanted: str,
    device: torch.device,
    *,
    parameters: int,
    memory_bytes: int,
    needed_bytes: Callable[[str], int] | None = None,
) -> PrecisionChoice:
    """Return the precision for `auto` or one that is asked for by its name.

    `needed_bytes` gives what a precision takes. Raises ModelError where one is asked for that this machine or this build of
    torch cannot compute.
    """
    needed = needed_bytes or (lambda name: parameters * {"fp32": 4, "bf16": 2}.get(name, 1))
    if wanted in COMPACT:
        if wanted not in compact_precisions(device):
            code = "engine.precision.no_int8" if wanted == "int8" else "engine.precision.not_here"
            raise ModelError(code, precision=wanted)
        return _precision(wanted, Reason("engine.choice.dtype.wanted", dtype=wanted), device)
    if wanted in ("fp32", "bf16"):
        return _precision(wanted, Reason("engine.choice.dtype.wanted", dtype=wanted), device)
    if device.type == "cuda":
        return _precision_on_card(device, memory_bytes, needed)
    if parameters < SMALL_MODEL_PARAMETERS:
        return _precision("fp32", Reason("engine.choice.dtype.small"), device)
    if needed("bf16") > memory_bytes and int8_works():
        reason = Reason("engine.choice.dtype.cpu_int8", needed=needed("bf16"), free=memory_bytes)
        return _precision("int8", reason, device)
    if has_fast_bf16_cpu():
        return _precision("bf16", Reason("engine.choice.dtype.cpu_bf16"), device)
    if needed("fp32") > memory_bytes:
        reason = Reason("engine.choice.dtype.cpu_memory", needed=needed("fp32"), free=memory_bytes)
        return _precision("bf16", reason, device)
    return _precision("fp32", Reason("engine.choice.dtype.cpu_fp32"), device)


def precision_named(name: str, device: torch.device) -> PrecisionChoice:
    """Return what a precision means on a device, whether or not this machine would choose it."""
    return _precision(name, Reason("engine.choice.dtype.wanted", dtype=name), device)


def full_precision(device: torch.device) -> str:
    """Return what a card computes weights in that were published in bf16: the older ones cannot, and fp32 takes twice the bytes.

    Empty for a processor, which takes either.
    """
    if device.type != "cuda":
        return ""
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def _precision_on_card(device: torch.device, memory_bytes: int, needed: Callable[[str], int]) -> PrecisionChoice:
    full, code, code_of_compact = "bf16", "engine.choice.dtype.gpu", "engine.choice.dtype.gpu_compact"
    if full_precision(device) == "fp32":
        full, code, code_of_compact = "fp32", "engine.choice.dtype.gpu_old", "engine.choice.dtype.gpu_old_compact"
    if needed(full) > memory_bytes:
        fitting = (name for name in compact_precisions(device) if needed(name) <= memory_bytes)
        name = next(fitting, None)
        if name is not None:
            reason = Reason(code_of_compact, dtype=name, needed=needed(full), free=memory_bytes)
            return _precision(name, reason, device)
    return _precision(full, Reason(code), device)


COMPACT = ("int8", "fp8", "nf4")


def _precision(name: str, reason: Reason, device: torch.device) -> PrecisionChoice:
    if name in COMPACT and device.type == "cpu":
        return PrecisionChoice(torch.bfloat16, name, reason, 4, CPU_INT8)
    if name in COMPACT:
        return PrecisionChoice(torch.bfloat16, name, reason, 2, CARD_KINDS[name])
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    return PrecisionChoice(dtype, name, reason, dtype.itemsize)


def choose_threads(wanted: int, *, parameters: int = SMALL_MODEL_PARAMETERS) -> int:
    """Return the CPU threads to compute with: `wanted`, or the physical cores that this process may use.

    A very small model gets one: its layers are over before a second thread has woken up, and on a busy machine every
    layer would wait for that thread's turn.
    """
    if wanted > 0:
        return wanted
    if parameters < SMALL_MODEL_PARAMETERS:
        return 1
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = _physical_cores(allowed)
    quota = _cgroup_cpus()
    return max(1, min(cores, quota) if quota else cores)


def use_threads(count: int) -> None:
    """Compute with so many CPU threads from here on: the process has one number, which the last model to ask for it set."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _physical_cores(allowed: set[int]) -> int:
    siblings = set()
    for cpu in allowed:
        try:
            file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
            siblings.add(file.read_text(encoding="ascii").strip())
        except OSError:
            return min(len(allowed), psutil.cpu_count(logical=False) or len(allowed))
    return len(siblings)


def _cgroup_cpus() -> int | None:
    try:
        quota, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether what was raised means that a card or this machine had no memory left."""
    # All but torch's own are a bare RuntimeError whose text is all there is to know them by.
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in TOLD_OF_MEMORY)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or told


def device_name(device: torch.device) -> str:
    """Return a name people know: the graphics card's, or `cpu`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"
