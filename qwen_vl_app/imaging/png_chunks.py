"""The pieces of a PNG beside its pixels, and which of them are damaged. Knows chunks and their checksums; decodes nothing.

Pillow refuses a whole file over a wrong checksum in its comments. Viewers go on without what the picture can do without,
which the format marks (ancillary chunks); what it needs stays as it is, and Pillow checks that.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from PIL import PngImagePlugin

from qwen_vl_app.errors import Reason

_SIGNATURE = 8
_AROUND = 12
"""Bytes of a chunk that are not its own: length, name and checksum."""
_MOST = 100_000
"""A file of more is made to take time; it is left as it is."""
_AT_ONCE = 2**20
"""Bytes of unpacked pixels that are held while their checksum is made."""
_HEAD, _PIXELS, _END = b"IHDR", b"IDAT", b"IEND"
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_ABOUT_COLOURS = frozenset({b"tRNS", b"iCCP"})
_ABOUT_CAMERA = frozenset({b"eXIf"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PILLOWS_OWN = frozenset((
    b"aspect", b"background", b"bbox", b"blend", b"chromaticity", b"default_image", b"disposal", b"dpi", b"duration", b"exif", b"gamma",
    b"icc_profile", b"interlace", b"loop", b"srgb", b"timestamp", b"transparency",
))  # fmt: skip
"""Names under which Pillow keeps what it found out: a text that is called so would take its place."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Where one lies in the file: from its length to behind its checksum."""

    kind: bytes
    start: int
    end: int

    @property
    def is_ancillary(self) -> bool:
        """Whether the format says that a picture can be shown without it."""
        return bool(self.kind[0] & 0x20)


@dataclass(frozen=True, slots=True)
class SoundPng:
    """A PNG without the pieces that were damaged and can be missed; `notes` say what that may change."""

    data: bytes
    notes: tuple[Reason, ...] = ()


def without_damaged_parts(data: bytes) -> SoundPng:
    """Return a PNG without its ancillary chunks that are damaged, as it is where there is none. Raises MemoryError."""
    chunks = list(islice(_chunks(data), _MOST + 1))
    if len(chunks) > _MOST:
        return SoundPng(data)
    damaged = {
        chunk
        for chunk in chunks
        if chunk.is_ancillary and (not _has_its_checksum(data, chunk) or _is_text_in_the_way(data, chunk))
    }
    damaged |= _unreadable(data, [chunk for chunk in chunks if chunk not in damaged])
    if not damaged:
        return SoundPng(data)
    kinds = {chunk.kind for chunk in damaged}
    if kinds & _ANIMATION:  # its pieces are numbered, and none is of use without the others
        damaged |= {chunk for chunk in chunks if chunk.kind in _ANIMATION}
    kept: list[bytes] = []
    at = 0
    for chunk in sorted(damaged, key=lambda each: each.start):
        kept.append(data[at : chunk.start])
        at = chunk.end
    notes = []
    if kinds & _ABOUT_COLOURS:
        notes.append(Reason("image.colours_broken"))
    if kinds & _ABOUT_CAMERA:
        notes.append(Reason("image.exif_broken"))
    return SoundPng(b"".join((*kept, data[at:])), tuple(notes))


def pixels_are_as_written(data: bytes) -> bool:
    """Return whether the packed pixels of a PNG are what was written, by their checksums; those of its pieces may be wrong alone.

    Pillow asks neither kind, and makes a picture of whatever comes out. Raises MemoryError.
    """
    chunks = [chunk for chunk in islice(_chunks(data), _MOST) if chunk.kind == _PIXELS]
    if all(_has_its_checksum(data, chunk) for chunk in chunks):
        return True
    unpacking = zlib.decompressobj()
    try:
        for chunk in chunks:
            left = data[chunk.start + 8 : chunk.end - 4]
            while left:
                unpacking.decompress(left, _AT_ONCE)
                left = unpacking.unconsumed_tail
    except zlib.error:
        return False
    return unpacking.eof


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield the chunks that are all there, up to the end of the picture."""
    at = _SIGNATURE
    while at + _AROUND <= len(data):
        end = at + _AROUND + int.from_bytes(data[at : at + 4])
        kind = data[at + 4 : at + 8]
        if end > len(data) or not kind.isalpha():
            return
        yield _Chunk(kind, at, end)
        if kind == _END:
            return
        at = end


def _has_its_checksum(data: bytes, chunk: _Chunk) -> bool:
    told = int.from_bytes(data[chunk.end - 4 : chunk.end])
    return zlib.crc32(memoryview(data)[chunk.start + 4 : chunk.end - 4]) == told


def _is_text_in_the_way(data: bytes, chunk: _Chunk) -> bool:
    return chunk.kind in _TEXTS and data[chunk.start + 8 : chunk.end - 4].partition(b"\0")[0] in _PILLOWS_OWN


def _unreadable(data: bytes, chunks: list[_Chunk]) -> set[_Chunk]:
    """Return the ancillary chunks that are what was written, and that Pillow cannot take: too short, or packed unknown."""
    source = io.BytesIO(data)
    stream = PngImagePlugin.PngStream(source)
    found: set[_Chunk] = set()
    for chunk in chunks:
        if chunk.kind == _PIXELS or chunk.kind in _ANIMATION or not (chunk.is_ancillary or chunk.kind == _HEAD):
            continue
        body = chunk.start + 8
        source.seek(body)
        try:
            stream.call(chunk.kind, body, chunk.end - 4 - body)
        except AttributeError:  # a kind that Pillow does not know, and skips
            continue
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - readers raise nearly anything over broken bytes
            if not chunk.is_ancillary:  # the header itself: its refusal is Pillow's to speak
                return found
            found.add(chunk)
    return found
