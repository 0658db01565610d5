"""A run of a folder: every question has its row, nothing is done twice, and everybody else goes first."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchPlan, BatchRuns, RowOutcome, RunState
from qwen_vl_app.batch.source import SourceFolder
from qwen_vl_app.chat import Question
from qwen_vl_app.engine.base import GenerationRequest
from qwen_vl_app.errors import BatchError, InferenceError, UsageError
from tests.batch.parts import AnsweringEngine, fill, until
from tests.hub_parts import WAIT_S, a_file, an_assistant, replace_settings

Open = Callable[..., BatchRuns]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens an assistant on an engine and returns its runs; all of it is closed at the end."""
    with ExitStack() as closing:

        def open_on(engine: AnsweringEngine, **changes: object) -> BatchRuns:
            settings = replace_settings(data_dir=tmp_path / "data", **changes)
            assistant = closing.enter_context(an_assistant(engine, settings.data_dir, settings=settings))
            runs = BatchRuns(assistant, poll_s=0.05)
            closing.callback(runs.close)
            return runs

        yield open_on


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def finished(runs: BatchRuns, plan: BatchPlan) -> str:
    """Run to the end."""
    run_id = runs.start(plan)
    assert runs.wait(run_id, WAIT_S)
    return run_id


def test_every_question_about_every_picture_has_a_row(opened: Open, photos: Path) -> None:
    """In reading order, a picture's questions one after the other, with what was seen and how sure the model was."""
    names = fill(photos, 3)
    engine = AnsweringEngine()
    runs = opened(engine)
    run_id = finished(runs, BatchPlan(photos, ("What?", "Where?")))
    rows = runs.current_rows(run_id)
    assert [(row.name, row.question) for row in rows] == [
        (name, asked) for name in names for asked in ("What?", "Where?")
    ]
    assert {row.outcome for row in rows} == {RowOutcome.ANSWERED}
    assert [row.answer.text for row in rows if row.answer] == ["Answer to What?", "Answer to Where?"] * 3
    assert rows[0].size is not None and rows[0].seen is not None and rows[0].size.width == 280
    assert rows[0].confidence == pytest.approx(0.9048, abs=1e-3)
    thumbnail = runs.thumbnail(run_id, rows[0])
    assert thumbnail is not None and thumbnail.endswith(b"thumbnail of " + a_file(280, 280))
    progress = runs.progress(run_id)
    assert (progress.state, progress.total, progress.done, progress.answered) == (RunState.FINISHED, 3, 3, 6)
    assert progress.files_per_minute and progress.elapsed_s > 0


@pytest.mark.parametrize("moment", ["runs.dump_plan", "journal._sync_folder", "journal.Journal.append"])
def test_a_disk_that_is_full_at_the_start_leaves_no_half_run(
    opened: Open, photos: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """There is nothing to resume, so the sentence says to begin again; with room again, that is all there is to do."""

    def full(*_: object) -> None:
        if moment.endswith("append"):  # the journal's own word for it
            raise BatchError("batch.journal.unwritable")
        raise OSError(errno.ENOSPC, "No space left on device")

    fill(photos, 1)
    runs = opened(AnsweringEngine())
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(f"qwen_vl_app.batch.{moment}", full)
        with pytest.raises(BatchError) as refused:
            runs.start(BatchPlan(photos, ("What?",)))
    assert refused.value.code == "batch.not_begun"
    assert runs.list() == () and not list(runs._folder.glob("2*"))
    assert runs.progress(finished(runs, BatchPlan(photos, ("What?",)))).answered == 1


def test_a_run_can_be_deleted_on_a_full_disk(opened: Open, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting is what makes room; the lock's own text needs none."""
    fill(photos, 1)
    runs = opened(AnsweringEngine())
    run_id = finished(runs, BatchPlan(photos, ("?",)))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("qwen_vl_app.history.lock._write", full)
    runs.delete(run_id)
    assert runs.list() == () and not list(runs._folder.glob("2*"))


def test_what_was_answered_stands_where_it_cannot_be_looked_at_any_more(
    opened: Open, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that may be listed and not entered: its pictures are told of, and those with answers keep them."""
    below = photos / "below"
    fill(below, 1)
    runs = opened(AnsweringEngine())
    run_id = finished(runs, BatchPlan(photos, ("?",), is_recursive=True))
    fill(below, 1, first=5)
    look = os.scandir

    def closed(path: object) -> object:
        return _Closed(path) if isinstance(path, Path) and path.name == below.name else look(path)  # type: ignore[call-overload]

    monkeypatch.setattr("qwen_vl_app.batch.source.os.scandir", closed)
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    assert [(row.name, row.outcome, row.error and row.error.code) for row in runs.current_rows(run_id)] == [
        ("below/photo 0.png", RowOutcome.ANSWERED, None),
        ("below/photo 5.png", RowOutcome.SKIPPED, "batch.file.unreadable"),
    ]


class _Closed:
    """What a folder lists whose files may not be looked at."""

    def __init__(self, path: Path) -> None:
        self._names = sorted(entry.name for entry in path.iterdir())

    def __enter__(self) -> list[_Closed.Entry]:
        return [self.Entry(name) for name in self._names]

    def __exit__(self, *_: object) -> None:
        """There is nothing to close."""

    class Entry:
        """A name, and a refusal."""

        def __init__(self, name: str) -> None:
            self.name = name

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            """Refuse, as the system does."""
            raise PermissionError(errno.EACCES, f"Permission denied: {follow_symlinks}")


def test_questions_about_one_picture_follow_each_other(opened: Open, photos: Path) -> None:
    """So the engine still holds the picture when the second question comes."""
    fill(photos, 2)
    engine = AnsweringEngine()
    finished(opened(engine), BatchPlan(photos, ("1", "2", "3")))
    assert [text for _, _, text in engine.asked] == ["1", "2", "3", "1", "2", "3"]
    assert len({width for width, _, _ in engine.asked[:3]}) == 1


def test_what_cannot_be_read_is_a_row_and_the_run_goes_on(opened: Open, photos: Path) -> None:
    """A damaged picture, a failed answer and a file that is too large cost their own row and nothing else."""
    fill(photos, 3)
    (photos / "photo 0.png").write_bytes(b"no picture")
    (photos / "photo 9.png").write_bytes(b"x" * (2**20 + 1))

    def answer(request: GenerationRequest) -> str | Exception:
        is_second = request.messages[-1].images[0].size.width == 308
        return InferenceError("engine.run_failed") if is_second else "Fine."

    runs = opened(AnsweringEngine(answer), max_upload_mb=1)
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    rows = {row.name: row for row in runs.current_rows(run_id)}
    assert {name: row.outcome.value for name, row in rows.items()} == {
        "photo 0.png": "failed",
        "photo 1.png": "failed",
        "photo 2.png": "answered",
        "photo 9.png": "failed",
    }
    codes = [row.error.code for row in rows.values() if row.error is not None]
    assert "engine.run_failed" in codes and "batch.file.too_large" in codes
    progress = runs.progress(run_id)
    assert (progress.state, progress.failed, progress.done, progress.total) == (RunState.FINISHED, 3, 4, 4)


def test_the_same_bytes_are_asked_about_once(opened: Open, photos: Path) -> None:
    """A copy under another name says whose copy it is."""
    fill(photos, 2)
    (photos / "photo 7.png").write_bytes((photos / "photo 0.png").read_bytes())
    engine = AnsweringEngine()
    runs = opened(engine)
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    copies = [row for row in runs.current_rows(run_id) if row.outcome is RowOutcome.DUPLICATE]
    assert [(row.name, row.duplicate_of) for row in copies] == [("photo 7.png", "photo 0.png")]
    assert len(engine.requests) == 2


def test_every_page_of_a_document_is_a_picture(opened: Open, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages of a PDF are asked about one by one."""
    (photos / "plans.pdf").write_bytes(a_file(280, 280, pages=3))
    monkeypatch.setattr("qwen_vl_app.batch.pictures._DOCUMENTS", {"PNG"})  # the fake decoder calls everything PNG
    runs = opened(AnsweringEngine())
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    rows = runs.current_rows(run_id)
    assert [(row.page, row.page_count, row.outcome.value) for row in rows] == [
        (page, 3, "answered") for page in range(3)
    ]


def test_a_first_page_that_cannot_be_read_takes_no_other_with_it(opened: Open, photos: Path) -> None:
    """It has its row, and the pages behind it are asked about; also when what failed is tried again."""
    (photos / "scans.tif").write_bytes(a_file(280, 280, pages=3, bad=1))
    (photos / "single.tif").write_bytes(a_file(280, 308, bad=1))
    engine = AnsweringEngine()
    runs = opened(engine)
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    for retries in (False, True):
        if retries:
            runs.resume(run_id, retry_failed=True)
            assert runs.wait(run_id, WAIT_S)
        rows = runs.current_rows(run_id)
        assert [(row.name, row.page, row.page_count, row.outcome.value) for row in rows] == [
            ("scans.tif", 0, 3, "failed"),
            ("scans.tif", 1, 3, "answered"),
            ("scans.tif", 2, 3, "answered"),
            ("single.tif", 0, 1, "failed"),
        ]
    assert len(engine.requests) == 2


def test_a_stopped_run_goes_on_where_it_was(opened: Open, photos: Path) -> None:
    """What was under way is asked again, what has its row is not."""
    fill(photos, 4)
    gate = threading.Semaphore(3)  # three words: two pictures with one question, half a third
    engine = AnsweringEngine(lambda _: ["one ", "two"], gate=gate)
    runs = opened(engine)
    run_id = runs.start(BatchPlan(photos, ("?",)))
    until(runs, run_id, lambda progress: progress.answered == 1 and len(engine.requests) == 2)
    runs.stop(run_id)
    assert runs.progress(run_id).state is RunState.STOPPED
    before = runs.current_rows(run_id)
    assert [row.name for row in before] == ["photo 0.png"]
    gate.release(100)
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    rows = runs.current_rows(run_id)
    assert [row.name for row in rows] == [f"photo {number}.png" for number in range(4)]
    assert rows[0] == before[0]
    first = [asked for asked in engine.asked if asked[0] == 280]
    assert len(first) == 1
    assert runs.progress(run_id).state is RunState.FINISHED


def test_a_resumed_run_takes_up_new_and_changed_files_alone(opened: Open, photos: Path) -> None:
    """A finished run that is resumed looks again; a file with other bytes gets new rows, the old ones stand no more."""
    fill(photos, 3)
    engine = AnsweringEngine()
    runs = opened(engine)
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    fill(photos, 1, first=5)
    (photos / "photo 1.png").write_bytes(a_file(840, 560))
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    assert [(width, height) for width, height, _ in engine.asked[3:]] == [(840, 560), (420, 280)]
    rows = {row.name: row for row in runs.current_rows(run_id)}
    assert len(rows) == len(runs.current_rows(run_id)) == 4
    assert rows["photo 1.png"].size is not None and rows["photo 1.png"].size.width == 840


def test_files_that_changed_places_keep_an_answer_each(opened: Open, photos: Path) -> None:
    """None of them is called a copy of the other by what that one was before."""
    names = fill(photos, 2)
    runs = opened(AnsweringEngine())
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    one, other = ((photos / name).read_bytes() for name in names)
    (photos / names[0]).write_bytes(other)
    (photos / names[1]).write_bytes(one)
    later(photos, *names)
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    rows = runs.current_rows(run_id)
    assert [(row.name, row.outcome, row.content_hash) for row in rows] == [
        (name, RowOutcome.ANSWERED, sha256(content).hexdigest())
        for name, content in zip(names, (other, one), strict=True)
    ]


@pytest.mark.parametrize("is_watching", [False, True])
def test_a_copy_is_asked_about_when_the_file_it_was_a_copy_of_is_another(
    opened: Open, photos: Path, is_watching: bool
) -> None:
    """Its answer stood in the other one's row, which is over; and what is over is not counted."""
    names = fill(photos, 2)
    content = (photos / names[0]).read_bytes()
    (photos / "photo 7.png").write_bytes(content)
    runs = opened(AnsweringEngine())
    run_id = runs.start(BatchPlan(photos, ("?",), is_watching=is_watching))
    until(runs, run_id, lambda progress: (progress.answered, progress.duplicates) == (2, 1))
    if not is_watching:
        assert runs.wait(run_id, WAIT_S)
    (photos / names[0]).write_bytes((photos / names[1]).read_bytes())
    later(photos, names[0])
    if not is_watching:
        runs.resume(run_id)
        assert runs.wait(run_id, WAIT_S)

    def stands() -> bool:
        last = {row.name: row.outcome for row in runs.current_rows(run_id)}
        others = sorted(last[name] for name in names)
        return last["photo 7.png"] is RowOutcome.ANSWERED and others == [RowOutcome.ANSWERED, RowOutcome.DUPLICATE]

    until(runs, run_id, lambda progress: stands() and (progress.answered, progress.duplicates) == (2, 1))


def later(folder: Path, *names: str) -> None:
    """Have files look as if they were written an hour ago: a clock may tell the same time twice in a row."""
    for name in names:
        moment = (folder / name).stat().st_mtime - 3600
        os.utime(folder / name, (moment, moment))


def test_a_file_that_is_again_what_it_was_has_its_answers_again(opened: Open, photos: Path) -> None:
    """Nothing is asked twice, and what was said of the bytes in between stands no more, for the run's next reader neither."""
    names = fill(photos, 2)
    first, other = (photos / names[0]).read_bytes(), a_file(840, 560)
    engine = AnsweringEngine()
    runs = opened(engine)
    run_id = finished(runs, BatchPlan(photos, ("1", "2")))
    for content in (other, first):
        (photos / names[0]).write_bytes(content)
        later(photos, names[0])
        runs.resume(run_id)
        assert runs.wait(run_id, WAIT_S)
        rows = [row for row in runs.current_rows(run_id) if row.name == names[0]]
        assert [(row.question_index, row.content_hash) for row in rows] == [
            (index, sha256(content).hexdigest()) for index in (0, 1)
        ]
        assert runs.progress(run_id).answered == 4
    assert len(engine.requests) == 6
    assert BatchRuns(runs._assistant).progress(run_id).answered == 4


def test_a_file_that_was_a_copy_in_between_is_looked_at_once(
    opened: Open, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is again what it was, and no later look takes it for a copy of a file with other bytes."""
    names = fill(photos, 2)
    contents = [(photos / name).read_bytes() for name in names]
    runs = opened(AnsweringEngine())
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    for content in (contents[1], contents[0]):
        (photos / names[0]).write_bytes(content)
        later(photos, names[0])
        runs.resume(run_id)
        assert runs.wait(run_id, WAIT_S)
    monkeypatch.setattr(SourceFolder, "read", lambda *_, **__: pytest.fail("it was read again"))
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    progress = runs.progress(run_id)
    assert (progress.state, progress.answered, progress.duplicates) == (RunState.FINISHED, 2, 0)


def test_a_file_that_could_not_be_read_for_a_while_has_its_answers_again(
    opened: Open, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program held it open: that failure is over with the next look, and nothing is asked twice."""
    names = fill(photos, 2)
    engine = AnsweringEngine()
    runs = opened(engine)
    run_id = finished(runs, BatchPlan(photos, ("1", "2")))
    read = SourceFolder.read

    def held(source: SourceFolder, name: str, *, max_bytes: int) -> object:
        if name == names[0]:
            raise BatchError("batch.file.unreadable")
        return read(source, name, max_bytes=max_bytes)

    later(photos, names[0])  # copied there anew, say, with the same bytes
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(SourceFolder, "read", held)
        runs.resume(run_id)
        assert runs.wait(run_id, WAIT_S)
    assert [row.outcome for row in runs.current_rows(run_id) if row.name == names[0]] == [RowOutcome.FAILED]
    runs.resume(run_id, retry_failed=True)
    assert runs.wait(run_id, WAIT_S)
    assert len(engine.requests) == 4
    assert [row.outcome for row in runs.current_rows(run_id)] == [RowOutcome.ANSWERED] * 4
    progress = runs.progress(run_id)
    assert (progress.answered, progress.failed) == (4, 0)


def test_failures_are_asked_again_when_somebody_wants_it(opened: Open, photos: Path) -> None:
    """Resuming alone leaves them; with `retry_failed` each is tried once more."""
    fill(photos, 2)
    replies: list[str | Exception] = [InferenceError("engine.run_failed"), "Fine.", "Better."]
    engine = AnsweringEngine(lambda _: replies.pop(0))
    runs = opened(engine)
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    assert (len(engine.requests), runs.progress(run_id).failed) == (2, 1)
    runs.resume(run_id, retry_failed=True)
    assert runs.wait(run_id, WAIT_S)
    assert (len(engine.requests), runs.progress(run_id).failed, runs.progress(run_id).answered) == (3, 0, 2)
    assert {row.outcome for row in runs.current_rows(run_id)} == {RowOutcome.ANSWERED}


def test_a_paused_run_begins_nothing_new(opened: Open, photos: Path) -> None:
    """What is being answered is written down; after the pause it goes on, and the pause is not counted as work."""
    fill(photos, 5)
    gate = threading.Semaphore(0)
    engine = AnsweringEngine(gate=gate)
    runs = opened(engine)
    run_id = runs.start(BatchPlan(photos, ("?",)))
    until(runs, run_id, lambda progress: progress.current == "photo 2.png")  # two are asked, the third is read
    runs.pause(run_id)
    assert runs.progress(run_id).state is RunState.PAUSED
    gate.release(100)
    paused = until(runs, run_id, lambda progress: progress.answered == 2)
    assert len(engine.requests) == 2 and paused.state is RunState.PAUSED
    runs.go_on(run_id)
    assert runs.wait(run_id, WAIT_S)
    assert runs.progress(run_id).answered == 5


def test_a_person_goes_first(tmp_path: Path, photos: Path) -> None:
    """A question from the page is answered before the run's next one, and the run leaves no trace in the history."""
    fill(photos, 4)
    gate = threading.Semaphore(0)
    engine = AnsweringEngine(gate=gate)
    with an_assistant(engine, tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        run_id = runs.start(BatchPlan(photos, ("batch",)))
        until(runs, run_id, lambda _: len(engine.requests) == 1 and assistant.status.waiting == 1)
        job = assistant.ask(Question("person"), owner="browser")
        gate.release(100)
        assert job.wait(WAIT_S) is not None
        assert runs.wait(run_id, WAIT_S)
        assert [request.messages[-1].text for request in engine.requests] == [
            "batch",
            "person",
            "batch",
            "batch",
            "batch",
        ]
        assert assistant.conversations(f"batch:{run_id}") == ()
        assert len(assistant.conversations("browser")) == 1


def test_a_full_queue_is_waited_for(opened: Open, photos: Path) -> None:
    """A run takes no more places than one where there is but one, and fails nothing for it."""
    fill(photos, 4)
    runs = opened(AnsweringEngine(), queue_limit=1, queue_limit_per_owner=1)
    run_id = finished(runs, BatchPlan(photos, ("1", "2")))
    assert (runs.progress(run_id).answered, runs.progress(run_id).failed) == (8, 0)


def test_a_watched_folder_takes_up_what_comes(opened: Open, photos: Path) -> None:
    """New pictures are asked about when two looks agree; the run goes on until it is stopped."""
    fill(photos, 1)
    runs = opened(AnsweringEngine())
    run_id = runs.start(BatchPlan(photos, ("?",), is_watching=True))
    until(runs, run_id, lambda progress: progress.answered == 1 and progress.state is RunState.WATCHING)
    fill(photos, 2, first=3)
    (photos / "broken.png").write_bytes(b"no picture")
    until(runs, run_id, lambda progress: progress.answered == 3 and progress.state is RunState.WATCHING)
    until(runs, run_id, lambda progress: progress.failed == 1)
    runs.stop(run_id)
    assert runs.progress(run_id).state is RunState.STOPPED
    assert len(runs.rows(run_id).rows) == 4


def test_a_watched_folder_may_go_away_for_a_while(opened: Open, photos: Path, tmp_path: Path) -> None:
    """A share that is cut off ends nothing: the run says so, and goes on when it is back."""
    fill(photos, 1)
    runs = opened(AnsweringEngine())
    run_id = runs.start(BatchPlan(photos, ("?",), is_watching=True))
    until(runs, run_id, lambda progress: progress.answered == 1)
    photos.rename(tmp_path / "away")
    gone = until(runs, run_id, lambda progress: progress.error is not None)
    assert gone.error is not None and gone.error.code == "batch.folder.gone" and gone.state.is_live
    (tmp_path / "away").rename(photos)
    fill(photos, 1, first=4)
    assert until(runs, run_id, lambda progress: progress.answered == 2).error is None


@pytest.mark.parametrize("is_disk_gone", [False, True], ids=["folder", "disk"])
def test_a_folder_that_is_taken_away_ends_the_run_and_not_every_picture(
    opened: Open, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_disk_gone: bool
) -> None:
    """A stick that is pulled out: where it was there is nothing, or an empty folder of another disk. The run goes on once it is back."""
    fill(photos, 4)
    away = tmp_path / "away"

    def answer(request: GenerationRequest) -> str:
        if not away.exists() and not photos.joinpath("back").exists():
            photos.rename(away)
            if is_disk_gone:
                photos.mkdir()
                monkeypatch.setattr(SourceFolder, "_disk_now", lambda self: -1)
        return "Answer"

    runs = opened(AnsweringEngine(answer))
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    progress = runs.progress(run_id)
    assert progress.error is not None and progress.error.code == "batch.folder.gone"
    assert progress.state is RunState.FAILED and progress.failed == 0
    monkeypatch.undo()
    if is_disk_gone:
        photos.rmdir()
    away.rename(photos)
    (photos / "back").touch()
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    assert [row.outcome for row in runs.current_rows(run_id)] == [RowOutcome.ANSWERED] * 4


def test_a_dead_model_ends_the_run_and_not_every_picture(tmp_path: Path, photos: Path) -> None:
    """Where the model cannot be loaded, the run fails once, with the reason, and can be resumed."""
    fill(photos, 5)

    class Dead(AnsweringEngine):
        def load(self) -> None:
            raise InferenceError("engine.run_failed")

    with an_assistant(Dead(), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        run_id = runs.start(BatchPlan(photos, ("?",)))
        assert runs.wait(run_id, WAIT_S)
        progress = runs.progress(run_id)
        assert (progress.state, progress.failed) == (RunState.FAILED, 0)
        assert progress.error is not None and progress.error.code == "engine.run_failed"


def test_closing_the_app_leaves_a_run_that_can_be_resumed(tmp_path: Path, photos: Path) -> None:
    """It is listed as interrupted by the next start, and goes on there."""
    fill(photos, 3)
    gate = threading.Semaphore(0)
    with an_assistant(AnsweringEngine(gate=gate), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        run_id = runs.start(BatchPlan(photos, ("?",)))
        until(runs, run_id, lambda progress: progress.state is RunState.RUNNING)
        runs.close()
    with an_assistant(AnsweringEngine(), tmp_path / "data") as assistant:
        runs = BatchRuns(assistant)
        (summary,) = runs.list()
        assert (summary.run_id, summary.progress.state) == (run_id, RunState.INTERRUPTED)
        assert summary.plan.folder == photos.resolve()
        runs.resume(run_id)
        assert runs.wait(run_id, WAIT_S)
        assert runs.progress(run_id).answered == 3
        runs.close()


def test_a_run_is_worked_on_once(tmp_path: Path, photos: Path) -> None:
    """Neither this program nor another one resumes or deletes what is running."""
    fill(photos, 2)
    gate = threading.Semaphore(0)
    engine = AnsweringEngine(gate=gate)
    with an_assistant(engine, tmp_path / "data") as assistant:
        runs, others = BatchRuns(assistant), BatchRuns(assistant)
        run_id = runs.start(BatchPlan(photos, ("?",)))
        for each in (runs, others):
            with pytest.raises(BatchError, match=r"batch\.in_use"):
                each.resume(run_id)
            with pytest.raises(BatchError, match=r"batch\.in_use"):
                each.delete(run_id)
        runs.stop(run_id)
        runs.delete(run_id)
        assert runs.list() == ()
        assert len(list(photos.iterdir())) == 2
        with pytest.raises(BatchError, match=r"batch\.unknown"):
            runs.progress(run_id)


def test_a_run_id_leads_nowhere_else(opened: Open, tmp_path: Path) -> None:
    """Ids come from people; one that is a path is unknown."""
    runs = opened(AnsweringEngine())
    (tmp_path / "data" / "batches").mkdir(parents=True)
    for run_id in ("", "..", "../pictures", "/etc", "a/b"):
        with pytest.raises(BatchError, match=r"batch\.unknown"):
            runs.delete(run_id)
    assert (tmp_path / "data").is_dir()


def test_the_folder_is_only_read(opened: Open, photos: Path) -> None:
    """After a run nothing in it is new, gone or touched."""
    fill(photos, 3)
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in photos.iterdir()}
    photos.chmod(0o555)
    try:
        finished(opened(AnsweringEngine()), BatchPlan(photos, ("?",), is_recursive=True))
    finally:
        photos.chmod(0o755)
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in photos.iterdir()} == before


def test_a_folder_that_holds_the_apps_own_data_is_refused(opened: Open, tmp_path: Path) -> None:
    """Otherwise the journal would be written into the folder that is only read."""
    with pytest.raises(UsageError, match="holds_data"):
        opened(AnsweringEngine()).start(BatchPlan(tmp_path, ("?",)))


def test_a_torn_line_and_a_damaged_one_cost_their_own_row(opened: Open, photos: Path, tmp_path: Path) -> None:
    """A kill tears the last line, a disk may spoil another: what they told is asked again, the rest stands."""
    fill(photos, 3)
    engine = AnsweringEngine()
    runs = opened(engine)
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    journal = tmp_path / "data" / "batches" / run_id / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    about = [at for at, line in enumerate(lines) if b"photo 1.png" in line]
    for at in about:
        lines[at] = b"\x00garbage" + lines[at]
    kept = [line for line in lines if b'"finished"' not in line and b"photo 2.png" not in line]
    journal.write_bytes(b"".join(kept) + b'{"kind":"row","name":"photo 2.p')
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    rows = runs.current_rows(run_id)
    assert sorted(row.name for row in rows) == [f"photo {number}.png" for number in range(3)]
    assert len(engine.requests) == 5
    torn = [line for line in journal.read_bytes().splitlines() if not line.startswith(b"\x00")]
    assert all(json.loads(line) for line in torn)


def test_rows_can_be_read_a_page_at_a_time_while_they_come(opened: Open, photos: Path) -> None:
    """A page hands back where it read to, and never sees a row twice."""
    fill(photos, 5)
    runs = opened(AnsweringEngine())
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    seen, start = [], 0
    while (page := runs.rows(run_id, start=start, limit=2)).rows:
        seen += [row.name for row in page.rows]
        start = page.next_start
    assert seen == [f"photo {number}.png" for number in range(5)]


def test_the_worst_comes_first_where_that_is_wanted(opened: Open, photos: Path) -> None:
    """Failures, then what the model was least sure of."""
    fill(photos, 2)
    (photos / "photo 5.png").write_bytes(b"no picture")
    runs = opened(AnsweringEngine())
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    assert runs.current_rows(run_id, worst_first=True)[0].name == "photo 5.png"


def test_a_full_disk_ends_the_run_and_keeps_what_was_acknowledged(
    opened: Open, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails in a sentence; with room again it goes on, and nothing is asked twice."""
    import os as real_os

    fill(photos, 4)
    engine = AnsweringEngine()
    runs = opened(engine)
    sync, synced = real_os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced > 7:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr("qwen_vl_app.batch.journal.os.fsync", full)
    run_id = finished(runs, BatchPlan(photos, ("?",)))
    progress = runs.progress(run_id)
    assert progress.state is RunState.FAILED
    assert progress.error is not None and progress.error.code == "batch.journal.unwritable"
    kept = {row.name for row in runs.current_rows(run_id)}
    monkeypatch.setattr("qwen_vl_app.batch.journal.os.fsync", sync)
    asked = len(engine.requests)
    runs.resume(run_id)
    assert runs.wait(run_id, WAIT_S)
    assert len(engine.requests) - asked == 4 - len(kept) > 0
    assert len(runs.current_rows(run_id)) == 4


def test_an_assistant_that_closes_first_interrupts_the_run(tmp_path: Path, photos: Path) -> None:
    """Whoever forgets to close the runs first still leaves them resumable."""
    fill(photos, 3)
    gate = threading.Semaphore(0)
    assistant: Assistant = an_assistant(AnsweringEngine(gate=gate), tmp_path / "data")
    assistant.open()
    runs = BatchRuns(assistant)
    run_id = runs.start(BatchPlan(photos, ("?",)))
    until(runs, run_id, lambda progress: progress.state is RunState.RUNNING)
    assistant.close()
    assert runs.wait(run_id, WAIT_S)
    progress = runs.progress(run_id)
    assert progress.state.is_resumable and progress.failed == 0
