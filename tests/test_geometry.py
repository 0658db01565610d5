"""From a file through the model's numbers to drawing, crop and exports: every pixel is where it should be.

A rectangle of one colour, known to the pixel, stands on pictures of every EXIF orientation and many shapes. The scripted model
says where it is in the space of its family, at every rung of the plan.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from PIL import Image

from qwen_vl_app.answers import PlacedPicture, parse_answer, places_of, places_table, to_coco
from qwen_vl_app.chat import CoordinateSpace, Region, Size
from qwen_vl_app.engine.fake import FAKE_PLAN
from qwen_vl_app.engine.families import smart_resize
from qwen_vl_app.imaging import PictureDecoder, RenderedPicture, crop_region, draw_regions
from qwen_vl_app.imaging.drawing import COLOURS

GROUND, MARK = (40, 60, 80), (250, 250, 250)
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture lies in a file of that orientation."""


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    """The real decoder, with its child."""
    running = PictureDecoder(max_bytes=2**26, max_pixels=100_000_000, timeout_s=60.0)
    running.start()
    yield running
    running.close()


def a_file(size: Size, box: tuple[int, int, int, int], *, orientation: int = 1) -> bytes:
    upright = Image.new("RGB", (size.width, size.height), GROUND)
    upright.paste(MARK, box)
    turn = STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    target = io.BytesIO()
    stored.save(target, "PNG", exif=exif)
    return target.getvalue()


def said(box: tuple[int, int, int, int], size: Size, seen: Size, space: CoordinateSpace) -> str:
    """What a model that sees perfectly would say, in the whole numbers of its family."""
    wide, high = (1000, 1000) if space is CoordinateSpace.THOUSANDTHS else (seen.width, seen.height)
    x1, y1, x2, y2 = box
    numbers = [x1 / size.width * wide, y1 / size.height * high, x2 / size.width * wide, y2 / size.height * high]
    return json.dumps([{"bbox_2d": [round(number) for number in numbers], "label": "mark"}])


def look(decoder: PictureDecoder, data: bytes, *, max_pixels: int) -> tuple[RenderedPicture, Size]:
    sizes: list[Size] = []

    def fit(size: Size) -> Size:
        sizes.append(smart_resize(size, FAKE_PLAN.factor, min_pixels=FAKE_PLAN.min_pixels, max_pixels=max_pixels))
        return sizes[-1]

    return decoder.render(data, name="a.png", fit=fit), sizes[-1]


def check(picture: RenderedPicture, seen: Size, box: tuple[int, int, int, int], space: CoordinateSpace) -> None:
    size = picture.size
    parsed = parse_answer(said(box, size, seen, space), space=space, seen=[seen])
    (region,) = parsed.regions
    found = region.box.to_pixels(size)
    # The model's whole numbers are the only thing that is not exact.
    wide, high = (1000, 1000) if space is CoordinateSpace.THOUSANDTHS else (seen.width, seen.height)
    for got, want, step in zip(found, box, (size.width / wide, size.height / high) * 2, strict=True):
        assert abs(got - want) <= step / 2 + 1

    # Crop, drawing and files: exactly these pixels, all of them.
    view = Image.open(io.BytesIO(picture.view)).convert("RGB")
    assert view.size == (size.width, size.height)
    crop = Image.open(io.BytesIO(crop_region(picture.view, region.box, margin=0)))
    assert crop.size == (found[2] - found[0], found[3] - found[1])
    assert crop.tobytes() == view.crop(found).tobytes()
    drawn = Image.open(io.BytesIO(draw_regions(picture.view, [region], labels=False, as_png=True))).convert("RGB")
    assert _bounds(drawn, COLOURS[0]) == found
    (row,) = places_table(places_of([region]), [PlacedPicture("a.png", size)]).rows
    assert row[3:7] == tuple(str(edge) for edge in found)
    coco = json.loads(json.dumps(to_coco(places_of([region]), [PlacedPicture("a.png", size)])))
    assert coco["annotations"][0]["bbox"] == [found[0], found[1], found[2] - found[0], found[3] - found[1]]


def _bounds(image: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    bands = [band.point([255 if value == wanted else 0 for value in range(256)]) for band, wanted in zip(image.split(), colour, strict=True)]  # fmt: skip
    red, green, blue = bands
    white = Image.new("L", image.size, 255)
    black = Image.new("L", image.size, 0)
    return Image.composite(Image.composite(Image.composite(white, black, red), black, green), black, blue).getbbox()


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_every_orientation(decoder: PictureDecoder, orientation: int) -> None:
    """A photo that lies in its file in any way is upright everywhere, and its boxes with it."""
    size, box = Size(431, 287), (37, 51, 190, 98)
    for space in CoordinateSpace:
        picture, seen = look(decoder, a_file(size, box, orientation=orientation), max_pixels=1280 * 784)
        assert picture.size == size
        assert Image.open(io.BytesIO(picture.view)).convert("RGB").getpixel((37, 51)) == MARK
        assert Image.open(io.BytesIO(picture.view)).convert("RGB").getpixel((36, 50)) == GROUND
        check(picture, seen, box, space)


@pytest.mark.parametrize("rung", FAKE_PLAN.rungs, ids=lambda rung: rung.detail.value)
@pytest.mark.parametrize("size", [Size(1600, 90), Size(90, 1600), Size(997, 1003), Size(57, 31)], ids=str)
def test_every_rung_and_shape(decoder: PictureDecoder, rung: object, size: Size) -> None:
    """Long strips, tall ones, odd sizes and pictures smaller than the model wants, seen coarsely or finely."""
    box = (size.width // 7, size.height // 5, size.width // 7 + size.width // 3, size.height // 5 + size.height // 2)
    picture, seen = look(decoder, a_file(size, box), max_pixels=rung.max_pixels)  # type: ignore[attr-defined]
    for space in CoordinateSpace:
        check(picture, seen, box, space)


def test_edges_and_single_pixels(decoder: PictureDecoder) -> None:
    """The whole picture, its last pixel, and a box thinner than a pixel each have at least the one pixel they should."""
    size = Size(200, 100)
    picture, _ = look(decoder, a_file(size, (0, 0, 1, 1)), max_pixels=1280 * 784)
    wanted = {(0, 0, 1000, 1000): (0, 0, 200, 100), (999, 999, 1000, 1000): (199, 99, 200, 100), (500, 0, 501, 10): (100, 0, 101, 1)}  # fmt: skip
    for numbers, pixels in wanted.items():
        text = json.dumps([{"bbox_2d": list(numbers)}])
        (region,) = parse_answer(text, space=CoordinateSpace.THOUSANDTHS, seen=[size]).regions
        assert region.box.to_pixels(size) == pixels
        crop = Image.open(io.BytesIO(crop_region(picture.view, region.box, margin=0)))
        assert crop.size == (pixels[2] - pixels[0], pixels[3] - pixels[1])


def test_a_corner_of_the_seen_picture_is_the_corner_of_the_original() -> None:
    """x and y scale apart: on a 12 megapixel photo by 3.512 and 3.600, not by one number."""
    size, seen = Size(4032, 3024), Size(1148, 840)
    text = json.dumps([{"bbox_2d": [574, 420, 1148, 840]}])
    (region,) = parse_answer(text, space=CoordinateSpace.SEEN_PIXELS, seen=[seen]).regions
    assert region.box.to_pixels(size) == (2016, 1512, 4032, 3024)
    assert isinstance(region, Region)
