"""A file's bytes to one upright RGB picture: sniffed, limited by its header, decoded, turned, its colours set right.

For the decoder child: what runs here may crash, hang or eat memory. Errors that leave are of the app's tree, or a
MemoryError.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pillow_heif
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)
from pillow_heif.as_plugin import HeifImageFile

from qwen_vl_app.chat import Size
from qwen_vl_app.errors import AppError, Reason, UnreadableImageError
from qwen_vl_app.imaging.clip_formats import sniff_clip
from qwen_vl_app.imaging.colours import to_rgb
from qwen_vl_app.imaging.deep_colours import are_deep, with_all_bits
from qwen_vl_app.imaging.formats import (
    PDF,
    ends_in_a_box,
    ends_in_a_hole,
    name_stranger,
    sniff,
    webp_canvas,
    webp_is_cut,
)
from qwen_vl_app.imaging.jpeg_end import closed, ends_too_early, stops_in_its_data
from qwen_vl_app.imaging.jpeg_intervals import has_gaps
from qwen_vl_app.imaging.limits import Limits
from qwen_vl_app.imaging.pdf_pages import page_count_of, render_page
from qwen_vl_app.imaging.png_chunks import pixels_are_as_written, without_damaged_parts
from qwen_vl_app.imaging.png_keys import mend_key, raw_mode
from qwen_vl_app.imaging.tiff_greys import (
    counts_from_white,
    mend_byte_order,
    missing_value,
    teach_pillow,
    with_true_signs,
)
from qwen_vl_app.imaging.tiff_pages import PagedTiff, count_pages, is_cut

ENOUGH_PIXELS = 17_000_000
"""No model sees more than 16,384 tokens of 32 x 32 pixels; a JPEG of several times this is decoded at a fraction."""
MAX_PAGES = 10_000
DECODER_THREADS = 4
"""Each takes address space for its stack, and that is limited."""
MAX_TEXT_BYTES = 16 * 2**20
"""A comment or colour profile in a PNG may unpack to this; Pillow takes a picture for broken over one megabyte."""
_ORIENTATION = 0x0112
_KIND, _MADE_SMALLER, _PICTURES_WITHIN = 254, 1, 330
"""Of a TIFF: what a picture is, that it is a smaller one of another, and where further ones lie that are no pages."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to undo each EXIF orientation."""


_DECODERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "AVIF": AvifImagePlugin.AvifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "HEIF": HeifImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "TIFF": PagedTiff,
    "WEBP": WebPImagePlugin.WebPImageFile,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A decoded file. `size` is the upright original's; `image` may be a fraction of a very large JPEG."""

    format: str
    size: Size
    image: Image.Image
    page: int
    page_count: int
    notes: tuple[Reason, ...]


def prepare_pillow() -> None:
    """Set Pillow up for strangers' files. Called once in the child."""
    Image.MAX_IMAGE_PIXELS = None  # our own limit is asked of every header, and speaks our errors
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_TEXT_BYTES
    teach_pillow()
    AvifImagePlugin.DEFAULT_MAX_THREADS = DECODER_THREADS
    pillow_heif.options.DECODE_THREADS = DECODER_THREADS
    pillow_heif.options.THUMBNAILS = False
    pillow_heif.options.DEPTH_IMAGES = False
    pillow_heif.options.AUX_IMAGES = False


def open_picture(data: bytes, *, page: int, limits: Limits, ending: str = "") -> Opened:
    """Return the upright RGB picture of a file; its name's `ending` only helps to call a stranger by its name.

    Raises PictureError, MemoryError.
    """
    limits.check_bytes(len(data))
    kind = sniff(data)
    if kind is None:
        clip = sniff_clip(data)
        if clip is not None:  # a run over a folder, a form, a program that takes it for a picture
            raise UnreadableImageError("image.is_clip", format=clip)
        stranger = name_stranger(data, ending=ending)
        if stranger is None:
            raise UnreadableImageError("image.format_unknown")
        raise UnreadableImageError("image.format_unsupported", format=stranger)
    try:
        if kind == PDF:
            return _open_pdf(data, page, limits)
        return _open_image(data, kind, page, limits)
    except (AppError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly anything over broken bytes
        if (
            _says_truncated(error)
            or (kind == "WEBP" and webp_is_cut(data))
            or (kind == "TIFF" and not _says_unsupported(error) and is_cut(data, page))
        ):
            raise UnreadableImageError("image.truncated", format=kind) from error
        code = "image.kind_unsupported" if _says_unsupported(error) else "image.unreadable"
        raise UnreadableImageError(code, format=kind) from error


def pages_of(data: bytes) -> int:
    """Return how many pages a file has, whether they can be read or not: 1 where it has no pages, or does not say.

    Raises MemoryError.
    """
    kind = sniff(data)
    if kind == "TIFF":
        return count_pages(data, most=MAX_PAGES)
    return min(page_count_of(data), MAX_PAGES) if kind == PDF else 1


def _open_pdf(data: bytes, page: int, limits: Limits) -> Opened:
    rendered = render_page(data, page, max_pixels=limits.max_pixels)
    count = rendered.page_count
    notes = (Reason("image.page_of", page=page + 1, count=count),) if count > 1 else ()
    return Opened(PDF, Size(*rendered.image.size), rendered.image, page, count, notes)


def _open_image(data: bytes, kind: str, page: int, limits: Limits) -> Opened:
    notes: list[Reason] = []
    data = _examined(data, kind, limits)
    if kind == "PNG":
        sound = without_damaged_parts(data)
        data = sound.data
        notes += sound.notes
    with _open_header(data, kind) as image:
        page_count = count_pages(data, most=MAX_PAGES) if isinstance(image, PagedTiff) else 1
        if not 0 <= page < page_count:
            raise UnreadableImageError("image.page_missing", page=page + 1, count=page_count)
        if isinstance(image, PagedTiff):
            image.seek(page)
            if image.trouble is not None:
                raise image.trouble
        limits.check_size(*image.size, format=kind)
        frames = 1 if kind == "TIFF" else _count_frames(image)
        notes += _told_of(image, frames, page=page, page_count=page_count)
        full = image.size
        _draft(image)
        stored = _stored_orientation(image, data)
        whole = _load(image, data, kind, page, notes)
        if full == image.size or kind != "JPEG":
            full = image.size
            limits.check_size(*full, format=kind)  # some decoders learn the size only now
        orientation = _orientation(image, notes)
        if kind == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            image.putalpha(255)  # programs that name an alpha channel and never fill it; every viewer shows such files
        upright = to_rgb(whole, notes, is_white_zero=counts_from_white(image), missing=missing_value(image))
        if upright is image:  # it must outlive the file
            upright = image.copy()
    if stored is not None:  # its decoder has turned it
        notes.append(Reason("image.turned_upright"))
    elif orientation in _TURNS:
        upright = upright.transpose(_TURNS[orientation])
        full = (full[1], full[0]) if orientation >= 5 else full
        notes.append(Reason("image.turned_upright"))
    upright.info = {}
    return Opened(kind, Size(*full), upright, page, page_count, tuple(notes))


def _load(image: Image.Image, data: bytes, kind: str, page: int, notes: list[Reason]) -> Image.Image:
    """Decode an opened picture, and return its pixels as the file means them; they may be another image."""
    raw = raw_mode(image) if kind == "PNG" else ""
    mend_byte_order(image)
    is_deep = are_deep(image)
    image.load()
    if kind == "PNG" and not pixels_are_as_written(data):
        raise UnreadableImageError("image.unreadable", format=kind)
    mend_key(image, raw)
    if kind == "JPEG" and (has_gaps(data) or ends_too_early(image, data)):
        raise UnreadableImageError("image.truncated", format=kind)
    if not is_deep:
        return with_true_signs(image)
    with _open_header(data, kind) as again:
        if isinstance(again, PagedTiff):
            again.seek(page)
        return with_all_bits(image, again, notes)


def _examined(data: bytes, kind: str, limits: Limits) -> bytes:
    """Return a file after what has to be asked of its bytes before its decoder; a JPEG with the sign of its end."""
    if kind == "WEBP" and (canvas := webp_canvas(data)) is not None:
        limits.check_size(*canvas, format=kind)
    if (kind in ("HEIF", "AVIF") and ends_in_a_box(data)) or (
        kind in ("HEIF", "AVIF", "WEBP") and ends_in_a_hole(data)
    ):
        raise UnreadableImageError("image.truncated", format=kind)
    if kind != "JPEG" or not stops_in_its_data(data):
        return data
    with _open_header(data, kind) as image:
        limits.check_size(*image.size, format=kind)
    return closed(data)


def _open_header(data: bytes, kind: str) -> Image.Image:
    """Read a file's header by the one decoder for its kind.

    Not by `Image.open`, which loads every decoder there is, and reads a JPEG with others behind it (MPO) by lengths that
    are often wrong.
    """
    return _DECODERS[kind](io.BytesIO(data))


def _count_frames(image: Image.Image) -> int:
    """Return the frames of a moving picture that can be reached; broken later ones do not spoil the first."""
    try:
        count = int(getattr(image, "n_frames", 1))
        if count > 1 and image.format == "GIF":
            image.seek(0)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - decoders raise nearly anything over broken bytes
        return 1
    return max(count, 1)


def _told_of(image: Image.Image, frames: int, *, page: int, page_count: int) -> Iterator[Reason]:
    """Yield which of several pictures in a file this is."""
    if image.format != "TIFF":
        if frames > 1:
            yield Reason("image.first_frame", count=frames)
        return
    if page_count > 1:
        yield Reason("image.page_of", page=page + 1, count=page_count)
    tags = getattr(image, "tag_v2", {})
    kind = tags.get(_KIND, 0)
    # NEF, ARW and DNG are TIFF files that begin so.
    if isinstance(kind, int) and kind & _MADE_SMALLER and _PICTURES_WITHIN in tags:
        yield Reason("image.raw_preview", width=image.width, height=image.height)


def _draft(image: Image.Image) -> None:
    """Let the JPEG decoder skip detail where far more is there than anybody will see."""
    width, height = image.size
    divisor = max((d for d in (1, 2, 4, 8) if width * height >= ENOUGH_PIXELS * d * d), default=1)
    if divisor > 1 and image.format == "JPEG":
        image.draft(None, (-(-width // divisor), -(-height // divisor)))


def _stored_orientation(image: Image.Image, data: bytes) -> int | None:
    """Return the orientation that a TIFF's or HEIF's decoder undoes by itself; None for upright ones and other formats."""
    if image.format == "HEIF":
        # Camera data alone turns nothing there: the file has a box for it.
        value = image.info.get("original_orientation") if b"irot" in data or b"imir" in data else None
    else:
        tags = getattr(image, "tag_v2", None)
        value = tags.get(_ORIENTATION) if tags is not None else None
    return value if value in _TURNS else None


def _orientation(image: Image.Image, notes: list[Reason]) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - broken camera data on a good picture
        notes.append(Reason("image.exif_broken"))
        return 1
    return value if isinstance(value, int) else 1


_TRUNCATED: tuple[Callable[[str], bool], ...] = (
    lambda text: "truncated" in text,
    lambda text: "not enough image data" in text,
    lambda text: "unexpected end of file" in text,
)


def _says_truncated(error: Exception) -> bool:
    text = str(error).lower()
    return any(test(text) for test in _TRUNCATED)


def _says_unsupported(error: Exception) -> bool:
    """Return whether a decoder knows what the file says of itself, and has no way to read it: floats in three colours, say."""
    text = str(error).lower()
    return any(
        words in text for words in ("unsupported", "not supported", "cannot handle", "unknown pixel mode", "raw mode")
    )
