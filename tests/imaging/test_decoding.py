"""Every kind of file becomes the picture that a person would see."""

from __future__ import annotations

import hashlib
import io
import random
from typing import Any

import pillow_heif
import pypdfium2
import pytest
from PIL import Image, ImageCms, ImageDraw

from qwen_vl_app.chat import Size
from qwen_vl_app.errors import Reason
from qwen_vl_app.imaging import PictureDecoder, picture_id, to_image_input

from .conftest import decode, encode, same

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 160, 40), (30, 40, 200), (230, 210, 40)


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """A picture whose corners tell how it stands: red, green, blue, yellow from the upper left by rows."""
    image = Image.new("RGB", (width, height), RED)
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill=GREEN)
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill=BLUE)
    draw.rectangle((width // 2, height // 2, width, height), fill=YELLOW)
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours in the middle of each quarter, by rows."""
    width, height = image.size
    places = [(width // 4, height // 4), (3 * width // 4, height // 4)]
    places += [(width // 4, 3 * height // 4), (3 * width // 4, 3 * height // 4)]
    return [pixel(image, place) for place in places]


def pixel(image: Image.Image, place: tuple[int, int]) -> tuple[int, ...]:
    value = image.convert("RGB").getpixel(place)
    assert isinstance(value, tuple)
    return tuple(int(part) for part in value)


def is_near(got: tuple[int, ...], wanted: tuple[int, ...], *, within: int = 12) -> bool:
    return all(abs(a - b) <= within for a, b in zip(got, wanted, strict=True))


def codes(notes: tuple[Reason, ...]) -> set[str]:
    return {note.code for note in notes}


def heic(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


def seen(decoder: PictureDecoder, data: bytes, **options: Any) -> Image.Image:
    """What the model would see at the original's own size."""
    return decode(decoder.render(data, fit=same, **options).seen_png)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF"])
def test_every_format_shows_its_picture(decoder: PictureDecoder, name: str) -> None:
    """The four quarters have their colours, at the picture's own size, in all three renditions."""
    data = heic(quarters()) if name == "HEIF" else encode(quarters(), name, quality=95)
    picture = decoder.render(data, name=f"a.{name.lower()}", fit=same)
    assert picture.format == name
    assert picture.size == Size(64, 48)
    assert (picture.page, picture.page_count, picture.notes) == (0, 1, ())
    for rendition in (picture.view, picture.thumbnail, picture.seen_png):
        shown = decode(rendition)
        assert shown.size == (64, 48) and shown.mode == "RGB"
        for got, wanted in zip(corners(shown), [RED, GREEN, BLUE, YELLOW], strict=True):
            assert is_near(got, wanted, within=20), (name, got, wanted)


TURNED = {  # how a camera stored the upright picture, by its EXIF orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_stands_upright(decoder: PictureDecoder, name: str, orientation: int) -> None:
    """Red is at the upper left whatever way the camera was held, and the size is the upright one."""
    turn = TURNED[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decoder.render(encode(stored, name, exif=exif, quality=95), fit=same)
    assert picture.size == Size(64, 48)
    for rendition in (picture.view, picture.thumbnail, picture.seen_png):
        for got, wanted in zip(corners(decode(rendition)), [RED, GREEN, BLUE, YELLOW], strict=True):
            assert is_near(got, wanted, within=20)
    assert codes(picture.notes) == ({"image.turned_upright"} if orientation > 1 else set())


def test_a_turned_heic_stands_upright_once(decoder: PictureDecoder) -> None:
    """HEIC turns by its own box, and its EXIF says the same again: the picture is turned once."""
    pillow_heif.register_heif_opener()
    stored = quarters().transpose(Image.Transpose.ROTATE_90)
    shown = seen(decoder, encode(stored, "HEIF", exif=_turned_by(6).tobytes(), quality=95))
    assert shown.size == (64, 48)
    assert is_near(corners(shown)[0], RED, within=20) and is_near(corners(shown)[1], GREEN, within=20)


def test_broken_exif_does_not_spoil_the_picture(decoder: PictureDecoder) -> None:
    """Camera data cut short, of silly offsets or of no sense at all leaves a good picture good."""
    good = Image.Exif()
    good[0x0112] = 6
    tail = good.tobytes()
    for exif in (tail[:-6], b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        picture = decoder.render(encode(quarters(), "JPEG", exif=exif), fit=same)
        assert picture.size in (Size(64, 48), Size(48, 64))
    absurd = Image.Exif()
    absurd[0x0112] = 99
    assert decoder.render(encode(quarters(), "JPEG", exif=absurd), fit=same).notes == ()


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_sixteen_bit_greys_keep_their_shades(decoder: PictureDecoder, name: str) -> None:
    """The full range of 16 bits becomes the full range of 8, and is not clipped to white."""
    values = [0, 257, 16448, 32896, 49344, 65535]
    image = Image.new("I;16", (len(values), 1))
    image.putdata(values)
    picture = decoder.render(encode(image, name), fit=same)
    assert [pixel(decode(picture.seen_png), (at, 0))[0] for at in range(6)] == [0, 1, 64, 128, 192, 255]
    assert codes(picture.notes) == {"image.sixteen_bit"}


def test_twelve_bits_in_sixteen_are_not_black(decoder: PictureDecoder) -> None:
    """Measuring cameras store 12 bits in a TIFF of 16."""
    image = Image.new("I;16", (3, 1))
    image.putdata([0, 2048, 4095])
    assert [pixel(seen(decoder, encode(image, "TIFF")), (at, 0))[0] for at in range(3)] == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
        ([float("nan"), 0.5, 1.0], [0, 128, 255]),
    ],
)
def test_float_pictures_become_greys(decoder: PictureDecoder, values: list[float], wanted: list[int]) -> None:
    """Numbers from 0 to 1, of 8 bits or of any range become shades, also where some are missing."""
    image = Image.new("F", (3, 1))
    image.putdata(values)
    picture = decoder.render(encode(image, "TIFF"), fit=same)
    shown = [pixel(decode(picture.seen_png), (at, 0))[0] for at in range(3)]
    assert all(abs(got - want) <= 1 for got, want in zip(shown, wanted, strict=True)), shown
    assert codes(picture.notes) == {"image.values_scaled"}


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_transparency_lies_over_white(decoder: PictureDecoder, name: str) -> None:
    """What is not there is white, and what is half there is half as strong: never the colour hidden beneath."""
    image = Image.new("RGBA", (60, 20), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (20, 0, 40, 20))
    image.paste((0, 0, 0, 128), (40, 0, 60, 20))
    options = {"lossless": True} if name == "WEBP" else {}
    data = heic(image) if name == "HEIF" else encode(image, name, **options)
    picture = decoder.render(data, fit=same)
    shown = decode(picture.seen_png)
    assert is_near(pixel(shown, (8, 10)), (255, 255, 255))
    assert is_near(pixel(shown, (30, 10)), (200, 0, 0), within=20)
    assert is_near(pixel(shown, (50, 10)), (127, 127, 127))
    assert codes(picture.notes) == {"image.flattened"}


@pytest.mark.parametrize("ink", [(255, 255, 255), (245, 245, 240), (238, 242, 246)])
@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_light_writing_without_a_ground_lies_over_black(
    decoder: PictureDecoder, name: str, ink: tuple[int, int, int]
) -> None:
    """White would swallow it: programs with a dark look save drawings so."""
    image = Image.new("RGBA", (60, 20), (*ink, 0))
    image.paste((*ink, 255), (20, 0, 40, 20))
    picture = decoder.render(encode(image, name, **({"lossless": True} if name == "WEBP" else {})), fit=same)
    shown = decode(picture.seen_png)
    assert is_near(pixel(shown, (8, 10)), (0, 0, 0))
    assert is_near(pixel(shown, (30, 10)), ink)
    assert codes(picture.notes) == {"image.flattened_dark"}


@pytest.mark.parametrize("ink", [(255, 255, 0), (210, 210, 210), (120, 220, 255)])
def test_a_light_colour_stays_on_white(decoder: PictureDecoder, ink: tuple[int, int, int]) -> None:
    """It can be read there, and white is what everybody expects."""
    image = Image.new("RGBA", (60, 20), (*ink, 0))
    image.paste((*ink, 255), (20, 0, 40, 20))
    shown = decode(decoder.render(encode(image, "PNG"), fit=same).seen_png)
    assert is_near(pixel(shown, (8, 10)), (255, 255, 255))
    assert is_near(pixel(shown, (30, 10)), ink)


def test_a_little_dark_writing_among_light_stays_on_white(decoder: PictureDecoder) -> None:
    """A white sheet with a line of print and cut-off corners is a sheet."""
    image = Image.new("RGBA", (200, 200), (255, 255, 255, 255))
    image.paste((20, 20, 20, 255), (50, 100, 90, 101))
    image.paste((0, 0, 0, 0), (0, 0, 10, 10))
    picture = decoder.render(encode(image, "PNG"), fit=same)
    assert is_near(pixel(decode(picture.seen_png), (5, 5)), (255, 255, 255))
    assert codes(picture.notes) == {"image.flattened"}


def test_a_picture_that_is_transparent_all_over_says_so(decoder: PictureDecoder) -> None:
    """Nobody sees what its colours hide, and the white sheet is explained."""
    picture = decoder.render(encode(Image.new("RGBA", (60, 20), (200, 0, 0, 0)), "PNG"), fit=same)
    assert is_near(pixel(decode(picture.seen_png), (30, 10)), (255, 255, 255))
    assert codes(picture.notes) == {"image.all_transparent"}


def test_transparency_of_palettes_and_keys_lies_over_white(decoder: PictureDecoder) -> None:
    """A palette's transparent entry, a colour that means "nothing" and grey with alpha are white as well."""
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putdata([0, 1])
    grey = Image.new("L", (2, 1))
    grey.putdata([0, 90])
    with_alpha = Image.new("LA", (2, 1))
    with_alpha.putdata([(0, 0), (90, 255)])
    deep = Image.new("I;16", (2, 1))
    deep.putdata([0, 90 * 257])
    for data, wanted in (
        (encode(palette, "PNG", transparency=0), (200, 0, 0)),
        (encode(palette, "GIF", transparency=0), (200, 0, 0)),
        (encode(grey, "PNG", transparency=0), (90, 90, 90)),
        (encode(with_alpha, "PNG"), (90, 90, 90)),
        (encode(deep, "PNG", transparency=0), (90, 90, 90)),
    ):
        shown = seen(decoder, data)
        assert pixel(shown, (0, 0)) == (255, 255, 255)
        assert pixel(shown, (1, 0)) == wanted


def test_an_opaque_alpha_is_not_worth_a_word(decoder: PictureDecoder) -> None:
    """A screenshot has an alpha channel that says nothing; so does its note."""
    assert decoder.render(encode(quarters().convert("RGBA"), "PNG"), fit=same).notes == ()


def test_one_bit_and_cmyk_and_lab_keep_their_colours(decoder: PictureDecoder) -> None:
    """Black stays black, white white, and print colours look like their names."""
    bits = Image.new("1", (2, 1))
    bits.putdata([0, 255])
    shown = seen(decoder, encode(bits, "TIFF", compression="group4"))
    assert [pixel(shown, (at, 0)) for at in (0, 1)] == [(0, 0, 0), (255, 255, 255)]
    cmyk = Image.new("CMYK", (40, 16), (0, 0, 0, 0))
    cmyk.paste((255, 0, 0, 0), (20, 0, 40, 16))
    for name in ("JPEG", "TIFF"):
        shown = seen(decoder, encode(cmyk, name, quality=95))
        assert is_near(pixel(shown, (5, 8)), (255, 255, 255))
        assert pixel(shown, (35, 8))[0] < 60 < pixel(shown, (35, 8))[2], name
    lab = Image.new("LAB", (2, 1), (255, 128, 128))
    assert is_near(pixel(seen(decoder, encode(lab, "TIFF")), (0, 0)), (255, 255, 255))


def test_a_broken_profile_is_ignored_and_a_good_one_used(decoder: PictureDecoder) -> None:
    """Colours stay as they are with a profile of noise; a profile that swaps nothing changes nothing."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (b"noise" * 50, srgb, srgb[: len(srgb) // 2]):
        shown = seen(decoder, encode(quarters(), "PNG", icc_profile=profile))
        assert is_near(corners(shown)[0], RED, within=3)
    grey_profile_on_colour = srgb[:16] + b"GRAY" + srgb[20:]
    assert is_near(corners(seen(decoder, encode(quarters(), "PNG", icc_profile=grey_profile_on_colour)))[0], RED)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(decoder: PictureDecoder, name: str) -> None:
    """The first of several is shown, and the note says of how many."""
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, GREEN, BLUE)]
    data = encode(frames[0], name, save_all=True, append_images=frames[1:], lossless=True)
    picture = decoder.render(data, fit=same)
    assert is_near(pixel(decode(picture.seen_png), (10, 10)), RED)
    assert picture.notes == (Reason("image.first_frame", count=3),)
    assert picture.page_count == 1


@pytest.mark.parametrize("name", ["TIFF", "PDF"])
def test_pages_can_be_chosen(decoder: PictureDecoder, name: str) -> None:
    """The first page is taken unless another is named, and what is taken is told."""
    pages = [Image.new("RGB", (40, 30), colour) for colour in (RED, GREEN, BLUE)]
    data = encode(pages[0], name, save_all=True, append_images=pages[1:])
    for page, wanted in ((0, RED), (1, GREEN), (2, BLUE)):
        picture = decoder.render(data, page=page, fit=lambda _: Size(28, 28))
        assert is_near(pixel(decode(picture.seen_png), (14, 14)), wanted)
        assert (picture.page, picture.page_count) == (page, 3)
        assert picture.notes == (Reason("image.page_of", page=page + 1, count=3),)
        assert decoder.inspect(data, page=page).page == page


@pytest.mark.parametrize(("width", "height"), [(2000, 1000), (20, 60), (3, 2)])
def test_a_pdf_page_is_rendered_at_one_size_whatever_its_paper(
    decoder: PictureDecoder, width: int, height: int
) -> None:
    """About 4 megapixels by the page's own aspect ratio, for a poster and for a stamp."""
    facts = decoder.inspect(encode(Image.new("RGB", (width, height), RED), "PDF"))
    assert facts.format == "PDF"
    assert 3_900_000 <= facts.size.pixels <= 4_100_000
    assert abs(facts.size.width / facts.size.height - width / height) < 0.02 * width / height


@pytest.mark.parametrize("cut", [(300, 300, 400, 400), (200, 0, 400, 100)])
def test_a_pdf_page_cut_to_a_place_beside_it_is_shown_whole(
    decoder: PictureDecoder, cut: tuple[int, int, int, int]
) -> None:
    """Viewers then show the page as it is on its paper."""
    document = pypdfium2.PdfDocument(encode(Image.new("RGB", (200, 100), RED), "PDF", resolution=72))
    document[0].set_cropbox(*cut)
    buffer = io.BytesIO()
    document.save(buffer)
    document.close()
    picture = decoder.render(buffer.getvalue(), fit=lambda _: Size(56, 28))
    assert abs(picture.size.width / picture.size.height - 2) < 0.02
    assert is_near(pixel(decode(picture.seen_png), (28, 14)), RED)


def test_the_seen_picture_is_the_upright_one_resized_by_bicubic(decoder: PictureDecoder) -> None:
    """The model gets exactly Pillow's bicubic reduction, and the id is the hash of its size and bytes."""
    noise = Image.frombytes("RGB", (300, 200), random.Random(7).randbytes(300 * 200 * 3))
    asked: list[Size] = []

    def fit(size: Size) -> Size:
        asked.append(size)
        return Size(112, 84)

    picture = decoder.render(encode(noise, "PNG"), fit=fit)
    wanted = noise.resize((112, 84), Image.Resampling.BICUBIC)
    assert asked == [Size(300, 200)]
    assert decode(picture.seen_png).tobytes() == wanted.tobytes()
    assert picture.picture_id == hashlib.sha256(b"112x84:" + wanted.tobytes()).hexdigest() == picture_id(wanted)
    seen_input = to_image_input(picture.seen_png)
    assert (seen_input.picture_id, seen_input.size, seen_input.rgb) == (
        picture.picture_id,
        Size(112, 84),
        wanted.tobytes(),
    )


def test_one_picture_in_two_files_has_one_id(decoder: PictureDecoder) -> None:
    """The id is of the pixels, not of the file; another size or another pixel is another id."""
    as_png, as_bmp = encode(quarters(), "PNG"), encode(quarters(), "BMP")
    changed = quarters()
    changed.putpixel((0, 0), (0, 0, 0))
    ids = [decoder.render(data, fit=same).picture_id for data in (as_png, as_bmp, encode(changed, "PNG"))]
    assert ids[0] == ids[1] != ids[2]
    assert decoder.render(as_png, fit=lambda _: Size(28, 28)).picture_id != ids[0]


def test_views_are_for_browsers_and_thumbnails_small(decoder: PictureDecoder) -> None:
    """Photographs come as JPEG, drawings stay lossless, thumbnails have 320 pixels along the longer side."""
    noise = Image.frombytes("RGB", (1600, 900), random.Random(7).randbytes(1600 * 900 * 3))
    photo = decoder.render(encode(noise, "PNG", compress_level=1), fit=same)
    assert photo.view_mime == "image/jpeg" and decode(photo.view).format == "JPEG"
    drawing = decoder.render(encode(quarters(1600, 900), "PNG"), fit=same)
    assert drawing.view_mime == "image/png"
    assert decode(drawing.view).tobytes() == quarters(1600, 900).tobytes()
    assert decode(photo.thumbnail).format == "JPEG" and decode(photo.thumbnail).size == (320, 180)


def test_a_very_large_jpeg_keeps_its_size_and_shows_less(decoder: PictureDecoder) -> None:
    """Its boxes refer to all of its pixels; the view has as many as a browser bears."""
    data = encode(quarters(9600, 7200).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=_turned_by(6))
    picture = decoder.render(data, fit=lambda _: Size(560, 420))
    assert picture.size == Size(9600, 7200)
    view = decode(picture.view)
    assert 16_000_000 < view.width * view.height <= 24_000_000
    for got, wanted in zip(corners(decode(picture.seen_png)), [RED, GREEN, BLUE, YELLOW], strict=True):
        assert is_near(got, wanted)


def _turned_by(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
