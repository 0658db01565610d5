"""What this machine offers the app and what is wrong with it: one finding after the other, each with a verdict.

Knows Python, installed packages, memory, folders and ports by itself; torch and models through a `Probe` that it is
given. Works where settings, packages or models are broken: that is when people run it. Does not know how findings are
shown.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import psutil

from qwen_vl_app import offline
from qwen_vl_app.chat import EngineStatus
from qwen_vl_app.config import ROOT, Settings
from qwen_vl_app.engine.folders import DEMO_MARK, ModelFolder
from qwen_vl_app.errors import AppError, Reason, SettingsError

log = logging.getLogger(__name__)

OLDEST_PYTHON = (3, 11)
LITTLE_DISK_BYTES = 2**30
LITTLE_MEMORY_BYTES = 2 * 2**30
APP_HEADER = "X-Qwen-VL-App"
"""What the app's guard puts on every reply."""
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows a container its own limits."""
OUTSIDE = ("192.0.2.1", 9)
"""An address that by its standard belongs to nobody."""

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)\s*\Z")


class Verdict(StrEnum):
    """What a finding means for the app."""

    OK = "ok"
    NOTE = "note"
    """It works, but a person may want to know."""
    PROBLEM = "problem"
    """The app, or a part of it, does not work until this is mended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. The sentence of `about` says what to do where the verdict is not OK."""

    check: str
    verdict: Verdict
    about: Reason


class Accelerator(Protocol):
    """A graphics card as torch sees it."""

    @property
    def name(self) -> str:
        """What its maker calls it."""
        ...

    @property
    def total_bytes(self) -> int:
        """All of its memory."""
        ...

    @property
    def free_bytes(self) -> int:
        """What nobody uses now."""
        ...


class TorchFacts(Protocol):
    """What torch says of itself. `cuda_build` is the CUDA version it was built for, empty for a build without."""

    @property
    def version(self) -> str:
        """As torch tells it: `2.13.0+cpu`."""
        ...

    @property
    def cuda_build(self) -> str:
        """As torch tells it: `13.0`."""
        ...

    @property
    def accelerators(self) -> Sequence[Accelerator]:
        """The cards that torch can use."""
        ...


@dataclass(frozen=True, slots=True)
class Memory:
    """The machine's memory in bytes. `limit_bytes` is a container's limit, None where there is none."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class KnownQuestion:
    """A picture and a question whose answer is known."""

    name: str
    picture: bytes
    question: str
    answer: str


class Probe(Protocol):
    """What the engine's room can tell without loading a model. Nothing heavy happens before the first call."""

    def models(self) -> tuple[ModelFolder, ...]:
        """Return the model folders there are, damaged ones with their problem."""
        ...

    def torch(self) -> TorchFacts:
        """Import torch and ask it. Raises whatever a missing or damaged installation raises."""
        ...

    def prepared(self) -> EngineStatus:
        """Return what would be loaded and how, with its reasons and its plan of sizes. Raises ModelError."""
        ...


def examine(load_settings: Callable[[], Settings], probe_for: Callable[[Settings], Probe]) -> Iterator[Finding]:
    """Look at everything, the quick things first; a finding is given as soon as it is made. Raises nothing."""
    yield python_finding(sys.version_info[:2], is_64_bit=sys.maxsize > 2**32)
    yield packages_finding(ROOT / "requirements.txt")
    try:
        settings = load_settings()
        yield Finding("settings", Verdict.OK, Reason("doctor.settings.fine"))
    except SettingsError as error:
        yield Finding("settings", Verdict.PROBLEM, error.reason)
        settings = Settings()  # so that the rest can still be looked at
    yield from data_folder_findings(settings.data_dir)
    yield port_finding(settings.port)
    yield offline_finding()
    probe = probe_for(settings)
    yield from model_findings(probe.models())
    yield memory_finding(measure_memory())
    try:
        facts = probe.torch()
    except Exception:  # a damaged installation raises anything: ImportError, OSError of a library, RuntimeError
        log.info("the engine's libraries cannot be imported", exc_info=True)
        yield Finding("torch", Verdict.PROBLEM, torch_problem())
        return
    yield from torch_findings(facts)
    yield from choice_findings(probe)


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
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free
    except OSError:
        yield Finding("data_folder", Verdict.PROBLEM, Reason("doctor.data_folder.not_writable"))
        return
    if free < LITTLE_DISK_BYTES:
        yield Finding("data_folder", Verdict.NOTE, Reason("doctor.data_folder.little_space", free=free))
    else:
        yield Finding("data_folder", Verdict.OK, Reason("doctor.data_folder.fine", free=free))


def port_finding(port: int) -> Finding:
    """Tell a free port from the app itself and from a stranger."""
    if _can_bind(port):
        return Finding("port", Verdict.OK, Reason("doctor.port.free", port=port))
    if _answers_as_this_app(port):
        return Finding("port", Verdict.OK, Reason("doctor.port.ours", port=port))
    return Finding(
        "port", Verdict.PROBLEM, Reason("doctor.port.taken", port=port, other=port + 1 if port < 65535 else 8502)
    )


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        if sys.platform != "win32":  # there, this option would let two listen to one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _answers_as_this_app(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().getheader(APP_HEADER) is not None
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def offline_finding() -> Finding:
    """Prove that this process can reach nothing outside, by trying."""
    offline.go_offline()
    try:
        with socket.socket() as outside:
            outside.settimeout(0.5)
            outside.connect(OUTSIDE)
    except offline.RefusedConnectionError:
        return Finding("offline", Verdict.OK, Reason("doctor.offline.fine"))
    except OSError:
        pass
    return Finding("offline", Verdict.PROBLEM, Reason("doctor.offline.open"))


def model_findings(models: tuple[ModelFolder, ...]) -> Iterator[Finding]:
    """Judge every model folder, and whether there is one that can be used."""
    for model in models:
        if model.problem is not None:
            yield Finding("model", Verdict.NOTE, model.problem)
            continue
        family = model.family.display_name if model.family else ""
        code = "doctor.model.demo" if model.is_demo else "doctor.model.fine"
        reason = Reason(code, model=model.name, family=family, bytes=model.weight_bytes, dtype=model.dtype)
        yield Finding("model", Verdict.OK, reason)
    if not any(model.is_complete for model in models):
        yield Finding("model", Verdict.PROBLEM, Reason("doctor.model.none"))


def torch_problem() -> Reason:
    """Return why the engine's libraries could not be imported just now."""
    if importlib.util.find_spec("torch") is None:
        return Reason("doctor.torch.missing")
    # What fails to be imported is not left behind: if torch itself is there, another library stumbled.
    return Reason("doctor.torch.transformers_broken" if "torch" in sys.modules else "doctor.torch.broken")


def torch_findings(facts: TorchFacts) -> Iterator[Finding]:
    """Judge torch's build and the devices it can use."""
    if facts.cuda_build:
        reason = Reason("doctor.torch.cuda", version=facts.version, cuda=facts.cuda_build)
    else:
        reason = Reason("doctor.torch.cpu", version=facts.version)
    yield Finding("torch", Verdict.OK, reason)
    for card in facts.accelerators:
        reason = Reason("doctor.device.gpu", name=card.name, total=card.total_bytes, free=card.free_bytes)
        yield Finding("device", Verdict.OK, reason)
    if facts.accelerators:
        return
    if shutil.which("nvidia-smi") is None:
        yield Finding("device", Verdict.OK, Reason("doctor.device.cpu", threads=_threads()))
    elif not facts.cuda_build:
        yield Finding("device", Verdict.NOTE, Reason("doctor.device.gpu_unused"))
    else:
        yield Finding("device", Verdict.NOTE, Reason("doctor.device.driver", cuda=facts.cuda_build))


def _threads() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def choice_findings(probe: Probe) -> Iterator[Finding]:
    """Tell what would be loaded and how, with the reasons, and how large pictures may be."""
    try:
        status = probe.prepared()
    except AppError as error:
        yield Finding("choice", Verdict.PROBLEM, error.reason)
        return
    reason = Reason("doctor.choice.model", model=status.model, device=status.device, dtype=status.dtype)
    yield Finding("choice", Verdict.NOTE if status.is_demo else Verdict.OK, reason)
    if status.attention:  # it is chosen by a self-test on the loaded weights, so usually not known here
        yield Finding("choice", Verdict.OK, Reason("doctor.choice.attention", attention=status.attention))
    for choice in (*status.choices, *(status.plan.reasons if status.plan else ())):
        yield Finding("choice", Verdict.OK, choice)
    if status.plan is not None:
        largest = status.plan.rungs[-1]
        usual = status.plan.rung()
        reason = Reason(
            "doctor.sizes.plan",
            usual=usual.max_tokens,
            largest=largest.max_tokens,
            megapixels=largest.max_pixels / 1e6,
            context=status.plan.context_tokens,
        )
        yield Finding("sizes", Verdict.OK, reason)


def known_question(models: tuple[ModelFolder, ...]) -> KnownQuestion | None:
    """Return the question that the demo model's folder brings with it, under `check` in its `demo.json`; None without."""
    for model in models:
        if not model.is_demo:
            continue
        try:
            check = json.loads((model.path / DEMO_MARK).read_text(encoding="utf-8"))["check"]
            picture = model.path / str(check["picture"])
            return KnownQuestion(picture.name, picture.read_bytes(), str(check["question"]), str(check["answer"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
