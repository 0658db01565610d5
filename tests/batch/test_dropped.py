"""Pictures that were dropped into the page: names, room, owners, and how they go again."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen_vl_app.batch import BatchPlan, BatchRuns
from qwen_vl_app.batch import runs as runs_module
from qwen_vl_app.batch.dropped import FORGOTTEN_AFTER_S, Dropped, DroppedFiles
from qwen_vl_app.errors import BatchError, UsageError
from tests.batch.parts import AnsweringEngine
from tests.hub_parts import WAIT_S, a_file, an_assistant, wait_until
from tests.links import make_link

ANN, BOB = "a" * 32, "b" * 32
DROP = "0" * 32


@pytest.fixture
def dropped(tmp_path: Path) -> DroppedFiles:
    return DroppedFiles(tmp_path / "batches", room_left_bytes=0, max_files=3)


def test_files_keep_their_place_and_their_names(dropped: DroppedFiles) -> None:
    """A dropped folder stays a folder; two files of one name are both kept."""
    dropped.add(ANN, DROP, "round/pump 1.png", b"one")
    dropped.add(ANN, DROP, "round/pump 1.png", b"two")
    folder = dropped.folder(ANN, DROP)
    assert sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png")) == [
        "round/pump 1-2.png",
        "round/pump 1.png",
    ]
    assert (dropped.look(ANN, DROP).count, dropped.look(ANN, DROP).size_bytes) == (2, 6)


def test_files_that_come_at_once_are_all_kept_and_counted(tmp_path: Path) -> None:
    """A browser sends several at a time; the last to arrive tells how many there are."""
    dropped, at_once = DroppedFiles(tmp_path / "batches", room_left_bytes=0), 8
    together, counts = threading.Barrier(at_once), list[int]()

    def add(number: int) -> None:
        together.wait(WAIT_S)
        counts.append(dropped.add(ANN, DROP, "pump.png", bytes([number])).count)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(counts) == list(range(1, at_once + 1))
    kept = {file.read_bytes() for file in dropped.folder(ANN, DROP).iterdir()}
    assert kept == {bytes([number]) for number in range(at_once)}


def test_no_file_costs_a_look_at_all_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty thousand files that each count what lies there would look two hundred million times."""
    looked: list[Path] = []
    exists, is_file = Path.exists, Path.is_file

    def looks(question: Callable[[Path], bool]) -> Callable[[Path], bool]:
        def answered(path: Path) -> bool:
            looked.append(path)
            return question(path)

        return answered

    monkeypatch.setattr(Path, "exists", looks(exists))
    monkeypatch.setattr(Path, "is_file", looks(is_file))
    dropped = DroppedFiles(tmp_path / "batches", room_left_bytes=0)
    counts = [
        dropped.add(ANN, DROP, name, b"xy").count for name in ["a/image.png"] * 40 + [f"{at}.png" for at in range(40)]
    ]
    assert counts == list(range(1, 81))
    assert len(looked) <= 3 * len(counts)
    assert dropped.look(ANN, DROP) == Dropped(80, 160)


def test_what_lay_there_before_is_counted_and_what_was_deleted_is_not(tmp_path: Path) -> None:
    """After a start, after a drop was deleted, forgotten or taken away by an erasure of everything: the count is of what is there."""
    first = DroppedFiles(tmp_path / "batches", room_left_bytes=0)
    first.add(ANN, DROP, "1.png", b"x")
    first.add(ANN, DROP, "1.png", b"x")
    dropped = DroppedFiles(tmp_path / "batches", room_left_bytes=0)
    assert dropped.add(ANN, DROP, "1.png", b"yy") == Dropped(3, 4)
    dropped.delete(dropped.folder(ANN, DROP))
    assert dropped.add(ANN, DROP, "1.png", b"z") == Dropped(1, 1)
    shutil.rmtree(dropped.folder(ANN, DROP))
    assert dropped.add(ANN, DROP, "1.png", b"z") == Dropped(1, 1)
    then = dropped.folder(ANN, DROP).stat().st_mtime - FORGOTTEN_AFTER_S - 60
    os.utime(dropped.folder(ANN, DROP), (then, then))
    assert dropped.sweep(used=lambda _drop: False) == 1
    assert dropped.add(ANN, DROP, "1.png", b"z") == Dropped(1, 1)


def test_a_file_that_could_not_be_written_is_not_counted(
    dropped: DroppedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is the first."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("qwen_vl_app.batch.dropped.write_new", full)
        with pytest.raises(BatchError):
            dropped.add(ANN, DROP, "1.png", b"x")
    assert dropped.add(ANN, DROP, "1.png", b"x") == Dropped(1, 1)


@pytest.mark.parametrize(
    "name",
    ["../../outside.png", "/etc/outside.png", "..\\..\\outside.png", "a/../../../outside.png", "C:\\x\\outside.png"],
)
def test_no_name_leads_out_of_the_drop(dropped: DroppedFiles, name: str, tmp_path: Path) -> None:
    """Whatever path a browser sends, the file lies in its drop."""
    dropped.add(ANN, DROP, name, b"data")
    (file,) = (each for each in tmp_path.rglob("*") if each.is_file())
    assert file.resolve().is_relative_to(dropped.folder(ANN, DROP).resolve())


def test_what_is_no_picture_by_its_name_is_left_out(dropped: DroppedFiles) -> None:
    """One sentence with the name; nothing is written."""
    with pytest.raises(UsageError) as refused:
        dropped.add(ANN, DROP, "notes.docx", b"data")
    assert refused.value.code == "batch.drop.no_picture"
    assert dropped.look(ANN, DROP).count == 0


def test_there_is_an_end_to_files_and_to_room(dropped: DroppedFiles, tmp_path: Path) -> None:
    """One file too many is refused, and so is one that would fill the disk."""
    for number in range(3):
        dropped.add(ANN, DROP, f"{number}.png", b"x")
    with pytest.raises(UsageError) as many:
        dropped.add(ANN, DROP, "4.png", b"x")
    assert many.value.code == "batch.drop.too_many"
    with pytest.raises(BatchError) as full:
        DroppedFiles(tmp_path / "other", room_left_bytes=2**60).add(ANN, DROP, "1.png", b"x")
    assert full.value.code == "batch.drop.no_room"


@pytest.mark.parametrize("drop_id", ["", "..", "../../etc", "0" * 31, "A" * 32])
def test_an_id_that_no_page_made_is_none(dropped: DroppedFiles, drop_id: str) -> None:
    """An id is 32 hexadecimal digits, so it is no path."""
    with pytest.raises(UsageError):
        dropped.add(ANN, drop_id, "1.png", b"x")


def test_a_drop_without_a_run_goes_after_a_day(dropped: DroppedFiles, tmp_path: Path) -> None:
    """What a run needs stays; a fresh drop stays; an old one that nobody used goes."""
    ids = {name: f"{at:032x}" for at, name in enumerate(("old", "used", "fresh"))}
    for name, drop_id in ids.items():
        dropped.add(ANN, drop_id, "1.png", b"x")
        if name != "fresh":
            then = dropped.folder(ANN, drop_id).stat().st_mtime - FORGOTTEN_AFTER_S - 60
            os.utime(dropped.folder(ANN, drop_id), (then, then))
    assert dropped.sweep(used={dropped.folder(ANN, ids["used"])}.__contains__) == 1
    assert {name: dropped.folder(ANN, drop_id).exists() for name, drop_id in ids.items()} == {
        "old": False,
        "used": True,
        "fresh": True,
    }


def test_a_run_goes_over_a_drop_and_takes_it_along_when_deleted(tmp_path: Path) -> None:
    """Dropped pictures are a folder like any other; deleting the run deletes them, another folder is never touched."""
    with an_assistant(AnsweringEngine(), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        runs.dropped.add(ANN, DROP, "1.png", a_file())
        folder = runs.dropped.folder(ANN, DROP)
        run_id = runs.start(BatchPlan(folder, ("?",), owner=ANN))
        assert runs.wait(run_id, WAIT_S)
        (row,) = runs.current_rows(run_id)
        assert runs.picture(run_id, row).size.width == 560
        assert [summary.run_id for summary in runs.list(owner=ANN)] == [run_id]
        assert runs.list(owner=BOB) == ()
        own = tmp_path / "own"
        own.mkdir()
        (own / "1.png").write_bytes(a_file())
        other = runs.start(BatchPlan(own, ("?",), owner=BOB))
        assert runs.wait(other, WAIT_S)
        runs.delete(run_id)
        runs.delete(other)
        assert not folder.exists()
        assert (own / "1.png").exists()
        runs.close()


@pytest.mark.parametrize("is_below", [False, True])
def test_a_run_of_before_finds_its_drop_under_the_new_name(is_below: bool, tmp_path: Path) -> None:
    """Owners' folders had the owner's own name, which is what lets a browser in; runs that knew them go on."""
    with an_assistant(AnsweringEngine(), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        runs.dropped.add(ANN, DROP, "below/1.png", a_file())
        drop = runs.dropped.folder(ANN, DROP)
        place = drop / "below" if is_below else drop
        run_id = runs.start(BatchPlan(place, ("?",), owner=ANN, is_recursive=True))
        assert runs.wait(run_id, WAIT_S)
        runs.close()
        before = drop.parent.with_name(ANN)
        drop.parent.rename(before)
        plan = tmp_path / "data" / "batches" / run_id / "plan.json"
        plan.write_text(plan.read_text().replace(drop.parent.name, ANN))
        runs = BatchRuns(assistant)
        (row,) = runs.current_rows(run_id)
        assert runs.picture(run_id, row).size.width == 560, "not named anew yet"
        runs.start_sweeping()
        assert not before.exists()
        assert runs.picture(run_id, row).size.width == 560
        assert runs.sweep() == 0
        assert runs.plan(run_id).folder == place
        assert assistant.records.erase_everything(ANN).runs == 1
        assert not drop.exists()
        runs.close()


def test_a_drop_goes_with_the_last_run_over_it(tmp_path: Path) -> None:
    """A command can go over a drop again, or over a folder in it; what is left to do there keeps its pictures."""
    with an_assistant(AnsweringEngine(), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        runs.dropped.add(ANN, DROP, "1.png", a_file())
        runs.dropped.add(ANN, DROP, "below/2.png", a_file())
        folder = runs.dropped.folder(ANN, DROP)
        plans = [(folder, ANN), (folder, ANN), (folder / "below", ANN), (folder, BOB)]
        first, second, below, theirs = (runs.start(BatchPlan(place, ("?",), owner=owner)) for place, owner in plans)
        assert all(runs.wait(run_id, WAIT_S) for run_id in (first, second, below, theirs))
        for run_id in (theirs, first, second):
            runs.delete(run_id)
            assert runs.dropped.look(ANN, DROP).count == 2
        last = runs.start(BatchPlan(folder, ("?",), owner=ANN))
        assert runs.wait(last, WAIT_S)
        runs.delete(below)
        runs.delete(last)
        assert not folder.exists()
        runs.close()


def test_a_drop_stays_with_whose_it_is(tmp_path: Path) -> None:
    """Who goes over another's drop does not take it along."""
    with an_assistant(AnsweringEngine(), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        runs.dropped.add(ANN, DROP, "1.png", a_file())
        theirs = runs.start(BatchPlan(runs.dropped.folder(ANN, DROP), ("?",), owner=BOB))
        assert runs.wait(theirs, WAIT_S)
        runs.delete(theirs)
        assert runs.dropped.look(ANN, DROP).count == 1
        runs.close()


def test_what_a_run_needs_stays_wherever_the_data_folder_lies(tmp_path: Path) -> None:
    """A data folder behind a link, and one with a plan that cannot be read: a run's dropped pictures outlive every start."""
    (tmp_path / "disk").mkdir()
    try:
        make_link(tmp_path / "data", tmp_path / "disk", is_folder=True)
    except OSError:
        pytest.skip("no links here")
    with an_assistant(AnsweringEngine(), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        for drop_id in (DROP, "1" * 32):
            runs.dropped.add(ANN, drop_id, "1.png", a_file())
            then = runs.dropped.folder(ANN, drop_id).stat().st_mtime - FORGOTTEN_AFTER_S - 60
            os.utime(runs.dropped.folder(ANN, drop_id), (then, then))
        run_id = runs.start(BatchPlan(runs.dropped.folder(ANN, DROP), ("?",), owner=ANN))
        assert runs.wait(run_id, WAIT_S)
        plan = tmp_path / "data" / "batches" / run_id / "plan.json"
        kept = plan.read_bytes()
        plan.write_bytes(b"{")
        assert runs.sweep() == 0
        plan.write_bytes(kept)
        assert runs.sweep() == 1  # the one that nobody used
        assert runs.dropped.look(ANN, DROP).count == 1
        runs.close()


def test_runs_do_not_go_over_the_apps_own_folder_of_runs(tmp_path: Path) -> None:
    """Only drops within it are pictures; its journals and thumbnails are not."""
    with an_assistant(AnsweringEngine(), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        runs.dropped.add(ANN, DROP, "1.png", a_file())
        inner = tmp_path / "data" / "batches" / "some-run"
        inner.mkdir()
        with pytest.raises(UsageError):
            runs.start(BatchPlan(inner, ("?",)))
        runs.close()


def test_what_nobody_began_a_run_over_goes_while_the_app_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when it is started: it may run for weeks."""
    monkeypatch.setattr(runs_module, "SWEEP_EVERY_S", 0.01)
    with an_assistant(AnsweringEngine(), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        runs.start_sweeping()
        for drop_id in (DROP, "1" * 32):
            runs.dropped.add(ANN, drop_id, "1.png", a_file())
        old = runs.dropped.folder(ANN, "1" * 32)
        then = old.stat().st_mtime - FORGOTTEN_AFTER_S - 60
        os.utime(old, (then, then))
        wait_until(lambda: not old.exists())
        assert runs.dropped.look(ANN, DROP).count == 1
        runs.close()
    assert not any(thread.name == "drops" for thread in threading.enumerate())
