"""Downloads of everything and of a backup: whole files for the right browser, one sentence for any other."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.api.records_doors import BACKUP, EVERYTHING, records_routes
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Question
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.history import HistoryStore
from tests.hub_parts import WAIT_S, a_file, an_assistant

ANN, BOB = "a" * 32, "b" * 32


@pytest.fixture
def assistant(tmp_path: Path) -> Iterator[Assistant]:
    with an_assistant(FakeEngine(["one", "two", "three"]), tmp_path / "data") as made:
        made.wait_until_loaded(WAIT_S)
        yield made


def asked(assistant: Assistant, text: str, *, owner: str) -> None:
    assert assistant.ask(Question(text, (assistant.stage(a_file(), "p.png"),)), owner=owner).wait(WAIT_S)


def browser(assistant: Assistant, profile: str | None = ANN) -> TestClient:
    cookies = {} if profile is None else {PROFILE_COOKIE: profile}
    return TestClient(Starlette(routes=records_routes(lambda: assistant)), cookies=cookies)


def test_everything_of_a_browser_and_nothing_of_others(assistant: Assistant, tmp_path: Path) -> None:
    """A whole ZIP with a name, which no browser stores on the way; nothing of it stays here."""
    asked(assistant, "Mine?", owner=ANN)
    asked(assistant, "Theirs?", owner=BOB)
    reply = browser(assistant).get(EVERYTHING)
    assert reply.status_code == 200
    assert reply.headers["content-disposition"].startswith('attachment; filename="conversations-')
    assert reply.headers["cache-control"] == "no-store"
    assert int(reply.headers["content-length"]) == len(reply.content)
    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    text = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".md"))
    assert "Mine?" in text
    assert "Theirs?" not in text
    assert list((tmp_path / "data" / "scratch").iterdir()) == []


def test_a_backup_is_for_whoever_is_alone_here(assistant: Assistant, tmp_path: Path) -> None:
    """It holds everybody's history, so with others here it is the site's affair, and says so."""
    asked(assistant, "Mine?", owner=ANN)
    reply = browser(assistant).get(BACKUP)
    (tmp_path / "copy.zip").write_bytes(reply.content)
    assert HistoryStore.restore(tmp_path / "new", tmp_path / "copy.zip") is None
    asked(assistant, "Theirs?", owner=BOB)
    for profile in (ANN, BOB):
        refused = browser(assistant, profile).get(BACKUP, headers={"accept-language": "en"})
        assert refused.status_code == 409
        assert "history backup FILE" in refused.text
    assert list((tmp_path / "data" / "scratch").iterdir()) == []


@pytest.mark.parametrize("door", [EVERYTHING, BACKUP])
def test_a_stranger_gets_a_sentence(assistant: Assistant, door: str) -> None:
    """One without a profile, in their language; nothing is made for them."""
    reply = browser(assistant, None).get(f"{door}?lang=zh")
    assert reply.status_code == 409
    assert any("\u4e00" <= letter <= "\u9fff" for letter in reply.text)


def test_a_full_disk_is_a_sentence(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not half a file."""

    def full(_owner: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(assistant.scratch, "directory", full)
    reply = browser(assistant).get(EVERYTHING)
    assert reply.status_code == 409
    assert "No space" not in reply.text


@pytest.mark.parametrize(("door", "name"), [(EVERYTHING, "export"), (BACKUP, "backup")])
@pytest.mark.parametrize("at_end", [False, True])
def test_what_is_erased_meanwhile_is_no_fault_of_the_disk(
    assistant: Assistant, door: str, name: str, at_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does the file have what was erased; the next one holds what is left."""
    asked(assistant, "Mine?", owner=ANN)
    real = getattr(assistant.records, name)

    def erased_meanwhile(*given: object, **named: object) -> object:
        if not at_end:
            assistant.records.erase_everything(ANN)
        made = real(*given, **named)
        assistant.records.erase_everything(ANN)
        return made

    monkeypatch.setattr(assistant.records, name, erased_meanwhile)
    reply = browser(assistant).get(f"{door}?lang=en")
    assert reply.status_code == 409
    assert "erased while the file was being made" in reply.text
    monkeypatch.setattr(assistant.records, name, real)
    assert browser(assistant).get(door).status_code == 200
