"""What cannot be used is refused in a sentence, before it costs anything, and never half shown."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from typing import Any

import pillow_heif
import pypdfium2
import pytest
from PIL import Image

from qwen_vl_app.chat import Size
from qwen_vl_app.errors import (
    ImageShapeError,
    ImageTooLargeError,
    PictureError,
    UnreadableImageError,
    UsageError,
)
from qwen_vl_app.imaging import ACCEPTED_EXTENSIONS, PictureDecoder, to_image_input
from qwen_vl_app.texts import Language, render

from .conftest import encode, same

pillow_heif.register_heif_opener()


def noise(width: int = 200, height: int = 150) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(3).randbytes(width * height * 3))


def refusal(decoder: PictureDecoder, data: bytes, **options: Any) -> PictureError:
    """Return how a file is refused; both ways of asking refuse it alike, with a sentence in both languages."""
    with pytest.raises(PictureError) as inspected:
        decoder.inspect(data, **options)
    with pytest.raises(PictureError) as rendered:
        decoder.render(data, fit=same, **options)
    assert rendered.value.reason == inspected.value.reason
    for language in Language:
        assert "{" not in render(rendered.value, language) and rendered.value.code != render(rendered.value, language)
    return rendered.value


def png(width: int, height: int, *, extra: bytes = b"") -> bytes:
    """A PNG that tells a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_an_empty_file_is_refused(decoder: PictureDecoder) -> None:
    """Nothing is no picture."""
    assert refusal(decoder, b"").code == "image.empty"


def test_a_file_over_the_limit_of_bytes_never_reaches_the_child() -> None:
    """The limit is named with the file's own size, and no process was started for it."""
    decoder = PictureDecoder(max_bytes=100, max_pixels=1000, timeout_s=5)
    with pytest.raises(ImageTooLargeError) as error:
        decoder.inspect(b"x" * 101)
    assert error.value.code == "image.too_many_bytes"
    assert error.value.facts == {"size": 101, "limit": 100}
    assert decoder._child is None


@pytest.mark.parametrize("size", [(50_000, 50_000), (65_535, 65_535), (2_000_000_000, 2)])
def test_a_bomb_is_refused_by_its_header(decoder: PictureDecoder, size: tuple[int, int]) -> None:
    """A few bytes that would unpack to gigabytes are told apart by the size they announce."""
    error = refusal(decoder, png(*size))
    assert isinstance(error, ImageTooLargeError) and error.code == "image.too_many_pixels"
    assert error.facts["megapixels"] == pytest.approx(size[0] * size[1] / 1e6)
    assert error.facts["limit"] == 100


def test_a_gif_or_webp_of_a_huge_canvas_is_refused_by_its_header(decoder: PictureDecoder) -> None:
    """Their decoders would set the canvas aside before anybody could look at it."""
    gif = bytearray(encode(Image.new("P", (8, 8)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_000, 65_000)
    webp = b"RIFF\0\1\0\0WEBPVP8X\x0a\0\0\0" + bytes([2, 0, 0, 0]) + b"\xff\x3f\0\xff\x3f\0" + b"\0" * 300
    for data in (bytes(gif), webp):
        assert refusal(decoder, data).code == "image.too_many_pixels"


def test_a_text_chunk_that_unpacks_to_much_is_refused(decoder: PictureDecoder) -> None:
    """A PNG may hide a bomb in a comment or in its colour profile."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    bomb = zlib.compress(b"\0" * (80 * 2**20), 9)
    for extra in (chunk(b"zTXt", b"Comment\0\0" + bomb), chunk(b"iCCP", b"profile\0\0" + bomb)):
        data = png(30, 30, extra=extra)
        try:
            assert decoder.inspect(data).size == Size(30, 30)
        except PictureError as error:
            assert error.code == "image.unreadable"


@pytest.mark.parametrize("size", [(4000, 10), (10, 4000)])
def test_a_picture_far_too_long_is_refused_with_its_ratio(decoder: PictureDecoder, size: tuple[int, int]) -> None:
    """The models take no strip of more than 200 to 1."""
    error = refusal(decoder, encode(Image.new("L", size), "PNG"))
    assert isinstance(error, ImageShapeError) and error.code == "image.shape"
    assert error.facts == {"ratio": 400, "limit": 200}
    assert decoder.inspect(encode(Image.new("L", (4000, 20)), "PNG")).size == Size(4000, 20)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.995])
def test_a_file_cut_short_is_refused(decoder: PictureDecoder, name: str, part: float) -> None:
    """Half a picture would be answered about as if it were whole."""
    image = noise().convert("P") if name == "GIF" else noise()
    data = encode(image, name)
    assert decoder.inspect(data).size == Size(200, 150)
    error = refusal(decoder, data[: int(len(data) * part)])
    assert isinstance(error, UnreadableImageError)
    assert error.code in ("image.truncated", "image.unreadable")


@pytest.mark.parametrize(
    ("name", "options"),
    [("WEBP", {}), ("PDF", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"big_tiff": True})],
)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.95])
def test_half_a_download_is_called_so(decoder: PictureDecoder, name: str, options: dict[str, Any], part: float) -> None:
    """It is not damaged, and another program would not help: it has to be copied again."""
    data = encode(noise(), name, **options)
    assert refusal(decoder, data[: int(len(data) * part)]).code == "image.truncated"


def test_a_scan_whose_directory_is_missing_at_its_end_is_called_cut_off(decoder: PictureDecoder) -> None:
    """Many programs write what a TIFF holds behind its pixels."""
    assert refusal(decoder, b"II*\0" + struct.pack("<I", 5000) + b"\x55" * 3000).code == "image.truncated"
    assert refusal(decoder, b"MM\0*" + struct.pack(">I", 8) + b"\0\x0c" + b"\x55" * 30).code == "image.truncated"


@pytest.mark.parametrize(
    ("name", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 95}), ("HEIF", {"quality": 95})],
)  # fmt: skip
def test_a_file_that_was_set_aside_in_full_and_half_written_is_refused(
    decoder: PictureDecoder, name: str, options: dict[str, Any]
) -> None:
    """A copy that broke off may leave zeros for the rest, of which decoders make a picture."""
    data = encode(noise(320, 320), name, **options)
    written = len(data) // 2 if name == "JPEG" else len(data) - 40_000
    assert 0 < written < len(data)
    assert refusal(decoder, data[:written] + bytes(len(data) - written)).code == "image.truncated"


@pytest.mark.parametrize("name", ["AVIF", "HEIF"])
def test_room_that_a_phone_keeps_free_behind_a_picture_is_not_missing(decoder: PictureDecoder, name: str) -> None:
    """A box of zeros is nothing that was to be written."""
    free = struct.pack(">I4s", 40_008, b"free") + bytes(40_000)
    assert decoder.inspect(encode(noise(), name) + free).size == Size(200, 150)


def test_zeros_behind_a_jpeg_that_lacks_the_sign_of_its_end_cost_nothing(decoder: PictureDecoder) -> None:
    """They are no data of the picture, and none is missing."""
    data = encode(noise(), "JPEG")
    whole = decoder.render(data, fit=same)
    for padded in (data + bytes(4096), data[:-2] + bytes(4096)):
        assert decoder.render(padded, fit=same).picture_id == whole.picture_id


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_cut_and_closed_again_is_refused(decoder: PictureDecoder, mode: str, progressive: bool) -> None:
    """A transfer that broke off and was tidied up leaves grey at the bottom and no error."""
    data = encode(noise().convert(mode), "JPEG", progressive=progressive, quality=85)
    cut = data[: data.index(b"\xff\xda") + 200] + b"\xff\xd9"  # within the first scan, the ground of the whole picture
    assert refusal(decoder, cut).code == "image.truncated"


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"quality": 98, "subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_lacks_nothing_but_the_sign_of_its_end_is_taken(
    decoder: PictureDecoder, mode: str, options: dict[str, int]
) -> None:
    """Some cameras leave it out, and every viewer shows their pictures; a few bytes less are a cut picture."""
    data = encode(noise().convert(mode), "JPEG", **options)
    whole = decoder.render(data, fit=lambda size: size)
    for missing in (1, 2):
        assert decoder.render(data[:-missing], fit=lambda size: size).picture_id == whole.picture_id
    assert refusal(decoder, data[:-12]).code == "image.truncated"


def test_a_jpeg_that_stops_where_its_picture_would_begin_is_cut_off(decoder: PictureDecoder) -> None:
    """Behind the length of what tells how the picture begins, as anywhere behind it."""
    data = encode(noise(), "JPEG")
    begins = data.index(b"\xff\xda")
    assert [refusal(decoder, data[: begins + there]).code for there in (4, 5, 9)] == ["image.truncated"] * 3


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_really_is_grey_below_is_taken(decoder: PictureDecoder, progressive: bool) -> None:
    """A picture on middle grey ground is whole, though it looks like a broken one."""
    image = noise()
    image.paste((128, 128, 128), (0, 70, 200, 150))
    for options in ({}, {"restart_marker_rows": 1}, {"optimize": True}):
        data = encode(image, "JPEG", progressive=progressive, quality=85, **options)
        assert decoder.inspect(data).size == Size(200, 150)
    assert decoder.inspect(encode(Image.new("RGB", (64, 64), (128, 128, 128)), "JPEG")).size == Size(64, 64)


def without_an_interval(data: bytes) -> bytes:
    """The JPEG without what stands between two restart markers in its middle."""
    marks = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    middle = len(marks) // 2
    return data[: marks[middle]] + data[marks[middle + 1] :]


@pytest.mark.parametrize("size", [(200, 150), (333, 97), (64, 64)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("interval", [{"restart_marker_blocks": 3}, {"restart_marker_rows": 1}])
def test_a_jpeg_with_a_stretch_missing_in_its_middle_is_refused(
    decoder: PictureDecoder, size: tuple[int, int], mode: str, subsampling: str, interval: dict[str, int]
) -> None:
    """Decoders go on at the next restart marker and leave a strip of grey; the whole file is taken."""
    options: dict[str, Any] = {"quality": 85, **interval}
    if mode == "RGB":
        options["subsampling"] = subsampling
    data = encode(noise(*size).convert(mode), "JPEG", **options)
    assert decoder.inspect(data).size == Size(*size)
    assert refusal(decoder, without_an_interval(data)).code == "image.truncated"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
        (b"\0\0\1\0\1\0\x10\x10" + b"\0" * 60, "ICO"),
        (b"8BPS\0\1" + b"\0" * 60, "PSD"),
        (b"PK\x03\x04" + b"\0" * 60, "ZIP"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0" * 60, "CR3"),
        (bytes(128) + b"DICM" + b"\0" * 60, "DICOM"),
        (b"II\xbc\1" + b"\0" * 60, "JPEG XR"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
    ],
)
def test_known_strangers_are_named(decoder: PictureDecoder, data: bytes, kind: str) -> None:
    """What is not read here is called by its name; PostScript never reaches an interpreter."""
    error = refusal(decoder, data)
    assert (error.code, dict(error.facts)) == ("image.format_unsupported", {"format": kind})


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"\0" * 60, "MP4"),
        (b"RIFF\x40\0\0\0AVI LIST" + b"\0" * 60, "AVI"),
        (b"\x1aE\xdf\xa3\x80webm" + b"\0" * 60, "WEBM"),
    ],
)
def test_a_clip_in_a_pictures_place_is_told_where_it_is_taken(decoder: PictureDecoder, data: bytes, kind: str) -> None:
    """It can be read here, only not as a picture."""
    error = refusal(decoder, data)
    assert (error.code, dict(error.facts)) == ("image.is_clip", {"format": kind})


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (b"PK\x03\x04" + b"\0" * 60, "Report.DOCX", "Word"),
        (b"PK\x03\x04" + b"\0" * 60, "pictures.zip", "ZIP"),
        (b"a,b\n1,2\n", "table.csv", "CSV"),
        (b"8BPS\0\1" + b"\0" * 60, "report.docx", "PSD"),
    ],
)
def test_strangers_without_a_face_are_called_by_their_ending(
    decoder: PictureDecoder, data: bytes, name: str, kind: str
) -> None:
    """A person calls a Word file a Word file, though its bytes are an archive's; clear bytes have the last word."""
    assert refusal(decoder, data, name=name).facts["format"] == kind


def test_what_a_door_offers_to_pick_is_read(decoder: PictureDecoder) -> None:
    """Every ending that the page names belongs to a format that is read."""
    kinds = {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF", "heif": "HEIF"}
    for ending in ACCEPTED_EXTENSIONS:
        kind = kinds.get(ending, ending.upper())
        assert decoder.inspect(encode(noise(), kind), name=f"a.{ending}").format == kind


@pytest.mark.parametrize("data", [b"x", b"hello", b"\0" * 5000, b"BM", b"\xff\xd8\xff", b"RIFF1234WEBP", b"%PDF-1.7"])
def test_nonsense_is_refused(decoder: PictureDecoder, data: bytes) -> None:
    """Also where its first bytes promise something."""
    assert refusal(decoder, data).code in ("image.format_unknown", "image.unreadable", "image.truncated")


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bytes_never_hurt(decoder: PictureDecoder, seed: int) -> None:
    """Whatever is damaged, the file is read or refused, and the next good one is read."""
    chance = random.Random(seed)
    for name in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PDF"):
        data = bytearray(encode(noise(40, 30), name))
        for _ in range(8):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            decoder.render(bytes(data), fit=lambda _: Size(28, 28))
        except PictureError as error:
            assert error.code.startswith("image.")
    assert decoder.inspect(encode(noise(), "PNG")).size == Size(200, 150)


def test_a_missing_page_is_named_as_people_count(decoder: PictureDecoder) -> None:
    """Pages count from 0 for programs and from 1 for people."""
    for name, code in (("TIFF", "image.page_missing"), ("PDF", "image.pdf_page_missing")):
        pages = [Image.new("RGB", (40, 30)) for _ in range(2)]
        data = encode(pages[0], name, save_all=True, append_images=pages[1:])
        for page in (2, -1):
            error = refusal(decoder, data, page=page)
            assert (error.code, dict(error.facts)) == (code, {"page": page + 1, "count": 2})
    assert refusal(decoder, encode(pages[0], "PNG"), page=1).code == "image.page_missing"


def test_a_locked_pdf_says_that_it_is_locked(decoder: PictureDecoder) -> None:
    """A password is something that a person can help with, unlike damage."""
    assert refusal(decoder, locked_pdf()).code == "image.pdf_password"


def test_a_pdf_without_pages_is_not_called_locked_after_one_that_is(decoder: PictureDecoder) -> None:
    """PDFium keeps the error of the file before, and has none of its own for this one."""
    assert refusal(decoder, locked_pdf()).code == "image.pdf_password"
    assert refusal(decoder, pdf_without_pages()).code == "image.unreadable"
    assert refusal(decoder, locked_pdf()).code == "image.pdf_password"


def pdf_without_pages() -> bytes:
    """A PDF that is sound but for its empty list of pages."""
    document = pypdfium2.PdfDocument.new()
    buffer = io.BytesIO()
    document.save(buffer)
    document.close()
    return buffer.getvalue()


def locked_pdf() -> bytes:
    """A PDF whose encryption wants a password that is not the empty one (standard handler, revision 2)."""
    document = pypdfium2.PdfDocument.new()
    document.new_page(100, 100)
    buffer = io.BytesIO()
    document.save(buffer)
    document.close()
    data = buffer.getvalue()
    encrypt = b"<</Filter/Standard/V 1/R 2/Length 40/P -4/O<" + b"11" * 32 + b">/U<" + b"22" * 32 + b">>>"
    at = data.rindex(b"trailer") + data[data.rindex(b"trailer") :].index(b"<<") + 2
    identity = b"" if b"/ID" in data[at:] else b"/ID[<00><00>]"
    return data[:at] + b"/Encrypt " + encrypt + identity + data[at:]


def test_a_pdf_page_as_long_as_a_road_is_refused(decoder: PictureDecoder) -> None:
    """Its shape is asked before a single pixel is made."""
    document = pypdfium2.PdfDocument.new()
    document.new_page(14_000, 20)
    buffer = io.BytesIO()
    document.save(buffer)
    document.close()
    assert refusal(decoder, buffer.getvalue()).code == "image.shape"


def test_what_fit_raises_passes_through_and_the_next_picture_works(decoder: PictureDecoder) -> None:
    """The hub may refuse a size with an error of its own; the child waits for the next picture."""

    def refuse(_: Size) -> Size:
        raise UsageError("question.empty")

    decoder.start()
    before = decoder._child
    for _ in range(3):
        with pytest.raises(UsageError):
            decoder.render(encode(noise(), "PNG"), fit=refuse)
        assert decoder.render(encode(noise(), "PNG"), fit=same).size == Size(200, 150)
    assert decoder._child is before


def test_a_damaged_seen_picture_is_an_error_of_ours() -> None:
    """Also our own renditions may have rotted on a disk."""
    good = encode(noise(), "PNG")
    for data in (b"", b"nonsense", good[: len(good) // 2], encode(noise(), "JPEG")):
        with pytest.raises(UnreadableImageError) as error:
            to_image_input(data)
        assert error.value.code == "image.seen_damaged"
