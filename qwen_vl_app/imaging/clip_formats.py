"""Which files are clips, by their first bytes, and what browsers call them. Knows signatures; decodes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from qwen_vl_app.imaging.formats import sniff

CLIP_EXTENSIONS = ("mp4", "m4v", "mov", "avi", "webm", "mkv")
"""What a door may offer to pick; the bytes decide."""
CLIP_MIMES: Mapping[str, str] = {
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
    "WEBM": "video/webm",
    "MKV": "video/x-matroska",
    "AVI": "video/x-msvideo",
}
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
"""QuickTime files from before there was a box that names the brand."""
_STILL_BRANDS = frozenset({b"crx "})
"""A camera's raw file, which is no picture that is read here either."""
_MATROSKA = b"\x1aE\xdf\xa3"
_HEADER_BYTES = 4096


def sniff_clip(data: bytes) -> str | None:
    """Return the format of a clip as people call it, or None for anything else, pictures among them."""
    if data[4:8] == b"ftyp":
        if sniff(data) is not None or data[8:12] in _STILL_BRANDS:  # pictures are kept in the same boxes
            return None
        return "MOV" if data[8:12] == b"qt  " else "MP4"
    if data[4:8] in _QUICKTIME_ATOMS:
        return "MOV"
    if data.startswith(_MATROSKA):
        return "WEBM" if b"webm" in data[:_HEADER_BYTES] else "MKV"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "AVI"
    return None
