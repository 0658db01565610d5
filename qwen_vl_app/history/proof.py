"""Looking for words in every byte of a folder, so that a site can convince itself that what was erased is gone.

Knows files and ways to write words down, that of the search index among them. Does not know what the files are: it reads
databases, logs and pictures alike.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.search_index import cut_into_words

SHORTEST_MARKER = 6
"""Fewer characters are found by chance in the bytes of pictures."""
_PIECE_BYTES = 8 * 2**20


def find_traces(
    folder: Path, marker: str | bytes, *, on_unread: Callable[[Path], None] | None = None
) -> tuple[str, ...]:
    """Return the files of a folder, by their path within it, whose bytes or whose name hold the marker in any case.

    A text is looked for in UTF-8, UTF-16, as JSON writes it with escapes and as the search index cuts it, bytes as they
    are; not inside of what is compressed. A file or a folder that may not be read goes to `on_unread`. Raises
    HistoryError `history.marker_too_short`, or, without `on_unread`, what the disk complains about.
    """
    marker = marker.strip() if isinstance(marker, str) else marker
    if len(marker) < SHORTEST_MARKER:
        raise HistoryError("history.marker_too_short", least=SHORTEST_MARKER)
    needles = frozenset(_needles(marker) if isinstance(marker, str) else (_lowered(marker),))
    found = []

    def refused(error: OSError, path: Path) -> None:
        if isinstance(error, FileNotFoundError):  # gone while this looked
            return
        if on_unread is None:
            raise error
        on_unread(path)

    with translated():
        for file in _files(folder, refused):
            inside = file.relative_to(folder).as_posix()
            try:
                if (isinstance(marker, str) and marker.lower() in inside.lower()) or _holds(file, needles):
                    found.append(inside)
            except OSError as error:
                refused(error, file)
    return tuple(found)


def _files(folder: Path, refused: Callable[[OSError, Path], None]) -> list[Path]:
    """Return every file below a folder, in order; what may not be looked into is told of."""
    files = []

    def closed(error: OSError) -> None:
        refused(error, Path(error.filename))

    for place, _, names in os.walk(folder, onerror=closed):
        for path in (Path(place, name) for name in names):
            try:
                if path.is_file():
                    files.append(path)
            except OSError as error:
                refused(error, path)
    return sorted(files)


def _needles(marker: str) -> Iterator[bytes]:
    cases = (marker, marker.lower(), marker.upper())
    for form in {unicodedata.normalize(kind, case) for case in cases for kind in ("NFC", "NFD")}:
        yield _lowered(form.encode("utf-8", "surrogatepass"))
        yield _lowered(cut_into_words(form).encode("utf-8", "surrogatepass"))
        yield _lowered(form.encode("utf-16-le", "surrogatepass"))
        yield _lowered(form.encode("utf-16-be", "surrogatepass"))
        yield _lowered(form.encode("ascii", "backslashreplace"))


def _holds(file: Path, needles: frozenset[bytes]) -> bool:
    overlap = max(map(len, needles)) - 1
    with file.open("rb") as stream:
        before = b""
        while piece := stream.read(_PIECE_BYTES):
            window = _lowered(before + piece)
            if any(needle in window for needle in needles):
                return True
            before = window[-overlap:] if overlap else b""
    return False


def _lowered(content: bytes) -> bytes:
    # Only of ASCII; other letters are looked for in small, in capitals and as they were given.
    return content.lower()
