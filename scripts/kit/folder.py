"""A kit on the stick: wheels for one kind of machine, with a list of what they are and what their hashes have to be.

Knows KIT.json, the lock and SHA256SUMS: writes them, reads them, and says in a sentence why a kit may not be used. Does not
know how wheels are found (`build_kit`) or installed (`packages`). Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.kit.wheels import is_shadow, list_wheels, sha256_of
from scripts.packages import SetupError

KIT_NAME, LOCK_NAME, SBOM_NAME, SUMS_NAME = "KIT.json", "requirements.lock", "SBOM.cdx.json", "SHA256SUMS"
FORMAT = 1
BUILD_AGAIN = "Build a kit for this machine: python scripts/build_kit.py --target {target}"


class KitError(SetupError):
    """A kit may not be used. The text is what the user reads: why, and what to do next."""


@dataclass(frozen=True)
class Kit:
    """What KIT.json says. `cuda` is empty for a build for the processor alone, `driver` the oldest that will do."""

    target: str
    system: str
    machine: str
    python: str
    glibc: str
    torch: str
    cuda: str
    driver: str
    flash_attn: str
    has_tests: bool
    packages: int
    wheel_bytes: int
    built_at: str
    requirements: Mapping[str, str]
    """The digest of every requirements file that it was resolved from."""
    format: int = FORMAT


def read_kit(folder: Path) -> Kit | None:
    """Return the kit in a folder, None where there is none. Raises KitError where its description cannot be read."""
    file = folder / KIT_NAME
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise KitError(f"The kit in {folder.name} is of another version of this app. Build it again.")
        return Kit(**told)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise KitError(f"{folder.name}/{KIT_NAME} is damaged. Copy the whole kit again.") from error


def write_kit(folder: Path, kit: Kit) -> None:
    """Write KIT.json."""
    (folder / KIT_NAME).write_text(json.dumps(asdict(kit), indent=1) + "\n", encoding="utf-8", newline="\n")


def write_lock(folder: Path) -> None:
    """Write the lock from the wheels that lie in the folder: every package, its version, and the hash of its file."""
    lines = [
        "# Made from the wheels in this folder; pip takes nothing else: pip install --no-index --find-links . --require-hashes"
    ]
    lines += [f"{wheel.name}=={wheel.version} --hash=sha256:{sha256_of(wheel.path)}" for wheel in list_wheels(folder)]
    (folder / LOCK_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_sums(folder: Path) -> str:
    """Write SHA256SUMS over everything in the folder but itself, as `sha256sum -c` reads it. Returns the kit's own mark."""
    listed = sorted(path for path in folder.iterdir() if path.is_file() and is_listed(path))
    lines = "".join(f"{sha256_of(path)}  {path.name}\n" for path in listed)
    (folder / SUMS_NAME).write_text(lines, encoding="utf-8", newline="\n")
    return mark_of(folder)


def is_listed(path: Path) -> bool:
    """Return whether a file belongs into the list of hashes."""
    return (path.suffix == ".whl" and not is_shadow(path)) or path.name in (KIT_NAME, LOCK_NAME, SBOM_NAME)


def mark_of(folder: Path) -> str:
    """Return the hash over the list of hashes: short enough to be told over the telephone, and it stands for every byte."""
    try:
        return sha256_of(folder / SUMS_NAME)
    except OSError:
        return ""


def verify(folder: Path) -> None:
    """Check every byte of a kit against its list. Raises KitError for what is missing, changed, or not on the list."""
    try:
        text = (folder / SUMS_NAME).read_text(encoding="utf-8")
        wanted = {name: digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}
    except (OSError, ValueError) as error:
        raise KitError(f"{folder.name}/{SUMS_NAME} is missing or damaged. Copy the whole kit again.") from error
    there = {path.name for path in folder.iterdir() if path.is_file() and is_listed(path)}
    for name in sorted(wanted):
        if name not in there:
            raise KitError(f"{name} is missing in {folder.name}. Copy the whole kit again.")
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise KitError(f"{name} in {folder.name} cannot be read. Copy the whole kit again.") from error
        if found != wanted[name]:
            raise KitError(
                f"{name} in {folder.name} is not the file that the kit was built with: its hash is another one. "
                "Nothing was installed. Copy the whole kit again; if that does not help, build it anew."
            )
    strange = sorted(there - set(wanted))
    if strange:
        raise KitError(f"{strange[0]} in {folder.name} is not on the kit's list. Nothing was installed. Take it out.")


def misfit(kit: Kit, *, requirements: Mapping[str, str]) -> str:
    """Return in a sentence why this machine cannot use a kit, empty where it can.

    `requirements` has the digests of this project's requirements files by name.
    """
    system = "windows" if sys.platform == "win32" else sys.platform
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    again = BUILD_AGAIN.format(target=f"{system}-{'cuda' if kit.cuda else 'cpu'}") + f" --python {python}"
    if kit.system != system:
        return f"The kit in offline_pkgs is for {kit.system}, and this is {system}. {again}"
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if kit.machine != machine:
        return f"The kit in offline_pkgs is for {kit.machine} processors, and this one is {machine}."
    if kit.python != python:
        return (
            f"The kit in offline_pkgs is for Python {kit.python}, and this is {python}. Start this script with "
            f"Python {kit.python}, or build another kit: python scripts/build_kit.py --target {kit.target} --python {python}"
        )
    if kit.glibc and _as_numbers(platform.libc_ver()[1]) < _as_numbers(kit.glibc) and platform.libc_ver()[0] == "glibc":
        return (
            f"The kit in offline_pkgs needs a system with glibc {kit.glibc} or newer (Ubuntu 20.04, Debian 11, RHEL 8); this "
            f"one has {platform.libc_ver()[1]}."
        )
    for name, digest in kit.requirements.items():
        if requirements.get(name) != digest:
            return f"The kit in offline_pkgs was built for another {name} than this app has. {again}"
    return ""


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def digest_of(file: Path) -> str:
    """Return a requirements file's digest. Line ends differ between checkouts of one and the same file."""
    return hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def wheel_bytes(folder: Path, names: Iterable[str] | None = None) -> int:
    """Return the bytes of the wheels in a folder."""
    wanted = None if names is None else set(names)
    return sum(wheel.path.stat().st_size for wheel in list_wheels(folder) if wanted is None or wheel.name in wanted)
