"""Looking for a marker in every byte of a folder."""

from __future__ import annotations

from pathlib import Path


def traces(folder: Path, marker: str) -> set[str]:
    """Names of the files in the folder that hold the marker in any case, in UTF-8 or UTF-16, or in their own names."""
    needles = [marker.lower().encode(), marker.lower().encode("utf-16-le")]
    return {
        file.name
        for file in folder.rglob("*")
        if marker.lower() in file.name.lower()
        or (file.is_file() and any(needle in file.read_bytes().lower() for needle in needles))
    }
