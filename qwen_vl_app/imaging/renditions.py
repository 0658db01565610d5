"""What decoding a file yields: facts about it, or its renditions. Knows words only."""

from __future__ import annotations

from dataclasses import dataclass, field

from qwen_vl_app.chat import Size
from qwen_vl_app.errors import Reason


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a file is. `size` is the upright original's, in pixels; `page` counts from 0.

    A PDF page has no pixels of its own: its `size` is that of the page rendered at about 4 megapixels.
    """

    format: str
    size: Size
    page: int = 0
    page_count: int = 1
    notes: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class RenderedPicture:
    """A decoded file in the forms that the app keeps; see `PictureFacts` for `format`, `size` and pages.

    `view` is what a browser shows (`view_mime` is `image/jpeg` or `image/png`), `thumbnail` a JPEG, `seen_png` a lossless
    PNG of exactly the seen size. `picture_id` is the SHA-256 over `b"WxH:"` and the RGB bytes at the seen size.
    """

    format: str
    size: Size
    view: bytes = field(repr=False)
    view_mime: str
    thumbnail: bytes = field(repr=False)
    seen_png: bytes = field(repr=False)
    picture_id: str
    page: int = 0
    page_count: int = 1
    notes: tuple[Reason, ...] = ()
