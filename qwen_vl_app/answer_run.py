"""What one question carries along the way to its answer, and where its conversation is read and written.

Knows one question, its job and the history it belongs to. Does not know the model, the queue or what becomes of the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.answers import nullable_schema
from qwen_vl_app.chat import Message, Question, Rendition, Size, Turn, TurnPicture
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.prompts import answered, prompt_of

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """What one question carries along its way. Only the inference thread changes it once it was queued."""

    job: AnswerJob
    question: Question
    history: HistoryStore
    """Where its conversation is: on the disk, or in memory alone."""
    turn: Turn | None
    not_kept: Reason | None
    answered: tuple[Turn, ...] = ()
    """The earlier turns that the model is told of: those that have an answer, whole or stopped."""
    seen: tuple[Size, ...] = ()
    """The sizes, in the prompt as it went to the model, of the pictures that the answer speaks about."""
    clip_seconds: float | None = None
    """How long the clip is that the answer speaks about, where it speaks about one."""
    beside: int | None = None
    """The turn whose place it takes, on a branch of its own."""
    is_anew: bool = False
    is_private: bool = False
    """True where storage may neither answer it nor keep its answer for others: using an entry leaves a trace, too."""
    will_be_kept: bool = False
    """True for one that has no turn yet and is about to get it."""
    is_background: bool = False
    """True where nobody waits for it."""
    is_looked_up: bool = False
    cache_key: str | None = None
    """What the question and all that it is told is known by, where its answer may be given again."""
    started_at: float | None = None
    """By the monotonic clock, when the inference thread took it up."""
    notes: list[Reason] = field(default_factory=list)

    @property
    def schema(self) -> str | None:
        """The schema that the engine holds the answer to: the question's, with null for whatever may not be there."""
        question = self.question
        if question.schema is None or question.is_schema_exact:
            return question.schema
        return nullable_schema(question.schema)

    def read_earlier(self) -> None:
        """Read the turns that the model is told of. Only now: while this one waited, another may have ended. Raises HistoryError."""
        if self.question.conversation_id is None:
            return
        before = self.beside if self.turn is None else self.turn.id
        self.answered = answered(self.history.turns(self.job.owner, self.question.conversation_id, before=before))

    def prompt(self) -> tuple[Message, ...]:
        """Return the whole prompt, with the pixels that the model saw of every earlier picture. Raises HistoryError."""

        def seen_png(picture: TurnPicture) -> bytes:
            return self.history.picture_bytes(self.job.owner, picture.id, Rendition.SEEN).data

        return prompt_of(self.question, self.answered, seen_png=seen_png)

    def keep_meanwhile(self, write: Callable[[], object]) -> None:
        """Do a write that the answer's end makes good: where that fails as well, the answer says so."""
        try:
            write()
        except HistoryError as error:
            log.warning("a turn was not written meanwhile: %s", error.code)

    def keep(self, write: Callable[[], object]) -> None:
        """Do a write that the answer can do without: where it fails, the answer says so at the end."""
        try:
            write()
        except HistoryError as error:
            self.not_kept = error.reason
