"""One run at work: a thread that takes the folder's pictures one after the other through the hub and into the journal.

Knows the order of things: a file is read, its bytes looked up, its pages staged, its questions asked in a row (so that
they share the picture), each answer written down before the next file counts as done. The next picture is read and
decoded while the model answers about the one before. Does not know how an answer is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch.journal import Journal
from qwen_vl_app.batch.ledger import Ledger, file_record, row_record, state_record
from qwen_vl_app.batch.plan import BatchPlan
from qwen_vl_app.batch.progress import BatchProgress, Pace, RunState
from qwen_vl_app.batch.rows import BatchRow, RowOutcome, confidence_of
from qwen_vl_app.batch.source import FoundFile, Listing, SourceFolder
from qwen_vl_app.batch.watch import Watch
from qwen_vl_app.chat import Answer, EngineState, FinishReason, Question, SamplingParams, StagedPicture
from qwen_vl_app.errors import AppError, BatchError, FormError, ModelError, PictureError, QueueFullError, Reason
from qwen_vl_app.forms import FillPlan, FormFiller, JudgedForm, desk_of, named_values
from qwen_vl_app.jobs import Priority

log = logging.getLogger(__name__)

THUMBNAILS_NAME = "thumbnails"
ASKED_AHEAD = 2
"""Questions in the queue at a time: one that is answered, one so that the model need not wait for the next picture."""
POLL_S = 5.0
LOOK_S = 0.5
"""How soon a pause or a stop is noticed."""
_DOCUMENTS = frozenset({"PDF", "TIFF"})


class _EndedError(Exception):
    """The run ends in the given state; not a failure of anything."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state)
        self.state = state


@dataclass(slots=True)
class _File:
    """A file under way: how many of its questions have no row yet, and whether all have been put."""

    found: FoundFile
    content_hash: str
    open_questions: int = 0
    is_all_put: bool = False


@dataclass(frozen=True, slots=True)
class _Item:
    """One question about one page."""

    file: _File
    picture: StagedPicture
    question_index: int
    thumbnail: str


@dataclass(frozen=True, slots=True)
class _Asked:
    item: _Item
    job: AnswerJob


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
        self._journal = Journal(folder)
        self._ledger = Ledger()
        self._pace = Pace()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._is_stopping = threading.Event()
        self._stopped_as = RunState.STOPPED
        self._given_up: set[FoundFile] = set()
        """Files that could not be read, as they were then: a watched folder does not try them at every look."""
        self._may_work = threading.Event()
        self._may_work.set()
        self._state = RunState.LOADING
        self._error: Reason | None = None
        self._total = 0
        self._done = 0
        self._current = ""
        self._flying: deque[_Asked] = deque()
        self._thread: threading.Thread | None = None

    # 1. What others hold

    def start(self, *, retry_failed: bool = False) -> None:
        """Take the journal and begin, or go on where it ends. Raises UsageError, BatchError."""
        source = SourceFolder(self.plan.folder)
        self._journal.open()
        try:
            self._ledger = Ledger.read(self._folder)
            if retry_failed:
                self._ledger.forget_failures()
            self._total = self._ledger.total
            self._done = len(self._ledger.finished)
            self._note_state(RunState.RUNNING)
        except BaseException:
            self._journal.close()
            raise
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
        with self._lock:
            asked = list(self._flying)
        for each in asked:
            each.job.cancel()

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
        with self._lock:
            per_file_s = self._pace.seconds_per_file()
            state = self._state
            if state.is_live and not self._may_work.is_set():
                state = RunState.PAUSED
            left = max(0, self._total - self._done)
            counts = self._ledger.counts()
            is_counting = state in (RunState.RUNNING, RunState.PAUSED) and per_file_s is not None
            return BatchProgress(
                run_id=self.run_id,
                state=state,
                total=self._total,
                done=self._done,
                answered=counts[RowOutcome.ANSWERED],
                failed=counts[RowOutcome.FAILED],
                duplicates=counts[RowOutcome.DUPLICATE],
                skipped=counts[RowOutcome.SKIPPED],
                current=self._current,
                files_per_minute=None if per_file_s is None else 60.0 / per_file_s,
                left_s=left * per_file_s if is_counting and per_file_s is not None else None,
                elapsed_s=self._pace.elapsed_s,
                error=self._error,
            )

    # 2. The thread

    def _work(self, source: SourceFolder) -> None:
        state, error = RunState.FAILED, None
        try:
            self._await_model()
            self._pace.start()
            self._all(source)
            state = RunState.FINISHED
        except _EndedError as ended:
            state = ended.state
        except AppError as failure:
            log.warning("a run of a folder ended: %s", failure.code)
            error = failure.reason
        except Exception:  # a mistake of ours must not look like a run that still goes on
            log.exception("a run of a folder broke")
            error = Reason("app.unexpected")
        finally:
            for asked in tuple(self._flying):
                asked.job.cancel()
            self._flying.clear()
            self._pace.stop()
            with self._lock:
                self._state, self._error, self._current = state, error, ""
            with contextlib.suppress(AppError):  # the journal itself may be what failed
                self._note_state(state)
            self._journal.close()
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
        with self._lock:
            self._state = RunState.RUNNING

    def _all(self, source: SourceFolder) -> None:
        watch = Watch() if self.plan.is_watching else None
        while True:
            listing = self._look(source)
            if listing is not None:
                self._pass_over(listing)
                waiting = [file for file in listing.files if self._ledger.needs(file) and file not in self._given_up]
                if watch is not None:
                    waiting = watch.settled(waiting)
                with self._lock:
                    self._done = sum(not self._ledger.needs(file) for file in listing.files)
                    self._total = len(listing.files) if watch is None else self._done + len(waiting)
                    self._state = RunState.RUNNING if waiting or watch is None else RunState.WATCHING
                if waiting:
                    self._note_state(RunState.RUNNING)
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
        for item in self._items(source, files):
            if len(self._flying) >= ASKED_AHEAD:
                self._land()
            self._ask(item)
        while self._flying:
            self._land()

    # 3. One file

    def _items(self, source: SourceFolder, files: list[FoundFile]) -> Iterator[_Item]:
        """Yield the questions that have no row yet; nothing of the next file is touched before they are in the queue."""
        for found in files:
            self._hold()
            with self._lock:
                self._current = found.name
            try:
                now, data = source.read(found.name, max_bytes=self._assistant.settings.max_upload_mb * 2**20)
            except BatchError as error:
                if self.plan.is_watching and error.code in ("batch.file.changing", "batch.file.gone"):
                    continue  # the next look sees what became of it
                self._given_up.add(found)
                self._write(BatchRow(found.name, RowOutcome.FAILED, _now(), error=error.reason))
                self._count_file()
                continue
            content_hash = hashlib.sha256(data).hexdigest()
            owner = self._ledger.contents.get(content_hash, now.name)
            if owner != now.name and self._is_still(source, owner, content_hash):
                row = BatchRow(now.name, RowOutcome.DUPLICATE, _now(), content_hash=content_hash, duplicate_of=owner)
                self._write(row)
                self._finish_file(_File(now, content_hash))
                continue
            self._ledger.contents[content_hash] = now.name
            yield from self._questions_of(_File(now, content_hash), data)

    def _is_still(self, source: SourceFolder, name: str, content_hash: str) -> bool:
        """False where the file that had these bytes has others by now, or is gone: then nobody would have the answers."""
        mark = self._ledger.finished.get(name)
        return mark is None or mark[2] == content_hash

    def _questions_of(self, file: _File, data: bytes) -> Iterator[_Item]:
        page, page_count = 0, 1
        while page < page_count:
            wanted = [
                index
                for index in range(len(self.plan.questions))
                if not self._ledger.is_done(file.found.name, file.content_hash, page=page, question_index=index)
            ]
            # Page 0 tells how many there are, also where all of its own questions are done.
            if wanted or page == 0:
                picture = self._stage(file, data, page)
                if picture is None:
                    if page == 0:
                        break
                else:
                    if page == 0 and picture.format in _DOCUMENTS:
                        page_count = picture.page_count
                    thumbnail = self._keep_thumbnail(file, picture)
                    for index in wanted:
                        self._hold()
                        with self._lock:
                            file.open_questions += 1
                        yield _Item(file, picture, index, thumbnail)
            page += 1
        file.is_all_put = True
        if file.open_questions == 0:
            self._finish_file(file)

    def _stage(self, file: _File, data: bytes, page: int) -> StagedPicture | None:
        try:
            return self._assistant.stage(data, file.found.name, page=page, detail=self.plan.detail)
        except PictureError as error:
            self._write(
                BatchRow(
                    file.found.name,
                    RowOutcome.FAILED,
                    _now(),
                    page=page,
                    content_hash=file.content_hash,
                    error=error.reason,
                )
            )
            return None

    def _keep_thumbnail(self, file: _File, picture: StagedPicture) -> str:
        name = f"{file.content_hash[:32]}-{picture.page}.jpg"
        target = self._folder / THUMBNAILS_NAME / name
        if not target.exists():
            try:
                target.parent.mkdir(mode=0o700, exist_ok=True)
                partial = target.with_suffix(".part")
                partial.write_bytes(picture.thumbnail)
                partial.replace(target)
            except OSError as error:
                raise BatchError("batch.journal.unwritable") from error
        return name

    # 4. One question

    def _ask(self, item: _Item) -> None:
        question = Question(
            self.plan.questions[item.question_index],
            (item.picture,),
            sampling=SamplingParams(max_new_tokens=self.plan.max_new_tokens),
        )
        if self.plan.form is not None:
            question = self._filler().question(self.plan.form, item.picture)
        while True:
            self._hold()
            try:
                job = self._assistant.ask(
                    question, owner=f"batch:{self.run_id}", is_kept=False, priority=Priority.BATCH
                )
                break
            except QueueFullError as error:
                if error.code == "queue.closed":
                    raise _EndedError(RunState.INTERRUPTED) from error
                if self._flying:
                    self._land()
                else:  # the queue is full of other people's questions, which go first
                    self._is_stopping.wait(LOOK_S)
        with self._lock:
            self._flying.append(_Asked(item, job))
        if self._is_stopping.is_set():  # it came in between
            job.cancel()

    def _land(self) -> None:
        """Wait for the oldest question and write down what came of it."""
        asked = self._flying[0]
        while (answer := asked.job.wait(LOOK_S)) is None:
            if self._is_stopping.is_set():
                asked.job.cancel()
        with self._lock:
            self._flying.popleft()
        if answer.finish_reason is FinishReason.STOPPED:
            raise _EndedError(self._stopped_as if self._is_stopping.is_set() else RunState.INTERRUPTED)
        self._refuse_a_dead_engine(answer)
        item = asked.item
        picture = asked.job.pictures[0] if asked.job.pictures else item.picture
        is_failed = answer.finish_reason is FinishReason.FAILED
        judged = None if self.plan.form is None or is_failed else self._filled(self.plan.form, picture, answer)
        confidence = confidence_of(asked.job.news().tokens)
        self._write(
            BatchRow(
                item.file.found.name,
                RowOutcome.FAILED if is_failed else RowOutcome.ANSWERED,
                _now(),
                page=picture.page,
                page_count=picture.page_count,
                question_index=item.question_index,
                question=self.plan.questions[item.question_index],
                content_hash=item.file.content_hash,
                size=picture.size,
                seen=picture.seen,
                answer=answer,
                confidence=confidence if judged is None else judged.confidence,
                error=answer.error if is_failed else None,
                thumbnail=item.thumbnail,
                form_id="" if judged is None else judged.form.form_id,
                values=None if judged is None else named_values(judged),
                badness=0.0 if judged is None else judged.badness,
            )
        )
        with self._lock:
            item.file.open_questions -= 1
        if item.file.is_all_put and item.file.open_questions == 0:
            self._finish_file(item.file)

    def _filler(self) -> FormFiller:
        return FormFiller(
            self._assistant,
            owner=f"batch:{self.run_id}",
            priority=Priority.BATCH,
            should_stop=self._is_stopping.is_set,
        )

    def _filled(self, plan: FillPlan, picture: StagedPicture, answer: Answer) -> JudgedForm:
        """Make and keep the form of an answer, the second looks included."""
        try:
            return desk_of(self._assistant).keep(self._filler().finish(plan, picture, answer), picture)
        except FormError as error:
            if error.code == "forms.fill.stopped":
                raise _EndedError(self._stopped_as) from error
            raise

    def _refuse_a_dead_engine(self, answer: Answer) -> None:
        """End the run where the model is gone: a thousand rows that all say so would help nobody."""
        state = self._assistant.status.engine.state
        if answer.finish_reason is FinishReason.FAILED and state is not EngineState.READY:
            error = answer.error or Reason("app.unexpected")
            raise ModelError(error.code, **error.facts)

    # 5. The journal

    def _finish_file(self, file: _File) -> None:
        record = file_record(file.found, file.content_hash)
        self._journal.append(record)
        with self._lock:
            self._ledger.take(record)
        self._count_file()

    def _count_file(self) -> None:
        with self._lock:
            self._done += 1
        self._pace.land()

    def _pass_over(self, listing: Listing) -> None:
        for name, reason in listing.passed_over:
            if (name, 0, None) not in self._ledger.outcomes:
                self._write(BatchRow(name, RowOutcome.SKIPPED, _now(), error=reason))

    def _write(self, row: BatchRow) -> None:
        record = row_record(row)
        self._journal.append(record)
        with self._lock:
            self._ledger.take(record)

    def _note_state(self, state: RunState) -> None:
        record = state_record(state.value, at=_now().isoformat(), total=self._total)
        self._journal.append(record)

    def _hold(self) -> None:
        """Wait while paused, having written down what was under way; raises where the run was stopped meanwhile."""
        if not self._may_work.is_set():
            while self._flying:
                self._land()
            self._pace.stop()
            while not self._may_work.wait(LOOK_S):
                if self._assistant.status.engine.state is EngineState.CLOSED:
                    raise _EndedError(RunState.INTERRUPTED)
            self._pace.start()
        if self._is_stopping.is_set():
            raise _EndedError(self._stopped_as)


def _now() -> datetime:
    return datetime.now(UTC)
