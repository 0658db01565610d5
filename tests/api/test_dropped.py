"""The batch page's route: files go into a drop of the browser's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app.api.dropped import dropped_routes
from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.batch import BatchPlan, BatchRuns
from qwen_vl_app.config import Settings
from tests.batch.parts import AnsweringEngine
from tests.hub_parts import WAIT_S, a_file, an_assistant

ANN, BOB = "a" * 32, "b" * 32
DROP = "1" * 32


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[BatchRuns]:
    settings = Settings(data_dir=tmp_path / "data", max_upload_mb=1)
    with an_assistant(AnsweringEngine(), tmp_path / "data", settings=settings) as assistant:
        made = BatchRuns(assistant)
        yield made
        made.close()


def _browser(runs: BatchRuns, profile: str | None = ANN) -> TestClient:
    cookies = {} if profile is None else {PROFILE_COOKIE: profile}
    return TestClient(Starlette(routes=dropped_routes(lambda: runs._assistant, lambda: runs)), cookies=cookies)


def test_files_arrive_one_by_one(runs: BatchRuns) -> None:
    """Each reply tells what lies there now; what is no picture is one sentence, and the others stay."""
    browser = _browser(runs)
    assert browser.post(f"/app/drops/{DROP}?name=a.png", content=a_file()).json()["count"] == 1
    refused = browser.post(f"/app/drops/{DROP}?name=a.txt&lang=zh", content=b"x")
    assert refused.status_code == 200
    assert any("\u4e00" <= letter <= "\u9fff" for letter in refused.json()["problem"])
    assert browser.post(f"/app/drops/{DROP}?name=b/a.png", content=a_file()).json()["count"] == 2


def test_too_large_a_file_is_refused_before_it_is_kept(runs: BatchRuns) -> None:
    """The limit of uploads holds here, too."""
    said = _browser(runs).post(f"/app/drops/{DROP}?name=a.png&lang=en", content=b"x" * (2**20 + 1)).json()
    assert "problem" in said
    assert runs.dropped.look(ANN, DROP).count == 0


def test_a_drop_is_its_browsers_own(runs: BatchRuns) -> None:
    """Another browser with the same id writes elsewhere; no profile at all is turned away."""
    _browser(runs).post(f"/app/drops/{DROP}?name=a.png", content=a_file())
    assert _browser(runs, BOB).post(f"/app/drops/{DROP}?name=b.png", content=a_file()).json()["count"] == 1
    assert "problem" in _browser(runs, None).post(f"/app/drops/{DROP}?name=b.png", content=a_file()).json()


def test_clearing_away_spares_what_a_run_needs(runs: BatchRuns) -> None:
    """A drop without a run goes at once; one that a run is about stays."""
    browser = _browser(runs)
    browser.post(f"/app/drops/{DROP}?name=a.png", content=a_file())
    assert browser.delete(f"/app/drops/{DROP}").status_code == 204
    assert not runs.dropped.folder(ANN, DROP).exists()
    browser.post(f"/app/drops/{DROP}?name=a.png", content=a_file())
    assert runs.wait(runs.start(BatchPlan(runs.dropped.folder(ANN, DROP), ("?",), owner=ANN)), WAIT_S)
    assert browser.delete(f"/app/drops/{DROP}").status_code == 204
    assert runs.dropped.look(ANN, DROP).count == 1


def test_clearing_away_spares_what_a_run_needs_within_it(runs: BatchRuns) -> None:
    """A run over a folder that was dropped with others needs that folder."""
    browser = _browser(runs)
    browser.post(f"/app/drops/{DROP}?name=round/a.png", content=a_file())
    below = runs.dropped.folder(ANN, DROP) / "round"
    assert runs.wait(runs.start(BatchPlan(below, ("?",), owner=ANN)), WAIT_S)
    assert browser.delete(f"/app/drops/{DROP}").status_code == 204
    assert runs.dropped.look(ANN, DROP).count == 1
