"""One run at work: a thread that takes the folder's pictures through the hub and into the journal, and its end.

Knows the states of a run: waiting for the model, at work, watching, paused, stopped, and what each of them means for the
questions under way. Does not know how a picture is read, or how an answer becomes a row.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch.asking import LOOK_S, Asking, StoppedError
from qwen_vl_app.batch.book import RunBook, now
from qwen_vl_app.batch.pictures import Pictures
from qwen_vl_app.batch.plan import BatchPlan
from qwen_vl_app.batch.progress import BatchProgress, Pace, RunState
from qwen_vl_app.batch.rows import BatchRow, RowOutcome
from qwen_vl_app.batch.source import FoundFile, Listing, SourceFolder
from qwen_vl_app.batch.watch import Watch
from qwen_vl_app.chat import EngineState
from qwen_vl_app.errors import AppError, BatchError, Reason
from qwen_vl_app.forms import desk_of

log = logging.getLogger(__name__)

POLL_S = 5.0


class _EndedError(Exception):
    """The run ends in the given state; not a failure of anything."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state)
        self.state = state


class BatchRun:
    """A run between `start` and its end. Any thread may look at it, pause it or stop it."""

    def __init__(
        self, run_id: str, *, assistant: Assistant, plan: BatchPlan, folder: Path, poll_s: float = POLL_S
    ) -> None:
        self.run_id = run_id
        self.plan = plan
        self._assistant = assistant
        self._folder = folder
        self._poll_s = poll_s
        self._pace = Pace()
        self._book = RunBook(folder, on_file=self._pace.land)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._is_stopping = threading.Event()
        self._stopped_as = RunState.STOPPED
        self._may_work = threading.Event()
        self._may_work.set()
        self._state = RunState.LOADING
        self._error: Reason | None = None
        self._current = ""
        self._asking = Asking(assistant, plan, run_id=run_id, book=self._book, is_stopping=self._is_stopping)
        self._pictures = Pictures(
            assistant, plan, book=self._book, folder=folder, go_on=self._hold, on_file=self._note_current
        )
        self._thread: threading.Thread | None = None

    # 1. What others hold

    def start(self, *, retry_failed: bool = False) -> None:
        """Take the journal and begin, or go on where it ends. Raises UsageError, BatchError."""
        source = SourceFolder(self.plan.folder)
        self._book.open(retry_failed=retry_failed)
        self._thread = threading.Thread(target=self._work, args=(source,), name=f"batch {self.run_id}", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Begin nothing new until `go_on`; what is being answered is answered and written down."""
        with self._lock:
            if self._state in (RunState.LOADING, RunState.RUNNING, RunState.WATCHING):
                self._may_work.clear()

    def go_on(self) -> None:
        """End a pause."""
        self._may_work.set()

    def stop(self, *, is_app_ending: bool = False) -> None:
        """Stop soon: what is being answered is given up, and asked again when the run is resumed."""
        if is_app_ending:
            self._stopped_as = RunState.INTERRUPTED
        self._is_stopping.set()
        self._may_work.set()
        self._asking.cancel()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; False when the time is up first."""
        # Not the thread's own `join`: a Ctrl-C within it makes Python 3.11 take a thread for ended that still works.
        return self._thread is None or self._ended.wait(timeout_s)

    @property
    def is_alive(self) -> bool:
        """True until its thread has ended and the journal is free."""
        return self._thread is not None and not self._ended.is_set()

    def progress(self) -> BatchProgress:
        """Return how far it is."""
        done, total = self._book.files
        counts = self._book.counts()
        width = self._asking.width
        with self._lock:
            per_file_s = self._pace.seconds_per_file()
            state = self._state
            if state.is_live and not self._may_work.is_set():
                state = RunState.PAUSED
            left = max(0, total - done)
            is_counting = state in (RunState.RUNNING, RunState.PAUSED) and per_file_s is not None
            return BatchProgress(
                run_id=self.run_id,
                state=state,
                total=total,
                done=done,
                answered=counts[RowOutcome.ANSWERED],
                failed=counts[RowOutcome.FAILED],
                duplicates=counts[RowOutcome.DUPLICATE],
                skipped=counts[RowOutcome.SKIPPED],
                current=self._current,
                files_per_minute=None if per_file_s is None else 60.0 / per_file_s,
                left_s=left * per_file_s if is_counting and per_file_s is not None else None,
                elapsed_s=self._pace.elapsed_s,
                error=self._error,
                at_a_time=width.count,
                why=None if state is RunState.LOADING else width.reason,
            )

    # 2. The thread

    def _work(self, source: SourceFolder) -> None:
        state, error = RunState.FAILED, None
        try:
            self._await_model()
            self._pace.start()
            self._all(source)
            state = RunState.FINISHED
        except (_EndedError, StoppedError) as ended:
            self._asking.gather()
            stopped = self._stopped_as if self._is_stopping.is_set() else RunState.INTERRUPTED
            state = ended.state if isinstance(ended, _EndedError) else stopped
        except AppError as failure:
            log.warning("a run of a folder ended: %s", failure.code)
            self._asking.gather()
            error = failure.reason
        except Exception:  # a mistake of ours must not look like a run that still goes on
            log.exception("a run of a folder broke")
            error = Reason("app.unexpected")
        finally:
            self._asking.close()
            self._pace.stop()
            with self._lock:
                self._state, self._error, self._current = state, error, ""
            with contextlib.suppress(AppError):  # the journal itself may be what failed
                self._book.note_state(state)
            self._book.close()
            self._ended.set()

    def _await_model(self) -> None:
        while True:
            self._hold()
            status = self._assistant.status.engine
            if status.state in (EngineState.FAILED, EngineState.CLOSED):
                self._assistant.wait_until_loaded(0.0)  # raises with the engine's own reason
            if status.state is EngineState.READY:
                break
            self._is_stopping.wait(LOOK_S / 5)
        if self.plan.form is not None:
            desk_of(self._assistant).acceptance.refuse_worse()
        self._asking.begin()
        with self._lock:
            self._state = RunState.RUNNING

    def _all(self, source: SourceFolder) -> None:
        watch = Watch() if self.plan.is_watching else None
        while True:
            listing = self._look(source)
            if listing is not None:
                self._pass_over(listing)
                self._book.reopen(self._pictures.waiting(listing.files))
                waiting = self._pictures.waiting(listing.files)
                if watch is not None:
                    waiting = watch.settled(waiting)
                done = sum(not self._book.needs(file) for file in listing.files)
                self._book.count_all(done=done, total=len(listing.files) if watch is None else done + len(waiting))
                with self._lock:
                    self._state = RunState.RUNNING if waiting or watch is None else RunState.WATCHING
                if waiting:
                    self._book.note_state(RunState.RUNNING)
                    self._pace.start()
                    self._take(source, waiting)
            if watch is None:
                return
            with self._lock:
                self._state, self._current = RunState.WATCHING, ""
            self._pace.stop()
            self._is_stopping.wait(self._poll_s)
            self._hold()

    def _look(self, source: SourceFolder) -> Listing | None:
        """Return what lies in the folder; None where a watched one cannot be read just now."""
        try:
            listing = source.find(is_recursive=self.plan.is_recursive)
        except BatchError as error:
            if not self.plan.is_watching:
                raise
            with self._lock:
                self._error = error.reason
            return None
        with self._lock:
            self._error = None
        return listing

    def _take(self, source: SourceFolder, files: list[FoundFile]) -> None:
        for item in self._pictures.items(source, files):
            self._asking.ask(item, go_on=self._hold)
        self._asking.land_all()

    def _pass_over(self, listing: Listing) -> None:
        for name, reason in listing.passed_over:
            # What cannot be looked at now is most likely what it was: what was answered about it stands.
            is_told = self._book.has_rows if reason.code == "batch.file.unreadable" else self._book.has_row
            if not is_told(name):
                self._book.write(BatchRow(name, RowOutcome.SKIPPED, now(), error=reason))

    def _note_current(self, name: str) -> None:
        with self._lock:
            self._current = name

    def _hold(self) -> None:
        """Wait while paused, having written down what was under way; raises where the run was stopped meanwhile."""
        if not self._may_work.is_set():
            self._asking.land_all()
            self._pace.stop()
            while not self._may_work.wait(LOOK_S):
                if self._assistant.status.engine.state is EngineState.CLOSED:
                    raise _EndedError(RunState.INTERRUPTED)
            self._pace.start()
        if self._is_stopping.is_set():
            raise _EndedError(self._stopped_as)
