"""A view turned or cut, as the upload of a new picture. Reads only views that this app made itself."""

from __future__ import annotations

from PIL import Image

from qwen_vl_app.chat import Box
from qwen_vl_app.imaging.drawing import crop_region, encode_view, open_view

_TURNS = {1: Image.Transpose.ROTATE_270, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_90}
"""Quarter turns clockwise; Pillow counts the other way."""


def edit_view(view: bytes, *, quarter_turns: int = 0, crop: Box | None = None) -> bytes:
    """Return a view turned clockwise by quarters, then cut to a box of the turned picture; in the view's format.

    Raises UnreadableImageError where the view itself is damaged.
    """
    turn = _TURNS.get(quarter_turns % 4)
    if turn is not None:
        image, source = open_view(view)
        view = encode_view(image.transpose(turn), source)
    return view if crop is None else crop_region(view, crop, margin=0.0)
