"""Whether a JPEG's data ended before its picture did. Knows JPEG markers; decodes through Pillow.

Pillow notices a file that just stops. One that was cut and closed again decodes without a word, and libjpeg leaves what
is missing in plain middle grey. Of a file without the sign at its end, which some cameras leave out, nothing may be missing.
"""

from __future__ import annotations

import io
import random
import re

from PIL import Image, ImageChops, JpegImagePlugin

_MIDDLE_GREY = 128
_CORNER = 8
"""Pixels along one side of a JPEG block."""
_END_OF_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_SEQUENTIAL = (0xC0, 0xC1)
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_MOST_PIXELS = 25_000_000
_CLOSING = b"\xff\xd9"
_FILLER = bytes(random.Random(1).choices(range(1, 255), k=512))  # noqa: S311 - any bits that are no marker will do
_FILLERS = (_FILLER, bytes(255 - byte for byte in _FILLER))
"""Two that have no bit in common: one alone may by chance say the very thing that libjpeg makes up."""
_LEAST_HOLE = 64
"""Zeros at the end of a file: so many are no data of a picture, but room that was set aside for it and never written."""


def ends_too_early(image: Image.Image, data: bytes) -> bool:
    """Return whether part of a loaded JPEG is missing; asked before it is turned or recoloured.

    Only a picture whose last corner is exactly middle grey is suspected. It is decoded once more with other bits behind
    its data: where the data was complete nobody reads them; where not, they show.
    """
    if image.mode not in ("L", "RGB") or not _has_grey_corner(image):
        return False
    end = _end_of_data(data)
    if end is None:
        return False
    return _shows_filler(image, data[:end]) is True


def closed(data: bytes) -> bytes:
    """Return a JPEG that stops in its data with the sign of its end, where that alone is missing; else as it stops.

    Very large ones are not looked at: it takes two whole pictures.
    """
    whole = _written(data).rstrip(b"\xff")  # the first half of the sign
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(whole + _CLOSING)) as image:
            if image.width * image.height > _MOST_PIXELS:
                return whole
            image.load()
            return whole + _CLOSING if _shows_filler(image, whole) is False else whole
    except (OSError, ValueError, SyntaxError):  # it is told as what it is by who opens it next
        return data


def _written(data: bytes) -> bytes:
    """Return a file without the zeros that a copy which broke off leaves at its end: libjpeg would read a picture from them."""
    written = data.rstrip(b"\0")
    if len(data) - len(written) < _LEAST_HOLE:
        return data
    return written + b"\0" if written.endswith(b"\xff") else written  # the two together are one byte of data


def _shows_filler(image: Image.Image, data: bytes) -> bool | None:
    """Return whether other bits behind the data change the decoded picture; None where that cannot be told."""
    found: bool | None = False
    for filler in _FILLERS:
        try:
            with JpegImagePlugin.JpegImageFile(io.BytesIO(data + filler + _CLOSING)) as again:
                if again.size != image.size:
                    again.draft(None, image.size)
                again.load()
                if (again.size, again.mode) != (image.size, image.mode):
                    return None
                if ImageChops.difference(image.convert(again.mode), again).getbbox() is not None:
                    return True
        except (OSError, ValueError, SyntaxError):  # then the suspicion stands unproven
            found = None
    return found


def stops_in_its_data(data: bytes) -> bool:
    """Return whether a JPEG has no sign of its end; False for one in several passes, of which the last may be missing."""
    if data.endswith(_CLOSING):
        return False
    at, components = 2, 0
    while at + 4 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _SEQUENTIAL:
            components = data[at + 9] if at + 9 < len(data) else 0
        if marker == _START_OF_SCAN:
            return (
                bool(components) and data[at + 4] == components and _END_OF_SCAN.search(data, at + 2 + length) is None
            )
        at += 2 + length
    return False


def _has_grey_corner(image: Image.Image) -> bool:
    width, height = image.size
    corner = image.crop((max(0, width - _CORNER), max(0, height - _CORNER), width, height))
    grey = (_MIDDLE_GREY, _MIDDLE_GREY)
    return corner.getextrema() in (grey, (grey, grey, grey))


def _end_of_data(data: bytes) -> int | None:
    """Return where the last scan's data ends, or None where the markers cannot be followed."""
    at, end = 2, None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return end
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == _END_OF_IMAGE:
            return end
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            found = _END_OF_SCAN.search(data, at)
            end = found.start() if found else len(data)
            at = end
    return end
