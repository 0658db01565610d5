"""Makes the virtual environment that app, tests and checks run in. Downloads packages, through pip.

Knows requirement files, the stamp and the lock; standard library only, because it runs before anything is installed. Does
not know what the environment is for, nor how pip is talked to (`packages`), nor what makes a kit whole (`kit.folder`).

A stamp file, written last and in one step, says what is installed. While it is there and still true, nothing is done at
all; where it is missing, an earlier run was cut off, and what that left behind is mended. An update never changes what
works: that is put aside (`last_good`), a new environment is made and tested in its place, and it comes back where that fails.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts import children
from scripts.kit import folder as kits
from scripts.kit.wheels import wheel_files
from scripts.last_good import LastGood
from scripts.packages import (
    Installer,
    SetupError,
    clean_environment,
    fit_torchvision,
    forget_half_installed,
    say,
    split_requirements,
    told_of_links,
)

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv"
STAMP = FOLDER / "setup.json"
SETUP = ROOT / ".setup"
"""What setting up keeps beside the environment: the lock, the log, the last good environment, the tools of the kit."""
KIT = ROOT / "offline_pkgs"
SELF_TEST = ROOT / "scripts" / "self_test.py"
ANSWERS_WRONGLY = 2
"""What the self-test ends with where everything runs, but the demo model says something else than it should."""
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
    with written_to(), children.heard(), _lock():
        if is_ready(dev=dev):  # another set-up, that this one waited for, has done it
            return environment_python()
        return _set_up(dev=dev or "dev" in _read_stamp())


def roll_back() -> Path:
    """Return the Python of the environment from before the last update, which takes the place of the present one.

    A second call goes forward again. Raises SetupError where there is none.
    """
    with written_to(), children.heard(), _lock():
        last = last_good()
        is_exchange = last.exists and not last.is_awaited and FOLDER.is_dir()
        if last.exists:
            last.swap()
        stamp = _read_stamp()
        if not stamp or not _is_sound():
            if is_exchange:
                last.swap()
                raise SetupError(
                    "The environment from before the last update was made in another folder or with another Python, and "
                    "does not work here any more. The present one stays."
                )
            raise SetupError("There is no environment from before the last update to go back to.")
        _write_stamp(stamp | {"accepted": _mark_of(_wanted(dev=False))})
        say(f"Back to the environment from before: {stamp.get('torch', 'torch unknown')}.")
    return environment_python()


def last_good() -> LastGood:
    """Return the place of the environment from before the last update."""
    return LastGood(environment=FOLDER, aside=SETUP / "last", mark=SETUP / "updating")


def log_file() -> Path:
    """Return where the whole output of setting up goes."""
    return SETUP / "setup.log"


def environment_python() -> Path:
    """Return where the environment's Python is, or will be."""
    return FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environment_program(name: str) -> Path:
    """Return where a program of the environment is, such as `ruff`."""
    return environment_python().parent / (f"{name}.exe" if os.name == "nt" else name)


def is_ready(*, dev: bool) -> bool:
    """Return whether the stamp says that everything wanted is installed, or that a person wants what is there."""
    stamp = _read_stamp()
    if not stamp or not environment_python().exists() or (dev and "dev" not in stamp):
        return False
    wanted = _wanted(dev=dev)
    if stamp.get("accepted") == _mark_of(_wanted(dev=False)):
        return stamp.get("root") == wanted["root"]
    return all(stamp.get(key) == wanted[key] for key in wanted)


def _wanted(*, dev: bool) -> dict[str, str]:
    wanted = {
        "python": _version(),
        "root": str(ROOT),  # a moved environment's programs still point to the old place
        "base": _digest(REQUIREMENTS),
        "gpu": _digest(GPU_REQUIREMENTS),
    }
    if "kit" in _read_stamp() and (mark := kits.mark_of(KIT)):  # another kit may bring another build of the same torch
        wanted["kit"] = mark
    return wanted | ({"dev": _digest(DEV_REQUIREMENTS)} if dev else {})


def _mark_of(wanted: dict[str, str]) -> str:
    return " ".join(wanted.get(key, "")[:16] for key in ("base", "gpu", "kit"))


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _digest(name: str) -> str:
    return kits.digest_of(ROOT / name)


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
def written_to() -> Iterator[None]:
    """Let what this disk refuses be told in a sentence. Raises SetupError."""
    try:
        SETUP.mkdir(exist_ok=True)
        yield
    except OSError as error:
        raise SetupError(_refusal(error)) from error


def _refusal(error: OSError) -> str:
    """Return what a disk's refusal means and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(ROOT).free / (1 << 30)
        return (
            f"The disk is full: {free:.1f} GB are free, and the environment takes 3 GB, or 6 GB with CUDA. Free some space, "
            "then run this again; it goes on where it stopped."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.filename or ROOT} cannot be written to. Copy the project to a folder of your own on this machine's disk "
            "and start it there; or, where another account set it up, use that one. A virus scanner that holds a file lets "
            "go of it again: then run this once more."
        )
    return (
        f"The disk refused: {error.strerror} ({error.filename or ROOT}). Look whether it is well, then run this again."
    )


@contextmanager
def _lock() -> Iterator[None]:
    """Let one set-up work at a time. The system drops the lock when a process and what it started end, however they end."""
    with (SETUP / "lock").open("a+b") as file:
        told = False
        while not try_lock(file.fileno()):
            if not told:
                say("Another set-up is at work here; waiting for it to end.")
                told = True
            time.sleep(0.5)
        with children.holding(file.fileno()):
            yield


def try_lock(descriptor: int, *, at: int = 0) -> bool:
    """Take the lock on an open file, for as long as it is open; return whether nobody else has it.

    `at` is the byte that is locked on Windows.
    """
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - exists on Windows alone

            os.lseek(descriptor, at, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - does not exist on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _set_up(*, dev: bool) -> Path:
    started = time.monotonic()
    kit = _open_kit(dev=dev)
    stamp = _read_stamp()
    last = last_good()
    has_changed = bool(stamp) and _differs(stamp)
    is_update = has_changed and _is_usable(environment_python())
    _announce(has_kit=kit is not None or bool(wheel_files(KIT)), dev=dev, has_changed=has_changed)
    log_file().unlink(missing_ok=True)
    if is_update:
        say("What is there stays aside until the new environment has passed its test.")
        last.put_aside()
    try:
        torch = _make(dev=dev, kit=kit)
    except (SetupError, OSError) as error:
        if not last.is_awaited:
            raise
        last.bring_back()
        told = _refusal(error) if isinstance(error, OSError) else error
        raise SetupError(
            f"{told}\nThe environment from before is back in its place. To start the app with it all the same: "
            "python scripts/run.py --rollback"
        ) from error
    _write_stamp(_wanted(dev=dev) | {"torch": torch} | ({} if kit is None else {"kit": kits.mark_of(KIT)}))
    last.is_replaced()
    seconds = time.monotonic() - started
    say(f"Ready after {seconds:.0f} s: {torch}." if seconds < 90 else f"Ready after {seconds / 60:.1f} min: {torch}.")
    return environment_python()


def _open_kit(*, dev: bool) -> kits.Kit | None:
    """Return the kit that lies here, checked to the last byte; None where there is none. Raises SetupError."""
    kit = kits.read_kit(KIT)
    if kit is None:
        return None
    names = {name: _digest(name) for name in (REQUIREMENTS, GPU_REQUIREMENTS, DEV_REQUIREMENTS)}
    if why := kits.misfit(kit, requirements=names):
        raise SetupError(why)
    if dev and not kit.has_tests:
        raise SetupError("The kit in offline_pkgs holds no tools for tests. Build it with --with-tests.")
    say(f"Checking the kit in offline_pkgs: {kit.packages} packages, {kit.wheel_bytes / (1 << 30):.1f} GB.")
    kits.verify(KIT)
    say(f"Every file is what it should be; the kit's mark is {kits.mark_of(KIT)}")
    return kit


def _differs(stamp: dict[str, str]) -> bool:
    """Return whether more is wanted than what is only added to an environment: other pins, another kit."""
    wanted = _wanted(dev=False)
    return any(stamp.get(key) != wanted[key] for key in wanted if key not in ("python", "root"))


def _is_usable(python: Path) -> bool:
    return python.exists() and _is_sound() and _works(python)


def _make(*, dev: bool, kit: kits.Kit | None) -> str:
    """Make or mend the environment and test it; return what it ended up with. Raises SetupError."""
    python = environment_python()
    installer = Installer(python=python, log=log_file(), kit=KIT)
    is_whole = bool(_read_stamp())
    STAMP.unlink(missing_ok=True)
    if FOLDER.exists() and any(FOLDER.iterdir()):
        if not _is_usable(python):
            say("The environment there is cut off, moved or of another Python; making it anew.")
            _clear()
        elif _has_other_torch():
            say("A torch of another version was left there; making the environment anew.")
            _clear()
    if not python.exists():
        say(f"Making the virtual environment .venv (Python {_version()}).")
        with told_of_links(FOLDER):
            installer.run(
                ["-m", "venv", str(FOLDER)], failure="No virtual environment could be made.", python=_base_python()
            )
    elif not is_whole:
        for name in forget_half_installed(site_packages()):
            say(f"An earlier run was cut off while {name} went in; installing it again.")
    say("Installing packages.")
    if kit is not None:
        installer.install(["--require-hashes", "-r", str(KIT / kits.LOCK_NAME)])
    else:
        needed, bare = split_requirements((ROOT / REQUIREMENTS).read_text(encoding="utf-8"))
        listed = SETUP / REQUIREMENTS
        listed.write_text(needed, encoding="utf-8")
        files = [listed, *([ROOT / DEV_REQUIREMENTS] if dev else [])]
        installer.install([argument for file in files for argument in ("-r", str(file))])
        if bare:
            installer.install(["--no-deps", *bare])
    torch = fit_torchvision(installer, requirements=ROOT / GPU_REQUIREMENTS, site_packages=site_packages())
    _test(python)
    return torch


def _has_other_torch() -> bool:
    """Return whether a torch lies there that is not the pinned one: it is never swapped for another in place."""
    pins = (ROOT / REQUIREMENTS).read_text(encoding="utf-8").splitlines()
    pinned = next((line.partition("==")[2].strip() for line in pins if line.startswith("torch==")), "")
    found = [
        record.name.removesuffix(".dist-info").partition("-")[2] for record in site_packages().glob("torch-*.dist-info")
    ]
    return bool(pinned) and any(version.partition("+")[0] != pinned for version in found)


def _test(python: Path) -> None:
    """Let the new environment show that it works: everything is imported, and the demo model answers. Raises SetupError."""
    if not SELF_TEST.is_file():
        return
    say("Testing the new environment.")
    with children.running([str(python), str(SELF_TEST)], clean_environment()) as test:
        output = test.stdout.read() if test.stdout else ""
    with log_file().open("a", encoding="utf-8") as log:
        log.write(output)
    told = output.strip().splitlines()[-1:] or ["it said nothing"]
    if test.returncode == ANSWERS_WRONGLY and not last_good().is_awaited:
        say(f"It works, but: {told[0]}")
    elif test.returncode:
        raise SetupError(f"The new environment did not pass its test: {told[0]}\nAll of its output: {log_file()}")


def _announce(*, has_kit: bool, dev: bool, has_changed: bool) -> None:
    if has_changed:
        say("What the app needs has changed; bringing .venv up to date.")
    if has_kit:
        say("Installing from offline_pkgs alone, without network.")
    else:
        say(
            "Downloads, once: torch (about 2.7 GB in its CUDA build, which Linux usually gets; 200 MB in the build for the "
            f"processor alone) and about {390 if dev else 220} MB of other packages. On the disk: 6 GB or 3 GB."
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
    """Empty the environment's folder."""
    if Path(sys.prefix).resolve() == FOLDER.resolve():
        raise SetupError("The environment must be made anew. Start this script with the Python outside of .venv.")
    for entry in FOLDER.iterdir():
        try:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        except OSError as error:
            raise SetupError(
                "The old .venv cannot be removed. End the app and whatever else uses it, or delete the folder by hand."
            ) from error


def site_packages() -> Path:
    """Return the folder that the environment keeps its packages in."""
    return FOLDER / ("Lib/site-packages" if os.name == "nt" else f"lib/python{_version()}/site-packages")
