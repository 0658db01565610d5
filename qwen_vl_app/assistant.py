"""The hub: one assistant, put together from the parts that do its work, opened and closed with them.

Knows the islands and brings them together; knows no page, no torch and no SQL. The one path of a question leads through
its parts: `intake` makes pictures of files, `asking` keeps a question and lets it wait, `answering` makes, parses and keeps
the answer, on the thread of the `present_model`. Doors hold the `AnswerJob` that `ask` returns, and nothing else of what
happens here. It is longer than most files because it is where the doors ask: what stands below is short.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from qwen_vl_app.answer_job import AnswerJob, JobState
from qwen_vl_app.answering import Answering
from qwen_vl_app.asking import Asking
from qwen_vl_app.chat import (
    Answer,
    Conversation,
    Detail,
    EngineState,
    EngineStatus,
    FinishReason,
    Question,
    Rendition,
    StagedPicture,
    Turn,
)
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import Engine
from qwen_vl_app.engine.exchange import EngineExchange
from qwen_vl_app.engine.folders import ModelFolder
from qwen_vl_app.errors import HistoryError, Reason, UsageError
from qwen_vl_app.history import HistoryStore, KeepingMode, PictureBytes
from qwen_vl_app.imaging import ClipDecoder, PictureDecoder
from qwen_vl_app.intake import Intake
from qwen_vl_app.jobs import BatchShare, JobQueue, Priority
from qwen_vl_app.model_check import CheckStatus
from qwen_vl_app.model_switch import SwitchStatus
from qwen_vl_app.open_jobs import OpenJobs
from qwen_vl_app.own_tasks import TASKS_NAME, OwnTasks
from qwen_vl_app.present_model import PLAN_TIMEOUT_S, PresentModel
from qwen_vl_app.private import PrivateConversations
from qwen_vl_app.private import is_private as is_private_id
from qwen_vl_app.records import Records
from qwen_vl_app.replays import Replays
from qwen_vl_app.run_width import RunWidth, width_of
from qwen_vl_app.samples import Sample
from qwen_vl_app.scratch import SCRATCH_NAME, Scratch
from qwen_vl_app.staging import StagingArea

log = logging.getLogger(__name__)

LOCAL_OWNER = "local"
"""Who asks where there is no browser to tell people apart: the command line and tests."""


@dataclass(frozen=True, slots=True)
class AssistantStatus:
    """Everything a status line shows. `notices` are things a person should know, `history_problem` why nothing is kept.

    `is_busy` is true until the queue has put its job away; `unanswered` counts the questions whose
    answers are not over, waiting ones included.
    """

    engine: EngineStatus
    waiting: int
    is_busy: bool
    history_problem: Reason | None
    notices: tuple[Reason, ...]
    expected_wait_s: float | None = None
    """How long a question asked now would wait; None while there is nothing to judge by."""
    check: CheckStatus | None = None
    """How the model that is loaded does on what is known of it; None where it is not checked."""
    unanswered: int = 0
    waiting_in_line: int = 0
    """How many of those that wait are no run's."""


class Assistant:
    """The hub. Build it through `bootstrap`, open it once, ask it from any thread, close it at the end."""

    def __init__(
        self,
        *,
        engine: Engine,
        decoder: PictureDecoder,
        history: HistoryStore,
        settings: Settings,
        exchange: EngineExchange | None = None,
        clip_decoder: ClipDecoder | None = None,
        checks_models: bool = False,
    ) -> None:
        """Prepare. With `checks_models`, every model is asked in idle moments what is known of it."""
        self.settings = settings
        self.staging = StagingArea()
        """Pictures that wait for their question, by owner; doors put them there and take them out."""
        self._engine = engine
        self._history = history
        self._queue = JobQueue(
            limit=settings.queue_limit,
            limit_per_owner=settings.queue_limit_per_owner,
            lanes=settings.remote_lanes if settings.remote_address else 1,
            turns=1 if settings.remote_address else settings.decode_batch,
            batch_share=self._batch_share,
        )
        self._history_problem: Reason | None = None
        self._jobs = OpenJobs()
        self._let_go_also: dict[Callable[[], None], None] = {}
        detail = None if settings.detail == "auto" else Detail(settings.detail)
        self.model = PresentModel(
            engine,
            self._queue,
            settings=settings,
            decoder=decoder,
            detail=detail,
            exchange=exchange,
            is_checked=checks_models,
            on_switched=self._note_model,
        )
        """The model that answers: its folder and samples, what its answers can be held to, changing it."""
        self.intake = Intake(
            engine,
            decoder,
            clip_decoder=None if settings.remote_address else clip_decoder,
            wait_for_plan=self.model.wait_for_plan,
            detail=detail,
        )
        """What files are, what the model would see of them, and pictures and clips made of them."""
        self._answering = Answering(
            engine=engine,
            settings=settings,
            intake=self.intake,
            status=lambda: self.model.status,
            forget=self._jobs.remove,
        )
        self.private = PrivateConversations(
            may_begin=KeepingMode(settings.keep) is not KeepingMode.RECORDS,
            halt=self._jobs.halt,
            let_go=self.model.forget,
            is_busy=self.is_running,
        )
        """Conversations of this process's memory, for the doors: touching, leaving and ending them."""
        self._asking = Asking(
            queue=self._queue,
            jobs=self._jobs,
            answering=self._answering,
            history_of=self._history_of,
            history_problem=lambda: self._history_problem,
            private=self.private,
            is_ready=lambda: self.model.status.state is EngineState.READY,
            max_pictures=settings.max_pictures,
        )
        self.own_tasks = OwnTasks(None if settings.keep == "nothing" else settings.data_dir / TASKS_NAME)
        """The questions that people saved under a name."""
        self.scratch = Scratch(settings.data_dir / SCRATCH_NAME)
        """Room for files that are made to be handed over."""
        self.records = Records(
            history,
            halt=self._jobs.halt,
            let_go=self._let_go,
            drop_waiting=self.staging.discard_all,
            drop_waiting_of=self.staging.discard_period,
            private=self.private,
        )
        """What is kept, for the doors: finding, branches, taking away, erasing."""
        self.records.erase_also(TASKS_NAME, self.own_tasks)
        self.replays = Replays(self.records, ask=self.ask, engine=engine)
        """Kept turns run again and compared with what was answered then."""

    # 1. Its life

    def open(self, *, courtesy_s: float = 0.0) -> None:
        """Open the history, start the decoder and begin to load the model. Returns at once; `status` tells the rest.

        Loading takes every core and the interpreter's lock: it waits up to `courtesy_s` for `page_stands`, so that the
        first page comes first.
        """
        try:
            self._history.open(port=self.settings.port)
        except HistoryError as error:
            self._history_problem = error.reason
        else:
            self.scratch.sweep()  # nobody else is using the folder
            self.records.start_expiring()
        self.intake.start()
        self.model.load(courtesy_s=courtesy_s)

    def page_stands(self) -> None:
        """Tell that a first page was drawn. Any thread, any number of times."""
        self.model.page_stands()

    def open_to_look(self) -> None:
        """Open only what looking at files needs, the decoder and the plan of sizes: no weights are read and no history is touched."""
        self.intake.start()
        self.model.prepare()

    def close(self) -> None:
        """Stop what runs, keep it as interrupted, and let everything go."""
        self._answering.is_closing = True
        self.model.give_up()
        self.records.stop_expiring()
        running = self._jobs.all()
        for job in running:
            job.cancel()
        for job in running:
            job.wait(5.0)
        self._queue.close()
        for job in self._jobs.all():  # a step that does not end, or a question that came in between
            job.finish(Answer(job.text, FinishReason.STOPPED, model=self._engine.status.model), JobState.STOPPED)
            self._jobs.remove(job)
        self.staging.clear()
        self.private.close()
        self._engine.close()
        self.intake.close()
        try:
            self._history.close()
        except HistoryError as error:  # everything that was acknowledged is on the disk already
            log.warning("the history did not close well: %s", error.code)

    def __enter__(self) -> Assistant:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def status(self) -> AssistantStatus:
        """What the assistant is and does. Never blocks."""
        return AssistantStatus(
            engine=self.model.status,
            waiting=self._queue.waiting,
            waiting_in_line=self._queue.waiting_in_line,
            is_busy=self._queue.is_busy,
            expected_wait_s=self._queue.expected_wait_s(),
            history_problem=self._history_problem,
            notices=self._history.notices,
            check=self.model.check_status,
            unanswered=sum(not job.state.is_over for job in self._jobs.all()),
        )

    # 2. Its model

    def wait_until_loaded(self, timeout_s: float | None = None) -> EngineStatus:
        """Wait for the model. Raises ModelNotLoadedError with the reason when it failed, or when the time is up."""
        return self.model.wait_until_loaded(timeout_s)

    def wait_for_plan(self, timeout_s: float = PLAN_TIMEOUT_S) -> EngineStatus:
        """Wait until the sizes of pictures are known, well before the weights are there. Raises as `wait_until_loaded`."""
        return self.model.wait_for_plan(timeout_s)

    @property
    def switch_status(self) -> SwitchStatus | None:
        """The last change of models that was asked for. Never blocks."""
        return self.model.switch_status

    def switch_model(self, name: str, *, unloads_first: bool = False) -> None:
        """Bring another model in, a folder's name or a path; returns at once, `switch_status` tells the rest.

        As `PresentModel.switch`. Raises UsageError where models cannot be changed here or another change is under way,
        QueueFullError.
        """
        self.model.switch(name, unloads_first=unloads_first)

    def wait_for_switch(self, timeout_s: float | None = None) -> SwitchStatus | None:
        """Wait until a change of models is over."""
        return self.model.wait_for_switch(timeout_s)

    def models(self) -> tuple[ModelFolder, ...]:
        """Return the model folders there are, damaged ones with their problem."""
        return self.model.folders()

    def samples(self) -> tuple[Sample, ...]:
        """Return the sample pictures that came with the model; none before it is known which one runs."""
        return self.model.samples()

    def let_model_forget(self) -> tuple[Reason, ...]:
        """Let the model drop what it has read, as if it had just been loaded; return what cannot be promised."""
        return self.model.forget()

    def _note_model(self, name: str) -> None:
        self.settings = self.settings.model_copy(update={"model": name})

    # 3. Pictures

    def stage(self, data: bytes, name: str, *, page: int = 0, detail: Detail | None = None) -> StagedPicture:
        """Turn a file into a picture that can be asked about, at the size the plan allows now; `page` counts from 0.

        Waits for the plan of sizes. Raises PictureError, ModelNotLoadedError.
        """
        return self.intake.stage(data, name, page=page, detail=detail)

    def stage_upload(self, data: bytes, name: str, *, page: int = 0, detail: Detail | None = None) -> StagedPicture:
        """Turn a file into a picture or, where its bytes are one, into a clip. Raises as `stage`, and UsageError."""
        return self.intake.stage_upload(data, name, page=page, detail=detail)

    # 4. Asking

    def ask(
        self,
        question: Question,
        *,
        owner: str = LOCAL_OWNER,
        is_kept: bool = True,
        is_private: bool = False,
        priority: Priority = Priority.PAGE,
        beside: int | None = None,
        is_anew: bool = False,
    ) -> AnswerJob:
        """Keep a question, queue it, and return its job at once. As `Asking.ask`, which says what each word means.

        Raises UsageError for a question that is none, QueueFullError, and HistoryError only where the conversation that
        it continues is not this owner's.
        """
        return self._asking.ask(
            question,
            owner=owner,
            is_kept=is_kept,
            is_private=is_private,
            priority=priority,
            beside=beside,
            is_anew=is_anew,
        )

    @property
    def run_width(self) -> RunWidth:
        """How many answers of runs over folders are made at a time here, and why. Never blocks."""
        return width_of(self.model.status, self.settings)

    def _batch_share(self) -> BatchShare:
        return self.run_width.share()

    def running(self, owner: str, conversation_id: int) -> tuple[AnswerJob, ...]:
        """Return the jobs of a conversation that are not over, oldest first: what a reloaded page goes on showing."""
        return self._jobs.of(owner, conversation_id)

    def is_running(self, owner: str, conversation_id: int) -> bool:
        """True while a conversation has an answer in the making."""
        return bool(self.running(owner, conversation_id))

    # 5. What is kept

    def conversations(self, owner: str, *, limit: int = 50, before: int | None = None) -> tuple[Conversation, ...]:
        """Return an owner's conversations, the latest first; private ones are in no list."""
        return () if self._history_problem else self._history.conversations(owner, limit=limit, before_id=before)

    def conversation(self, owner: str, conversation_id: int) -> Conversation:
        """Return the head of one conversation. Raises HistoryError where it is not this owner's."""
        self.private.touch(owner, conversation_id)
        return self._history_of(conversation_id).conversation(owner, conversation_id)

    def turns(
        self, owner: str, conversation_id: int, *, limit: int | None = None, before: int | None = None
    ) -> tuple[Turn, ...]:
        """Return turns of a conversation, oldest first; `before` pages back from that turn."""
        self.private.touch(owner, conversation_id)
        return self._history_of(conversation_id).turns(owner, conversation_id, limit=limit, before=before)

    def turn(self, owner: str, turn_id: int) -> Turn:
        """Return one turn. Raises HistoryError where it is not this owner's."""
        return self._history_of(turn_id).turn(owner, turn_id)

    def picture(self, owner: str, turn_picture_id: int, rendition: Rendition) -> PictureBytes:
        """Return a kept picture's bytes and media type. Raises HistoryError."""
        return self._history_of(turn_picture_id).picture_bytes(owner, turn_picture_id, rendition)

    def rename(self, owner: str, conversation_id: int, title: str) -> None:
        """Give a conversation another title. Raises UsageError for an empty one, HistoryError."""
        title = " ".join(title.split())
        if not title:
            raise UsageError("title.empty")
        self._history_of(conversation_id).rename(owner, conversation_id, title)

    def delete(self, owner: str, conversation_id: int) -> None:
        """Delete a conversation with its pictures for good; what still runs in it is stopped first. Raises HistoryError."""
        if not self.records.erase_conversation(owner, conversation_id).is_complete:
            raise HistoryError("history.erase_pending")

    def _history_of(self, number: int | None) -> HistoryStore:
        """Return where a conversation, a turn or a picture of that id is: on the disk, or private in memory."""
        return self.private.history if is_private_id(number) else self._history

    def _let_go(self, owner: str) -> tuple[Reason, ...]:
        """Drop an owner's files in the making and what the model holds of earlier questions; return what cannot be promised."""
        for let_go in tuple(self._let_go_also):
            let_go()
        self.scratch.empty(owner or None)  # the site's own erasures name nobody
        return self.model.forget()

    def let_go_also(self, let_go: Callable[[], None]) -> None:
        """Have something dropped with every erasure, whoever asks for it: what the page keeps of finished turns. From any thread."""
        self._let_go_also[let_go] = None
