"""A scripted engine for everyone's tests: it speaks the real protocol and answers what it was told to answer.

Knows a queue of replies and keeps the requests it got. Does not know torch, and never guesses an answer: an empty queue
is a test's mistake and says so.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from qwen_vl_app.chat import (
    CoordinateSpace,
    Detail,
    EngineState,
    EngineStatus,
    FinishReason,
    LikelyToken,
    Rung,
    SeenSize,
    Size,
    SizePlan,
    Usage,
)
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, Prediction, Stage, StageStep, Step, TokenStep
from qwen_vl_app.engine.families import smart_resize
from qwen_vl_app.errors import ModelError, ModelNotLoadedError, Reason

Reply = str | list[str] | Exception
"""An answer in one piece, in the pieces it shall come in, or an error to raise before the first word."""


class PiecesThen:
    """Some pieces of text, and then an error in the middle of the answer."""

    def __init__(self, pieces: Iterable[str], error: Exception) -> None:
        self.pieces = list(pieces)
        self.error = error


FAKE_PLAN = SizePlan(
    factor=28,
    min_pixels=3136,
    rungs=(
        Rung(Detail.LOW_MEMORY, 256 * 784, 256),
        Rung(Detail.BALANCED, 1280 * 784, 1280),
        Rung(Detail.DETAIL, 2560 * 784, 2560),
    ),
    default=Detail.BALANCED,
    context_tokens=8192,
)


class FakeEngine:
    """An `Engine` for tests.

    `replies` are used in order; `requests` keeps what came. With a `gate`, one piece of text passes for each
    `gate.release()` (a semaphore that the test owns), so that a test can look between two tokens. With `loading`, `load`
    waits for that event, half of the bytes in place. `load_error` makes loading fail. With `holds_forms` it says that it
    holds answers to schemas; the replies have to be such, for it writes what it was told. `gains` is what it says it would
    gain from several answers in one step.
    """

    def __init__(
        self,
        replies: Iterable[Reply | PiecesThen] = (),
        *,
        plan: SizePlan = FAKE_PLAN,
        coordinates: CoordinateSpace = CoordinateSpace.SEEN_PIXELS,
        model: str = "fake",
        gate: threading.Semaphore | None = None,
        loading: threading.Event | None = None,
        load_error: ModelError | None = None,
        finish_reason: FinishReason = FinishReason.STOP,
        holds_forms: bool = False,
        gains: Mapping[int, float] | None = None,
    ) -> None:
        self.replies: deque[Reply | PiecesThen] = deque(replies)
        self.requests: list[GenerationRequest] = []
        self.closed_runs = 0
        """How many runs were closed before they ended."""
        self.forgotten = 0
        """How often it was told to forget."""
        self._gate = gate
        self._loading = loading
        self._load_error = load_error
        self._finish_reason = finish_reason
        self._status = EngineStatus(
            state=EngineState.EMPTY,
            model=model,
            family="Fake",
            coordinates=coordinates,
            fingerprint=f"fake:{model}",
            device="cpu",
            dtype="fp32",
            attention="none",
            weights_bytes=1000,
            gains=gains or {},
            choices=(Reason("engine.form.grammar" if holds_forms else "engine.form.no_grammar"),),
        )
        self._plan = plan

    @property
    def status(self) -> EngineStatus:
        """What it is and how far it is."""
        return self._status

    def prepare(self) -> None:
        """Make the plan known; or raise `load_error` and be FAILED."""
        if self._load_error is not None:
            self._status = replace(self._status, state=EngineState.FAILED, error=self._load_error.reason)
            raise self._load_error
        self._status = replace(self._status, plan=self._plan)

    def load(self) -> None:
        """Become ready, after the `loading` event where there is one; or raise `load_error` and be FAILED."""
        self._status = replace(self._status, state=EngineState.LOADING, plan=self._plan, loaded_bytes=500)
        if self._loading is not None:
            self._loading.wait()
        if self._load_error is not None:
            self._status = replace(self._status, state=EngineState.FAILED, error=self._load_error.reason)
            raise self._load_error
        self._status = replace(self._status, state=EngineState.READY, loaded_bytes=1000)

    def seen_size(self, size: Size, *, detail: Detail | None = None) -> SeenSize:
        """Return the size by the published rule and the plan's rung."""
        plan = self._status.plan
        if plan is None:
            raise ModelNotLoadedError("engine.not_ready")
        rung = plan.rung(detail)
        seen = smart_resize(size, plan.factor, min_pixels=plan.min_pixels, max_pixels=rung.max_pixels)
        return SeenSize(seen, seen.pixels // plan.factor**2, rung.detail)

    def predict(self, picture_tokens: Sequence[int], *, text_tokens: int = 0) -> Prediction:
        """Return a hundredth of a second and a kilobyte a token; no seconds before it is loaded."""
        if self._status.plan is None:
            raise ModelNotLoadedError("engine.not_ready")
        tokens = sum(picture_tokens) + text_tokens
        return Prediction(tokens / 100 if self._status.state is EngineState.READY else None, tokens * 1000)

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        """Play the next reply: stage steps, one token step a piece, one finished step."""
        if self._status.state is not EngineState.READY:
            raise ModelNotLoadedError("engine.not_ready")
        self.requests.append(request)
        if not self.replies:
            raise AssertionError("the fake engine was asked more often than it has replies")
        reply = self.replies.popleft()
        return self._play(request, reply, should_stop)

    def _play(
        self, request: GenerationRequest, reply: Reply | PiecesThen, should_stop: Callable[[], bool]
    ) -> Iterator[Step]:
        ended = False
        try:
            pictures = [image for message in request.messages for image in message.images]
            picture_tokens = sum(
                image.size.pixels // self._plan.factor**2 * (image.clip.pairs if image.clip else 1)
                for image in pictures
            )
            prompt_tokens = picture_tokens + sum(len(message.text.split()) for message in request.messages)
            made = 0
            finish = self._finish_reason
            if isinstance(reply, Exception):
                raise reply
            pieces = reply.pieces if isinstance(reply, PiecesThen) else [reply] if isinstance(reply, str) else reply
            for number in range(len(pictures)):
                yield StageStep(Stage.ENCODING, number + 1, len(pictures))
            yield StageStep(Stage.READING, prompt_tokens, prompt_tokens)
            for piece in pieces:
                if self._stopped_at_the_gate(should_stop):
                    finish = FinishReason.STOPPED
                    break
                made += 1
                likely = [LikelyToken(piece.encode(), -0.1), *(LikelyToken(b"?%d" % at, -2.0 - at) for at in range(20))]
                top = tuple(likely[: request.sampling.top_logprobs])
                yield TokenStep(piece, token_id=made, logprob=-0.1, raw=piece.encode(), likely=top)
            else:
                if isinstance(reply, PiecesThen):
                    raise reply.error
            yield FinishedStep(finish, Usage(prompt_tokens, picture_tokens, 0, made))
            ended = True
        except GeneratorExit:
            self.closed_runs += not ended
            raise

    def _stopped_at_the_gate(self, should_stop: Callable[[], bool]) -> bool:
        while self._gate is not None and not self._gate.acquire(timeout=0.02):
            if should_stop():
                return True
        return should_stop()

    def forget(self) -> None:
        """Count it: nothing is held between two runs."""
        self.forgotten += 1

    def close(self) -> None:
        """Let go; further calls raise ModelNotLoadedError."""
        self._status = replace(self._status, state=EngineState.CLOSED, plan=None)
