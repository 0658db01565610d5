"""A decoder without a process of its own, for pages that are tested without a browser.

It knows pictures that Pillow reads, "documents" that say how many pages they have, and refuses everything else.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from PIL import Image, UnidentifiedImageError

from qwen_vl_app.chat import Size
from qwen_vl_app.errors import Reason, UnreadableImageError

if TYPE_CHECKING:
    from qwen_vl_app.imaging import PictureDecoder


@dataclass(frozen=True)
class FakeRendered:
    """What the real decoder returns of a file."""

    picture_id: str
    format: str
    size: Size
    view: bytes
    view_mime: str
    thumbnail: bytes
    seen_png: bytes
    page: int
    page_count: int
    notes: tuple[Reason, ...] = ()


class FakeDecoder:
    """Decodes in this process; `document(pages)` makes a file of several pages."""

    def start(self) -> None:
        """Begin nothing."""

    def close(self) -> None:
        """End nothing."""

    def count_pages(self, data: bytes) -> int:
        """Return the pages of a document."""
        return int(data.split()[1]) if data.startswith(b"document ") else 1

    def render(self, data: bytes, *, name: str, page: int = 0, fit: Callable[[Size], Size]) -> FakeRendered:
        """Return the renditions of a picture or of one page of a document."""
        pages = 1
        if data.startswith(b"document "):
            pages = self.count_pages(data)
            if page < int(data.split()[2]):
                raise UnreadableImageError("image.unreadable", format="PDF")
            data = png(width=60 + page, height=80)
        try:
            image = Image.open(io.BytesIO(data)).convert("RGB")
        except UnidentifiedImageError as error:
            raise UnreadableImageError("title.empty") from error
        size = Size(*image.size)
        seen = fit(size)
        return FakeRendered(
            picture_id=hashlib.sha256(image.tobytes()).hexdigest(),
            format="PNG" if pages == 1 else "PDF",
            size=size,
            view=data,
            view_mime="image/png",
            thumbnail=_encoded(image.resize((16, 16)), "JPEG"),
            seen_png=_encoded(image.resize((seen.width, seen.height)), "PNG"),
            page=page,
            page_count=pages,
        )


def fake_decoder() -> PictureDecoder:
    """Return a fake as the real one's type: it speaks what the assistant needs of it."""
    return cast("PictureDecoder", FakeDecoder())


def png(*, width: int = 120, height: int = 60, colour: str = "#336699") -> bytes:
    """Return a picture of one colour."""
    return _encoded(Image.new("RGB", (width, height), colour), "PNG")


def document(pages: int, *, bad: int = 0) -> bytes:
    """Return a file that the fake decoder takes for a document, of whose pages the first `bad` cannot be read."""
    return f"document {pages} {bad}".encode()


def _encoded(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()
