"""Whether stretches of a JPEG's data are missing between its restart markers. Knows JPEG markers; decodes nothing.

libjpeg leaves a grey or shifted strip there and goes on at the next marker without an error. How many markers there must
be follows from the header. Progressive and non-interleaved files are not judged, nor is damage that keeps the markers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLOCK = 8
"""Pixels along one side of a JPEG block."""
_SEQUENTIAL = (0xC0, 0xC1)
_RESTART_INTERVAL = 0xDD
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_END_OF_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True, slots=True)
class _Header:
    """What a sequential JPEG says of its units; `components` in the picture."""

    components: int
    units: int


def has_gaps(data: bytes) -> bool:
    """Return whether a JPEG with restart markers has fewer of them than its size needs; False where that is not sure."""
    at, interval = 2, 0
    header: _Header | None = None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == _END_OF_IMAGE:
            return False
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker in _SEQUENTIAL:
            header = _read_header(body)
        elif marker == _RESTART_INTERVAL and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
        elif marker == _START_OF_SCAN:
            is_judged = header is not None and interval and body and body[0] == header.components
            return bool(is_judged and header and _count(data, at) < -(-header.units // interval) - 1)
    return False


def _count(data: bytes, at: int) -> int:
    found = _END_OF_SCAN.search(data, at)
    return sum(1 for _ in _RESTART.finditer(data, at, found.start() if found else len(data)))


def _read_header(body: bytes) -> _Header | None:
    """Return the units of a frame header: blocks of one component, or groups of them by the sampling factors."""
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        return None
    height, width, components = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5]
    factors = [body[7 + 3 * at] for at in range(components)]
    across, down = max((f >> 4 for f in factors), default=0), max((f & 15 for f in factors), default=0)
    if not (height and width and across and down):
        return None
    if components == 1:
        across = down = 1
    return _Header(components, -(-width // (_BLOCK * across)) * -(-height // (_BLOCK * down)))
