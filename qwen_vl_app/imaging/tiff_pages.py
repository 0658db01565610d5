"""TIFF files of several pages, of which one that cannot be read takes none of the others with it.

Knows that Pillow reads a page's header whole on the way to the next one, and goes no further where it does not understand it.
Does not know which page is wanted.
"""

from __future__ import annotations

import io

from qwen_vl_app.imaging.tiff_planes import PlanarTiff

_WIDTH, _LENGTH = 256, 257


class PagedTiff(PlanarTiff):
    """A TIFF that can be turned past pages which cannot be read. What is wrong with the present one is in `trouble`."""

    trouble: Exception | None = None

    def _setup(self) -> None:
        self.trouble = None
        self.info.pop("icc_profile", None)  # another page's, which Pillow leaves there
        try:
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
