"""Bytes of any upload to an upright RGB picture within limits, its renditions, and boxes drawn on it.

Knows Pillow, HEIF, PDF pages and clips, and that decoders fail in every way there is. Does not know models (who tells it by a
function how large a picture is seen), the database or the page. Strangers' bytes are decoded only in a child process.
"""

from qwen_vl_app.imaging.clip_decoder import ClipDecoder
from qwen_vl_app.imaging.clip_formats import CLIP_EXTENSIONS, CLIP_MIMES, sniff_clip
from qwen_vl_app.imaging.clips import (
    MOST_FRAME_PIXELS,
    SHEET_COLUMNS,
    ClipFacts,
    FrameChoice,
    RenderedClip,
    sheet_frame,
)
from qwen_vl_app.imaging.confinement import Confinement
from qwen_vl_app.imaging.decoder import PictureDecoder
from qwen_vl_app.imaging.drawing import COLOURS, blank_outside, crop_region, draw_regions, size_of
from qwen_vl_app.imaging.editing import edit_view
from qwen_vl_app.imaging.encoding import view_size
from qwen_vl_app.imaging.fonts import can_write_chinese
from qwen_vl_app.imaging.formats import ACCEPTED_EXTENSIONS
from qwen_vl_app.imaging.known_scenes import KnownScene, known_scenes
from qwen_vl_app.imaging.names import clean_name
from qwen_vl_app.imaging.own_form import check_own_form
from qwen_vl_app.imaging.renditions import PictureFacts, RenderedPicture
from qwen_vl_app.imaging.seen import picture_id, to_image_input

__all__ = [
    "ACCEPTED_EXTENSIONS",
    "CLIP_EXTENSIONS",
    "CLIP_MIMES",
    "COLOURS",
    "MOST_FRAME_PIXELS",
    "SHEET_COLUMNS",
    "ClipDecoder",
    "ClipFacts",
    "Confinement",
    "FrameChoice",
    "KnownScene",
    "PictureDecoder",
    "PictureFacts",
    "RenderedClip",
    "RenderedPicture",
    "blank_outside",
    "can_write_chinese",
    "check_own_form",
    "clean_name",
    "crop_region",
    "draw_regions",
    "edit_view",
    "known_scenes",
    "picture_id",
    "sheet_frame",
    "size_of",
    "sniff_clip",
    "to_image_input",
    "view_size",
]
