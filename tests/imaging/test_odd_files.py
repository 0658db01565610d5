"""Files made by hand, bit by bit: what Pillow reads wrong or refuses is right all the same."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections.abc import Sequence

import pillow_heif
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from qwen_vl_app.chat import Size
from qwen_vl_app.errors import PictureError, Reason
from qwen_vl_app.imaging import PictureDecoder

from .conftest import decode, encode, same

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
STORED, DEFLATED = 1, 8


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, rows: bytes, *, bits: int, colour: int = 0, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of filtered rows of one byte length, with chunks before and after its pixels."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    height = len(rows) // (1 + -(-width * bits * channels // 8))
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            before,
            chunk(b"IDAT", zlib.compress(rows)),
            after,
            chunk(b"IEND", b""),
        )
    )


def tiff(order: str, values: list[float], *, code: str, sample: int, photometric: int, compression: int) -> bytes:
    """A TIFF of one row of greys, in either byte order, kept plain or deflated."""
    pixels = struct.pack(f"{order}{len(values)}{code}", *values)
    body = zlib.compress(pixels) if compression == DEFLATED else pixels
    bits = 8 * len(pixels) // len(values)
    start = 8 + 2 + 12 * 10 + 4
    entries = [(256, len(values)), (257, 1), (258, bits), (259, compression), (262, photometric)]
    entries += [(273, start), (277, 1), (278, 1), (279, len(body)), (339, sample)]
    directory = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return head + directory + b"\0\0\0\0" + body


def row(decoder: PictureDecoder, data: bytes) -> list[tuple[int, ...]]:
    """The pixels of the first row as the model sees them."""
    seen = decode(decoder.render(data, fit=same).seen_png).convert("RGB")
    return [value for x in range(seen.width) if isinstance(value := seen.getpixel((x, 0)), tuple)]


def greys(decoder: PictureDecoder, data: bytes) -> list[int]:
    """The shades of the first row."""
    pixels = row(decoder, data)
    assert all(pixel[0] == pixel[1] == pixel[2] for pixel in pixels)
    return [pixel[0] for pixel in pixels]


@pytest.mark.parametrize("compression", [STORED, DEFLATED])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("code", "sample", "values", "wanted"),
    [
        ("H", UNSIGNED, [0, 16448, 32896, 65535], [0, 64, 128, 255]),
        ("H", UNSIGNED, [0, 1028, 2056, 4095], [0, 64, 128, 255]),
        ("h", SIGNED, [-1000, 0, 1000, 1000], [0, 128, 255, 255]),
        ("I", UNSIGNED, [0, 16448, 32896, 65535], [0, 64, 128, 255]),
        ("I", UNSIGNED, [0, 2**30, 2**31, 2**32 - 1], [0, 64, 128, 255]),
        ("i", SIGNED, [-70000, 0, 70000, 70000], [0, 128, 255, 255]),
        ("f", FLOAT, [0.0, 0.25, 0.5, 1.0], [0, 64, 128, 255]),
    ],
)
def test_deep_greys_of_a_tiff_are_right_in_every_form(
    decoder: PictureDecoder,
    order: str,
    photometric: int,
    compression: int,
    code: str,
    sample: int,
    values: list[float],
    wanted: list[int],
) -> None:
    """Either byte order, plain or compressed, counted from black or from white: the same scene."""
    data = tiff(order, values, code=code, sample=sample, photometric=photometric, compression=compression)
    wanted = wanted if photometric else [255 - shade for shade in wanted]
    assert all(abs(got - want) <= 1 for got, want in zip(greys(decoder, data), wanted, strict=True))


@pytest.mark.parametrize(("top", "bits"), [(255, 8), (4095, 12), (65535, 16)])
def test_sixteen_bits_are_scaled_by_the_bits_that_are_used(decoder: PictureDecoder, top: int, bits: int) -> None:
    """A PNG of 16 bits with values of fewer is not black, and the note names the bits."""
    data = png(3, b"\0" + struct.pack(">3H", 0, (top + 1) // 2, top), bits=16)
    assert greys(decoder, data) == [0, 128, 255]
    notes = decoder.inspect(data).notes
    assert notes == ((Reason("image.sixteen_bit", bits=bits),) if bits > 8 else ())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([29315, 30315, 31315], [0, 128, 255]),
        ([0, 8192, 16383], [0, 128, 255]),
        ([500, 5250, 10000], [0, 128, 255]),
        ([3000, 3050, 3100], [0, 128, 255]),
        ([0, 1, 2], [0, 128, 255]),
        ([0, 20000, 40000], [0, 78, 156]),
        ([30000, 30000], [117, 117]),
    ],
)
def test_sixteen_bits_of_which_little_is_used_are_not_one_grey(
    decoder: PictureDecoder, kind: str, values: list[float], wanted: list[int]
) -> None:
    """Thermal cameras keep hundredths of a kelvin, other sensors 14 bits: they go from the least to the most, and it is said."""
    if kind == "PNG":
        data = png(len(values), b"\0" + struct.pack(f">{len(values)}H", *map(int, values)), bits=16)
    else:
        data = tiff("<", values, code="H", sample=UNSIGNED, photometric=1, compression=STORED)
    assert all(abs(got - want) <= 1 for got, want in zip(greys(decoder, data), wanted, strict=True))
    told = Reason("image.values_scaled") if wanted[-1] == 255 else Reason("image.sixteen_bit", bits=16)
    assert decoder.inspect(data).notes == (told,)


@pytest.mark.parametrize("kind", ["PNG", "<", ">"])
@pytest.mark.parametrize(
    ("values", "wanted", "bits"),
    [
        ([0, 2056, 4095], [0, 128, 255], 12),
        ([0, 8224, 16383], [0, 128, 255], 14),
        ([0, 128, 255], [0, 128, 255], 8),
        ([0, 32896, 65535], [0, 128, 255], 16),
        ([0, 0, 16448], [0, 0, 64], 16),
    ],
)
def test_colours_that_use_few_of_sixteen_bits_are_not_black(
    decoder: PictureDecoder, kind: str, values: list[int], wanted: list[int], bits: int
) -> None:
    """As measuring cameras keep them; in a PNG, and in planes of a TIFF in either byte order."""
    empty = [0] * len(values)
    if kind == "PNG":
        pixels = b"".join(struct.pack(">3H", value, 0, 0) for value in values)
        data = png(len(values), b"\0" + pixels, bits=16, colour=2)
    else:
        rows = [struct.pack(f"{kind}{len(values)}H", *band) for band in (values, empty, empty)]
        data = planes(kind, *rows, bits=16, photometric=2)
    assert row(decoder, data) == [(value, 0, 0) for value in wanted]
    told = (Reason("image.deep_colours", bits=bits),) if bits in (12, 14) else ()
    assert decoder.inspect(data).notes == told


def test_few_bits_of_packed_colours_are_found_in_a_turned_picture(decoder: PictureDecoder) -> None:
    """In one plane, through libtiff, and turned upright: the second reading is of the same pixels as the first."""
    pixels = struct.pack("<6H", 4095, 0, 2056, 0, 4095, 0)
    data = bytearray(planes("<", pixels, bits=16, photometric=2, compression=DEFLATED))
    count = struct.unpack_from("<H", data, 8)[0]
    for at in range(10, 10 + 12 * count, 12):  # three samples in one plane, 2 pixels wide
        tag = struct.unpack_from("<H", data, at)[0]
        if tag in (256, 277, 284):
            struct.pack_into("<H", data, at + 8, {256: 2, 277: 3, 284: 1}[tag])
        if tag == 278:
            struct.pack_into("<HHIH", data, at, 274, 3, 1, 3)
    assert row(decoder, bytes(data)) == [(0, 255, 0), (255, 0, 128)]


@pytest.mark.parametrize("compression", [STORED, DEFLATED])
def test_eight_bits_with_a_sign_are_no_shades(decoder: PictureDecoder, compression: int) -> None:
    """Maps of vegetation and masks keep them so: -1 would be white, and -128 as bright as 0 is dark."""
    data = tiff("<", [-128, -1, 0, 127], code="b", sample=SIGNED, photometric=1, compression=compression)
    assert greys(decoder, data) == [0, 127, 128, 255]


@pytest.mark.parametrize(
    ("bits", "pixels", "key", "wanted"),
    [
        (1, b"\x40", 1, [0, 255]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),
        (4, b"\x3f\x30", 3, [255, 255, 255, 0]),
        (8, b"\x03\x80", 3, [255, 128]),
        (16, struct.pack(">3H", 0x1234, 0x8080, 0xFFFF), 0x1234, [255, 128, 255]),
    ],
)
def test_the_transparent_grey_is_found_at_any_depth(
    decoder: PictureDecoder, bits: int, pixels: bytes, key: int, wanted: list[int]
) -> None:
    """A PNG names the grey that is not there in its own bits."""
    width = len(wanted)
    assert (
        greys(decoder, png(width, b"\0" + pixels, bits=bits, before=chunk(b"tRNS", struct.pack(">H", key)))) == wanted
    )


def test_the_transparent_colour_of_sixteen_bits_is_found(decoder: PictureDecoder) -> None:
    """Three channels of 16 bits, one colour of which is not there."""
    rows = b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 65535, 0, 0)
    key = chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))
    assert row(decoder, png(2, rows, bits=16, colour=2, before=key)) == [WHITE, (255, 0, 0)]


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_long_comment_does_not_cost_the_picture(decoder: PictureDecoder, place: str) -> None:
    """Editors keep histories of megabytes in a PNG's text, packed."""
    comment = chunk(b"zTXt", b"History\0\0" + zlib.compress(b"step " * 600_000))
    data = png(4, b"\0\x80\x80\x80\x80", bits=8, **{place: comment})  # type: ignore[arg-type]  # one of two chunks
    assert greys(decoder, data) == [128] * 4


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "body", "notes"),
    [
        (b"tEXt", b"Comment\0of an editor", ()),
        (b"pHYs", struct.pack(">IIB", 2835, 2835, 1), ()),
        (b"vpAg", b"a kind of its own", ()),
        (b"iCCP", b"profile\0\0" + zlib.compress(b"x" * 200), (Reason("image.colours_broken"),)),
        (b"tRNS", b"\0\x80", (Reason("image.colours_broken"),)),
        (b"eXIf", b"II*\0\x08\0\0\0\0\0", (Reason("image.exif_broken"),)),
        (b"acTL", struct.pack(">II", 3, 0), ()),
    ],
)
def test_a_damaged_side_part_of_a_png_does_not_cost_the_picture(
    decoder: PictureDecoder, kind: bytes, body: bytes, notes: tuple[Reason, ...], place: str
) -> None:
    """A wrong checksum in what a picture can be shown without is what every viewer passes over."""
    wrong = bytearray(chunk(kind, body))
    wrong[-1] ^= 0x5A
    data = png(4, b"\0\x80\x80\x80\x80", bits=8, **{place: bytes(wrong)})  # type: ignore[arg-type]  # one of two chunks
    assert greys(decoder, data) == [128] * 4
    assert decoder.inspect(data).notes == notes


@pytest.mark.parametrize(
    ("kind", "body"),
    [(b"pHYs", b"\0\0"), (b"gAMA", b""), (b"cHRM", b"\0" * 7), (b"iCCP", b"name\0\x07packed"), (b"tRNS", b"\0")],
)
def test_a_side_part_of_a_png_that_makes_no_sense_does_not_cost_the_picture(
    decoder: PictureDecoder, kind: bytes, body: bytes
) -> None:
    """Its checksum is right, since a program wrote it so: too short, or packed in a way that nobody knows."""
    data = png(4, b"\0\x80\x80\x80\x80", bits=8, before=chunk(kind, body))
    assert greys(decoder, data) == [128] * 4


def test_an_animation_with_a_damaged_piece_is_its_first_picture(decoder: PictureDecoder) -> None:
    """Its pieces are numbered: with one missing, the others are refused."""
    frames = [Image.new("L", (4, 1), shade) for shade in (128, 20, 200)]
    whole = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert decoder.inspect(whole).notes == (Reason("image.first_frame", count=3),)
    for kind in (b"acTL", b"fcTL", b"fdAT"):
        for at in [found.start() for found in re.finditer(kind, whole)]:
            broken = bytearray(whole)
            broken[at + 4 + int.from_bytes(whole[at - 4 : at])] ^= 0x5A
            assert greys(decoder, bytes(broken)) == [128] * 4


def test_pixels_of_a_png_that_were_changed_are_not_shown(decoder: PictureDecoder) -> None:
    """Pillow looks at no checksum behind the last row. A piece's own alone may be wrong: the whole has one as well."""
    stream = zlib.compress(b"\0\x10\x80\xf0", 0)
    whole = png(3, b"\0\x10\x80\xf0", bits=8)
    head, tail = whole[: whole.index(b"IDAT") - 4], chunk(b"IEND", b"")
    pieces = [chunk(b"IDAT", stream[:-4]), chunk(b"IDAT", stream[-4:])]
    changed, misled = pieces[0].replace(b"\x80", b"\x81"), pieces[0][:-1] + bytes([pieces[0][-1] ^ 1])
    with pytest.raises(PictureError) as refused:
        decoder.render(head + changed + pieces[1] + tail, fit=same)
    assert refused.value.reason == Reason("image.unreadable", format="PNG")
    for first in (pieces[0], misled):
        assert greys(decoder, head + first + pieces[1] + tail) == [0x10, 0x80, 0xF0]


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_what_a_png_cannot_do_without_is_still_checked(decoder: PictureDecoder, kind: bytes) -> None:
    """A wrong size or palette would be a wrong picture."""
    whole = encode(Image.new("RGB", (9, 9), "red").quantize(4), "PNG")
    at = whole.index(kind)
    broken = bytearray(whole)
    broken[at + 4 + int.from_bytes(whole[at - 4 : at])] ^= 0x5A
    with pytest.raises(PictureError) as error:
        decoder.inspect(bytes(broken))
    assert error.value.code == "image.unreadable"


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
@pytest.mark.parametrize("name", [b"transparency", b"bbox", b"interlace", b"icc_profile"])
def test_a_text_is_not_taken_for_what_pillow_found_out(decoder: PictureDecoder, kind: bytes, name: bytes) -> None:
    """Both stand under one name there; a text of such a name is left out, and the picture is as it was."""
    text = b"bright" if kind == b"tEXt" else b"\0" + zlib.compress(b"bright")
    data = png(4, b"\0\x80\x80\x80\x80", bits=8, before=chunk(kind, name + b"\0" + text))
    assert greys(decoder, data) == [0x80] * 4


def test_a_png_broken_before_its_camera_data_is_not_taken_for_whole(decoder: PictureDecoder) -> None:
    """Pillow looks for late camera data by decoding, and half a picture would pass when it is loaded again."""
    rows = b"".join(b"\0" + bytes(100) for _ in range(100))
    late = chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0")
    whole = png(100, rows, bits=8, after=late)
    assert decoder.inspect(whole).size.width == 100
    packed = zlib.compress(rows)
    damaged = packed[: len(packed) // 2] + b"\xff" * (len(packed) - len(packed) // 2)
    broken = whole.replace(chunk(b"IDAT", packed), chunk(b"IDAT", damaged))
    assert broken != whole
    with pytest.raises(PictureError) as error:
        decoder.inspect(broken)
    assert error.value.code in ("image.unreadable", "image.truncated")


def test_a_frame_larger_than_its_canvas_is_held_to_the_limit(decoder: PictureDecoder) -> None:
    """A GIF may announce a small canvas and a huge frame."""
    frame = b"," + struct.pack("<HHHH", 0, 0, 60_000, 60_000) + b"\x80\0\0\0\xff\xff\xff\x02\x02\x44\x01\x00;"
    gif = b"GIF89a" + struct.pack("<HH", 10, 10) + b"\0\0\0" + frame
    with pytest.raises(PictureError) as error:
        decoder.inspect(gif)
    assert error.value.code in ("image.too_many_pixels", "image.memory", "image.unreadable", "image.truncated")


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_colours_of_a_phone_keep_their_place(
    decoder: PictureDecoder, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEIC of 10 and 12 bits comes out at 8 bits with its colours where they were."""
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    pixels = struct.pack("<3H", 0xFFFF, 0x8080, 0) * 256
    file = pillow_heif.from_bytes("RGB;16", (16, 16), pixels)

    buffer = io.BytesIO()
    file.save(buffer, quality=-1)
    red, green, blue = row(decoder, buffer.getvalue())[8]
    assert red > 245 and abs(green - 128) < 6 and blue < 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["HEIF", "AVIF"])
def test_phones_pictures_are_turned_once_and_say_so(decoder: PictureDecoder, name: str, orientation: int) -> None:
    """HEIC and AVIF turn by boxes of their own; the note is the same as for a JPEG."""
    pillow_heif.register_heif_opener()
    undo = (
        None,
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_270,
    )[orientation - 1]
    upright = Image.new("RGB", (64, 48), BLACK)
    upright.paste((220, 0, 0), (0, 0, 32, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if undo is None else upright.transpose(undo)
    picture = decoder.render(encode(stored, name, exif=exif.tobytes(), quality=95), fit=same)
    seen = decode(picture.seen_png).convert("RGB")
    assert seen.size == (64, 48)
    corner, other = seen.getpixel((10, 10)), seen.getpixel((50, 40))
    assert isinstance(corner, tuple) and isinstance(other, tuple)
    assert corner[0] > 180 and other[0] < 40
    assert (Reason("image.turned_upright") in picture.notes) is (orientation != 1)


def test_a_heic_that_only_its_camera_data_would_turn_is_not_said_to_be_turned(decoder: PictureDecoder) -> None:
    """By its standard such a picture stays as it lies, and so does the word about it."""
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encode(Image.new("RGB", (64, 48), (220, 0, 0)), "HEIF", exif=exif)
    assert b"irot" not in lying
    facts = decoder.inspect(lying)
    assert (facts.size, facts.notes) == (Size(64, 48), ())


def test_renditions_carry_nothing_of_the_camera(decoder: PictureDecoder) -> None:
    """Place and maker stay in the upload."""
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    picture = decoder.render(encode(Image.new("RGB", (60, 40)), "JPEG", exif=exif.tobytes()), fit=same)
    assert all(b"SecretCamera" not in data for data in (picture.view, picture.thumbnail, picture.seen_png))


def planes(
    order: str, *rows: bytes, bits: int, photometric: int, extra: Sequence[int] = (), compression: int = STORED
) -> bytes:
    """A TIFF of one row of pixels whose samples stand in planes of their own, one strip a plane."""
    count, width = len(rows), len(rows[0]) * 8 // bits
    rows = tuple(map(zlib.compress, rows)) if compression == DEFLATED else rows
    kept: list[tuple[int, str, list[int]]] = [
        (256, "H", [width]), (257, "H", [1]), (258, "H", [bits] * count), (259, "H", [compression]), (262, "H", [photometric]),
        (273, "I", [0] * count), (277, "H", [count]), (278, "H", [1]), (279, "I", [len(row) for row in rows]), (284, "H", [2]),
    ]  # fmt: skip
    if extra:
        kept.append((338, "H", list(extra)))
    at = 8 + 2 + 12 * len(kept) + 4  # where what is too long for its entry begins, and behind it the pixels
    long = sum(
        len(values) * struct.calcsize(code) for _, code, values in kept if len(values) * struct.calcsize(code) > 4
    )
    starts = [at + long + sum(len(row) for row in rows[:number]) for number in range(count)]
    entries, behind = b"", b""
    for tag, code, values in kept:
        body = struct.pack(f"{order}{len(values)}{code}", *(starts if tag == 273 else values))
        entries += struct.pack(f"{order}HHI", tag, 3 if code == "H" else 4, len(values))
        if len(body) > 4:
            entries += struct.pack(f"{order}I", at + len(behind))
            behind += body
        else:
            entries += body.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(kept))
    return head + entries + b"\0\0\0\0" + behind + b"".join(rows)


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_colours_in_planes_of_their_own_keep_their_place(decoder: PictureDecoder, order: str) -> None:
    """Pillow reads such planes as if they had 8 bits: the first half of the row twice as wide."""
    wanted = [(255, 0, 64), (0, 128, 255), (32, 32, 32), (0, 0, 255)]
    rows = [struct.pack(f"{order}4H", *(pixel[band] * 257 for pixel in wanted)) for band in range(3)]
    assert row(decoder, planes(order, *rows, bits=16, photometric=2)) == wanted
    solid = struct.pack(f"{order}4H", *[65535] * 4)
    assert row(decoder, planes(order, *rows, solid, bits=16, photometric=2, extra=[2])) == wanted


@pytest.mark.parametrize(("bits", "extra"), [(8, [0]), (8, [0, 0]), (8, [2, 0]), (16, [0])])
def test_planes_that_are_not_shown_do_not_cost_the_picture(
    decoder: PictureDecoder, bits: int, extra: list[int]
) -> None:
    """A map keeps infrared beside its colours, a print a spot colour."""
    full, empty = b"\xff" * (bits // 8), b"\0" * (bits // 8)
    solid, right, none = full + full, empty + full, empty + empty
    data = planes("<", full + empty, none, right, *[solid, right][-len(extra) :], bits=bits, photometric=2, extra=extra)
    assert row(decoder, data) == [(255, 0, 0), (0, 0, 255)]


def test_an_alpha_in_a_plane_of_its_own_is_refused_and_not_taken_for_empty(decoder: PictureDecoder) -> None:
    """Of greys that have to be unpacked: Pillow puts it elsewhere, and the whole picture would be transparent."""
    data = planes("<", b"\0\x80", b"\xff\xff", bits=8, photometric=1, extra=[2], compression=DEFLATED)
    with pytest.raises(PictureError) as refused:
        decoder.render(data, fit=same)
    assert refused.value.reason == Reason("image.kind_unsupported", format="TIFF")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_one_plane_alone_is_the_picture(decoder: PictureDecoder, order: str, photometric: int, bits: int) -> None:
    """A scan that says "planes apart" of its only plane is neither refused nor turned round."""
    body = {1: b"\x0f", 4: b"\0\0\xff\xff", 8: b"\0\0\xff\xff", 16: b"\0\0\0\0\xff\xff\xff\xff"}[bits]
    shades = greys(decoder, planes(order, body, bits=bits, photometric=photometric))
    black, white = (0, 255) if photometric else (255, 0)
    half = len(shades) // 2
    assert shades == [black] * half + [white] * half


@pytest.mark.parametrize("alpha", [0, 255])
@pytest.mark.parametrize("size", [108, 124])
def test_an_alpha_that_a_bmp_names_and_never_fills_hides_nothing(
    decoder: PictureDecoder, size: int, alpha: int
) -> None:
    """Screenshots kept from Windows' clipboard are so; browsers and viewers show them."""
    pixels = bytes([0, 0, 255, alpha, 255, 0, 0, alpha])
    head = struct.pack("<IiiHHIIiiII", size, 2, 1, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    head += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = head.ljust(size, b"\0")
    start = 14 + size
    data = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + pixels
    picture = decoder.render(data, fit=same)
    assert row(decoder, data) == [(255, 0, 0), (0, 0, 255)]
    assert not picture.notes


def test_a_way_of_packing_that_is_not_known_is_not_called_damaged(decoder: PictureDecoder) -> None:
    """JPEG 2000 in a TIFF, as slides of tissue and satellites have it."""
    data = tiff("<", [0, 255], code="B", sample=UNSIGNED, photometric=1, compression=34712)
    with pytest.raises(PictureError) as refused:
        decoder.render(data, fit=same)
    assert refused.value.reason == Reason("image.kind_unsupported", format="TIFF")


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "JPEG"])
def test_a_rare_kind_is_not_simply_called_damaged(decoder: PictureDecoder, kind: str) -> None:
    """Grey and alpha of 16 bits, 10 bits a colour, a JPEG of 12 bits: other programs open them."""
    pixels = struct.pack("<2I", 0x3FF00000, 0x3FF)
    masks = struct.pack("<3I", 0x3FF00000, 0xFFC00, 0x3FF)
    head = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 32, 3, 8, 2835, 2835, 0, 0)
    jpeg = bytearray(encode(Image.new("RGB", (16, 16)), "JPEG"))
    jpeg[jpeg.index(b"\xff\xc0") + 4] = 12
    data = {
        "TIFF": planes("<", b"\0\0\xff\xff", b"\xff\xff\xff\xff", bits=16, photometric=1, extra=[2]),
        "BMP": b"BM" + struct.pack("<IHHI", 74, 0, 0, 66) + head + masks + pixels,
        "JPEG": bytes(jpeg),
    }[kind]
    with pytest.raises(PictureError) as refused:
        decoder.render(data, fit=same)
    assert refused.value.reason == Reason("image.kind_unsupported", format=kind)


def linear_profile(name: str) -> bytes:
    """The colours of sRGB with light counted in equal steps, under any name."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = struct.unpack_from(">I", srgb, 128)[0]
    entries = [struct.unpack_from(">4sII", srgb, 132 + 12 * at) for at in range(count)]
    bodies: dict[bytes, bytes] = {tag: srgb[start : start + length] for tag, start, length in entries}
    bodies |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv" + bytes(8))
    words = name.encode("utf-16-be")
    bodies[b"desc"] = b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(words), 28) + words
    table, data = b"", b""
    for tag, body in bodies.items():
        table += struct.pack(">4sII", tag, 132 + 12 * len(bodies) + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    whole = srgb[:128] + struct.pack(">I", len(bodies)) + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


def linear_grey_profile() -> bytes:
    """Light counted in equal steps, without colours."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    bodies = {b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D), b"kTRC": b"curv" + bytes(8)}
    table = struct.pack(">I", 2) + struct.pack(">4sII", b"wtpt", 156, 20) + struct.pack(">4sII", b"kTRC", 176, 12)
    whole = srgb[4:16] + b"GRAY" + srgb[20:128] + table + bodies[b"wtpt"] + bodies[b"kTRC"]
    return struct.pack(">I", len(whole) + 4) + whole


@pytest.mark.parametrize("mode", ["L", "LA", "L with a key"])
def test_a_profile_of_greys_holds_with_transparency_as_without(decoder: PictureDecoder, mode: str) -> None:
    """What is laid over white is colours, which such a profile is not about."""
    picture = Image.new(mode[:2].strip(), (8, 8), (55, 255) if mode == "LA" else 55)
    options = {"transparency": 0} if "key" in mode else {}
    first = row(decoder, encode(picture, "PNG", icc_profile=linear_grey_profile(), **options))[0]
    assert all(abs(value - 128) <= 1 for value in first)


@pytest.mark.parametrize("name", ["Linear sRGB", "Linear"])
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_linear_light_is_not_dark_whatever_its_profile_is_called(decoder: PictureDecoder, mode: str, name: str) -> None:
    """Image editors call it "Linear sRGB", which is not the sRGB that screens show; a palette's colours are colours, too."""
    picture = Image.new("RGB", (8, 8), (55, 55, 55))
    picture = picture.quantize(2) if mode == "P" else picture
    first = row(decoder, encode(picture, "PNG", icc_profile=linear_profile(name)))[0]
    assert all(abs(value - 128) <= 1 for value in first)


def test_the_preview_in_a_cameras_raw_file_is_called_so(decoder: PictureDecoder) -> None:
    """Such files (NEF, ARW, DNG) are TIFF files whose first picture is a small one; the large one within stays unread."""
    small = Image.new("RGB", (160, 120), (200, 30, 40))
    stored = io.BytesIO()
    small.save(stored, "TIFF", tiffinfo={254: 1})
    assert not decoder.inspect(stored.getvalue()).notes
    camera = io.BytesIO()
    within = TiffImagePlugin.ImageFileDirectory_v2()
    within[254] = 1
    within[330] = 8
    within.tagtype[330] = 4
    small.save(camera, "TIFF", tiffinfo=within)
    facts = decoder.inspect(camera.getvalue())
    assert facts.notes == (Reason("image.raw_preview", width=160, height=120),)


def tiff_pages(*pages: bytes) -> bytes:
    """Pages of one file each in one file, in their order: little-endian ones, whose directories come before their pixels."""
    file = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for page in pages:
        start = len(file)
        (first,) = struct.unpack_from("<I", page, 4)
        (count,) = struct.unpack_from("<H", page, first)
        body = bytearray(page)
        for at in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, many, value = struct.unpack_from("<HHII", body, at)
            is_apart = many * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8}[kind] > 4
            if is_apart or tag == 273:
                struct.pack_into("<HHII", body, at, tag, kind if is_apart else 4, many, value + start)
        struct.pack_into("<I", file, link, start + first)
        link = start + first + 2 + 12 * count
        file += body
    return bytes(file)


def stored_grey(shade: int, *, width: int = 6, height: int = 4, bits: int = 8, sample: int = UNSIGNED) -> bytes:
    """One page: a grey, or of 96 bits three floats that Pillow has no way to read."""
    samples = 3 if bits == 96 else 1
    pixels = bytes([shade]) * min(width * height * bits // 8, 4096)
    entries = [(256, width), (257, height), (258, bits // samples), (259, 1), (262, 2 if samples == 3 else 1)]
    entries += [(273, 8 + 2 + 12 * 10 + 4), (277, samples), (278, height), (279, len(pixels)), (339, sample)]
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    return b"II" + struct.pack("<HIH", 42, 8, len(entries)) + directory + b"\0\0\0\0" + pixels


def test_a_page_of_an_unreadable_kind_takes_no_other_with_it(decoder: PictureDecoder) -> None:
    """Wherever it stands; it is counted, and says of itself alone that it cannot be read."""
    odd = stored_grey(7, bits=96, sample=FLOAT)
    for at in range(3):
        data = tiff_pages(*(odd if page == at else stored_grey(50 + page) for page in range(3)))
        for page in range(3):
            if page == at:
                with pytest.raises(PictureError) as refused:
                    decoder.render(data, page=page, fit=same)
                assert refused.value.code == "image.kind_unsupported"
                continue
            picture = decoder.render(data, page=page, fit=same)
            assert picture.notes == (Reason("image.page_of", page=page + 1, count=3),)
            assert decode(picture.seen_png).convert("L").getextrema() == (50 + page, 50 + page)


def test_pages_are_counted_whether_they_can_be_read_or_not(decoder: PictureDecoder) -> None:
    """Also behind a first one that is refused; what has no pages counts as one."""
    odd = stored_grey(7, bits=96, sample=FLOAT)
    assert decoder.count_pages(tiff_pages(odd, stored_grey(50), odd)) == 3
    assert decoder.count_pages(tiff_pages(stored_grey(50, width=20000, height=20000), stored_grey(150))) == 2
    grey = Image.new("L", (30, 20))
    assert decoder.count_pages(encode(grey, "PDF", save_all=True, append_images=[grey])) == 2
    assert [decoder.count_pages(data) for data in (encode(grey, "PNG"), b"%PDF-1.7 no", b"II*\0", b"words")] == [1] * 4


@pytest.mark.parametrize("cut", [10, 60, 120])
def test_a_last_page_that_is_cut_off_leaves_the_first_ones(decoder: PictureDecoder, cut: int) -> None:
    """Where its directory ends too early, the pages before it are as they were, in their own sizes."""
    whole = tiff_pages(stored_grey(50), stored_grey(150, width=9), stored_grey(250, width=12))
    data = whole[: -48 - cut]
    for page, (shade, width) in enumerate(((50, 6), (150, 9))):
        picture = decoder.render(data, page=page, fit=same)
        assert picture.size == Size(width, 4)
        assert decode(picture.seen_png).convert("L").getextrema() == (shade, shade)
    with pytest.raises(PictureError):
        decoder.render(data, page=2, fit=same)


def test_only_the_page_that_is_wanted_has_to_be_small_enough(decoder: PictureDecoder) -> None:
    """A plan of 400 megapixels in front does not refuse the letter behind it."""
    data = tiff_pages(stored_grey(50, width=20000, height=20000), stored_grey(150, width=40, height=20))
    assert decoder.inspect(data, page=1).size == Size(40, 20)
    with pytest.raises(PictureError) as refused:
        decoder.inspect(data)
    assert refused.value.code == "image.too_many_pixels"


def test_directories_without_end_are_refused_or_read_in_time(decoder: PictureDecoder) -> None:
    """Half a million empty directories in a row, and a chain that comes back to its start."""
    first = stored_grey(50)
    end = 8 + 2 + 12 * 10
    many = bytearray(first)
    struct.pack_into("<I", many, end, len(first))
    many += b"".join(struct.pack("<HI", 0, len(first) + 6 * (at + 1)) for at in range(500_000))
    assert decoder.inspect(bytes(many)).page_count == 1
    ring = bytearray(first)
    struct.pack_into("<I", ring, end, 8)
    assert decoder.inspect(bytes(ring)).page_count == 1


@pytest.mark.parametrize("at", [0, 1])
def test_a_page_without_a_profile_does_not_take_its_neighbour_s(decoder: PictureDecoder, at: int) -> None:
    """Each page is shown in its own colours, whichever was read before it."""
    pages = [Image.new("RGB", (6, 4), (100, 100, 100)) for _ in range(2)]
    pages[at].info["icc_profile"] = linear_profile("Linear sRGB")
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    shades = [
        decode(decoder.render(data, page=page, fit=same).seen_png).convert("L").getpixel((0, 0)) for page in (0, 1)
    ]
    assert shades[1 - at] == 100
    assert shades[at] != 100


LEAST = -3.4028234663852886e38


def height_map(values: list[float], *, code: str, sample: int, no_data: bytes) -> bytes:
    """A TIFF of one row of heights, with the tag that says which number is no height."""
    pixels = struct.pack(f"<{len(values)}{code}", *values)
    start = 8 + 2 + 12 * 11 + 4
    entries = [(256, len(values)), (257, 1), (258, 8 * len(pixels) // len(values)), (259, 1), (262, 1)]
    entries += [(273, start + 64), (277, 1), (278, 1), (279, len(pixels)), (339, sample)]
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    directory += struct.pack("<HHI", 42113, 2, len(no_data))
    directory += struct.pack("<I", start) if len(no_data) > 4 else no_data.ljust(4, b"\0")
    return b"II" + struct.pack("<HIH", 42, 8, 11) + directory + b"\0\0\0\0" + no_data.ljust(64, b"\0") + pixels


@pytest.mark.parametrize(
    ("code", "sample", "values", "no_data", "wanted"),
    [
        ("f", FLOAT, [100.0, -9999.0, 195.0], b"-9999\0", [100, 0, 195]),
        ("f", FLOAT, [-9999.0, 100.0, 195.0], b" -9999.0 \0", [0, 100, 195]),
        ("f", FLOAT, [100.0, LEAST, 195.0], b"-3.40282346638529e+38\0", [100, 0, 195]),
        ("f", FLOAT, [100.0, LEAST, 195.0], b"none\0", [100, 0, 195]),
        ("f", FLOAT, [100.0, LEAST, -9999.0, 195.0], b"-9999\0", [100, 0, 0, 195]),
        ("f", FLOAT, [0.0, -1.0, 1.0], b"-1\0", [0, 0, 255]),
        ("f", FLOAT, [-50.0, 1e6, 0.0, 50.0], b"1e6\0", [0, 0, 128, 255]),
        ("f", FLOAT, [100.0, math.nan, -9999.0, 195.0], b"-9999\0", [100, 0, 0, 195]),
        ("f", FLOAT, [-9999.0, -9999.0], b"-9999\0", [0, 0]),
        ("h", SIGNED, [100, -32768, 195], b"-32768\0", [100, 0, 195]),
        ("h", SIGNED, [-1000, 0, 1000], b"-32768\0", [0, 128, 255]),
        ("i", SIGNED, [100, -(2**31), 195], b"-2147483648\0", [100, 0, 195]),
        ("I", UNSIGNED, [100, 2**32 - 1, 195], b"4294967295\0", [100, 0, 195]),
        ("H", UNSIGNED, [0, 65535, 4095], b"65535\0", [0, 0, 255]),
        ("H", UNSIGNED, [0, 65535], b"70000\0", [0, 255]),
        ("f", FLOAT, [-100.0, 0.0, 100.0], b"-9999\0", [0, 128, 255]),
        ("f", FLOAT, [200.0, -9999.0, 1000.0, 1800.0], b"-9999\0", [0, 0, 128, 255]),
        ("i", SIGNED, [200, -32768, 1000, 1800], b"-32768\0", [0, 0, 128, 255]),
        ("h", SIGNED, [-32768, 200, 1000, 1800], b"-32768\0", [0, 0, 128, 255]),
        ("H", UNSIGNED, [65535, 5000, 5500, 6000], b"65535\0", [0, 0, 128, 255]),
        ("f", FLOAT, [math.nan, 2000.0, 2050.0, 2100.0], b"nan\0", [0, 0, 128, 255]),
        ("f", FLOAT, [math.nan, math.inf, -math.inf], b"nan\0", [0, 0, 0]),
    ],
)
def test_a_pixel_that_was_not_measured_does_not_make_a_map_white(
    decoder: PictureDecoder, code: str, sample: int, values: list[float], no_data: bytes, wanted: list[int]
) -> None:
    """It is black, and the heights around it are shown as if it were not there."""
    shades = greys(decoder, height_map(values, code=code, sample=sample, no_data=no_data))
    assert all(abs(got - want) <= 1 for got, want in zip(shades, wanted, strict=True)), shades


@pytest.mark.parametrize(
    ("code", "sample", "values", "wanted"),
    [
        ("f", FLOAT, [200.0, 1000.0, 1800.0], [0, 128, 255]),
        ("f", FLOAT, [18.5, 27.35, 36.2], [0, 128, 255]),
        ("f", FLOAT, [0.0, 65535.0], [0, 255]),
        ("f", FLOAT, [0.05, 0.075, 0.1], [0, 128, 255]),
        ("f", FLOAT, [0.0, 0.25], [0, 64]),
        ("f", FLOAT, [80.0, 200.0], [80, 200]),
        ("f", FLOAT, [128.0, 128.0], [128, 128]),
        ("h", SIGNED, [200, 1000, 1800], [12, 62, 112]),
        ("i", SIGNED, [200, 400, 600], [0, 128, 255]),
        ("I", UNSIGNED, [2000, 2050, 2100], [0, 128, 255]),
        ("i", SIGNED, [100, 200], [100, 200]),
        ("h", SIGNED, [0, 1, 2], [0, 128, 255]),
    ],
)
def test_numbers_that_take_up_little_of_a_plain_range_are_not_black(
    decoder: PictureDecoder, code: str, sample: int, values: list[float], wanted: list[int]
) -> None:
    """Heights and temperatures go from the least to the most; shades that are kept as numbers stay what they are."""
    shades = greys(decoder, tiff("<", values, code=code, sample=sample, photometric=1, compression=STORED))
    assert all(abs(got - want) <= 1 for got, want in zip(shades, wanted, strict=True)), shades


@pytest.mark.parametrize(
    "no_data", [b"", b"\0", b"nan\0", b"-inf\0", b"1e999\0", b"1e300\0", b"\xff\xfe\0", b"7,5\0", b"1.5\0"]
)
@pytest.mark.parametrize(("code", "sample"), [("f", FLOAT), ("h", SIGNED), ("H", UNSIGNED)])
def test_a_number_for_nothing_that_is_none_is_ignored(
    decoder: PictureDecoder, code: str, sample: int, no_data: bytes
) -> None:
    """Whatever the tag holds, the picture is the one that it would be without it."""
    assert greys(decoder, height_map([100, 0, 195], code=code, sample=sample, no_data=no_data)) == [100, 0, 195]


def test_a_large_map_is_read_past_what_was_not_measured(decoder: PictureDecoder) -> None:
    """In every part of it."""
    heights = Image.new("F", (300, 700), 100.0)
    for y in (0, 255, 256, 699):
        heights.putpixel((y % 300, y), -9999.0)
    heights.putpixel((7, 500), 195.0)
    shown = decode(decoder.render(encode(heights, "TIFF", tiffinfo={42113: "-9999"}), fit=same).seen_png).convert("L")
    assert [shown.getpixel((y % 300, y)) for y in (0, 255, 256, 699)] == [0] * 4
    assert (shown.getpixel((5, 5)), shown.getpixel((7, 500))) == (100, 195)
