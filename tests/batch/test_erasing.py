"""Erasing reaches runs over folders: their questions, answers, thumbnails and dropped pictures, never a folder of a person's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.batch import RUNS_NAME, BatchPlan, BatchRuns, RunErasing, RunState
from qwen_vl_app.chat import ErasedBeside
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore, Keeping, KeepingMode
from qwen_vl_app.records import find_traces
from tests.batch.parts import AnsweringEngine, fill, until
from tests.hub_parts import WAIT_S, a_file, an_assistant, replace_settings

OTHER = "abcdef0123456789abcdef0123456789"
MARKER = "zqx-canary-run"
Open = Callable[..., tuple[Assistant, BatchRuns]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    fill(tmp_path / "photos", 2)
    return tmp_path / "photos"


@pytest.fixture
def opened(folder: Path) -> Iterator[Open]:
    """Opens an assistant with its runs; all of it is closed at the end."""
    with ExitStack() as closing:

        def open_on(
            engine: AnsweringEngine | None = None, *, keeping: Keeping | None = None, **changes: object
        ) -> tuple[Assistant, BatchRuns]:
            settings = replace_settings(data_dir=folder, **changes)
            history = HistoryStore(folder, keeping=keeping)
            assistant = closing.enter_context(
                an_assistant(engine or AnsweringEngine(), folder, settings=settings, history=history)
            )
            runs = BatchRuns(assistant, poll_s=0.05)
            closing.callback(runs.close)
            return assistant, runs

        yield open_on


def ran(runs: BatchRuns, folder: Path, *, owner: str = LOCAL_OWNER, ago: timedelta = timedelta(0)) -> str:
    """The id of a finished run, which ended so long ago."""
    run_id = runs.start(BatchPlan(folder, (f"{MARKER}?",), owner=owner))
    assert runs.wait(run_id, WAIT_S)
    return aged(runs._folder, run_id, ago) if ago else run_id


def aged(runs: Path, run_id: str, ago: timedelta) -> str:
    then = datetime.now(UTC) - ago
    former = f"{then:%Y%m%d-%H%M%S}{run_id[15:]}"
    (runs / run_id).rename(runs / former)
    os.utime(runs / former / "journal.jsonl", (then.timestamp(), then.timestamp()))
    return former


def ids(runs: BatchRuns) -> list[str]:
    return [summary.run_id for summary in runs.list()]


def test_everything_of_an_owner_goes_and_nothing_of_others(opened: Open, folder: Path, photos: Path) -> None:
    """Journal, thumbnails and drops; the receipt counts them, and the photos stay where they are."""
    assistant, runs = opened()
    ran(runs, photos)
    theirs = ran(runs, photos, owner=OTHER)
    runs.dropped.add(OTHER, "0" * 32, "dropped.png", a_file())
    runs.dropped.add(LOCAL_OWNER, "1" * 32, f"{MARKER}.png", a_file())
    drop = runs.dropped.folder(LOCAL_OWNER, "1" * 32)
    ran(runs, drop)
    runs.dropped.add(LOCAL_OWNER, "2" * 32, "never run over.png", a_file())
    receipt = assistant.records.erase_everything(LOCAL_OWNER)
    assert receipt.is_complete
    assert receipt.runs == 2
    assert receipt.files >= 6
    assert receipt.file_bytes > 0
    assert assistant.records.receipts(LOCAL_OWNER)[0].runs == 2
    assert ids(runs) == [theirs]
    assert not drop.exists()
    assert not runs.dropped.folder(LOCAL_OWNER, "2" * 32).exists()
    assert runs.dropped.look(OTHER, "0" * 32).count == 1
    assert len(list(photos.iterdir())) == 2
    runs.delete(theirs)
    assert find_traces([folder], MARKER).files == ()


def test_a_day_takes_the_runs_that_worked_on_it(opened: Open, photos: Path) -> None:
    """One that went on over midnight belongs to both days; older and younger ones stay."""
    assistant, runs = opened()
    old = ran(runs, photos, ago=timedelta(days=3))
    overnight = ran(runs, photos, ago=timedelta(days=2))
    journal = runs._folder / overnight / "journal.jsonl"
    later = (datetime.now(UTC) - timedelta(days=1)).timestamp()
    os.utime(journal, (later, later))
    young = ran(runs, photos)
    now = datetime.now(UTC)
    receipt = assistant.records.erase_period(
        LOCAL_OWNER, since=now - timedelta(days=1, hours=12), until=now - timedelta(hours=12)
    )
    assert receipt.runs == 1
    assert ids(runs) == [young, old]


def test_a_drop_stays_with_a_run_of_its_owner_that_stays(opened: Open) -> None:
    """A period takes one of two runs over it; erasing everything takes both, and what was dropped with them."""
    assistant, runs = opened()
    runs.dropped.add(OTHER, "0" * 32, "a.png", a_file())
    drop = runs.dropped.folder(OTHER, "0" * 32)
    dropped_at = (datetime.now(UTC) - timedelta(days=3)).timestamp()
    ran(runs, drop, owner=OTHER, ago=timedelta(days=3))
    young = ran(runs, drop, owner=OTHER)
    os.utime(drop, (dropped_at, dropped_at))
    now = datetime.now(UTC)
    receipt = assistant.records.erase_period(OTHER, since=now - timedelta(days=4), until=now - timedelta(days=2))
    assert (receipt.runs, ids(runs)) == (1, [young])
    assert runs.dropped.look(OTHER, "0" * 32).count == 1
    assert assistant.records.erase_everything(OTHER).runs == 1
    assert not drop.exists()


def test_nobody_erases_the_drop_of_somebody_else(opened: Open) -> None:
    """A run over another's drop goes without it; and its owner's promise does not wait for that run."""
    assistant, runs = opened()
    runs.dropped.add(OTHER, "0" * 32, "a.png", a_file())
    drop = runs.dropped.folder(OTHER, "0" * 32)
    ran(runs, drop)
    assert assistant.records.erase_everything(LOCAL_OWNER).runs == 1
    assert runs.dropped.look(OTHER, "0" * 32).count == 1
    mine = ran(runs, drop)
    assistant.records.erase_everything(OTHER)
    assert not drop.exists()
    assert ids(runs) == [mine]


def test_a_run_at_work_is_stopped_first(opened: Open, photos: Path) -> None:
    """Nothing writes into what is gone."""
    assistant, runs = opened(AnsweringEngine(gate=threading.Semaphore(0)))
    run_id = runs.start(BatchPlan(photos, ("What?",)))
    until(runs, run_id, lambda progress: progress.state is RunState.RUNNING)
    assert assistant.records.erase_everything(LOCAL_OWNER).runs == 1
    assert ids(runs) == []
    assert list(runs._folder.iterdir()) == []


def test_the_site_erases_runs_of_everybody(opened: Open, photos: Path) -> None:
    """Those of people who have nothing else here, too, and those whose plan is damaged."""
    assistant, runs = opened()
    ran(runs, photos, owner=OTHER)
    damaged = ran(runs, photos)
    (runs._folder / damaged / "plan.json").write_text("{")
    assert assistant.records.erase_site().runs == 2
    assert list(runs._folder.iterdir()) == []


def test_a_site_that_keeps_days_keeps_runs_no_longer(
    opened: Open, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that worked within these days stays whole."""
    monkeypatch.setattr("qwen_vl_app.history.store.may_expire", lambda _session, _now: True)
    assistant, runs = opened(keeping=Keeping(KeepingMode.DAYS, days=2))
    assert assistant.records.expire() is None
    ran(runs, photos, ago=timedelta(days=3))
    young = ran(runs, photos)
    receipt = assistant.records.expire()
    assert receipt is not None
    assert (receipt.runs, receipt.scope) == (1, "expired")
    assert ids(runs) == [young]


def test_a_site_that_keeps_records_deletes_no_run(opened: Open, photos: Path) -> None:
    """Neither by erasing nor from the page of runs."""
    assistant, runs = opened(keeping=Keeping(KeepingMode.RECORDS))
    run_id = ran(runs, photos)
    for attempt in (lambda: runs.delete(run_id), lambda: assistant.records.erase_everything(LOCAL_OWNER)):
        with pytest.raises(HistoryError, match=r"history\.records_are_kept"):
            attempt()
    assert ids(runs) == [run_id]


def test_what_a_kill_left_behind_goes_at_the_next_start(opened: Open, folder: Path) -> None:
    """The receipt of before is complete then."""
    left = folder / RUNS_NAME / "erasing-20260101-000000-0000000"
    left.mkdir(parents=True)
    (left / "journal.jsonl").write_text(MARKER)
    erasing = RunErasing(folder / RUNS_NAME)
    assert erasing.settle()
    assert not left.exists()
    assert erasing.erase(None, since=None, until=None) == ErasedBeside()


def test_a_receipt_waits_for_what_is_held_open(opened: Open, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is pending until the files are gone, and completed by whatever writes next."""
    assistant, runs = opened()
    ran(runs, photos)
    with monkeypatch.context() as patched:
        patched.setattr("qwen_vl_app.batch.erasing.shutil.rmtree", lambda _folder, **_: None)
        receipt = assistant.records.erase_everything(LOCAL_OWNER)
        assert (receipt.is_complete, receipt.runs) == (False, 1)
        assert ids(runs) == []
    assert assistant.records.settle()
    assert assistant.records.receipts(LOCAL_OWNER)[0].is_complete
    assert list(runs._folder.iterdir()) == []
