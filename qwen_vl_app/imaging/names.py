"""Names of uploads, made fit to be shown and offered for download. Knows characters; does not know files."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 120
"""Characters; a file system takes 255 bytes, and a Chinese character is three of them in UTF-8."""
MAX_BYTES = 200
FALLBACK = "picture"
_FORBIDDEN = frozenset('<>:"/\\|?*')
"""What Windows does not take in a file's name."""
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control, format (bidirectional overrides among them), surrogate, private and unassigned characters."""
_DEVICES = frozenset(
    {
        "con",
        "prn",
        "aux",
        "nul",
        "conin$",
        "conout$",
        *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³"),
    }
)


def clean_name(name: str) -> str:
    """Return the last part of a path without anything that deceives or breaks, its ending kept; never empty."""
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join("_" if char in _FORBIDDEN else char for char in last if _is_visible(char))
    shown = " ".join(shown.split()).strip(". ")
    if not shown:
        return FALLBACK
    stem, dot, ending = shown.rpartition(".")
    if not dot or len(ending) > 10:
        stem, ending = shown, ""
    ending = f".{ending}" if ending else ""
    stem = _cut(stem, MAX_LENGTH - len(ending), MAX_BYTES - len(ending.encode())).rstrip(". ")
    first, dot, rest = stem.partition(".")
    if first.rstrip().casefold() in _DEVICES:  # Windows takes "nul.png" for the device, and "nul.1.png" as well
        stem = f"{first}_{dot}{rest}"
    return f"{stem or FALLBACK}{ending}"


def _is_visible(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) not in _INVISIBLE


def _cut(text: str, length: int, size_bytes: int) -> str:
    return text[:length].encode()[:size_bytes].decode("utf-8", "ignore")
