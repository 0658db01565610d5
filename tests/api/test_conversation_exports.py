"""Downloads of one conversation: whole files for the browser whose it is, one sentence for any other."""

from __future__ import annotations

import errno
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app.api.conversation_exports import CONVERSATIONS, conversation_export_routes
from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Question
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.imaging.report import ReportEntry
from tests.hub_parts import WAIT_S, a_file, an_assistant

ANN, BOB = "a" * 32, "b" * 32
BEGINS = {"zip": b"PK", "pdf": b"%PDF", "json": b"{"}


@pytest.fixture
def assistant(tmp_path: Path) -> Iterator[Assistant]:
    with an_assistant(FakeEngine(["It is red."]), tmp_path / "data") as made:
        made.wait_until_loaded(WAIT_S)
        yield made


def asked(assistant: Assistant, *, is_private: bool = False) -> int:
    question = Question("Which colour?", (assistant.stage(a_file(), "p.png"),))
    job = assistant.ask(question, owner=ANN, is_private=is_private)
    assert job.wait(WAIT_S) is not None and job.conversation_id is not None
    return job.conversation_id


def browser(assistant: Assistant, profile: str | None = ANN) -> TestClient:
    cookies = {} if profile is None else {PROFILE_COOKIE: profile}
    return TestClient(Starlette(routes=conversation_export_routes(lambda: assistant)), cookies=cookies)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_every_form_is_a_whole_file(assistant: Assistant, tmp_path: Path) -> None:
    """With a name and a kind, and nothing of it stays here."""
    number = asked(assistant)
    for kind, begin in BEGINS.items():
        reply = browser(assistant).get(f"{CONVERSATIONS}/{number}/{kind}?lang=zh&zone=Asia/Shanghai")
        assert reply.status_code == 200 and reply.content.startswith(begin)
        assert reply.headers["content-disposition"] == f'attachment; filename="conversation-{number}.{kind}"'
        assert reply.headers["cache-control"] == "no-store"
    assert list((tmp_path / "data" / "scratch").iterdir()) == []
    told = json.loads(browser(assistant).get(f"{CONVERSATIONS}/{number}/json").content)
    assert [turn["question"] for turn in told["turns"]] == ["Which colour?"]
    archive = zipfile.ZipFile(io.BytesIO(browser(assistant).get(f"{CONVERSATIONS}/{number}/zip").content))
    assert archive.testzip() is None


def test_a_private_conversation_is_handed_over_from_memory(
    assistant: Assistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of it nothing is ever on the disk, also while it is taken away."""
    number = asked(assistant, is_private=True)
    monkeypatch.setattr("qwen_vl_app.scratch.make_folder", full)
    before = sorted(tmp_path.rglob("*"))
    for kind, begin in BEGINS.items():
        assert browser(assistant).get(f"{CONVERSATIONS}/{number}/{kind}").content.startswith(begin)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("zone", "east_min"),
    [("Asia/Shanghai", 480), ("330", 330), ("-60", -60), ("../../etc/passwd", 0), ("", 0), ("9" * 99, 0)],
)
def test_the_report_has_the_readers_clock(
    assistant: Assistant, zone: str, east_min: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the zone's name, or by its minutes where the machine has no names of zones; else by the world's."""
    number = asked(assistant)
    entries: list[ReportEntry] = []

    def write(_target: object, given: Iterator[ReportEntry], **_: object) -> None:
        entries.extend(given)

    monkeypatch.setattr("qwen_vl_app.takeaway.write_report", write)
    assert browser(assistant).get(f"{CONVERSATIONS}/{number}/pdf", params={"zone": zone}).status_code == 200
    here = assistant.turns(ANN, number)[0].asked_at.astimezone(UTC) + timedelta(minutes=east_min)
    assert entries[0].title.startswith(f"{here:%Y-%m-%d %H:%M:%S}")


def test_where_there_is_no_file_a_sentence_says_why(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's conversation, none, no such form, a full disk; in the language of the page."""
    number = asked(assistant)
    for profile, way in ((BOB, f"{number}/zip"), (None, f"{number}/zip"), (ANN, "999/zip"), (ANN, f"{number}/exe")):
        reply = browser(assistant, profile).get(f"{CONVERSATIONS}/{way}")
        assert reply.status_code == 409 and "colour" not in reply.text
    monkeypatch.setattr("qwen_vl_app.scratch.make_folder", full)
    for kind in BEGINS:
        assert "Make room" in browser(assistant).get(f"{CONVERSATIONS}/{number}/{kind}?lang=en").text
    assert any(
        "\u4e00" <= letter <= "\u9fff"
        for letter in browser(assistant).get(f"{CONVERSATIONS}/{number}/zip?lang=zh").text
    )
