"""Installs packages with pip, fits torchvision to torch, mends what a cut-off run left behind. Downloads packages.

Knows pip, wheels and their records; standard library only. Does not know what should be installed, or when.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts import children
from scripts.kit.wheels import wheel_files

ADVICE = (
    (("No space left", "Errno 28", "WinError 112"), "The disk is full. Free some space (8 GB is plenty)."),
    (
        ("Long Path", "WinError 206", "Errno 36"),
        "The names of files inside would be too long here. Move the project's folder to a short place, such as C:\\visual.",
    ),
    (
        (
            "NewConnectionError",
            "NameResolutionError",
            "Temporary failure in name resolution",
            "getaddrinfo failed",
            "Read timed out",
            "ConnectTimeout",
            "ProxyError",
            "SSLError",
            "Connection broken",
            "No route to host",
            "Connection refused",
            "Network is unreachable",
        ),
        "The package index cannot be reached. Check the network and pip's own settings (`pip config list`), or put the "
        "wheels into offline_pkgs (see offline_pkgs/README.md).",
    ),
    (
        ("Permission denied", "Errno 13", "WinError 5"),
        "A file may not be written. End a running app, or look who owns .venv.",
    ),
    (
        ("from versions: none",),
        "The package index cannot be reached, or has nothing for this Python and system. Check the network and pip's own "
        "settings (`pip config list`); take a 64-bit Python 3.11, 3.12 or 3.13; or put the wheels into offline_pkgs.",
    ),
    (
        ("No matching distribution", "Could not find a version", "Requires-Python"),
        "The index has no such package for this Python and system. Take a 64-bit Python 3.11, 3.12 or 3.13, or look at "
        "pip's own settings (`pip config list`).",
    ),
)
NO_LINKS = (
    "This disk takes no links, as exFAT and FAT do not, and a virtual environment needs one. Copy the project's folder to this "
    "machine's own disk and start it there."
)
KIT_ADVICE = "A wheel is missing in offline_pkgs, or is for another Python or system. See offline_pkgs/README.md."
WITHOUT_NEEDS = ("xgrammar",)
"""Packages that are installed without what they ask for. xgrammar asks for triton on every Linux, 200 MB or more that it uses beside a CUDA
build of torch alone, which brings it along; what else it needs is in requirements.txt, and a test holds it against that."""
NEWS = re.compile(r"Downloading .*[MG]B\)|Installing collected packages")
"""The lines of pip that a waiting person cares about: large downloads, and the long step after them."""
AGAIN = "Then run this again; it goes on where it stopped."


class SetupError(Exception):
    """Setting up did not work. The text is what the user reads: what happened and what to do next."""


@dataclass(frozen=True)
class Installer:
    """pip in one environment. `log` takes all output; `kit` is a wheelhouse, used alone where it holds wheels."""

    python: Path
    log: Path
    kit: Path

    @property
    def has_kit(self) -> bool:
        """True where the wheelhouse holds wheels."""
        return bool(wheel_files(self.kit))

    def install(self, arguments: Iterable[str]) -> None:
        """Run `pip install` with the user's own pip configuration; from a kit, without any. Raises SetupError."""
        source = ["--prefer-binary"]
        if self.has_kit:
            source = ["--no-index", "--find-links", str(self.kit), "--only-binary", ":all:"]
        self.run(
            ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", *source, *arguments],
            failure="pip could not install the packages.",
        )

    def uninstall(self, names: list[str]) -> None:
        """Take packages out again. Raises SetupError."""
        self.run(["-m", "pip", "uninstall", "--yes", *names], failure=f"pip could not take out {' and '.join(names)}.")

    def run(self, arguments: list[str], *, failure: str, python: Path | str | None = None) -> None:
        """Run a step: all output goes to the log, what a person cares about to the screen. Raises SetupError."""
        lines: list[str] = []
        surroundings = sealed_environment() if self.has_kit else clean_environment()
        with (
            self.log.open("a", encoding="utf-8") as log,
            children.running([str(python or self.python), *arguments], surroundings) as process,
        ):
            for line in process.stdout or ():
                log.write(line)
                lines.append(line.rstrip())
                if NEWS.match(line.strip()):
                    say("  " + _shortened(line.strip()))
        if process.returncode:
            raise SetupError(f"{failure}\n{explain(lines, has_kit=self.has_kit)}\nAll of its output: {self.log}")

    def ask(self, code: str) -> str | None:
        """Return what a piece of code prints in a process of its own, or None where it fails."""
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        asked = subprocess.run(
            [str(self.python), "-I", "-c", code], capture_output=True, text=True, env=environment, check=False
        )
        return asked.stdout.strip() if asked.returncode == 0 else None


@contextlib.contextmanager
def told_of_links(folder: Path) -> Iterator[None]:
    """Let a virtual environment that could not be made there be told by its cause where that is the disk. Raises SetupError."""
    try:
        yield
    except SetupError as error:
        if takes_links(folder):
            raise
        raise SetupError(f"{str(error).splitlines()[0]}\n{NO_LINKS}") from error


def takes_links(folder: Path) -> bool:
    """Return whether links can be made where a folder is, or will be. On Windows none are needed."""
    link = (folder if folder.is_dir() else folder.parent) / f"link-{os.getpid()}"
    try:
        if os.name != "nt":
            link.symlink_to("nowhere")
            link.unlink()
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)  # a full disk is another matter
    return True


def fit_torchvision(installer: Installer, *, requirements: Path, site_packages: Path) -> str:
    """Install torchvision beside a CUDA build of torch, and nowhere else. Returns what the environment ended up with.

    torchvision for another torch breaks every import of transformers; absent, nothing is missed but parts of video.
    Raises SetupError where torch itself does not work.
    """
    # The constraint needs the distribution's version: torch itself may add a local part that its wheel does not carry.
    build = installer.ask(
        "import importlib.metadata, torch; print(importlib.metadata.version('torch'), torch.version.cuda or '')"
    )
    if build is None:
        raise SetupError(
            "torch is installed but cannot be imported. Delete .venv and run this again; on Windows, install the "
            "Microsoft Visual C++ runtime first."
        )
    version, _, cuda = build.partition(" ")
    if not cuda:
        if (site_packages / "torchvision").exists() and installer.ask("import torchvision") is None:
            installer.uninstall(["torchvision"])  # left by a torch that was there before
        hint = "; this machine has an NVIDIA card, which it does not use" if shutil.which("nvidia-smi") else ""
        return f"torch {version}, for the processor alone{hint}"
    say(f"torch {version} is built for CUDA {cuda}; adding the torchvision that belongs to it.")
    constraints = installer.log.with_name("constraints.txt")
    constraints.write_text(f"torch=={version}\n", encoding="utf-8")  # never swapped for another one
    try:
        installer.install(["-c", str(constraints), "-r", str(requirements)])
    except SetupError as error:
        say(f"{error}\nGoing on without torchvision: everything but some kinds of video works.")
    else:
        if installer.ask("import torchvision, qwen_vl_utils; from transformers import AutoProcessor") is not None:
            return f"torch {version} for CUDA {cuda}, torchvision beside it"
        say("That torchvision does not work beside this torch; taking it out again.")
    installer.uninstall(["torchvision", "qwen-vl-utils"])
    return f"torch {version} for CUDA {cuda}, without torchvision"


def forget_half_installed(site_packages: Path) -> list[str]:
    """Take the records of packages whose files are not all there, so that pip installs them again. Returns the names."""
    names = []
    for record in sorted(site_packages.glob("*.dist-info")):
        if record.is_dir() and not _is_whole(record):
            shutil.rmtree(record)
            names.append(record.name.partition("-")[0])
    for leftover in site_packages.glob("~*"):  # pip renames to this while it uninstalls
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
    return names


def _is_whole(record: Path) -> bool:
    """Return whether every file that a package's RECORD lists is there at its length. pip writes RECORD last."""
    if not (record / "INSTALLER").is_file():
        return False
    try:
        with (record / "RECORD").open(encoding="utf-8", newline="") as file:
            return all((record.parent / row[0]).stat().st_size == int(row[2]) for row in csv.reader(file) if row[2])
    except (OSError, ValueError, IndexError):
        return False


def explain(lines: list[str], *, has_kit: bool = False) -> str:
    """Return the gist of a failed step's output and a next step."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    errors = [error for error in errors if not error.startswith("ResolutionImpossible")] or errors
    gist = _shortened(errors[-1] if errors else next((line for line in reversed(lines) if line.strip()), ""), 300)
    output = "\n".join(lines)
    advice = next((advice for signs, advice in ADVICE if any(sign in output for sign in signs)), "")
    if has_kit and "No matching distribution" in output:
        advice = KIT_ADVICE
    return "\n".join(part for part in (f"It said: {gist}" if gist else "", advice, AGAIN) if part)


def split_requirements(text: str) -> tuple[str, list[str]]:
    """Return requirements without the packages that are installed without their needs, and the lines of those."""
    lines = text.splitlines()
    bare = [line for line in lines if line.partition("==")[0].strip() in WITHOUT_NEEDS]
    return "".join(f"{line}\n" for line in lines if line not in bare), bare


def clean_environment() -> dict[str, str]:
    """Return the environment for a Python of another place: nothing that leads it astray, and UTF-8 whatever the code page is."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return inherited | {"PYTHONIOENCODING": "utf-8:backslashreplace"}


def sealed_environment() -> dict[str, str]:
    """Return the environment for a pip that looks nowhere but where its arguments say, whatever this machine's settings are."""
    inherited = {key: value for key, value in clean_environment().items() if not key.upper().startswith("PIP_")}
    return inherited | {"PIP_CONFIG_FILE": os.devnull}


def speak_anywhere() -> None:
    """Let no word be lost on a console or in a file whose code page lacks a letter of it, as a folder's name may have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(sentence: str) -> None:
    """Tell the person at the terminal what is going on."""
    print(f"[setup] {sentence}", flush=True)


def _shortened(line: str, length: int = 110) -> str:
    return line if len(line) <= length else f"{line[: length - 3]}..."
