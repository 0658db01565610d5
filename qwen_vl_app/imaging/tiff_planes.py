"""TIFF files that keep every colour in a plane of its own, of which Pillow reads some wrong.

Knows that Pillow takes the first letter of a layout's name for the layout of a plane: of 16 bits it then reads 8, and a
single plane of greys comes out turned round or not at all. Does not know what the colours mean.
"""

from __future__ import annotations

from PIL import TiffImagePlugin

_BITS = 258
_SAMPLES = 277
_PLANES = 284
_TOGETHER, _APART = 1, 2


class PlanarTiff(TiffImagePlugin.TiffImageFile):
    """A TIFF whose planes are read by the bits that they have."""

    def _setup(self) -> None:
        if self.tag_v2.get(_SAMPLES, 1) == 1:  # one plane alone is the picture, whatever the file says of planes
            self.tag_v2[_PLANES] = _TOGETHER
        super()._setup()
        if self.tag_v2.get(_PLANES, _TOGETHER) != _APART or set(self.tag_v2.get(_BITS, ())) != {16}:
            return
        order = "L" if self.tag_v2.prefix == b"II" else "B"
        for at, tile in enumerate(self.tile):
            if tile.codec_name == "raw" and isinstance(tile.args, tuple):
                self.tile[at] = tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
