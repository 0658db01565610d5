"""Which packages a kit needs, worked out for the machine it is meant for rather than for this one. Downloads, through pip and uv.

Knows pip's settings, uv, and what wheels' tags a target takes. uv works out versions with the target's own markers, which pip
cannot for a machine that it does not run on; pip fetches, from the indexes that this machine's pip is set to, and no others.
Standard library only.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts import children
from scripts.kit.wheels import normalised
from scripts.packages import SetupError, clean_environment, say, told_of_links

TOOLS = ("uv==0.13.9", "cyclonedx-python-lib[json-validation]==11.12.0")
GLIBC = (2, 28)
"""The oldest C library that torch's Linux wheels run with."""
_LINUX = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC[1], 4, -1)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"),
)
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """A kind of machine. `platforms` are the wheel tags it takes, the best first; `uv_platform` is uv's name for it."""

    name: str
    system: str
    uv_platform: str
    platforms: tuple[str, ...]
    wants_cuda: bool
    glibc: str = ""

    @property
    def system_name(self) -> str:
        """As people write it."""
        return self.system.capitalize()


TARGETS = {
    target.name: target
    for target in (
        Target("linux-cuda", "linux", "x86_64-manylinux_2_28", _LINUX, wants_cuda=True, glibc="2.28"),
        Target("linux-cpu", "linux", "x86_64-manylinux_2_28", _LINUX, wants_cuda=False, glibc="2.28"),
        Target("windows-cuda", "windows", "x86_64-pc-windows-msvc", ("win_amd64",), wants_cuda=True),
        Target("windows-cpu", "windows", "x86_64-pc-windows-msvc", ("win_amd64",), wants_cuda=False),
    )
}


def pip_settings(python: str) -> dict[str, str]:
    """Return this machine's pip settings by their plain names; the environment wins over files, as pip has it."""
    told = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=clean_environment(),
        check=False,
    ).stdout
    settings: dict[str, tuple[int, str]] = {}
    for line in told.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        rank = {"global": 0, "install": 1, "download": 2, ":env:": 3}.get(section)
        if rank is None or (name in settings and settings[name][0] > rank):
            continue
        try:
            settings[name] = rank, str(ast.literal_eval(value))
        except (ValueError, SyntaxError):
            continue
    return {name: value for name, (_, value) in settings.items()}


def uv_environment(settings: Mapping[str, str], *, brought: Path | None) -> dict[str, str]:
    """Return what makes uv look where pip looks: it reads none of pip's settings by itself.

    Given in the environment, since an index's address may carry a password and a command line can be seen by everybody.
    """
    folders = [word for word in settings.get("find-links", "").split() if "://" in word or Path(word).is_dir()]
    if brought is not None:
        folders.insert(0, str(brought))
    given = {
        "UV_DEFAULT_INDEX": settings.get("index-url", ""),
        "UV_INDEX": " ".join(settings.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(folders),
        "UV_INSECURE_HOST": " ".join(settings.get("trusted-host", "").split()),
        "SSL_CERT_FILE": settings.get("cert", ""),
        "HTTPS_PROXY": settings.get("proxy", ""),
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # pip compares what all indexes have
        "UV_NO_CONFIG": "1",
    }
    # pip's `no-index` has no name in uv's environment; it is given as a flag.
    return {name: value for name, value in given.items() if value}


def make_tools(folder: Path) -> Path:
    """Return the Python of an environment with the tools that a kit is built with, after making it. Raises SetupError."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    mark = folder / "tools.txt"
    if mark.is_file() and mark.read_text(encoding="utf-8") == "\n".join(TOOLS) and python.exists():
        return python
    say(f"Making an environment for the tools: {', '.join(TOOLS)}.")
    with told_of_links(folder):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], failure="No virtual environment could be made.")
    _run(
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *TOOLS],
        failure="pip could not install them.",
    )
    mark.write_text("\n".join(TOOLS), encoding="utf-8")
    return python


def resolve(
    python: Path,
    target: Target,
    *,
    version: str,
    requirements: Sequence[Path],
    lines: Sequence[str],
    brought: Path | None,
) -> dict[str, str]:
    """Return every package that the target needs, with its version. Raises SetupError with the resolver's own words.

    `lines` are further requirements, such as `torch!=2.13.0+cpu`.
    """
    settings = pip_settings(sys.executable)
    command = [str(python.with_name("uv.exe" if os.name == "nt" else "uv")), "pip", "compile", "-q"]
    command += [str(file) for file in requirements] + ["-"]
    command += ["--python-platform", target.uv_platform, "--python-version", version, "--only-binary", ":all:"]
    command += ["--no-header", "--no-annotate", *(["--no-index"] if settings.get("no-index") in ("1", "true") else [])]
    told = subprocess.run(
        command,
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=os.environ | uv_environment(settings, brought=brought),
        check=False,
    )
    if told.returncode:
        raise SetupError(f"The packages for {target.name} could not be worked out.\n{told.stderr.strip()}")
    return {normalised(name): found for name, found in _PIN.findall(told.stdout)}


def fetch(
    python: Path, target: Target, packages: Mapping[str, str], *, version: str, into: Path, brought: Path | None
) -> None:
    """Download a wheel for each package, and nothing that they need beside. What is there is not fetched again.

    Raises SetupError.
    """
    into.mkdir(parents=True, exist_ok=True)
    # `==2.13.0` also takes 2.13.0+cpu, and would take that first; three signs mean the very words.
    wanted = [f"{name}{'==' if '+' in found else '==='}{found}" for name, found in packages.items()]
    command = [
        str(python),
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar",
        "off",
    ]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(into)]
    command += ["--implementation", "cp", "--python-version", version]
    for abi in ("cp" + version.replace(".", ""), "abi3", "none"):
        command += ["--abi", abi]
    for platform in target.platforms:
        command += ["--platform", platform]
    if brought is not None:
        command += ["--find-links", str(brought)]
    _run([*command, *wanted], failure=f"The wheels for {target.name} could not be downloaded.")


def _run(command: list[str], *, failure: str) -> None:
    with children.running(command, clean_environment()) as process:
        lines = (process.stdout.read() if process.stdout else "").splitlines()
    if process.returncode:
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines
        raise SetupError("\n".join([failure, *errors[-3:]]))
