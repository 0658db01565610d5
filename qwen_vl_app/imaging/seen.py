"""The seen picture: the pixels that the model gets, and their id. Reads only PNGs that this app made itself."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from qwen_vl_app.chat import Clip, ImageInput, Size
from qwen_vl_app.errors import UnreadableImageError
from qwen_vl_app.imaging.own_form import MOST_SEEN_PIXELS, check_pixels


def picture_id(image: Image.Image) -> str:
    """Return the SHA-256, in hex, over `b"WxH:"` and the RGB bytes of a picture, row by row."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return _id_of(rgb.width, rgb.height, rgb.tobytes())


def clip_id(strip: Image.Image, clip: Clip) -> str:
    """Return the SHA-256, in hex, over a clip's length and times and its frames, which stand one below the other."""
    return _id_of(strip.width, strip.height, strip.tobytes(), clip)


def to_image_input(seen_png: bytes, clip: Clip | None = None) -> ImageInput:
    """Return a seen picture as the model gets it; of a clip the frames, which stand in the PNG one below the other.

    For this app's own renditions alone: it decodes in this process. Raises UnreadableImageError where they are
    damaged, or larger than any of them.
    """
    try:
        with Image.open(io.BytesIO(seen_png), formats=("PNG",)) as image:
            check_pixels(image.width, image.height, most=MOST_SEEN_PIXELS)
            rgb = image.convert("RGB").tobytes()
            width, height = image.size
    except Exception as error:  # decoders raise nearly anything, and a damaged rendition is all of it
        raise UnreadableImageError("image.seen_damaged") from error
    if clip is not None and (not clip.moments or height % len(clip.moments)):
        raise UnreadableImageError("image.seen_damaged")
    frame = Size(width, height // len(clip.moments) if clip is not None else height)
    return ImageInput(picture_id=_id_of(width, height, rgb, clip), size=frame, rgb=rgb, clip=clip)


def _id_of(width: int, height: int, rgb: bytes, clip: Clip | None = None) -> str:
    digest = hashlib.sha256()
    if clip is not None:
        digest.update(f"clip {clip.seconds!r} {clip.moments!r} ".encode())
    digest.update(f"{width}x{height}:".encode())
    digest.update(rgb)
    return digest.hexdigest()
