"""Pictures in requests: data URIs and base64 to bytes, files of one allowed folder, and nothing from any address.

Knows spellings of addresses. Opens no socket: http, https, file servers and whatever else there is are refused by their
spelling alone. Does not decode pictures; the hub stages what it returns.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qwen_vl_app.chat import Detail
from qwen_vl_app.errors import UsageError

_DATA_URI = re.compile(r'data:(?:[^",]|"[^"]{0,1000}"){0,1000};base64,', re.IGNORECASE)
"""A parameter in quotation marks may hold a comma."""
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class SentPicture:
    """A picture or clip as a request names it: an address (a data URI, as a rule) or bare base64, and how finely to look."""

    source: str
    field: str
    is_base64: bool = False
    detail: Detail | None = None
    is_clip: bool = False
    """True where a clip is allowed in its place."""


def read_picture(picture: SentPicture, *, folder: Path | None, limit_bytes: int) -> bytes:
    """Return the bytes of a picture. `folder` is the only one whose files may be named. Raises UsageError."""
    source = picture.source.strip()
    if picture.is_base64 and not source.startswith("data:"):
        return _decoded(source, picture.field)
    scheme = source[:16].partition(":")[0].lower() if ":" in source[:16] else ""
    if scheme == "data":
        found = _DATA_URI.match(source)
        if found is None:
            raise UsageError("api.not_a_data_uri", field=picture.field)
        return _decoded(source[found.end() :], picture.field)
    if scheme == "file" and folder is not None:
        return _file(source, picture.field, folder=folder, limit_bytes=limit_bytes)
    raise UsageError("api.address_refused", field=picture.field)


def _decoded(data: str, field: str) -> bytes:
    """Return the bytes of base64 as programs write it: in lines, for addresses (`-`, `_`, `%2B`), without its padding."""
    if "%" in data:
        data = unquote(data)
    plain = "".join(data.split()).translate(_URL_SAFE)
    try:
        decoded = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError("api.not_base64", field=field) from error
    if plain and not decoded:
        raise UsageError("api.not_base64", field=field)
    return decoded  # nothing at all is an empty file, which is said by who looks at files


def _file(address: str, field: str, *, folder: Path, limit_bytes: int) -> bytes:
    """Read a file of the allowed folder. One sentence for every reason why not, so that nobody can ask what exists."""
    refused = UsageError("api.file_refused", field=field)
    try:
        parts = urlsplit(address)
        spelled = _path_of(parts.path)
        # A file server has its name in the authority, or as the first of two slashes or backslashes.
        if parts.netloc.lower() not in ("", "localhost") or spelled.replace("\\", "/").startswith("//"):
            raise refused
        allowed = folder.resolve(strict=True)
        asked = Path(os.path.normpath(spelled))
        if not (asked.is_relative_to(folder) or asked.is_relative_to(allowed)):
            raise refused  # before the file system is asked about it: a path outside may be a network drive
        path = Path(spelled).resolve(strict=True)
        if not path.is_relative_to(allowed) or not path.is_file():
            raise refused
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except (OSError, ValueError, RuntimeError) as error:
        raise refused from error
    if len(data) > limit_bytes:
        raise refused
    return data


def _path_of(spelled: str) -> str:
    """Return the path that a `file:` address means: `/C:/pictures` is a drive, not a folder named C."""
    path = unquote(spelled, errors="strict")
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path
