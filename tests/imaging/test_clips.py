"""Clips come out as upright frames at their own times, and what is none is refused in a sentence."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction

import pytest

from qwen_vl_app.chat import Rendition, Size
from qwen_vl_app.errors import ImageTooLargeError, PictureError
from qwen_vl_app.imaging import check_own_form, sniff_clip, to_image_input
from qwen_vl_app.imaging.clip_decoder import ClipDecoder
from qwen_vl_app.imaging.clip_frames import spread
from qwen_vl_app.imaging.clips import ClipFacts, FrameChoice, RenderedClip
from qwen_vl_app.texts import Language, render
from tests.clips import CODECS, grey_of, make_clip, make_sound, make_two_streams
from tests.imaging.conftest import decode


@pytest.fixture(scope="module")
def clips() -> Iterator[ClipDecoder]:
    """A decoder with the app's usual limits, and time enough for a busy machine."""
    made = ClipDecoder(max_bytes=2**26, max_pixels=36_000_000, max_seconds=1200, timeout_s=30)
    yield made
    made.close()


def rendered(clips: ClipDecoder, data: bytes, count: int = 8, size: Size | None = None) -> RenderedClip:
    return clips.render_clip(data, choose=lambda facts: FrameChoice(count, size or facts.size))


def greys(made: RenderedClip) -> list[int]:
    """The grey in the middle of each seen frame."""
    strip, count = decode(made.seen_png), len(made.clip.moments)
    height = strip.height // count
    return [strip.getpixel((strip.width * 3 // 5, height * number + height * 3 // 5))[0] for number in range(count)]  # type: ignore[index]


@pytest.mark.parametrize("kind", sorted(CODECS))
def test_every_container_gives_the_frames_that_the_published_rule_takes(clips: ClipDecoder, kind: str) -> None:
    """At an even rate: `linspace(0, 19, 8)`, rounded, each with its own time."""
    made = rendered(clips, make_clip(kind, with_sound=kind != "avi"))
    taken = [0, 3, 5, 8, 11, 14, 16, 19]
    assert made.facts.frame_count == 20 and made.facts.seconds == pytest.approx(2.0, abs=0.05)
    assert made.clip.moments == pytest.approx([number / 10 for number in taken], abs=0.01)
    assert greys(made) == pytest.approx([grey_of(number) for number in taken], abs=4)


def test_a_clip_of_an_uneven_rate_shows_what_is_on_the_screen_then(clips: ClipDecoder) -> None:
    """A screen recording writes a frame only when something changes."""
    data = make_clip(frames=4, times=[0.0, 0.1, 5.0, 9.0])
    made = rendered(clips, data, count=4)
    assert made.clip.moments == pytest.approx([0.0, 3.0, 6.0, 9.0], abs=0.01)
    assert greys(made) == pytest.approx([grey_of(number) for number in (0, 1, 2, 3)], abs=4)


@pytest.mark.parametrize(("rotation", "corner"), [(90, (0, 1)), (180, (1, 1)), (-90, (1, 0))])
def test_a_turned_clip_stands_upright(clips: ClipDecoder, rotation: int, corner: tuple[int, int]) -> None:
    made = rendered(clips, make_clip(rotation=rotation), count=4)
    image = to_image_input(made.seen_png, made.clip)
    assert made.facts.size == image.size == (Size(96, 64) if rotation == 180 else Size(64, 96))
    first = decode(made.seen_png).crop((0, 0, image.size.width, image.size.height))
    red = first.getpixel((corner[0] * (first.width - 1), corner[1] * (first.height - 1)))
    assert isinstance(red, tuple) and red[0] > 180 and red[1] < 80
    assert [note.code for note in made.facts.notes] == ["clip.turned_upright"]


@pytest.mark.parametrize(("rotation", "corner"), [(0, (1, 0)), (180, (0, 1)), (90, (1, 1)), (-90, (0, 0))])
def test_a_mirrored_clip_is_seen_as_players_show_it(clips: ClipDecoder, rotation: int, corner: tuple[int, int]) -> None:
    """A phone's front camera writes it, and says so in the matrix that turns clips."""
    made = rendered(clips, make_clip(rotation=rotation, is_mirrored=True, frames=4), count=2)
    assert made.facts.size == (Size(64, 96) if rotation in (90, -90) else Size(96, 64))
    first = decode(made.seen_png).crop((0, 0, made.facts.size.width, made.facts.size.height))
    red = first.getpixel((corner[0] * (first.width - 1), corner[1] * (first.height - 1)))
    assert isinstance(red, tuple) and red[0] > 180 and red[1] < 80
    assert [note.code for note in made.facts.notes] == (["clip.turned_upright"] if rotation else [])


def test_frames_behind_a_key_frame_that_are_shown_before_it_cost_nothing(clips: ClipDecoder) -> None:
    """The usual way of HEVC and of broadcasts: an open group of pictures."""
    options = {"x264-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3:b-adapt=0:scenecut=0"}
    made = rendered(clips, make_clip(frames=40, options=options), count=8)
    taken = [0, 6, 11, 17, 22, 28, 33, 39]
    assert made.clip.moments == pytest.approx([number / 10 for number in taken], abs=0.01)
    assert greys(made) == pytest.approx([grey_of(number) for number in taken], abs=4)


def test_wide_light_is_shown_as_a_screen_shows_it(clips: ClipDecoder) -> None:
    """What phones call HDR: white is three quarters of its values, and would be grey."""
    for transfer, number, white in ((18, 21, 230), (16, 16, 230)):  # 75 % of HLG, 58 % of PQ
        black, at_white = greys(rendered(clips, make_clip(frames=number + 1, transfer=transfer), count=2))
        assert black < 30 and at_white > white
    assert greys(rendered(clips, make_clip(frames=22, transfer=1), count=2))[1] == pytest.approx(grey_of(21), abs=4)


def test_the_stream_is_taken_that_players_take(clips: ClipDecoder) -> None:
    made = rendered(clips, make_two_streams(), count=2)
    assert made.facts.frame_count == 20 and greys(made) == pytest.approx([grey_of(0), grey_of(19)], abs=4)


@pytest.mark.parametrize("kind", ["webm", "matroska"])
@pytest.mark.parametrize("begin_s", [5, 3600])
def test_a_clip_that_was_cut_out_of_a_longer_one_begins_at_0(clips: ClipDecoder, kind: str, begin_s: int) -> None:
    made = rendered(clips, make_clip(kind, frames=20, times=[begin_s + number / 10 for number in range(20)]), count=2)
    assert made.clip.moments == pytest.approx([0.0, 1.9], abs=0.01)
    assert made.facts.seconds == pytest.approx(2.0, abs=0.1) and made.facts.notes == ()


def test_nothing_is_missing_where_the_sound_goes_on(clips: ClipDecoder) -> None:
    made = rendered(clips, make_clip("matroska", frames=4, with_sound=True, sound_s=3.0), count=2)
    assert made.facts.seconds == pytest.approx(0.4, abs=0.05) and made.facts.notes == ()


def test_frames_are_made_at_the_seen_size_with_square_pixels(clips: ClipDecoder) -> None:
    assert clips.inspect_clip(make_clip(ratio=Fraction(4, 3))).size == Size(128, 64)
    made = rendered(clips, make_clip(), count=6, size=Size(56, 28))
    image = to_image_input(made.seen_png, made.clip)
    assert image.size == Size(56, 28) and len(image.rgb) == image.byte_count == 6 * 56 * 28 * 3
    assert image.picture_id == made.picture_id
    assert decode(made.view).size == (6 * 56, 28) and decode(made.thumbnail).size == (56, 28)
    strip = Size(56, 6 * 28)
    check_own_form(made.view, Rendition.VIEW, mime="image/jpeg", seen=strip)
    check_own_form(made.seen_png, Rendition.SEEN, mime="image/png", seen=strip)


def test_the_same_frames_at_other_times_are_another_clip(clips: ClipDecoder) -> None:
    slow, fast = (rendered(clips, make_clip("avi", rate=rate), count=4) for rate in (5, 10))
    assert slow.seen_png == fast.seen_png and slow.picture_id != fast.picture_id


def test_a_single_frame_is_a_pair(clips: ClipDecoder) -> None:
    made = rendered(clips, make_clip(frames=1), count=2)
    assert made.clip.moments == (0.0, 0.0)


def test_what_is_missing_at_the_end_is_told(clips: ClipDecoder) -> None:
    whole = make_clip("webm", frames=120)
    made = rendered(clips, whole[: len(whole) // 2], count=4)
    assert made.facts.seconds < 9
    assert [note.code for note in made.facts.notes] == ["clip.ends_early"]


def _hour_in_header() -> bytes:
    """Return a WEBM of two seconds whose header tells of an hour."""
    data = make_clip("webm")
    at = data.index(b"\x44\x89\x88") + 3
    return data[:at] + struct.pack(">d", 3_600_000.0) + data[at + 8 :]


def _without_frames() -> bytes:
    data = make_clip("webm")
    return data[: data.index(b"\x1f\x43\xb6\x75")]


HOSTILE = {
    "cut before its index": (make_clip()[:900], "clip.unreadable"),
    "only a signature": (b"\0\0\0\x18ftypisom" + b"\xff" * 600, "clip.unreadable"),
    "noise behind the header of webm": (make_clip("webm")[:60] + bytes(range(256)) * 8, "clip.unreadable"),
    "sound alone": (make_sound(), "clip.no_video"),
    "an hour in its header": (_hour_in_header(), "clip.too_long"),
    "an hour between two frames": (make_clip(frames=2, times=[0.0, 3600.0]), "clip.too_long"),
    "no frame": (_without_frames(), "clip.unreadable"),
    "empty": (b"", "image.empty"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_clip_is_refused_in_a_sentence(clips: ClipDecoder, name: str) -> None:
    data, code = HOSTILE[name]
    with pytest.raises(PictureError) as refused:
        rendered(clips, data)
    assert refused.value.code == code
    assert all(render(refused.value, language) for language in Language)
    assert clips.inspect_clip(make_clip("avi", frames=2)).frame_count == 2, "the next one works"


def test_damage_in_the_middle_costs_frames_and_never_the_clip(clips: ClipDecoder) -> None:
    data = bytearray(make_clip("webm", frames=60))
    data[len(data) // 2 : len(data) // 2 + 300] = b"\xff" * 300
    made = rendered(clips, bytes(data), count=8)
    assert 2 <= len(made.clip.moments) <= 8


def test_large_frames_and_large_files_are_refused_before_they_are_decoded() -> None:
    small = ClipDecoder(max_bytes=20_000, max_pixels=5_000, max_seconds=1, timeout_s=30)
    try:
        for data, code in (
            (make_clip(frames=5), "image.too_many_pixels"),
            (make_clip(frames=20, size=(64, 64)), "clip.too_long"),
            (b"x" * 30_000, "clip.too_many_bytes"),
        ):
            with pytest.raises(ImageTooLargeError) as refused:
                small.inspect_clip(data)
            assert refused.value.code == code
    finally:
        small.close()


def test_what_the_choice_raises_passes_through_and_the_next_clip_works(clips: ClipDecoder) -> None:
    def choose(facts: ClipFacts) -> FrameChoice:
        raise LookupError

    with pytest.raises(LookupError):
        clips.render_clip(make_clip(), choose=choose)
    assert rendered(clips, make_clip(), count=2).clip.pairs == 1


def test_bytes_decide_what_a_clip_is() -> None:
    kinds = {kind: sniff_clip(make_clip(kind, frames=2)) for kind in CODECS}
    assert kinds == {"mp4": "MP4", "mov": "MOV", "avi": "AVI", "webm": "WEBM", "matroska": "MKV"}
    assert sniff_clip(b"\0\0\0\x20ftypheic" + bytes(64)) is None
    assert sniff_clip(b"\xff\xd8\xff" + bytes(64)) is None and sniff_clip(b"") is None
    assert sniff_clip(b"\0\0\0\x08wide\0\0\0\0mdat") == "MOV"


def test_frames_in_the_middle_between_two_are_rounded_as_the_published_rule_rounds() -> None:
    """`round(linspace(0, 9, 7))` is 0, 2 (of 1.5), 3, 4 (of 4.5), 6, 8 (of 7.5), 9."""
    assert [tick for tick, _ in spread(range(10), 7)] == [0, 2, 3, 4, 6, 8, 9]
