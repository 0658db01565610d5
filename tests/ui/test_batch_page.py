"""The page of runs over folders: begin, follow, look, take away, compare; what cannot be begun says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchPlan, BatchRuns, ExportKind
from qwen_vl_app.config import Settings
from qwen_vl_app.errors import UsageError
from qwen_vl_app.ui import batch_page, batch_run
from qwen_vl_app.ui.batch_page import check_folder, may_name_folders
from tests.batch.parts import AnsweringEngine
from tests.hub_parts import WAIT_S
from tests.ui.conftest import MakeAssistant, address_of, click, page_of, twice, words_on
from tests.ui.fakes import png


@pytest.fixture
def assistant(make_assistant: MakeAssistant) -> Assistant:
    return make_assistant(
        engine=AnsweringEngine(lambda request: f'{{"bar": {request.messages[-1].images[0].size.width}}}')
    )


@pytest.fixture
def runs(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchRuns]:
    made = BatchRuns(assistant)
    monkeypatch.setattr("qwen_vl_app.ui.pages.current_batches", lambda: made)
    yield made
    made.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"photo {number}.png").write_bytes(png(width=280 + 28 * number, height=280))
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


def batch_page_of(assistant: Assistant, **address: str) -> AppTest:
    page = page_of(assistant)
    click(page, "page-batch")
    for name, value in address.items():
        page.query_params[name] = value
    return page


def begin(page: AppTest, folder: object) -> AppTest:
    page.segmented_control(key="batch-source").set_value("folder").run()
    page.text_input(key="batch-folder").set_value(str(folder))
    return page.button(key="batch-start").click().run()


def test_the_second_click_of_two_begins_and_deletes_nothing(
    assistant: Assistant, runs: BatchRuns, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page did not show yet what came of the first: there is one run, and no sentence about one that is unknown."""
    for module, name in ((batch_page, "_start"), (batch_run, "_delete")):
        monkeypatch.setattr(module, name, twice(getattr(module, name)))
    page = begin(batch_page_of(assistant), photos)
    (summary,) = runs.list(owner="local")
    assert runs.wait(summary.run_id, WAIT_S)
    page.run().button(key="batch-delete").click().run()
    assert not page.exception
    assert runs.list(owner="local") == ()
    assert not page.warning


def test_a_folder_is_begun_followed_and_looked_at(assistant: Assistant, runs: BatchRuns, photos: Path) -> None:
    """From the page: the run is the browser's own, its rows stand in a table, failures are rows with their reason."""
    page = begin(batch_page_of(assistant), photos)
    assert not page.exception
    (summary,) = runs.list(owner="local")
    assert runs.wait(summary.run_id, WAIT_S)
    page.run()
    assert address_of(page)["run"] == summary.run_id
    assert "finished · files: 4 of 4 · failed: 1" in words_on(page)
    (table,) = page.dataframe
    assert list(table.value["File"]) == ["bad.png", "photo 0.png", "photo 1.png", "photo 2.png"]
    assert table.value["Answer"][0].startswith("failed: ")
    page.toggle(key="batch-worst").set_value(True).run()
    assert page.dataframe[0].value["File"][0] == "bad.png"


def test_a_folder_without_pictures_is_told(assistant: Assistant, runs: BatchRuns, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    page = begin(batch_page_of(assistant), tmp_path / "none")
    (summary,) = runs.list(owner="local")
    assert runs.wait(summary.run_id, WAIT_S)
    assert "No picture or PDF was found" in words_on(page.run())


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("", "Name the folder"),
        ("photos", "whole path"),
        (f"{Path.cwd().anchor}no-such-folder-here", "There is no folder no-such-folder-here"),
    ],
    ids=["none", "half", "lost"],
)
def test_what_cannot_be_begun_says_why(assistant: Assistant, runs: BatchRuns, folder: str, told: str) -> None:
    """One sentence on the page, and what was filled in stays."""
    page = begin(batch_page_of(assistant), folder)
    assert told in words_on(page)
    assert page.text_input(key="batch-folder").value == folder
    assert runs.list() == ()


def test_a_task_that_needs_names_asks_for_them(assistant: Assistant, runs: BatchRuns, photos: Path) -> None:
    """Extracting fields without a field is refused; with them the question names them all."""
    page = batch_page_of(assistant)
    page.selectbox(key="batch-task").set_value("extract-fields").run()
    page = begin(page, photos)
    assert runs.list() == ()
    page.text_input(key="batch-names").set_value("serial, 日期，volts")
    page.button(key="batch-start").click().run()
    (summary,) = runs.list()
    assert all(name in summary.plan.questions[0] for name in ("serial", "日期", "volts"))
    assert runs.wait(summary.run_id, WAIT_S)


def test_a_run_of_another_browser_is_none_of_this_one(assistant: Assistant, runs: BatchRuns, photos: Path) -> None:
    """Neither in the list, nor through its address."""
    run_id = runs.start(BatchPlan(photos, ("Secret?",), owner="f" * 32))
    assert runs.wait(run_id, WAIT_S)
    page = page_of(assistant)
    page.query_params["view"], page.query_params["run"] = "batch", run_id
    del page.session_state["page_state"]
    page.run()
    said = words_on(page)
    assert "There is no run" in said
    assert "Secret?" not in said
    assert not page.dataframe


def test_a_run_is_taken_away_in_every_form(assistant: Assistant, runs: BatchRuns, photos: Path) -> None:
    """Each is a link, in the page's language: the file is handed over as it is made, however long that takes."""
    run_id = runs.start(BatchPlan(photos, ("?",)))
    assert runs.wait(run_id, WAIT_S)
    page = batch_page_of(assistant)
    page.button(key=f"batch-open-{run_id}").click().run()
    links = {each.proto.url for each in page.get("link_button")}
    assert {f"/app/runs/{run_id}/{kind.value}?lang=en" for kind in ExportKind} <= links


def test_two_rounds_are_compared_on_the_page(assistant: Assistant, runs: BatchRuns, photos: Path) -> None:
    """An earlier run with the same questions is offered, and what changed stands in a table."""
    first = runs.start(BatchPlan(photos, ("?",)))
    assert runs.wait(first, WAIT_S)
    (photos / "photo 0.png").write_bytes(png(width=560, height=280))
    second = runs.start(BatchPlan(photos, ("?",)))
    assert runs.wait(second, WAIT_S)
    page = batch_page_of(assistant)
    page.button(key=f"batch-open-{second}").click().run()
    page.selectbox(key="batch-earlier").set_value(first).run()
    changes = page.dataframe[-1].value
    changed = changes[changes["Change"] == "changed"]
    assert list(changed["File"]) == ["photo 0.png"]
    assert list(changed["Before"]) == ["280"] and list(changed["After"]) == ["560"]
    page.text_input(key="batch-tag").set_value("Tag & no").run()
    links = {each.proto.url for each in page.get("link_button")}
    way = f"/app/runs/{second}/since/{first}"
    assert {f"{way}/{kind}?lang=en&tag=Tag+%26+no" for kind in ("csv", "pdf")} <= links


def test_deleting_a_run_leaves_the_folder_alone(assistant: Assistant, runs: BatchRuns, photos: Path) -> None:
    """The page goes back to the list; the person's pictures are where they were."""
    run_id = runs.start(BatchPlan(photos, ("?",)))
    assert runs.wait(run_id, WAIT_S)
    page = batch_page_of(assistant)
    page.button(key=f"batch-open-{run_id}").click().run()
    page.button(key="batch-delete").click().run()
    assert not page.exception
    assert runs.list() == ()
    assert len(list(photos.iterdir())) == 4


def test_a_site_says_which_folders_a_page_may_name(tmp_path: Path) -> None:
    """Behind a proxy a page names no folder, unless the site allows some; then those alone."""
    assert may_name_folders(Settings())
    origins, keys = ("https://vision.example",), ("k" * 16,)
    assert not may_name_folders(Settings(public_origins=origins, api_keys=keys))
    site = Settings(batch_folders=(tmp_path / "allowed",), public_origins=origins, api_keys=keys)
    assert may_name_folders(site)
    check_folder(site, tmp_path / "allowed" / "round")
    for outside in (tmp_path, tmp_path / "allowed" / ".." / "other", Path("relative")):
        with pytest.raises(UsageError):
            check_folder(site, outside)
