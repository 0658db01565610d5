"""Times in answers about clips, in the forms that both families write; anything else is left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_vl_app.answers import parse_answer
from qwen_vl_app.answers.moments import times_in
from qwen_vl_app.chat import CoordinateSpace, Moment, Size


def moments(text: str, seconds: float = 120.0) -> tuple[Moment, ...]:
    parsed = parse_answer(text, space=CoordinateSpace.SEEN_PIXELS, seen=(Size(28, 28),), clip_seconds=seconds)
    assert parsed.regions == ()
    return parsed.moments


@pytest.mark.parametrize(
    ("text", "start", "end", "label"),
    [
        ("00:03 - 00:05 The lamp turns red", 3, 5, "The lamp turns red"),
        ("- **00:03–00:05**: the lamp turns red.", 3, 5, "the lamp turns red"),
        ("From 00:03.25 to 00:05.50, the lamp is red", 3.25, 5.5, "the lamp is red"),
        ("The lamp turns red at 3.2s.", 3.2, None, "The lamp turns red at"),
        ("<3.2 seconds> the lamp turns red", 3.2, None, "the lamp turns red"),
        ("At 3 seconds the lamp turns red", 3, None, "the lamp turns red"),
        ("3.2 - 5.1 seconds: red", 3.2, 5.1, "red"),
        ("[00:00:03] - [00:01:05] red", 3, 65, "red"),
        ("1 min 5 s: red", 65, None, "red"),
        ("从3.2秒到5秒，灯变红", 3.2, 5, "灯变红"),
        ("第1分5秒 灯变红", 65, None, "灯变红"),
        ('[{"start": "00:03.25", "end": "00:05.50", "event": "red"}]', 3.25, 5.5, "red"),
        ('```json\n[{"start_time": 3.2, "end_time": 5, "description": "red"},]\n```', 3.2, 5, "red"),
        ('{"events": [{"timestamp": "00:03 - 00:05", "label": "red"}]}', 3, 5, "red"),
        ('[{"timestamps": [3.2, 5.1], "caption": "red"}]', 3.2, 5.1, "red"),
        ('[{"time": "3.2", "event": "red"}]', 3.2, None, "red"),
        ("00:05 - 00:03 red", 3, 5, "red"),
    ],
)
def test_published_forms(text: str, start: float, end: float | None, label: str) -> None:
    assert moments(text) == (Moment(start, end, label),)


def test_several_times_keep_their_order_and_their_words() -> None:
    text = "1. 00:07 - 00:09: off\n2. 00:01: on, then 00:04 blinking\nNothing else."
    assert moments(text) == (Moment(7, 9, "off"), Moment(1, None, "on, then"), Moment(4, None, "blinking"))


@pytest.mark.parametrize(
    "text",
    [
        "The lamp is on for 3 seconds.", "It lasts 12 s.", "持续3秒", "A picture of 16:9 and 1080p.", "3 lamps, 5 gauges",
        "TEMP 3.2", "12:30:05 stands on the wall clock", "v3.2s5", "00:03:04:05", "",
    ],
)  # fmt: skip
def test_what_is_no_time_of_the_clip_is_left_alone(text: str) -> None:
    assert moments(text) == ()


def test_a_time_behind_the_end_is_the_end_or_nothing() -> None:
    assert moments("0:10 - 0:12.5 end\n0:59 never", seconds=12.0) == (Moment(10, 12, "end"),)
    assert moments("12.6 s: end", seconds=12.0) == (Moment(12, None, "end"),)


def test_without_a_clip_nothing_is_a_time() -> None:
    assert parse_answer("at 00:03", space=CoordinateSpace.THOUSANDTHS, seen=()).moments == ()


@given(st.text(max_size=300) | st.from_regex(r"([0-9:.\- s秒到to\[\]{}\",a-z]{0,60}\n){0,4}", fullmatch=True))
def test_nothing_raises_and_everything_lies_in_the_clip(text: str) -> None:
    for moment in moments(text, seconds=60.0):
        assert 0 <= moment.start_s <= 60 and (moment.end_s is None or moment.start_s < moment.end_s <= 60)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("at 0:07 it stops", [("0:07", 7.0)]),
        ("00:01 - 00:02 The corner is red.", [("00:01 - 00:02", 1.0)]),
        ("[00:01] - [00:02] red", [("00:01", 1.0)]),
        ("第3秒到第5秒", [("3秒", 3.0), ("5秒", 5.0)]),
        ("from 2 to 4 seconds, then 1 minute 5 s", [("2 to 4 seconds", 2.0)]),
        ("it lasts for 5 seconds", []),
        ("at 9:59", []),  # behind the end
        ("ratio 16:9 and version 1.2", []),
    ],
)
def test_where_times_stand_in_a_line(line: str, found: list[tuple[str, float]]) -> None:
    """To be made links of: the words as they stand, and the second that they mean."""
    assert [(line[start:end], second) for start, end, second in times_in(line, seconds=30.0)] == found


def test_many_times_in_one_line_are_found_at_once() -> None:
    """A model that repeats itself writes thousands; the words before each are looked at, and not all of the line."""
    line = "00:01 " * 8000
    began = time.thread_time()
    assert len(list(times_in(line, seconds=60.0))) == 8000
    assert time.thread_time() - began < 3  # with all of the line, ten and more
    assert not list(times_in(f"{'word ' * 100}lasting 00:01", seconds=60.0))
