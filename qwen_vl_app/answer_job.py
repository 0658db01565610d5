"""One question on its way to an answer: the object every door holds.

Knows state, text so far, waiting and cancelling. Does not know how the answer is made or who looks at it: it lives
beside the page, so that a click, a reload or a closed tab loses nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from qwen_vl_app.chat import Answer, ScoredToken, StagedPicture

INTERRUPTIBLE_S = 0.5
"""Windows delivers Ctrl-C only between two waits, so none lasts longer."""


class JobState(StrEnum):
    """Where an answer stands."""

    QUEUED = "queued"
    READING = "reading"
    """The model looks at the pictures and reads the question."""
    ANSWERING = "answering"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """True when nothing more will come."""
        return self in (JobState.DONE, JobState.STOPPED, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class JobProgress:
    """One consistent look at a job. `read_fraction` is how much of the reading is done (0..1).

    `position` counts the jobs before it while it waits; `expected_wait_s` is None where nothing is known yet.
    """

    state: JobState
    text: str
    position: int | None
    read_fraction: float
    elapsed_s: float
    tokens: int
    tokens_per_s: float | None
    expected_wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobNews:
    """What a job said since somebody looked. Text and tokens begin anew where `attempts` has grown."""

    attempts: int
    text: str
    tokens: tuple[ScoredToken, ...]
    is_over: bool


class AnswerJob:
    """An answer in the making. The hub writes it from the inference thread; any thread may read, wait or cancel.

    `turn_id` is None where the history could not keep the question, `conversation_id` too. `pictures` are the question's
    own, as the model sees them: smaller ones take their place where memory ran out.
    """

    def __init__(
        self, *, owner: str, turn_id: int | None, conversation_id: int | None, pictures: tuple[StagedPicture, ...] = ()
    ) -> None:
        self.owner = owner
        self.turn_id = turn_id
        self.conversation_id = conversation_id
        self.pictures = pictures
        self._changed = threading.Condition()
        self._state = JobState.QUEUED
        self._text = ""
        self._read_fraction = 0.0
        self._tokens: list[ScoredToken] = []
        self._watchers: dict[object, Callable[[], None]] = {}
        self._attempts = 0
        self._asked_at = time.monotonic()
        self._first_token_at: float | None = None
        self._last_token_at: float | None = None
        self._answer: Answer | None = None
        self._cancelled = threading.Event()
        self.position_of: Callable[[], int | None] = lambda: None
        self.wait_of: Callable[[int], float | None] = lambda _: None
        self.on_cancel: Callable[[], None] = lambda: None

    @property
    def state(self) -> JobState:
        """Where it stands."""
        return self._state

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._text

    @property
    def answer(self) -> Answer | None:
        """The finished answer; None until `state.is_over`."""
        return self._answer

    @property
    def attempts(self) -> int:
        """How often the model began on it: 2 once it had to begin anew with smaller pictures."""
        return self._attempts

    def news(self, *, text_start: int = 0, token_start: int = 0) -> JobNews:
        """Return what came after the given places, from one moment."""
        with self._changed:
            return JobNews(
                attempts=self._attempts,
                text=self._text[text_start:],
                tokens=tuple(self._tokens[token_start:]),
                is_over=self._answer is not None,
            )

    def watch(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """Have `on_change` called after every change, from the thread that made it; return what ends this.

        For those who cannot wait in a thread of their own. It must be quick and not raise.
        """
        key = object()
        with self._changed:
            self._watchers[key] = on_change

        def unwatch() -> None:
            with self._changed:
                self._watchers.pop(key, None)

        return unwatch

    @property
    def is_cancelled(self) -> bool:
        """True once somebody asked it to stop."""
        return self._cancelled.is_set()

    def progress(self) -> JobProgress:
        """Return everything a door shows, from one moment."""
        position = self.position_of() if self._state is JobState.QUEUED else None
        expected_wait_s = None if position is None else self.wait_of(position)
        with self._changed:
            rate = None
            tokens = len(self._tokens)
            if tokens > 1 and self._first_token_at is not None and self._last_token_at is not None:
                rate = (tokens - 1) / max(self._last_token_at - self._first_token_at, 1e-6)
            return JobProgress(
                state=self._state,
                text=self._text,
                position=position,
                read_fraction=self._read_fraction,
                elapsed_s=time.monotonic() - self._asked_at,
                tokens=tokens,
                tokens_per_s=rate,
                expected_wait_s=expected_wait_s,
            )

    def __iter__(self) -> Iterator[str]:
        """Yield new text as it is made, until the end. Any number of readers, each from the beginning.

        Where the model began anew, so does the text, from its first character: `attempts` tells a reader who has already
        shown something.
        """
        read = attempt = 0

        def is_news() -> bool:
            return len(self._text) > (read if self._attempts == attempt else 0) or self._answer is not None

        while True:
            with self._changed:
                while not self._changed.wait_for(is_news, INTERRUPTIBLE_S):
                    continue
                if self._attempts != attempt:
                    read, attempt = 0, self._attempts
                piece, is_over = self._text[read:], self._answer is not None
            read += len(piece)
            if piece:
                yield piece
            if is_over:
                return

    def wait(self, timeout_s: float | None = None) -> Answer | None:
        """Return the finished answer, or None when the time is up first."""
        with self._changed:
            self._changed.wait_for(lambda: self._answer is not None, timeout_s)
            return self._answer

    def cancel(self) -> None:
        """Ask it to stop: at once while queued, within a layer while reading, within a token while answering."""
        self._cancelled.set()
        self.on_cancel()

    # What follows is for the hub.

    def begin_reading(self) -> None:
        """Tell that the model has begun, anew where a smaller picture is tried."""
        with self._changed:
            self._state, self._read_fraction, self._text, self._tokens = JobState.READING, 0.0, "", []
            self._first_token_at = self._last_token_at = None
            self._attempts += 1
            self._tell()

    def read_to(self, fraction: float) -> None:
        """Tell how much of the reading is done."""
        with self._changed:
            self._read_fraction = min(max(fraction, self._read_fraction), 1.0)
            self._tell()

    def add(self, text: str, *, is_token: bool = True, token: ScoredToken | None = None) -> None:
        """Add what a token said; `token` is all that is known of it."""
        with self._changed:
            self._state = JobState.ANSWERING
            self._text += text
            if is_token:
                self._tokens.append(token or ScoredToken(text, None))
                self._last_token_at = time.monotonic()
                self._first_token_at = self._first_token_at or self._last_token_at
            self._tell()

    def finish(self, answer: Answer, state: JobState) -> bool:
        """Close it with its answer; only the first call counts and returns True."""
        with self._changed:
            if self._answer is not None:
                return False
            self._answer, self._state, self._text = answer, state, answer.text
            self._tell()
            return True

    @property
    def asked_at(self) -> float:
        """When it was asked, on the monotonic clock."""
        return self._asked_at

    @property
    def first_token_at(self) -> float | None:
        """When the first token came, on the monotonic clock."""
        return self._first_token_at

    def _tell(self) -> None:
        self._changed.notify_all()
        for on_change in tuple(self._watchers.values()):
            on_change()
