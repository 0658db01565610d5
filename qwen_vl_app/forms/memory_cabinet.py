"""A cabinet without a disk, for sites that keep nothing: it ends with the process. Knows what `Cabinet` promises."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.cabinet import Cabinet


class MemoryCabinet(Cabinet):
    """Drawers in memory."""

    def __init__(self) -> None:
        super().__init__(Path())
        self._drawers: dict[str, dict[str, bytes]] = {}
        self._memory_lock = threading.RLock()

    def drawers(self) -> tuple[str, ...]:
        """Return the names of the drawers there are, in order."""
        with self._memory_lock:
            return tuple(sorted(self._drawers))

    def add(self, drawer: str, files: Mapping[str, bytes]) -> None:
        """Put a new drawer there."""
        with self._memory_lock:
            self._drawers[drawer] = dict(files)

    def put(self, drawer: str, name: str, data: bytes) -> None:
        """Put one file of a drawer."""
        with self._memory_lock:
            self._drawers.setdefault(drawer, {})[name] = data

    def get(self, drawer: str, name: str) -> bytes | None:
        """Return one file."""
        with self._memory_lock:
            return self._drawers.get(drawer, {}).get(name)

    def names(self, drawer: str) -> tuple[str, ...]:
        """Return the names of a drawer's files."""
        with self._memory_lock:
            return tuple(sorted(self._drawers.get(drawer, {})))

    def append(self, drawer: str, name: str, record: Mapping[str, Any]) -> None:
        """Add one line. Raises FormError `forms.unknown`."""
        with self._memory_lock:
            if drawer not in self._drawers:
                raise FormError("forms.unknown", form=drawer)
            files = self._drawers[drawer]
            files[name] = files.get(name, b"") + json.dumps(record).encode("ascii") + b"\n"

    def lines(self, drawer: str, name: str) -> Iterator[dict[str, Any]]:
        """Yield the lines of a file."""
        for line in (self.get(drawer, name) or b"").splitlines():
            yield json.loads(line)

    def remove(self, drawer: str) -> bool:
        """Remove a drawer."""
        with self._memory_lock:
            return self._drawers.pop(drawer, None) is not None

    def has(self, drawer: str) -> bool:
        """True where there is such a drawer."""
        with self._memory_lock:
            return drawer in self._drawers

    def sweep(self) -> bool:
        """Do nothing: nothing is ever half removed."""
        return True
