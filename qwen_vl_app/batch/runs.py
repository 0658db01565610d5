"""All runs of this data folder: begun, looked at, paused, stopped, resumed, read and taken away.

The one object that a page or a command holds. Knows where runs lie and which of them have a thread here. Does not know
how a run works or what an export looks like.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch.dropped import DroppedFiles, is_of, where_now
from qwen_vl_app.batch.erasing import RunErasing
from qwen_vl_app.batch.exports import (
    DrawnPicture,
    Export,
    ExportKind,
    LeftOut,
    draw_pictures,
    export_rows,
    read_picture,
)
from qwen_vl_app.batch.journal import Journal, read_journal
from qwen_vl_app.batch.ledger import Ledger, current_rows
from qwen_vl_app.batch.pictures import THUMBNAILS_NAME
from qwen_vl_app.batch.plan import PLAN_NAME, BatchPlan, dump_plan, load_plan
from qwen_vl_app.batch.progress import BatchProgress, RunState
from qwen_vl_app.batch.rounds import RoundRow, compare_rounds
from qwen_vl_app.batch.rows import BatchRow, RowOutcome, load_row
from qwen_vl_app.batch.run import POLL_S, BatchRun
from qwen_vl_app.batch.source import SourceFolder
from qwen_vl_app.chat import StagedPicture
from qwen_vl_app.errors import AppError, BatchError, HistoryError, UsageError
from qwen_vl_app.forms import form_question
from qwen_vl_app.own_files import FOLDER_MODE, make_folder, write_new
from qwen_vl_app.texts import Language

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 3600.0
"""How often it is looked for drops that nobody began a run over."""

RUNS_NAME = "batches"
_ID_CHARACTERS = frozenset("0123456789abcdef-")


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """A run as a list shows it. `started_at` is UTC."""

    run_id: str
    started_at: datetime
    plan: BatchPlan
    progress: BatchProgress


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows in the order they were written, and where to read on: bytes, to be handed back as they are.

    A row that was asked again stands here twice; what counts is the later one.
    """

    rows: tuple[BatchRow, ...]
    next_start: int


class BatchRuns:
    """Runs of an open assistant. Any thread; close it before the assistant."""

    def __init__(self, assistant: Assistant, *, poll_s: float = POLL_S) -> None:
        self._assistant = assistant
        self._folder = assistant.settings.data_dir / RUNS_NAME
        self._poll_s = poll_s
        self._lock = threading.Lock()
        self._runs: dict[str, BatchRun] = {}
        self._is_closed = False
        self.dropped = DroppedFiles(self._folder)
        """Pictures that came through the page, for runs to go over."""
        assistant.records.erase_also(RUNS_NAME, RunErasing(self._folder, stop=self._end_for_good))
        self._ended = threading.Event()
        self._sweeping: threading.Thread | None = None

    def start_sweeping(self) -> None:
        """Sweep now and from time to time, on a thread of its own: an app may run for weeks. What lies under names of before is named anew."""
        if self._sweeping is None:
            self.dropped.rename_old()
            self._sweeping = threading.Thread(target=self._sweep_now_and_then, name="drops", daemon=True)
            self._sweeping.start()

    def _sweep_now_and_then(self) -> None:
        while True:
            try:
                self.sweep()
            except BatchError as error:  # the next look may find the disk well again
                log.warning("nothing that was dropped could be removed: %s", error.code)
            if self._ended.wait(SWEEP_EVERY_S):
                return

    def sweep(self) -> int:
        """Delete what was dropped a day ago or earlier and never run over; return how many drops.

        Nothing goes where a run's plan cannot be read: its pictures may be any of them. Raises BatchError.
        """
        needed: set[str] = set()
        for run_id in self._ids():
            try:
                # By its name, which no other folder has: the way to the data folder may lead over links, or have changed.
                needed.update(self.plan(run_id).folder.parts)
            except BatchError as error:
                if (self._folder_of(run_id) / PLAN_NAME).exists():
                    log.warning("nothing that was dropped is removed: %s", error.code)
                    return 0
        return self.dropped.sweep(used=lambda drop: drop.name in needed)

    def is_needed(self, drop: Path, *, but_for: str = "") -> bool:
        """Tell whether a run goes over a drop, or a folder in it; `but_for` is one that does not count. Raises BatchError."""
        for run_id in self._ids():
            with contextlib.suppress(
                BatchError
            ):  # what a damaged plan named cannot be asked, and keeps nothing for ever
                if run_id != but_for and drop.name in self.plan(run_id).folder.parts:
                    return True
        return False

    # 1. Its life

    def start(self, plan: BatchPlan) -> str:
        """Begin a run and return its id at once.

        Raises UsageError for a folder or questions that cannot be meant, BatchError `batch.not_begun` where nothing can be
        written: then there is no run, and nothing is left of it.
        """
        if plan.form is not None:
            plan = replace(plan, questions=(form_question(plan.form.template, plan.form.language),))
        questions = tuple(text for each in plan.questions if (text := each.strip()))
        if not questions:
            raise UsageError("question.empty")
        source = SourceFolder(plan.folder)
        if source.holds(self._folder) or (source.is_within(self._folder) and not self.dropped.holds(source.path)):
            raise UsageError("batch.folder.holds_data", name=source.path.name)
        plan = replace(plan, folder=source.path, questions=questions)
        now = datetime.now(UTC)  # ids sort by the time of the start, to the microsecond
        run_id = f"{now:%Y%m%d-%H%M%S}-{now.microsecond:05x}{secrets.token_hex(2)}"
        if plan.form is not None:
            plan = replace(plan, form=replace(plan.form, owner=plan.owner, source=run_id))
        folder = self._folder / run_id
        try:
            make_folder(self._folder)
            folder.mkdir(mode=FOLDER_MODE)
            partial = folder / f"{PLAN_NAME}.part"
            write_new(partial, dump_plan(plan).encode("ascii"))
            partial.replace(folder / PLAN_NAME)
            self._begin(run_id, plan, retry_failed=False)
        except (OSError, AppError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError) or error.code == "batch.journal.unwritable":
                raise BatchError("batch.not_begun") from error
            raise
        return run_id

    def resume(self, run_id: str, *, retry_failed: bool = False) -> None:
        """Go on with a run where its journal ends; nothing that has its row is asked again.

        A finished run looks for what is new in its folder. `retry_failed` also asks again what failed. Raises BatchError
        `batch.unknown`, `batch.in_use` where it runs, here or in another process.
        """
        plan = self.plan(run_id)
        self._begin(run_id, plan, retry_failed=retry_failed)

    def _begin(self, run_id: str, plan: BatchPlan, *, retry_failed: bool) -> None:
        with self._lock:
            if self._is_closed:
                raise BatchError("batch.closed")
            before = self._runs.get(run_id)
            if before is not None and before.is_alive:
                raise BatchError("batch.in_use", pid=None)
            run = BatchRun(
                run_id, assistant=self._assistant, plan=plan, folder=self._folder_of(run_id), poll_s=self._poll_s
            )
            run.start(retry_failed=retry_failed)
            self._runs[run_id] = run

    def pause(self, run_id: str) -> None:
        """Begin nothing new until `go_on`. Raises BatchError `batch.not_running`."""
        self._live(run_id).pause()

    def go_on(self, run_id: str) -> None:
        """End a pause. Raises BatchError `batch.not_running`."""
        self._live(run_id).go_on()

    def stop(self, run_id: str, *, timeout_s: float = 30.0) -> None:
        """Stop a run and wait for its end; `resume` goes on. Raises BatchError `batch.not_running`."""
        run = self._live(run_id)
        run.stop()
        run.wait(timeout_s)

    def wait(self, run_id: str, timeout_s: float | None = None) -> bool:
        """Wait until a run has ended; False when the time is up first."""
        with self._lock:
            run = self._runs.get(run_id)
        return True if run is None else run.wait(timeout_s)

    def close(self, timeout_s: float = 30.0) -> None:
        """End all runs so that they can be resumed."""
        self._ended.set()
        if self._sweeping is not None:
            self._sweeping.join(timeout_s)
        with self._lock:
            self._is_closed = True
            runs = list(self._runs.values())
        for run in runs:
            run.stop(is_app_ending=True)
        for run in runs:
            if not run.wait(timeout_s):
                log.warning("a run of a folder did not end in time")

    def _end_for_good(self, run_id: str, *, timeout_s: float = 30.0) -> None:
        with self._lock:
            run = self._runs.pop(run_id, None)
        if run is not None:
            run.stop()
            run.wait(timeout_s)

    def delete(self, run_id: str) -> None:
        """Delete a run with its journal and thumbnails, and what was dropped for it; never anything of another folder.

        A drop that another run goes over stays with that one, and one of somebody else's with them.

        Raises BatchError `batch.unknown`, `batch.in_use` while it runs anywhere, HistoryError where a site keeps records.
        """
        folder = self._known(run_id)
        if not self._assistant.records.can_erase:
            raise HistoryError("history.records_are_kept")
        with self._lock:
            run = self._runs.get(run_id)
            if run is not None and run.is_alive:
                raise BatchError("batch.in_use", pid=None)
            _refuse_in_use(folder)
            self._runs.pop(run_id, None)
            with contextlib.suppress(BatchError):  # a damaged plan names no folder
                plan = self.plan(run_id)
                if is_of(plan.folder.parent, plan.owner) and not self.is_needed(plan.folder, but_for=run_id):
                    self.dropped.delete(plan.folder)
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise BatchError("batch.not_deleted") from error

    # 2. Looking

    def list(self, *, owner: str | None = None) -> tuple[BatchSummary, ...]:
        """Return all runs, or one owner's, the latest first; folders that are no runs are passed over."""
        summaries = (self._summary(name, owner) for name in self._ids())
        return tuple(summary for summary in summaries if summary is not None)

    def _ids(self) -> Sequence[str]:
        try:
            return sorted(
                (entry.name for entry in self._folder.iterdir() if entry.is_dir() and _is_id(entry.name)), reverse=True
            )
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise BatchError("batch.journal.unreadable") from error

    def _summary(self, run_id: str, owner: str | None) -> BatchSummary | None:
        try:
            plan = self.plan(run_id)
            if owner not in (None, plan.owner):
                return None
            return BatchSummary(run_id, _started_at(run_id), plan, self.progress(run_id))
        except (BatchError, ValueError) as error:
            log.warning("a run could not be listed: %s", error)
            return None

    def plan(self, run_id: str) -> BatchPlan:
        """Return what a run is to do. Raises BatchError `batch.unknown`, `batch.plan_damaged`."""
        try:
            plan = load_plan((self._known(run_id) / PLAN_NAME).read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError) as error:
            raise BatchError("batch.plan_damaged") from error
        return replace(plan, folder=where_now(plan.folder))

    def progress(self, run_id: str) -> BatchProgress:
        """Return how far a run is: of its thread where it runs here, of its journal otherwise. Raises BatchError."""
        folder = self._known(run_id)
        with self._lock:
            run = self._runs.get(run_id)
        if run is not None:
            return run.progress()
        ledger = Ledger.read(folder)
        counts = ledger.counts()
        return BatchProgress(
            run_id=run_id,
            state=_resting(ledger.last_state),
            total=max(ledger.total, len(ledger.finished)),
            done=len(ledger.finished),
            answered=counts[RowOutcome.ANSWERED],
            failed=counts[RowOutcome.FAILED],
            duplicates=counts[RowOutcome.DUPLICATE],
            skipped=counts[RowOutcome.SKIPPED],
        )

    def rows(self, run_id: str, *, start: int = 0, limit: int | None = None) -> RowPage:
        """Return rows as they come: `start` is the last page's `next_start`. Raises BatchError."""
        rows: list[BatchRow] = []
        at = start
        for line in read_journal(self._known(run_id), start=start):
            if limit is not None and len(rows) >= limit:
                break
            at = line.end
            if line.record.get("kind") == "row":
                try:
                    rows.append(load_row(line.record))
                except BatchError:
                    log.warning("a row of a journal is damaged")
        return RowPage(tuple(rows), at)

    def current_rows(self, run_id: str, *, worst_first: bool = False) -> tuple[BatchRow, ...]:
        """Return the rows that stand, one for each question, as people read names; `worst_first` begins with failures and
        low confidence.
        """
        rows = tuple(current_rows(self._known(run_id)))
        return tuple(sorted(rows, key=_badness)) if worst_first else rows

    def latest_rows(self, run_id: str, limit: int) -> tuple[BatchRow, ...]:
        """Return the rows that came last and stand, the latest first."""
        return tuple(deque(current_rows(self._known(run_id), as_they_came=True), limit))[::-1]

    def thumbnail(self, run_id: str, row: BatchRow) -> bytes | None:
        """Return a row's thumbnail (JPEG), None where it has none."""
        name = row.thumbnail
        if not name or Path(name).name != name:
            return None
        try:
            return (self._known(run_id) / THUMBNAILS_NAME / name).read_bytes()
        except OSError:
            return None

    def picture(self, run_id: str, row: BatchRow) -> StagedPicture:
        """Return the picture of a row, read anew. Raises BatchError where it is gone or has changed, PictureError."""
        plan = self.plan(run_id)
        return read_picture(row.name, row.page, content_hash=row.content_hash, assistant=self._assistant, plan=plan)

    # 3. Taking away

    def export(self, run_id: str, kind: ExportKind, target: Path, *, language: Language = Language.ENGLISH) -> Export:
        """Write a run's rows to a file, or annotated pictures into a folder, and return what was written.

        The target may not lie in the folder the run is about. Raises UsageError, BatchError.
        """
        plan = self.plan(run_id)
        refuse_within(plan, target)
        return export_rows(
            kind,
            target,
            rows=lambda: self._rows_of(run_id),
            thumbnail=lambda row: self.thumbnail(run_id, row),
            assistant=self._assistant,
            plan=plan,
            language=language,
        )

    def drawn_pictures(self, run_id: str) -> Iterator[DrawnPicture | LeftOut]:
        """Return a run's pictures with their boxes drawn in, each drawn when it is taken.

        Raises UsageError where the folder is gone, BatchError.
        """
        plan = self.plan(run_id)
        SourceFolder(plan.folder)
        return draw_pictures(lambda: self._rows_of(run_id), assistant=self._assistant, plan=plan)

    def _rows_of(self, run_id: str) -> Iterator[BatchRow]:
        return current_rows(self._known(run_id))

    def compare(self, run_id: str, earlier_id: str, *, tag: str = "") -> tuple[RoundRow, ...]:
        """Return what changed since an earlier run, picture by picture and question by question.

        Pictures are matched by file name; with a `tag`, by that field of their answers. Raises BatchError.
        """
        return compare_rounds(self.current_rows(run_id), earlier=self.current_rows(earlier_id), tag=tag)

    def _folder_of(self, run_id: str) -> Path:
        return self._folder / run_id

    def _known(self, run_id: str) -> Path:
        """Return a run's folder. An id that was typed leads nowhere else."""
        folder = self._folder_of(run_id)
        if not _is_id(run_id) or not folder.is_dir():
            raise BatchError("batch.unknown", run=run_id)
        return folder

    def _live(self, run_id: str) -> BatchRun:
        with self._lock:
            run = self._runs.get(run_id)
        if run is None or not run.is_alive:
            raise BatchError("batch.not_running", run=run_id)
        return run


def refuse_within(plan: BatchPlan, target: Path) -> None:
    """Raise UsageError where a target lies in the folder of a plan, which is only ever read."""
    try:
        source = SourceFolder(plan.folder)
    except UsageError:  # the folder is gone, so nothing can be written into it
        return
    if source.holds(target):
        raise UsageError("batch.target_within_folder", name=target.name)


def _refuse_in_use(folder: Path) -> None:
    """Raise BatchError where another process works on a run, or nothing can be written in its folder."""
    journal = Journal(folder)
    try:
        journal.open()
    except BatchError as error:
        # It was the lock's text that found no room, so nobody else has it; and deleting is what makes room.
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    finally:
        journal.close()


def _is_id(name: str) -> bool:
    return bool(name) and _ID_CHARACTERS.issuperset(name)


def _started_at(run_id: str) -> datetime:
    return datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)


def _resting(last_state: str) -> RunState:
    """Return the state of a run that has no thread here: whoever wrote last that it runs is gone, or elsewhere."""
    try:
        state = RunState(last_state)
    except ValueError:
        return RunState.INTERRUPTED
    return RunState.INTERRUPTED if state.is_live else state


def _badness(row: BatchRow) -> tuple[int, float, float]:
    order = (RowOutcome.FAILED, RowOutcome.ANSWERED, RowOutcome.DUPLICATE, RowOutcome.SKIPPED)
    return order.index(row.outcome), -row.badness, 1.0 if row.confidence is None else row.confidence
