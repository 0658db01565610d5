"""TIFF files that keep every colour in a plane of its own, of which Pillow reads some wrong.

Knows that Pillow takes the first letter of a layout's name for the layout of a plane: of 16 bits it then reads 8, and a
single plane of greys comes out turned round or not at all. And that it knows no place for planes that are not shown, nor
for the alpha of greys that were unpacked, which it leaves empty. Does not know what the colours mean.
"""

from __future__ import annotations

from PIL import TiffImagePlugin

_BITS = 258
_SAMPLES = 277
_PLANES = 284
_EXTRA = 338
_OFFSETS = (273, 324)
"""Where the strips of a picture begin, or its tiles: plane by plane, where they are apart."""
_NOT_SHOWN = "X"
_TOGETHER, _APART = 1, 2


class PlanarTiff(TiffImagePlugin.TiffImageFile):
    """A TIFF whose planes are read by the bits that they have."""

    def _setup(self) -> None:
        if self.tag_v2.get(_SAMPLES, 1) == 1:  # one plane alone is the picture, whatever the file says of planes
            self.tag_v2[_PLANES] = _TOGETHER
        if self.tag_v2.get(_PLANES, _TOGETHER) == _APART:
            self._leave_out_planes_without_meaning()
        super()._setup()
        if self.tag_v2.get(_PLANES, _TOGETHER) == _APART:
            if self.mode == "LA" and any(tile.codec_name == "libtiff" for tile in self.tile):
                raise SyntaxError("unsupported planes of grey and alpha")
            self.tile = [tile for tile in self.tile if tile.args[0] != _NOT_SHOWN]  # type: ignore[index]
        if self.tag_v2.get(_PLANES, _TOGETHER) != _APART or set(self.tag_v2.get(_BITS, ())) != {16}:
            return
        order = "L" if self.tag_v2.prefix == b"II" else "B"
        for at, tile in enumerate(self.tile):
            if tile.codec_name == "raw" and isinstance(tile.args, tuple):
                self.tile[at] = tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))

    def _leave_out_planes_without_meaning(self) -> None:
        """Forget where the last planes lie, of which the file does not say what they are: Pillow has dropped their names only."""
        extra = self.tag_v2.get(_EXTRA, ())
        samples = self.tag_v2.get(_SAMPLES, 1)
        if not extra or max(extra) > 0 or len(extra) >= samples:
            return
        for tag in _OFFSETS:
            if tag in self.tag_v2:
                offsets = self.tag_v2[tag]
                self.tag_v2[tag] = offsets[: len(offsets) * (samples - len(extra)) // samples]
