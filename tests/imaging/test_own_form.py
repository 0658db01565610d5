"""What comes from elsewhere as a view, a thumbnail or a seen picture has the form in which the app makes them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from qwen_vl_app.chat import Box, Clip, Rendition, Size
from qwen_vl_app.errors import UnreadableImageError
from qwen_vl_app.imaging import (
    PictureDecoder,
    check_own_form,
    crop_region,
    draw_regions,
    own_form,
    report,
    size_of,
    to_image_input,
)

from .conftest import encode, same

SMALL = Size(64, 48)


def hollow_png(width: int, height: int) -> bytes:
    """A PNG of that size in black and white: next to no bytes, and as many pixels as one likes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def scanned_twice(jpeg: bytes) -> bytes:
    """A JPEG whose scan stands in it once more."""
    at = jpeg.index(b"\xff\xda")
    return jpeg[:-2] + jpeg[at:]


def refused(data: bytes, rendition: Rendition, mime: str, seen: Size = SMALL) -> bool:
    """Whether a rendition is refused, with the sentence for one that is damaged."""
    try:
        check_own_form(data, rendition, mime=mime, seen=seen)
    except UnreadableImageError as error:
        assert error.code == "image.seen_damaged"
        return True
    return False


def plain(mode: str = "RGB") -> Image.Image:
    return Image.radial_gradient("L").resize((SMALL.width, SMALL.height)).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_what_the_app_makes_is_of_its_form(decoder: PictureDecoder, kind: str) -> None:
    """Views of drawings and of photos, thumbnails and seen pictures; an upload may be anything."""
    options = {"icc_profile": b"no profile", "dpi": (72, 72)} if kind != "WEBP" else {}
    made = decoder.render(encode(plain(), kind, **options), fit=same)
    assert not refused(made.view, Rendition.VIEW, made.view_mime)
    assert not refused(made.thumbnail, Rendition.THUMBNAIL, "image/jpeg")
    assert not refused(made.seen_png, Rendition.SEEN, "image/png")
    assert not refused(b"anything", Rendition.UPLOAD, "application/octet-stream")


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"", "image/png"),
        (b"GIF89a", "image/png"),
        (encode(plain(), "PNG"), "image/jpeg"),
        (encode(plain(), "JPEG"), "image/png"),
        (encode(plain(), "PNG"), "image/webp"),
        (encode(plain("1"), "PNG"), "image/png"),
        (encode(plain("P"), "PNG"), "image/png"),
        (encode(plain("RGBA"), "PNG"), "image/png"),
        (encode(plain(), "JPEG", progressive=True), "image/jpeg"),
        (scanned_twice(encode(plain(), "JPEG")), "image/jpeg"),
        (encode(plain(), "JPEG")[:100], "image/jpeg"),
        (hollow_png(12_000, 12_000), "image/png"),
    ],
)
def test_what_it_never_makes_is_not(data: bytes, mime: str) -> None:
    """Other formats, other names for them, and ways of packing that take many passes."""
    assert refused(data, Rendition.VIEW, mime)
    assert refused(data, Rendition.THUMBNAIL, mime)


def test_the_seen_picture_is_as_large_as_is_told() -> None:
    """The model's memory was planned for that size."""
    assert refused(encode(plain(), "PNG"), Rendition.SEEN, "image/png", Size(48, 64))
    assert refused(encode(plain(), "JPEG"), Rendition.SEEN, "image/jpeg")


@pytest.mark.parametrize(
    "look",
    [
        lambda data: crop_region(data, Box(0, 0, 0.01, 0.01)),
        lambda data: draw_regions(data, (), max_side=100),
        size_of,
        to_image_input,
        lambda data: to_image_input(data, Clip(1.0, (0.0, 0.5))),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_nothing_larger_is_decoded_here(monkeypatch: pytest.MonkeyPatch, look: Callable[[bytes], object]) -> None:
    """Whatever way it came into the history: its size is asked before a pixel of it is made."""

    decoded: list[str] = []
    monkeypatch.setattr(Image.Image, "convert", lambda _image, mode: decoded.append(mode))
    with pytest.raises(UnreadableImageError, match=r"image\.seen_damaged"):
        look(hollow_png(12_000, 12_000))
    assert decoded == []


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_report_leaves_out_what_is_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report._fitted(hollow_png(12_000, 12_000), (100, 100)) is None
    small = report._fitted(encode(plain(), "PNG"), (32, 32))
    assert small is not None and small.size == (32, 24)


def test_the_limits_have_room_for_the_largest_of_its_own() -> None:
    """A view of 24 megapixels, the sheet of a clip of 768 frames, and its strip."""
    from qwen_vl_app.imaging.clips import SHEET_COLUMNS, SHEET_SIDE
    from qwen_vl_app.imaging.encoding import THUMBNAIL_SIDE, VIEW_PIXELS

    sheet = 768 // SHEET_COLUMNS * SHEET_SIDE * SHEET_COLUMNS * SHEET_SIDE
    assert max(VIEW_PIXELS, sheet) <= own_form.MOST_VIEW_PIXELS
    assert THUMBNAIL_SIDE**2 <= own_form._MOST_THUMBNAIL_PIXELS
    assert not refused(encode(Image.new("RGB", (1, 1)), "PNG"), Rendition.VIEW, "image/png")
