"""Downloads of a run: every form for the browser whose run it is, and one sentence where there is none."""

from __future__ import annotations

import errno
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.api.run_exports import LEFT_OUT, RUNS, _made, run_export_routes
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchPlan, BatchRuns, ExportKind
from qwen_vl_app.config import Settings
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.texts import Language
from tests.batch.parts import AnsweringEngine
from tests.hub_parts import WAIT_S
from tests.ui.fakes import fake_decoder, png

ANN, BOB = "a" * 32, "b" * 32
PICTURES = 3
BOX = '```json\n[{"bbox_2d": [10, 10, 90, 40], "label": "lamp"}]\n```'


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[BatchRuns]:
    made = Assistant(
        engine=AnsweringEngine(lambda request: BOX if "Outline" in request.messages[-1].text else "A lamp."),
        decoder=fake_decoder(),
        history=HistoryStore(tmp_path / "data"),
        settings=Settings(data_dir=tmp_path / "data"),
    )
    with made as assistant:
        assistant.wait_until_loaded(WAIT_S)
        runs = BatchRuns(assistant)
        yield runs
        runs.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(PICTURES):
        (folder / f"photo {number}.png").write_bytes(png(width=280 + 28 * number, height=140))
    return folder


@pytest.fixture
def run_id(runs: BatchRuns, photos: Path) -> str:
    made = runs.start(BatchPlan(photos, ("Outline it.",), owner=ANN))
    assert runs.wait(made, WAIT_S)
    return made


def browser(runs: BatchRuns, profile: str | None = ANN) -> TestClient:
    cookies = {} if profile is None else {PROFILE_COOKIE: profile}
    return TestClient(Starlette(routes=run_export_routes(lambda: runs._assistant, lambda: runs)), cookies=cookies)


def test_every_form_is_a_whole_file(runs: BatchRuns, run_id: str, tmp_path: Path) -> None:
    """With a name and a kind, and nothing of it stays here."""
    begins = {ExportKind.CSV: b"\xef\xbb\xbf", ExportKind.JSONL: b"{", ExportKind.PDF: b"%PDF"}
    for kind in ExportKind:
        reply = browser(runs).get(f"{RUNS}/{run_id}/{kind.value}")
        assert reply.status_code == 200 and reply.content.startswith(begins.get(kind, b"PK"))
        assert reply.headers["content-disposition"].startswith(f'attachment; filename="{run_id}.')
        assert reply.headers["cache-control"] == "no-store"
    assert list((tmp_path / "data" / "scratch").iterdir()) == []


def test_pictures_are_handed_over_while_they_are_drawn(
    runs: BatchRuns, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand photos take a quarter of an hour, and would fill the memory: the first one comes before the second is drawn."""
    drawn: list[str] = []
    real = Assistant.stage

    def stage(self: Assistant, data: bytes, name: str, **given: object) -> object:
        drawn.append(name)
        return real(self, data, name, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(Assistant, "stage", stage)
    seen = [len(drawn) for piece in _pieces(runs, run_id) if piece]
    assert seen == [1, 2, 3, 3]


def _pieces(runs: BatchRuns, run_id: str) -> Iterator[bytes]:
    made = _made(runs._assistant, runs, run_id, owner=ANN, kind=ExportKind.ANNOTATED, language=Language.ENGLISH)
    assert isinstance(made, Iterator)
    return made


def test_what_could_not_be_drawn_is_named_in_the_archive(runs: BatchRuns, run_id: str, photos: Path) -> None:
    """In the language of the page."""
    (photos / "photo 1.png").unlink()
    reply = browser(runs).get(f"{RUNS}/{run_id}/annotated?lang=zh")
    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    assert archive.testzip() is None
    assert archive.namelist() == ["photo 0.png", "photo 2.png", LEFT_OUT]
    told = archive.read(LEFT_OUT).decode()
    assert told.startswith("photo 1.png: ") and any("\u4e00" <= letter <= "\u9fff" for letter in told)


def test_where_there_is_no_file_a_sentence_says_why(
    runs: BatchRuns, run_id: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's run, none, no such form, a folder that is gone, a full disk."""
    for profile, way in ((BOB, run_id), (None, run_id), (ANN, "20200101-000000-0"), (ANN, "..")):
        reply = browser(runs, profile).get(f"{RUNS}/{way}/csv")
        assert reply.status_code in (404, 409) and "Outline" not in reply.text
    assert browser(runs).get(f"{RUNS}/{run_id}/exe").status_code == 409
    photos.rename(photos.with_name("elsewhere"))
    gone = browser(runs).get(f"{RUNS}/{run_id}/annotated?lang=en")
    assert gone.status_code == 409 and "photos" in gone.text

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("qwen_vl_app.scratch.make_folder", full)
    assert "Make room" in browser(runs).get(f"{RUNS}/{run_id}/csv?lang=en").text


def test_a_run_without_boxes_says_that_there_is_nothing_to_draw(runs: BatchRuns, tmp_path: Path) -> None:
    """It was an archive with nothing in it."""
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(width=280, height=140))
    made = runs.start(BatchPlan(folder, ("What is it?",), owner=ANN))
    assert runs.wait(made, WAIT_S)
    reply = browser(runs).get(f"{RUNS}/{made}/annotated?lang=en")
    assert reply.status_code == 409 and "has a box" in reply.text
    assert browser(runs).get(f"{RUNS}/{made}/csv").status_code == 200


def test_what_changed_since_an_earlier_run_is_a_whole_file(runs: BatchRuns, run_id: str, photos: Path) -> None:
    """Of two runs of the same browser, in its language; nothing of it stays here."""
    (photos / "photo 3.png").write_bytes(png(width=560, height=140))
    later = runs.start(BatchPlan(photos, ("Outline it.",), owner=ANN))
    assert runs.wait(later, WAIT_S)
    way = f"{RUNS}/{later}/since/{run_id}"
    for kind, begin in (("csv", b"\xef\xbb\xbf"), ("pdf", b"%PDF")):
        reply = browser(runs).get(f"{way}/{kind}?lang=en&tag=")
        assert reply.status_code == 200 and reply.content.startswith(begin)
        assert reply.headers["content-disposition"] == f'attachment; filename="{later}-since-{run_id}.{kind}"'
    assert "photo 3.png" in browser(runs).get(f"{way}/csv").text
    theirs = runs.start(BatchPlan(photos, ("Outline it.",), owner=BOB))
    assert runs.wait(theirs, WAIT_S)
    for path in (f"{later}/since/{theirs}/csv", f"{theirs}/since/{run_id}/csv", f"{later}/since/{run_id}/xlsx"):
        assert browser(runs).get(f"{RUNS}/{path}").status_code == 409
    assert browser(runs, None).get(f"{way}/csv").status_code == 409
