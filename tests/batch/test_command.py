"""`batch` on the command line: statuses, JSON, exports, and what is refused before a model is loaded."""

from __future__ import annotations

import errno
import json
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.cli import main
from qwen_vl_app.cli.parts import Parts
from tests.batch.parts import AnsweringEngine, fill
from tests.hub_parts import an_assistant

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    fill(tmp_path / "photos", 3)
    return tmp_path / "photos"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on a fake engine and returns its status, output and errors."""

    def ran(arguments: Sequence[object], engine: AnsweringEngine | None = None) -> tuple[int, str, str]:
        engine = engine or AnsweringEngine()
        parts = Parts(
            build_assistant=lambda settings: an_assistant(engine, settings.data_dir, settings=settings),
            settings_file=tmp_path / "config.toml",
            environment={"QWEN_VL_DATA_DIR": str(tmp_path / "data"), "QWEN_VL_LANGUAGE": "en"},
        )
        status = main(["batch", *map(str, arguments)], parts=parts)
        out, err = capsys.readouterr()
        return status, out, err

    return ran


def test_a_folder_is_run_over_and_exported(run: Run, photos: Path, tmp_path: Path) -> None:
    """A ready-made task, its own words to the model, files in the folder that was named, status 0."""
    engine = AnsweringEngine()
    status, out, err = run(
        [photos, "--task", "read-text", "--out", tmp_path / "out", "--export", "csv", "--export", "jsonl"], engine
    )
    assert (status, out) == (0, "finished: answered 3, failed 0, duplicates 0, skipped 0.\n")
    assert {text for _, _, text in engine.asked} == {"Read all the text in the image."}
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [".csv", ".jsonl"]
    assert "Wrote" in err


def test_a_disk_that_is_full_at_the_start_says_what_to_do(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run was begun, so the words are not of resuming one whose id nobody has."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("qwen_vl_app.batch.runs.dump_plan", full)
    status, out, err = run([photos, "--prompt", "?"])
    assert status != 0 and out == ""
    assert "begin the run again" in err and "resume" not in err
    assert run(["--list"])[1] == ""


def test_a_folder_without_pictures_is_told(run: Run, tmp_path: Path) -> None:
    """They may lie in folders below it, or be clips."""
    (tmp_path / "photos" / "below").mkdir(parents=True)
    fill(tmp_path / "photos" / "below", 1)
    (tmp_path / "photos" / "clip.mp4").touch()
    status, _, err = run([tmp_path / "photos", "--prompt", "?"])
    assert status == 0 and "No picture or PDF was found" in err
    _, _, err = run([tmp_path / "photos", "--prompt", "?", "--recursive"])
    assert "No picture" not in err


def test_json_is_one_object(run: Run, photos: Path) -> None:
    """For scripts: counts, state and the run's id on stdout, nothing else; a pipe sees no progress."""
    (photos / "bad.png").write_bytes(b"no picture")
    status, out, err = run([photos, "--prompt", "1", "--prompt", "2", "--json"])
    told = json.loads(out)
    assert status == 1  # a picture failed
    assert (told["state"], told["total"], told["answered"], told["failed"]) == ("finished", 4, 6, 1)
    assert err == ""


def test_a_run_whose_results_find_no_room_tells_its_id(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up while pictures are asked about: what came of them is told, and the command that writes them later."""

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("qwen_vl_app.batch.exports.to_csv", full)
        status, out, err = run([photos, "--prompt", "?", "--out", tmp_path / "out", "--json"])
        told = json.loads(out)
        assert (status, told["state"], told["answered"]) == (1, "finished", 3)
        assert told["error"]["code"] == "batch.target_unwritable"
        assert f"--take-away {told['run_id']}" in err
        status, out, err = run([photos, "--prompt", "?", "--out", tmp_path / "out"])
        assert (status, out) == (1, "finished: answered 3, failed 0, duplicates 0, skipped 0.\n")
        assert "could not be written" in err
    assert run(["--take-away", told["run_id"], "--out", tmp_path / "out"])[0] == 0
    assert (tmp_path / "out" / f"{told['run_id']}.csv").exists()


def test_a_run_is_resumed_listed_and_compared(run: Run, photos: Path, tmp_path: Path) -> None:
    """The id that was told works again; what changed since an earlier run is a file."""
    first = json.loads(run([photos, "--prompt", "?", "--json"], AnsweringEngine(lambda _: '{"bar": 4}'))[1])["run_id"]
    engine = AnsweringEngine()
    assert run(["--resume", first], engine)[0] == 0
    assert engine.requests == []
    status, _, _ = run(
        [photos, "--prompt", "?", "--compare", first, "--out", tmp_path / "out"],
        AnsweringEngine(lambda _: '{"bar": 5}'),
    )
    assert status == 0
    (report,) = (tmp_path / "out").glob("*-since-*.csv")
    assert "changed,bar,4,5,1,25" in report.read_text(encoding="utf-8-sig")
    listed = run(["--list"])[1].splitlines()
    assert len(listed) == 2 and listed[1].startswith(f"{first}  finished, 3 of 3")


def test_a_target_that_cannot_be_written_is_told_before_anything_is_asked(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    """A file where the folder should be: hours of work would have nowhere to go."""
    taken = tmp_path / "taken"
    taken.write_text("a file", encoding="utf-8")
    engine = AnsweringEngine()
    status, _, err = run([photos, "--prompt", "?", "--out", taken], engine)
    assert (status, engine.requests) == (1, [])
    assert "taken" in err
    assert run(["--list"])[1] == ""


def test_a_run_that_is_not_there_is_wrong_input(run: Run) -> None:
    """As a template or a model that is not there."""
    status, _, err = run(["--resume", "nosuch"])
    assert status == 2
    assert "nosuch" in err and "--list" in err


def test_a_run_is_taken_away_though_its_folder_is_gone(run: Run, photos: Path, tmp_path: Path) -> None:
    """Nothing is asked and no model is loaded."""
    first = json.loads(run([photos, "--prompt", "?", "--json"])[1])["run_id"]
    photos.rename(tmp_path / "away")

    class Unloadable(AnsweringEngine):
        def load(self) -> None:
            raise AssertionError("a model was loaded")

    out = tmp_path / "out"
    taken = ["--take-away", first, "--out", out]
    status, said, _ = run([*taken, "--export", "csv", "--export", "annotated", "--json"], Unloadable())
    assert status == 0 and json.loads(said)["answered"] == 3
    assert (out / f"{first}.csv").read_text(encoding="utf-8-sig").count("Answer to ?") == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Name a folder"),
        (["photos"], "--task NAME"),
        (["photos", "--task", "dance"], "read-text"),
        (["photos", "--task", "describe", "--prompt", "?"], "not both"),
        (["photos", "--task", "compare"], "several pictures"),
        (["photos", "--task", "extract-fields"], "needs something from you"),
        (["photos", "--prompt", "?", "--with", "lamp"], "takes no further words"),
        (["nowhere", "--prompt", "?"], "no folder nowhere"),
        (["photos", "--prompt", "?", "--export", "csv"], "--out"),
        (["photos", "--prompt", "?", "--out", "photos/out"], "only read"),
        (["photos", "--resume", "x"], "Leave out"),
        (["photos", "--take-away", "x"], "Leave out"),
        (["--take-away", "x"], "--out"),
        (["photos", "--prompt", "?", "--detail", "enormous"], "--detail can be one of these"),
    ],
)
def test_what_cannot_be_meant_is_status_2(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    """A sentence says what to do instead, and no run is begun."""
    monkeypatch.chdir(tmp_path)
    status, _, err = run(arguments)
    assert (status, told in err) == (2, True), err
    assert not (tmp_path / "data" / "batches").exists()


def test_ctrl_c_leaves_a_run_that_can_be_resumed(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 130, and the sentence that says how to go on holds what it says."""
    waited = BatchRuns.wait
    pressed = threading.Event()

    def wait(self: BatchRuns, run_id: str, timeout_s: float | None = None) -> bool:
        if self.progress(run_id).answered >= 1 and not pressed.is_set():
            pressed.set()
            # As a person does it: the signal arrives while the main thread waits.
            threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        return waited(self, run_id, timeout_s)

    monkeypatch.setattr(BatchRuns, "wait", wait)
    one_answer = AnsweringEngine(gate=threading.Semaphore(1))
    status, out, err = run([photos, "--prompt", "?"], one_answer)
    assert (status, out.partition(":")[0]) == (130, "interrupted")
    run_id = err.rstrip().rpartition("--resume ")[2]
    status, out, _ = run(["--resume", run_id, "--json"])
    assert (status, json.loads(out)["answered"]) == (0, 3)
