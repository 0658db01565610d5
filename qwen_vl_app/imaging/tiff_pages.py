"""TIFF files of several pages, of which one that cannot be read takes none of the others with it.

Knows that Pillow reads a page's header whole on the way to the next one, and goes no further where it does not understand it;
and where the pieces of a page lie. Does not know which page is wanted.
"""

from __future__ import annotations

import io
from typing import Literal

from PIL import TiffImagePlugin

from qwen_vl_app.imaging.tiff_planes import PlanarTiff

_WIDTH, _LENGTH, _COMPRESSION = 256, 257, 259
_PIECES = ((273, 279), (324, 325))
"""Where strips begin and how long they are, and so of tiles."""
_ENTRY = {b"*": (4, 2, 12), b"+": (8, 8, 20)}
"""By the sign of the kind: bytes of a place in the file, of the number of entries in a directory, and of an entry."""


class PagedTiff(PlanarTiff):
    """A TIFF that can be turned past pages which cannot be read. What is wrong with the present one is in `trouble`."""

    trouble: Exception | None = None

    def _setup(self) -> None:
        self.trouble = None
        self.info.pop("icc_profile", None)  # another page's, which Pillow leaves there
        try:
            if self.tag_v2.get(_COMPRESSION, 1) not in TiffImagePlugin.COMPRESSION_INFO:
                raise SyntaxError("unsupported compression")
            super()._setup()
            if min(self.size) <= 0:
                raise SyntaxError("a page without an area")
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - decoders raise nearly anything over broken bytes
            self.trouble = error
            self._mode, self._size, self.tile = "L", (1, 1), []  # Pillow turns to no page from one that is nothing

    @property
    def is_page(self) -> bool:
        """Whether there is a picture here, be it of a kind that cannot be read; else bytes that only lie in a page's place."""
        return self.trouble is None or (_WIDTH in self.tag_v2 and _LENGTH in self.tag_v2)


def count_pages(data: bytes, *, most: int) -> int:
    """Return the pages up to the last that there is, from 1 to `most`.

    By a reading of its own: one that broken bytes have stopped stays between two pages.
    """
    count = 0
    try:
        with PagedTiff(io.BytesIO(data)) as image:
            for page in range(most):
                image.seek(page)
                if image.is_page:
                    count = page + 1
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001, S110 - decoders raise nearly anything over broken bytes, and EOFError after the last page
        pass
    return max(count, 1)


def is_cut(data: bytes, page: int) -> bool:
    """Return whether a TIFF that cannot be read names places behind its end: of its first directory, or of this page's pieces."""
    place, number, entry = _ENTRY[b"+" if b"+" in data[2:4] else b"*"]
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    first = int.from_bytes(data[place : 2 * place], order)
    entries = int.from_bytes(data[first : first + number], order)
    if first + number + entry * entries + place > len(data):
        return True
    try:
        with PagedTiff(io.BytesIO(data)) as image:
            image.seek(page)
            pieces = [(image.tag_v2.get(starts, ()), image.tag_v2.get(lengths, ())) for starts, lengths in _PIECES]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - decoders raise nearly anything over broken bytes
        return False
    return any(start + length > len(data) for each in pieces for start, length in zip(*each, strict=False))
