"""One page of a PDF as a picture of a target size. Knows PDFium, which is not thread-safe: for the decoder child alone."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import pypdfium2
from PIL import Image

from qwen_vl_app.errors import UnreadableImageError
from qwen_vl_app.imaging.limits import check_shape

TARGET_PIXELS = 4_000_000
"""A page has no pixels of its own; 4 megapixels show print of an A4 page at 200 dots an inch."""
_LAST_WORD = b"%%EOF"
_NO_PDF = b"%PDF-"
_ERROR_PASSWORD = 4
"""FPDF_ERR_PASSWORD."""
_ERROR_SECURITY = 5
"""FPDF_ERR_SECURITY: an unknown way of protecting."""


@dataclass(frozen=True, slots=True)
class PdfPage:
    """A rendered page and how many there are."""

    image: Image.Image
    page_count: int


def render_page(data: bytes, page: int, *, max_pixels: int) -> PdfPage:
    """Return page `page`, counted from 0, at about `TARGET_PIXELS` whatever its size on paper is.

    Raises UnreadableImageError, ImageShapeError.
    """
    document = _open(data)
    try:
        page_count = len(document)
        if not page_count:
            raise UnreadableImageError("image.unreadable", format="PDF")
        if not 0 <= page < page_count:
            raise UnreadableImageError("image.pdf_page_missing", page=page + 1, count=page_count)
        with contextlib.suppress(pypdfium2.PdfiumError):  # filled-in fields are not shown then; the page is
            document.init_forms()
        try:
            return PdfPage(_render(document, page, min(TARGET_PIXELS, max_pixels)), page_count)
        except pypdfium2.PdfiumError as error:
            raise UnreadableImageError("image.unreadable", format="PDF") from error
    finally:
        document.close()


def page_count_of(data: bytes) -> int:
    """Return how many pages a PDF has, 1 where it cannot be opened."""
    try:
        document = _open(data)
    except UnreadableImageError:
        return 1
    try:
        return max(1, len(document))
    finally:
        document.close()


def _open(data: bytes) -> Any:
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if _is_locked(data, error):
            raise UnreadableImageError("image.pdf_password") from error
        is_cut = _LAST_WORD not in data[-1024:]  # half a download, as a rule
        raise UnreadableImageError("image.truncated" if is_cut else "image.unreadable", format="PDF") from error


def _is_locked(data: bytes, error: pypdfium2.PdfiumError) -> bool:
    """Return whether it was this file that wanted a password.

    PDFium tells no error of its own for a file without pages, and its last word may then be about the locked file before
    it. So it is made to say something else, and asked again.
    """
    if not _wants_password(error):
        return False
    for attempt in (_NO_PDF, data):
        try:
            pypdfium2.PdfDocument(attempt).close()
        except pypdfium2.PdfiumError as again:
            error = again
        else:
            return False
    return _wants_password(error)


def _wants_password(error: pypdfium2.PdfiumError) -> bool:
    return getattr(error, "err_code", None) in (_ERROR_PASSWORD, _ERROR_SECURITY)


def _render(document: Any, page: int, pixels: int) -> Image.Image:
    opened = document[page]
    width, height = opened.get_size()
    if not (width and height):  # its cut lies beside its paper: viewers show the paper
        opened.set_cropbox(*opened.get_mediabox())
        opened = document[page]
        width, height = opened.get_size()
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise UnreadableImageError("image.unreadable", format="PDF")
    check_shape(width, height)
    bitmap = opened.render(scale=math.sqrt(pixels / (width * height)), rev_byteorder=True, prefer_bgrx=False)
    image: Image.Image = bitmap.to_pil()
    return image.convert("RGB") if image.mode != "RGB" else image.copy()
