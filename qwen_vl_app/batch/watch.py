"""Which new files of a watched folder are complete: those that look the same twice.

Knows sizes and times of two looks, which works on network shares as well, where no system tells of changes. Does not
know how often somebody looks.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwen_vl_app.batch.source import FoundFile


class Watch:
    """Remembers the last look. An empty file is never complete: copying begins with one."""

    def __init__(self) -> None:
        self._before: dict[str, FoundFile] = {}

    def settled(self, files: Sequence[FoundFile]) -> list[FoundFile]:
        """Return those whose size and time are what they were at the last look."""
        same = [file for file in files if file.size_bytes and self._before.get(file.name) == file]
        self._before = {file.name: file for file in files}
        return same
