"""What the app keeps is closed to the machine's other accounts, whichever door made it and whatever was there before."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app import bootstrap
from qwen_vl_app.api.dropped import dropped_routes
from qwen_vl_app.api.guard import PROFILE_COOKIE
from qwen_vl_app.api.records_doors import EVERYTHING, records_routes
from qwen_vl_app.api.routes import make_routes
from qwen_vl_app.api.uploads import upload_routes
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchPlan
from qwen_vl_app.chat import Question
from qwen_vl_app.cli import main
from qwen_vl_app.config import load_settings
from qwen_vl_app.engine.base import GenerationRequest
from qwen_vl_app.forms import FillPlan, FormDesk
from qwen_vl_app.own_files import close_to_others, make_folder, write_new
from qwen_vl_app.own_tasks import OwnTask
from tests.batch.parts import AnsweringEngine
from tests.forms.parts import TEMPLATE, PlateModel
from tests.ui.fakes import png

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")

OWNER = "0123456789abcdef0123456789abcdef"
WAIT_S = 60.0


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    """As a person's shell has it: the app must not count on a stricter one."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(folder: Path) -> set[str]:
    """What below a folder has a mode that lets other accounts in."""
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if mode_of(each) & 0o077}


def within_reach(folder: Path) -> set[str]:
    """The files below a folder that another account can really read: every folder on the way lets it through."""
    return {
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file()
        and mode_of(file) & 0o044
        and all(mode_of(above) & 0o011 for above in file.parents if above.is_relative_to(folder))
    }


def answer(request: GenerationRequest) -> str:
    return PlateModel()(request) if "Serial" in request.messages[-1].text else "It is a pump."


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The data folder of the process's own app, whose model alone is scripted. It is not there yet."""
    folder = tmp_path / "site" / "data"
    monkeypatch.setenv("QWEN_VL_DATA_DIR", str(folder))
    monkeypatch.setenv("QWEN_VL_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(bootstrap, "_build_engine", lambda _settings: AnsweringEngine(answer))
    yield folder
    bootstrap.close_current()


def use(assistant: Assistant, photos: Path) -> None:
    """Leave something behind by every door."""
    assistant.wait_until_loaded(WAIT_S)
    runs, desk = bootstrap.current_batches(), FormDesk(assistant)
    routes = [
        *make_routes(lambda: assistant),
        *upload_routes(lambda: assistant),
        *records_routes(lambda: assistant),
        *dropped_routes(lambda: assistant, lambda: runs),
    ]
    browser = TestClient(Starlette(routes=routes), cookies={PROFILE_COOKIE: OWNER})
    uploaded = browser.post("/app/uploads?name=a.png", content=png(width=280, height=140)).json()
    picture = assistant.staging.get(OWNER, uploaded["id"])
    job = assistant.ask(Question("What is it?", (picture,)), owner=OWNER)
    assert job.wait(WAIT_S)
    assistant.own_tasks.save(OWNER, [OwnTask("Secret", "What is the PIN on the safe?")])
    drop = "1" * 32
    assert browser.post(f"/app/drops/{drop}?name=below/b.png", content=png(width=308, height=140)).status_code == 200
    run_id = runs.start(BatchPlan(runs.dropped.folder(OWNER, drop), ("What?",), is_recursive=True, owner=OWNER))
    assert runs.wait(run_id, WAIT_S)
    assert [row.answer.text for row in runs.current_rows(run_id) if row.answer] == ["It is a pump."]
    photos.mkdir()
    (photos / "c.png").write_bytes(png(width=336, height=140))
    assert runs.wait(runs.start(BatchPlan(photos, ("?",), owner=OWNER)), WAIT_S)
    form = desk.fill(FillPlan(TEMPLATE, owner=OWNER), assistant.stage(png(width=364, height=140), "d.png")).form
    desk.correct(form.form_id, "serial", "AB-124", who="Ann")
    assert browser.get(EVERYTHING).status_code == 200


@pytest.mark.parametrize("is_there", [False, True])
def test_nothing_that_any_door_leaves_is_open_to_other_accounts(is_there: bool, data: Path, tmp_path: Path) -> None:
    """Pictures, tasks, drops, runs, forms, the log; a folder that was there and open to all becomes the app's own as well."""
    if is_there:
        data.mkdir(parents=True)
        data.chmod(0o755)
    use(bootstrap.current(), tmp_path / "photos")
    assert {"batches", "forms", "history.db", "logs", "pictures", "tasks"} <= {each.name for each in data.iterdir()}
    assert open_to_others(data) == set()
    bootstrap.close_current()
    assert open_to_others(data) == set()
    assert mode_of(data) == 0o700


def test_what_a_backup_puts_back_is_closed_also_for_what_comes_after(data: Path, tmp_path: Path) -> None:
    """A restored folder of pictures is where new ones go."""
    use(bootstrap.current(), tmp_path / "photos")
    copy = tmp_path / "copy.zip"
    bootstrap.current().records.backup(copy)
    bootstrap.close_current()
    fresh = tmp_path / "other" / "data"
    assert main(["history", "restore", str(copy), "--data-dir", str(fresh)]) == 0
    assert open_to_others(fresh.parent) == set()
    with bootstrap.open_assistant(load_settings(environment={"QWEN_VL_DATA_DIR": str(fresh)})) as assistant:
        assistant.wait_until_loaded(WAIT_S)
        picture = assistant.stage(png(width=392, height=140), "e.png")
        assert assistant.ask(Question("And this?", (picture,)), owner=OWNER).wait(WAIT_S)
        assert open_to_others(fresh.parent) == set()


@pytest.mark.parametrize("keep", ["until_erased", "nothing"])
def test_what_versions_of_before_left_open_is_closed_at_the_start(
    keep: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However deep it lies; what is not the app's own stays as its owner has it, with the folder that they share."""
    monkeypatch.setenv("QWEN_VL_KEEP", keep)
    left = ("batches/dropped/x/y/a.png", "tasks/t.json", "pictures/00/p", "logs/app.log", "forms/filled/f/form.json")
    for name in (*left, "history.db-wal.kept", "damaged-1/history.db", "notes/of-mine.txt"):
        file = data / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    assert len(within_reach(data)) == 8
    bootstrap.current()
    assert within_reach(data) == {"notes/of-mine.txt"}
    bootstrap.close_current()
    (data / "notes" / "of-mine.txt").unlink()
    (data / "notes").rmdir()
    bootstrap.current()
    assert mode_of(data) == 0o700


def test_no_name_of_a_folder_lets_a_browser_in(data: Path, tmp_path: Path) -> None:
    """A profile is a secret: whoever knows it is that browser. No path holds one, and those of before are named anew."""
    runs_folder = data / "batches"
    old = runs_folder / "dropped" / OWNER / ("2" * 32)
    old.mkdir(parents=True)
    (old / "a.png").write_bytes(png(width=280, height=140))
    use(bootstrap.current(), tmp_path / "photos")
    assert not [path for path in data.rglob("*") if OWNER in path.name]
    assert bootstrap.current_batches().dropped.look(OWNER, "2" * 32).count == 1


def test_every_level_is_made_closed(tmp_path: Path) -> None:
    """Python gives a mode to the last folder alone."""
    make_folder(tmp_path / "a" / "b" / "c")
    write_new(tmp_path / "a" / "b" / "c" / "file", b"x")
    make_folder(tmp_path / "a" / "b" / "c")
    assert open_to_others(tmp_path) == set()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "a" / "b" / "c" / "file")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "a" / "b" / "c" / "file" / "d")


def test_closing_takes_from_others_alone_and_follows_no_link(tmp_path: Path) -> None:
    """What the owner may do stays; what a link leads to is not the app's."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    for each in (elsewhere, folder):
        each.mkdir()
    (folder / "link").symlink_to(elsewhere)
    (folder / "file").write_text("x")
    (folder / "file").chmod(0o444)
    assert close_to_others(folder, is_ours=lambda _name: True)
    assert (mode_of(folder), mode_of(folder / "file"), mode_of(elsewhere)) == (0o700, 0o400, 0o755)
