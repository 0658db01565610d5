"""What a wheel tells about itself without being installed: its name, its metadata, its hash, and which build of torch it is.

Knows wheel files. Does not know where they come from or go. Standard library only.
"""

from __future__ import annotations

import email
import email.message
import hashlib
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
_NAME = re.compile(
    r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl"
)
_CUDA = re.compile(r"^cuda\s*(?::[^=\n]*)?=\s*(?:None|['\"]([\d.]+)['\"])", re.MULTILINE)


@dataclass(frozen=True)
class Wheel:
    """A wheel by its file name: `name` is normalised, the tags are those that the name ends with."""

    path: Path
    name: str
    version: str
    python_tags: frozenset[str]
    abi_tags: frozenset[str]
    platform_tags: frozenset[str]

    @property
    def local(self) -> str:
        """What follows the `+` of the version: `cpu`, `cu130`; empty without."""
        return self.version.partition("+")[2]


def parse_wheel(path: Path) -> Wheel | None:
    """Return what a file's name says, None where it is no wheel's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    tags = (frozenset(match[part].split(".")) for part in ("python", "abi", "platform"))
    return Wheel(path, normalised(match["name"]), match["version"].replace("_", "+", 1), *tags)


def is_shadow(path: Path) -> bool:
    """Return whether a file is what a Mac writes beside another one on a disk that is not its own: `._a.whl` for `a.whl`."""
    return path.name.startswith("._")


def wheel_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are called like wheels."""
    return sorted(path for path in folder.glob("*.whl") if not is_shadow(path))


def list_wheels(folder: Path) -> list[Wheel]:
    """Return the wheels of a folder by name."""
    return sorted(
        (wheel for path in wheel_files(folder) if (wheel := parse_wheel(path)) is not None),
        key=lambda wheel: (wheel.name, wheel.version),
    )


def normalised(name: str) -> str:
    """Return a project's name as indexes compare it: `Qwen_VL.Utils` is `qwen-vl-utils`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_metadata(wheel: Path) -> email.message.Message:
    """Return a wheel's METADATA. Raises ValueError where the file is damaged or no wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            return email.message_from_bytes(archive.read(name))
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise ValueError(f"{wheel.name} is damaged or no wheel") from error


def torch_cuda(wheel: Path) -> str:
    """Return the CUDA version that a torch wheel was built for, such as `13.0`; empty for a build without.

    The file's name does not tell it everywhere: one index calls its CUDA build plain `2.13.0`, another calls that its build
    for the processor. Raises ValueError where the file is damaged or not torch.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            match = _CUDA.search(archive.read("torch/version.py").decode("utf-8"))
    except (OSError, KeyError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{wheel.name} is damaged or not torch") from error
    if match is None:
        raise ValueError(f"{wheel.name} does not say what it was built for")
    return match[1] or ""


def flash_attention_misfit(
    wheel: Wheel, *, python: str, platforms: Collection[str], torch_version: str, cuda: str
) -> str:
    """Return why a prebuilt flash-attn wheel cannot be used beside a torch, empty where it can.

    Its own file name carries what its tags cannot: `flash_attn-2.8.3+cu13torch2.13cxx11abiTRUE-cp311-cp311-linux_x86_64`.
    `platforms` are the tags that the target takes.
    """
    tag = "cp" + python.replace(".", "")
    if tag not in wheel.python_tags:
        return f"it is for {', '.join(sorted(wheel.python_tags))}, and the kit for {tag}"
    if wheel.platform_tags.isdisjoint(platforms):
        return f"it is for {', '.join(sorted(wheel.platform_tags))}"
    built = re.match(r"cu(\d+).*?torch(\d+\.\d+)", wheel.local)
    if built is None:
        return "its name does not say which torch and CUDA it was built for"
    if torch_version.partition("+")[0].split(".")[:2] != built[2].split("."):
        return f"it was built for torch {built[2]}, and the kit has torch {torch_version}"
    if not cuda or not built[1].startswith(cuda.partition(".")[0]):
        return (
            f"it was built for CUDA {built[1]}, and the kit's torch for {'CUDA ' + cuda if cuda else 'the processor'}"
        )
    if "abiFALSE" in wheel.local:
        return "it was built for the old C++ interface, which this torch does not have"
    return ""
