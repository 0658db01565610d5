"""Boxes and labels land where they belong, can be told apart and read, and odd regions never stop a picture."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qwen_vl_app.chat import Box, Region
from qwen_vl_app.errors import UnreadableImageError
from qwen_vl_app.imaging import blank_outside, crop_region, draw_regions, drawing, fonts

from .conftest import decode, encode

GROUND = (90, 90, 90)
VIEW = encode(Image.new("RGB", (400, 300), GROUND), "PNG")
MIDDLE = Box(0.25, 0.3, 0.75, 0.7)


def changed(data: bytes, ground: tuple[int, int, int] = GROUND) -> set[tuple[int, int]]:
    """Where something was drawn."""
    image = decode(data).convert("RGB")
    pixels = image.load()
    assert pixels is not None
    return {(x, y) for x in range(image.width) for y in range(image.height) if pixels[x, y] != ground}


def test_a_box_is_drawn_on_its_edges_and_not_inside() -> None:
    """The picture in the box stays visible."""
    drawn = changed(draw_regions(VIEW, [Region(MIDDLE, "a")], labels=False))
    assert {(100, 150), (299, 150), (200, 90), (200, 209)} <= drawn
    assert not any(110 < x < 290 and 100 < y < 200 for x, y in drawn)
    assert not any(x < 95 or x > 305 or y < 85 or y > 215 for x, y in drawn)


def test_a_point_is_a_spot() -> None:
    """A point is drawn around itself."""
    drawn = changed(draw_regions(VIEW, [Region(Box(0.5, 0.5, 0.5, 0.5), "")]))
    assert (200, 150) in drawn and all(abs(x - 200) < 20 and abs(y - 150) < 20 for x, y in drawn)


def test_labels_of_one_name_share_a_colour_and_others_differ() -> None:
    """Colours tell kinds apart, from a palette for every kind of colour vision."""
    places = [Box(0.1, 0.5, 0.2, 0.6), Box(0.4, 0.5, 0.5, 0.6), Box(0.7, 0.5, 0.8, 0.6)]
    image = decode(
        draw_regions(VIEW, [Region(place, name) for place, name in zip(places, "aba", strict=True)], labels=False)
    ).convert("RGB")
    edges = [image.getpixel((round(place.x1 * 400), 165)) for place in places]
    assert edges[0] == edges[2] != edges[1]
    assert set(edges) <= set(drawing.COLOURS)


@pytest.mark.parametrize("box", [Box(0, 0, 0.1, 0.1), Box(0.9, 0.9, 1, 1), Box(0, 0, 1, 1), Box(0.95, 0, 1, 0.05)])
def test_a_label_stays_inside_the_picture(box: Box) -> None:
    """At every edge there is as much of the label as in the middle."""
    with_label = len(changed(draw_regions(VIEW, [Region(box, "Wheel nut")])))
    box_alone = len(changed(draw_regions(VIEW, [Region(box, "Wheel nut")], labels=False)))
    middle = len(changed(draw_regions(VIEW, [Region(MIDDLE, "Wheel nut")])))
    middle_alone = len(changed(draw_regions(VIEW, [Region(MIDDLE, "Wheel nut")], labels=False)))
    assert with_label - box_alone > 0.75 * (middle - middle_alone)


def test_labels_can_be_left_out_and_the_result_made_smaller() -> None:
    """What a page shows need not have every pixel."""
    assert decode(draw_regions(VIEW, [Region(MIDDLE, "a")], max_side=100)).size == (100, 75)
    assert decode(draw_regions(VIEW, [], max_side=4000)).size == (400, 300)
    assert not changed(draw_regions(VIEW, []))


def test_the_format_stays() -> None:
    """A JPEG comes back as a JPEG, and a PNG as a PNG."""
    jpeg = encode(Image.new("RGB", (400, 300), GROUND), "JPEG")
    assert decode(draw_regions(jpeg, [Region(MIDDLE, "a")])).format == "JPEG"
    assert decode(draw_regions(VIEW, [Region(MIDDLE, "a")])).format == "PNG"
    assert decode(crop_region(jpeg, MIDDLE)).format == "JPEG"


def test_chinese_labels_are_written_or_degrade() -> None:
    """With a font of the machine the characters differ from one another; the picture is drawn either way."""
    one, two = (draw_regions(VIEW, [Region(MIDDLE, label)]) for label in ("扳手", "螺丝"))
    assert decode(one).size == decode(two).size == (400, 300)
    if fonts.cjk_font_file() is not None:
        assert one != two


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' fonts are known by name")
def test_a_chinese_font_of_another_name_is_found_where_the_system_lists_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is listed and cannot be opened is passed over, and so is a list that does not come."""
    real = fonts.cjk_font_file.__wrapped__()
    if real is None:
        pytest.skip("there is no Chinese font on this machine")
    other = tmp_path / "A font of ours.ttc"
    other.write_bytes(Path(real).read_bytes())
    (tmp_path / "a broken one.ttf").write_bytes(b"no font")
    listed = tmp_path / "fc-list"
    lines = "".join(f"{name}: \\n" for name in (tmp_path / "a broken one.ttf", tmp_path / "old.pcf.gz", other))
    listed.write_text(f"#!/bin/sh\nprintf '{lines}'\n", encoding="utf-8")
    listed.chmod(0o755)
    monkeypatch.setattr(fonts, "_CJK_FILES", ("/nowhere/font.ttc",))
    monkeypatch.setattr(shutil, "which", lambda name: str(listed))
    assert fonts.cjk_font_file.__wrapped__() == str(other)
    listed.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    assert fonts.cjk_font_file.__wrapped__() is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert fonts.cjk_font_file.__wrapped__() is None


def test_without_a_chinese_font_a_label_is_still_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that can be written is, the rest is a question mark."""
    monkeypatch.setattr(fonts, "cjk_font_file", lambda: None)
    assert fonts.writable("M8 螺丝") == "M8 ??"
    assert len(changed(draw_regions(VIEW, [Region(MIDDLE, "M8 螺丝")]))) > len(
        changed(draw_regions(VIEW, [Region(MIDDLE, "M8 螺丝")], labels=False))
    )


ODD = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(ODD, ODD, ODD, ODD, st.text(max_size=80)), max_size=6),
    st.sampled_from([(1, 1), (7, 300), (60, 40)]),
)
def test_odd_regions_never_raise(regions: list[tuple[float, float, float, float, str]], size: tuple[int, int]) -> None:
    """Outside, upside down, endless, not a number, with labels of any text, on pictures of any shape."""
    view = encode(Image.new("RGB", size), "PNG")
    drawn = draw_regions(view, [Region(Box(*region[:4]), region[4]) for region in regions])
    assert decode(drawn).size == size
    for region in regions:
        cropped = decode(crop_region(view, Box(*region[:4])))
        assert 1 <= cropped.width <= size[0] and 1 <= cropped.height <= size[1]


def test_a_crop_is_the_box_with_its_margin() -> None:
    """Without a margin the crop has the box's pixels; with one it shows what is around, as far as there is any."""
    image = Image.new("RGB", (200, 100), GROUND)
    image.paste((200, 0, 0), (50, 20, 150, 80))
    view = encode(image, "PNG")
    exact = decode(crop_region(view, Box(0.25, 0.2, 0.75, 0.8), margin=0))
    assert abs(exact.width - 100) <= 2 and abs(exact.height - 60) <= 2
    assert exact.getpixel((50, 30)) == (200, 0, 0)
    wider = decode(crop_region(view, Box(0.25, 0.2, 0.75, 0.8), margin=0.1))
    assert abs(wider.width - 120) <= 3 and wider.getpixel((0, 0)) == GROUND
    assert decode(crop_region(view, Box(0, 0, 1, 1), margin=5)).size == (200, 100)
    assert decode(crop_region(view, Box(math.nan, 0, 1, 1))).size == (200, 100)


def test_a_damaged_view_is_an_error_of_ours() -> None:
    """Only the picture itself can be wrong."""
    with pytest.raises(UnreadableImageError):
        draw_regions(b"no picture", [])
    with pytest.raises(UnreadableImageError):
        crop_region(VIEW[:60], MIDDLE)


def test_each_label_may_carry_its_number() -> None:
    """Numbers are the regions' places in the list, with a label or alone, and a region that is no number keeps its place."""
    regions = [Region(Box(math.nan, 0, 1, 1), "a"), Region(MIDDLE, "a")]
    numbered = draw_regions(VIEW, regions, numbers=True)
    assert numbered == draw_regions(VIEW, [Region(MIDDLE, "2 a")])
    assert numbered != draw_regions(VIEW, regions)
    alone = draw_regions(VIEW, regions, labels=False, numbers=True)
    assert alone == draw_regions(VIEW, [Region(MIDDLE, "2")])


def test_a_label_that_cannot_be_written_at_all_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of question marks tells nobody which is which."""
    monkeypatch.setattr(fonts, "cjk_font_file", lambda: None)
    assert draw_regions(VIEW, [Region(MIDDLE, "螺丝")]) == draw_regions(VIEW, [Region(MIDDLE, "1")])
    assert draw_regions(VIEW, [Region(MIDDLE, "???")]) != draw_regions(VIEW, [Region(MIDDLE, "1")])


def test_outside_a_box_nothing_is_left_but_the_ground() -> None:
    """The crop keeps its place and its size; everything else has the colour that most of the crop has."""
    image = Image.new("RGB", (200, 100), (250, 240, 230))
    image.paste((0, 0, 0), (100, 40, 110, 60))
    image.paste((255, 0, 0), (0, 0, 40, 40))
    shown = decode(blank_outside(encode(image, "PNG"), Box(0.4, 0.3, 0.7, 0.7), margin=0.0)).convert("RGB")
    assert shown.size == (200, 100)
    assert shown.getpixel((10, 10)) == (250, 240, 230)
    assert shown.getpixel((105, 50)) == (0, 0, 0)
