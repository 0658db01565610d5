"""Clips through the doors: staged like pictures, played in pieces by whom they belong to, and gone when erased."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app.api.clips import Piece, clip_routes, piece_of
from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.api.routes import make_routes
from qwen_vl_app.api.uploads import upload_routes
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Moment, Question, Rendition
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import HistoryError, OutOfMemoryError, PictureError, UsageError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import ClipDecoder, PictureDecoder, to_image_input
from tests.clips import make_clip
from tests.imaging.conftest import encode

OWNER, OTHER = "a" * 32, "b" * 32
ANSWER = "00:01 - 00:02 The corner is red."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Assistant, FakeEngine]]:
    """An assistant with real decoders over a scripted engine."""
    folder = tmp_path_factory.mktemp("clips")
    engine = FakeEngine()
    limits = {"max_bytes": 2**26, "max_pixels": 36_000_000, "timeout_s": 30.0}
    with Assistant(
        engine=engine,
        decoder=PictureDecoder(**limits),  # type: ignore[arg-type]
        clip_decoder=ClipDecoder(max_seconds=60, **limits),  # type: ignore[arg-type]
        history=HistoryStore(folder / "data"),
        settings=Settings(data_dir=folder / "data", models_dir=folder / "models"),
    ) as assistant:
        assistant.wait_until_loaded(60)
        yield assistant, engine


@pytest.fixture
def assistant(made: tuple[Assistant, FakeEngine]) -> Assistant:
    """Return the assistant, with an answer that waits for its question."""
    made[1].replies.clear()
    made[1].replies.append(ANSWER)
    return made[0]


def browser(assistant: Assistant, owner: str = OWNER) -> TestClient:
    routes = [*upload_routes(lambda: assistant), *clip_routes(lambda: assistant), *make_routes(lambda: assistant)]
    return TestClient(Starlette(routes=routes), cookies={PROFILE_COOKIE: owner}, headers={"accept-language": "en"})


def asked(assistant: Assistant, data: bytes, owner: str = OWNER) -> int:
    """Ask about a clip; return the id under which it is kept."""
    clip = assistant.stage_upload(data, "s.mp4")
    job = assistant.ask(Question("When?", (clip,)), owner=owner)
    assert job.wait(60) is not None and job.turn_id is not None
    return assistant.turn(owner, job.turn_id).pictures[0].id


def test_a_clip_becomes_a_chip_with_its_length_frames_and_tokens(assistant: Assistant) -> None:
    chip = browser(assistant).post("/app/uploads?name=s.mp4&lang=en", content=make_clip(frames=100)).json()
    assert chip["is_clip"] is True and chip["name"] == "s.mp4"
    assert "10 s" in chip["lines"][0] and "20 frames" in chip["lines"][1] and "tokens" in chip["lines"][1]
    again = browser(assistant).post(f"/app/uploads/{chip['id']}?lang=en", json={"detail": "low_memory"}).json()
    assert again["is_clip"] is True and again["lines"][1] != chip["lines"][1]
    refused = browser(assistant).post(f"/app/uploads/{again['id']}?lang=en", json={"turn": 1}).json()
    assert "cannot be turned" in refused["problem"]
    broken = browser(assistant).post("/app/uploads?name=s.mp4&lang=zh", content=make_clip()[:900]).json()
    assert any("\u4e00" <= letter <= "\u9fff" for letter in broken["problem"])


def test_a_picture_is_a_picture_whatever_its_name(assistant: Assistant) -> None:
    from PIL import Image

    picture = assistant.stage_upload(encode(Image.new("RGB", (60, 40)), "PNG"), "holiday.mp4")
    assert picture.clip is None and picture.format == "PNG"
    with pytest.raises(PictureError):
        assistant.stage(make_clip(), "holiday.png")


def test_a_question_about_a_clip_is_kept_with_its_times_and_can_be_asked_again(
    assistant: Assistant, made: tuple[Assistant, FakeEngine]
) -> None:
    data = make_clip(frames=40)
    clip = assistant.stage_upload(data, "s.mp4")
    job = assistant.ask(Question("When?", (clip,)), owner=OWNER)
    answer = job.wait(60)
    assert answer is not None and job.turn_id is not None
    assert answer.parsed.moments == (Moment(1, 2, "The corner is red"),)
    told = made[1].requests[-1].messages[-1].images[0]
    assert told.clip == clip.clip and told.picture_id == clip.picture_id and len(told.rgb) == told.byte_count
    kept = assistant.turn(OWNER, job.turn_id)
    assert kept.answer is not None and kept.answer.parsed.moments == answer.parsed.moments
    assert kept.pictures[0].clip == clip.clip
    assert assistant.picture(OWNER, kept.pictures[0].id, Rendition.UPLOAD).data == data
    again = assistant.records.question_of(OWNER, job.turn_id)
    assert again.pictures[0].clip == clip.clip
    made[1].replies.append("0:03 off")
    follow = assistant.ask(Question("And then?", conversation_id=job.conversation_id), owner=OWNER).wait(60)
    assert follow is not None and follow.parsed.moments == (Moment(3, None, "off"),)


def test_where_memory_runs_out_a_clip_is_seen_in_fewer_frames_and_kept_so(
    assistant: Assistant, made: tuple[Assistant, FakeEngine]
) -> None:
    made[1].replies.appendleft(OutOfMemoryError("engine.out_of_memory"))
    clip = assistant.stage_upload(make_clip(frames=100), "s.mp4")
    job = assistant.ask(Question("When does it end?", (clip,)), owner=OWNER)
    answer = job.wait(60)
    assert answer is not None and answer.text == ANSWER and job.turn_id is not None
    first, second = (request.messages[-1].images[0] for request in made[1].requests[-2:])
    assert first.clip is not None and second.clip is not None
    assert len(second.clip.moments) < len(first.clip.moments)
    kept = assistant.turn(OWNER, job.turn_id).pictures[0]
    assert kept.clip == second.clip and kept.picture_id == second.picture_id
    follow = assistant.records.question_of(OWNER, job.turn_id).pictures[0]
    assert to_image_input(follow.seen_png, follow.clip).rgb == second.rgb


def test_a_player_gets_the_pieces_it_asks_for_and_nobody_else_any(assistant: Assistant) -> None:
    data = make_clip("webm", frames=30)
    number = asked(assistant, data)
    own = browser(assistant)
    whole = own.get(f"/app/clips/{number}")
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, data, "video/webm")
    piece = own.get(f"/app/clips/{number}", headers={"range": "bytes=100-199"})
    assert (piece.status_code, piece.content) == (206, data[100:200])
    assert piece.headers["content-range"] == f"bytes 100-199/{len(data)}"
    assert own.get(f"/app/clips/{number}", headers={"range": "bytes=999999999-"}).status_code == 416
    assert browser(assistant, OTHER).get(f"/app/clips/{number}").status_code == 404
    assert TestClient(Starlette(routes=clip_routes(lambda: assistant))).get(f"/app/clips/{number}").status_code == 404


def test_what_is_erased_is_played_no_more(assistant: Assistant) -> None:
    number = asked(assistant, make_clip(frames=25))
    conversation = assistant.conversations(OWNER)[0].id
    assistant.delete(OWNER, conversation)
    assert browser(assistant).get(f"/app/clips/{number}").status_code == 404
    with pytest.raises(HistoryError):
        assistant.picture(OWNER, number, Rendition.UPLOAD)


def test_a_program_sends_a_clip_as_a_data_uri(assistant: Assistant, made: tuple[Assistant, FakeEngine]) -> None:
    uri = f"data:video/mp4;base64,{base64.b64encode(make_clip()).decode()}"
    for number, part in enumerate(({"url": uri}, uri)):
        made[1].replies.append(ANSWER)
        content = [{"type": "video_url", "video_url": part}, {"type": "text", "text": f"When? {number}"}]
        said = browser(assistant).post(
            "/v1/chat/completions", json={"model": "fake", "messages": [{"role": "user", "content": content}]}
        )
        assert said.status_code == 200, said.text
        assert said.json()["choices"][0]["message"]["content"] == ANSWER
        assert made[1].requests[-1].messages[-1].images[0].clip is not None
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "When?"}]
    refused = browser(assistant).post(
        "/v1/chat/completions", json={"model": "fake", "messages": [{"role": "user", "content": content}]}
    )
    assert refused.status_code == 422 and "MP4" in refused.text


def test_where_another_app_answers_clips_are_refused_in_a_sentence(tmp_path: Path) -> None:
    elsewhere = Assistant(
        engine=FakeEngine(),
        decoder=PictureDecoder(max_bytes=2**20, max_pixels=10**6, timeout_s=30),
        history=HistoryStore(tmp_path),
        settings=Settings(data_dir=tmp_path, remote_address="http://127.0.0.1:1/v1"),
    )
    with pytest.raises(UsageError, match=r"clip\.not_here"):
        elsewhere.stage_upload(make_clip(frames=2), "s.mp4")


@pytest.mark.parametrize(
    ("header", "piece"),
    [
        ("bytes=0-", Piece(0, 1000)),
        ("bytes=10-19", Piece(10, 20)),
        ("bytes=990-5000", Piece(990, 1000)),
        ("bytes=-10", Piece(990, 1000)),
        ("bytes=-5000", Piece(0, 1000)),
        ("bytes=1000-", None),
        ("bytes=20-10", None),
        ("bytes=-0", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("lines=1-2", None),
        ("", None),
    ],
)
def test_ranges(header: str, piece: Piece | None) -> None:
    assert piece_of(header, 1000) == piece


def test_no_piece_is_larger_than_a_player_needs() -> None:
    assert piece_of("bytes=5-", 10**9) == Piece(5, 5 + 8 * 2**20)
