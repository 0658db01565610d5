"""What the browser's part of a clip is told: addresses where it is kept, the frames where it is not, and times to go to."""

from __future__ import annotations

import pytest

from qwen_vl_app.chat import Clip, Detail, Moment, SeenSize, Size, StagedPicture
from qwen_vl_app.texts import Language
from qwen_vl_app.ui.clip_view import clip_data, clock
from qwen_vl_app.ui.pictures import ShownPicture, sizes_line, staged_picture
from qwen_vl_app.ui.words import Words

CLIP = Clip(65.2, (0.0, 20.0, 40.0, 65.16))
SEEN = SeenSize(Size(280, 140), 100, Detail.BALANCED)


def staged() -> ShownPicture:
    picture = StagedPicture(
        staged_id="s", picture_id="p", name="press.mp4", format="MP4", size=Size(1920, 960), seen=SEEN, upload=b"u",
        view=b"v", view_mime="image/jpeg", thumbnail=b"t", seen_png=b"s", clip=CLIP,
    )  # fmt: skip
    return staged_picture(picture)


def test_a_clip_that_is_not_kept_is_shown_as_its_frames() -> None:
    data = clip_data(staged(), CLIP, (), Words(Language.ENGLISH))
    assert data["player"] == "" and data["sheet"].startswith("data:image/jpeg;base64,")
    assert "not kept" in data["labels"]["problem"]
    assert [frame["time"] for frame in data["frames"]] == ["0:00.0", "0:20.0", "0:40.0", "1:05.2"]
    assert (data["columns"], data["ratio"]) == (4, 2.0)


def test_times_of_the_answer_can_be_gone_to_in_both_languages() -> None:
    moments = (Moment(3.25, 5.5, "<b>red</b>"), Moment(61))
    english, chinese = (clip_data(staged(), CLIP, moments, Words(language))["events"] for language in Language)
    assert english[0]["label"] == "Go to 0:03.2 – 0:05.5: <b>red</b>" and english[1]["label"] == "Go to 1:01.0"
    assert [event["at"] for event in chinese] == [3.25, 61] and "跳转" in chinese[0]["label"]


def test_sizes_tell_of_length_and_frames() -> None:
    assert "65 s" in sizes_line(staged(), Words(Language.ENGLISH)) and "4 frames" in sizes_line(
        staged(), Words(Language.ENGLISH)
    )


@pytest.mark.parametrize(("seconds", "told"), [(0, "0:00.0"), (59.96, "1:00.0"), (3661.04, "61:01.0")])
def test_clock(seconds: float, told: str) -> None:
    assert clock(seconds) == told
