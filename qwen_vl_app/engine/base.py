"""The engine's protocol, in words. Whoever speaks it can stand behind the assistant.

Knows messages, pictures as bytes, tokens as text. Does not know torch, files, conversations kept elsewhere, or who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from qwen_vl_app.chat import (
    Detail,
    EngineStatus,
    FinishReason,
    LikelyToken,
    Message,
    SamplingParams,
    SeenSize,
    Size,
    Usage,
)
from qwen_vl_app.errors import Reason

DRIVER_LOST = "engine.driver_lost"
"""The code of an engine whose graphics card answers this process no more: only a new process can use it again."""


class Stage(StrEnum):
    """What the engine does before the first word."""

    ENCODING = "encoding"
    """Pictures go through the vision tower."""
    READING = "reading"
    """The prompt is prefilled."""


@dataclass(frozen=True, slots=True)
class StageStep:
    """Work went on before the first word: `done` of `total` units of this stage are behind us."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class TokenStep:
    """One token was chosen. `text` is what it adds to the answer: whole characters only, often empty.

    The others are as in `ScoredToken`.
    """

    text: str
    token_id: int
    logprob: float | None = None
    raw: bytes = b""
    allowed: float = 0.0
    likely: tuple[LikelyToken, ...] = ()


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """The last step of every run that did not raise. `text` is what detokenising still held back.

    `notes` disclose what a person should know of the way: a rule of the schema that could not be enforced, say.
    """

    finish_reason: FinishReason
    usage: Usage
    text: str = ""
    notes: tuple[Reason, ...] = ()


Step: TypeAlias = StageStep | TokenStep | FinishedStep


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to continue. `conversation_key` lets an engine find what it still holds of the same conversation.

    `schema` is a JSON Schema as JSON text. An engine holds the answer to it as far as it can, its properties in their
    order and no others, and tells in the notes of its last step what it could not enforce. With `is_schema_open` the
    properties may come in any order and be left out. It adds nothing else: where null is no possible value of a property,
    the model has to write something there.
    """

    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    conversation_key: str | None = None
    schema: str | None = None
    is_schema_open: bool = False
    is_background: bool = False
    """Nobody waits for the answer. Matters where the model is asked by others as well."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a question will take. `first_token_s` is None until the model is loaded and its speed measured."""

    first_token_s: float | None
    memory_bytes: int
    """Beside the weights: the pictures' pass through the vision tower, the prompt's, and its keys and values."""


class Engine(Protocol):
    """A model with a life: load it once, ask it many times, close it. One thread calls `load` and `generate`."""

    @property
    def status(self) -> EngineStatus:
        """What it is and how far it is. Safe from any thread, never blocks."""
        ...

    def prepare(self) -> None:
        """Choose a model and plan the sizes of pictures from its folder and this machine, without reading a weight.

        `load` begins with the same. Raises ModelError, after which `status` says FAILED.
        """
        ...

    def load(self) -> None:
        """Bring the model into memory; `status` tells the progress. Raises ModelError, after which `status` says FAILED."""
        ...

    def seen_size(self, size: Size, *, detail: Detail | None = None) -> SeenSize:
        """Return what the model would see of a picture of this upright size; any thread.

        Raises ImageShapeError where the picture is too long and thin, ModelNotLoadedError before there is a plan.
        """
        ...

    def predict(self, picture_tokens: Sequence[int], *, text_tokens: int = 0) -> Prediction:
        """Return what a question with pictures of so many tokens each will take where nothing of it is held; any thread.

        Raises ModelNotLoadedError before there is a plan.
        """
        ...

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        """Answer, one resumable step at a time: stage steps, then a step after every token, then one finished step.

        Between two steps the caller may do other things. `should_stop` is asked at least once a token and, before the
        first word, at least once a layer; a run that was stopped finishes with STOPPED. Raises InferenceError or
        ModelError; OutOfMemoryError only after everything held for this run was let go. Closing the iterator frees it.
        """
        ...

    def forget(self) -> None:
        """Let go of everything held of earlier prompts: pictures, sequences, answers. The next question reads it all anew.

        Called between two steps, on the thread that generates; a run that is under way holds nothing after its end.
        """
        ...

    def close(self) -> None:
        """Let the model go. Further calls raise ModelNotLoadedError."""
        ...
