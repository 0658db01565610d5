"""Makes the virtual environment that app, tests and checks run in. Downloads packages, through pip.

Knows requirement files, the stamp and the lock; standard library only, because it runs before anything is installed. Does
not know what the environment is for, nor how pip is talked to (`packages`).

A stamp file, written last and in one step, says what is installed. While it is there and still true, nothing is done at
all; where it is missing, an earlier run was cut off, and what that left behind is mended.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.packages import Installer, SetupError, fit_torchvision, forget_half_installed, say

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv"
STAMP = FOLDER / "setup.json"
LOCK = FOLDER / "setup.lock"
LOG = FOLDER / "setup.log"
KIT = ROOT / "offline_pkgs"
REQUIREMENTS = "requirements.txt"
GPU_REQUIREMENTS = "requirements-gpu.txt"
DEV_REQUIREMENTS = "requirements-dev.txt"
FREE_BYTES_WANTED = 2 << 30


def ensure(*, dev: bool = False) -> Path:
    """Return the environment's Python, after making or mending the environment where that is needed.

    `dev` adds what tests and checks need. Raises SetupError.
    """
    if is_ready(dev=dev):
        return environment_python()
    _require_venv()
    FOLDER.mkdir(exist_ok=True)
    with _lock():
        if is_ready(dev=dev):  # another set-up, that this one waited for, has done it
            return environment_python()
        return _set_up(dev=dev or "dev" in _read_stamp())


def environment_python() -> Path:
    """Return where the environment's Python is, or will be."""
    return FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environment_program(name: str) -> Path:
    """Return where a program of the environment is, such as `ruff`."""
    return environment_python().parent / (f"{name}.exe" if os.name == "nt" else name)


def is_ready(*, dev: bool) -> bool:
    """Return whether the stamp says that everything wanted is installed."""
    stamp = _read_stamp()
    wanted = _wanted(dev=dev)
    return bool(stamp) and environment_python().exists() and all(stamp.get(key) == wanted[key] for key in wanted)


def _wanted(*, dev: bool) -> dict[str, str]:
    wanted = {
        "python": _version(),
        "root": str(ROOT),  # a moved environment's programs still point to the old place
        "base": _digest(REQUIREMENTS),
        "gpu": _digest(GPU_REQUIREMENTS),
    }
    return wanted | ({"dev": _digest(DEV_REQUIREMENTS)} if dev else {})


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _digest(name: str) -> str:
    # Line ends differ between checkouts of one and the same file.
    return hashlib.sha256((ROOT / name).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _read_stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(stamp: dict[str, str]) -> None:
    draft = STAMP.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(stamp, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(STAMP)


def _require_venv() -> None:
    try:
        import ensurepip  # noqa: F401, PLC0415 - only asked whether it is there
        import venv  # noqa: F401, PLC0415
    except ImportError as error:
        raise SetupError(
            f"This Python lacks the {error.name} module. On Debian and Ubuntu: sudo apt install python{_version()}-venv. "
            "Elsewhere, take the Python from python.org."
        ) from error


@contextmanager
def _lock() -> Iterator[None]:
    """Let one set-up work at a time. The system drops the lock when a process ends, however it ends."""
    with LOCK.open("a+b") as file:
        told = False
        while not _try_lock(file.fileno()):
            if not told:
                say("Another set-up is at work here; waiting for it to end.")
                told = True
            time.sleep(0.5)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - exists on Windows alone

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - does not exist on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _set_up(*, dev: bool) -> Path:
    started = time.monotonic()
    python = environment_python()
    installer = Installer(python=python, log=LOG, kit=KIT)
    stamp = _read_stamp()
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    _announce(has_kit=installer.has_kit, dev=dev, is_update=bool(stamp))
    if python.exists() and not (_is_sound() and _works(python)):
        say("The environment there is cut off, moved or of another Python; making it anew.")
        _clear()
    if not python.exists():
        say(f"Making the virtual environment .venv (Python {_version()}).")
        installer.run(
            ["-m", "venv", str(FOLDER)], failure="No virtual environment could be made.", python=_base_python()
        )
    elif not stamp:
        for name in forget_half_installed(site_packages()):
            say(f"An earlier run was cut off while {name} went in; installing it again.")
    files = [REQUIREMENTS, *([DEV_REQUIREMENTS] if dev else [])]
    say("Installing packages.")
    installer.install([argument for name in files for argument in ("-r", str(ROOT / name))])
    torch = fit_torchvision(installer, requirements=ROOT / GPU_REQUIREMENTS, site_packages=site_packages())
    _write_stamp(_wanted(dev=dev) | {"torch": torch})
    seconds = time.monotonic() - started
    say(f"Ready after {seconds:.0f} s: {torch}." if seconds < 90 else f"Ready after {seconds / 60:.1f} min: {torch}.")
    return python


def _announce(*, has_kit: bool, dev: bool, is_update: bool) -> None:
    if is_update:
        say("The requirements have changed; bringing .venv up to date.")
    if has_kit:
        say("Installing from offline_pkgs alone, without network.")
    else:
        say(
            "Downloads, once: torch (about 2.7 GB in its CUDA build, which Linux usually gets; 200 MB in the build for the "
            f"processor alone) and about {300 if dev else 210} MB of other packages. On the disk: 6 GB or 2 GB."
        )
    free = shutil.disk_usage(ROOT).free
    if free < FREE_BYTES_WANTED:
        say(f"Only {free / (1 << 30):.1f} GB are free on this disk; that may not do.")


def _is_sound() -> bool:
    """Return whether the environment there was made for this place and by a Python of this version."""
    try:
        settings = (FOLDER / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False
    return f"version = {_version()}." in settings and str(FOLDER) in settings


def _works(python: Path) -> bool:
    checked = subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, check=False)
    return checked.returncode == 0


def _base_python() -> str:
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def _clear() -> None:
    """Empty the environment's folder, but for the lock that this process holds in it."""
    if Path(sys.prefix).resolve() == FOLDER.resolve():
        raise SetupError("The environment must be made anew. Start this script with the Python outside of .venv.")
    for entry in FOLDER.iterdir():
        try:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != LOCK:
                entry.unlink()
        except OSError as error:
            raise SetupError(
                "The old .venv cannot be removed. End the app and whatever else uses it, or delete the folder by hand."
            ) from error


def site_packages() -> Path:
    """Return the folder that the environment keeps its packages in."""
    return FOLDER / ("Lib/site-packages" if os.name == "nt" else f"lib/python{_version()}/site-packages")
