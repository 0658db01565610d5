"""From what a program sent to an answer: pictures are staged, the question is asked, and the reply is followed.

Knows the hub and what all HTTP dialects have in common. Does not know how any of them spells a request or a reply. Nothing
here decodes or asks on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

import anyio
import anyio.to_thread
from starlette.requests import Request

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.api.following import BeganAnewError, News, follow, follow_quietly
from qwen_vl_app.api.forms import AnswerForm
from qwen_vl_app.api.pictures import SentPicture, read_picture
from qwen_vl_app.api.refusals import Refusal, refusal_of
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import (
    Answer,
    Detail,
    EarlierMessage,
    EngineState,
    EngineStatus,
    FinishReason,
    JsonValue,
    Question,
    SamplingParams,
    ScoredToken,
    StagedPicture,
    Usage,
)
from qwen_vl_app.config import Settings
from qwen_vl_app.errors import AppError, ModelNotLoadedError, PictureError, QueueFullError, Reason, UsageError
from qwen_vl_app.jobs import Priority
from qwen_vl_app.texts import Language

log = logging.getLogger(__name__)

_CUT = "engine.form.cut"


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was let in."""

    request: Request
    assistant: Assistant
    owner: str
    language: Language

    @property
    def settings(self) -> Settings:
        """The site's settings."""
        return self.assistant.settings


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message as a program sent it, its pictures not yet looked at."""

    role: Literal["system", "user", "assistant"]
    text: str
    pictures: tuple[SentPicture, ...] = ()


@dataclass(frozen=True, slots=True)
class StagedMessage:
    """A message whose pictures are ready."""

    role: Literal["system", "user", "assistant"]
    text: str
    pictures: tuple[StagedPicture, ...] = ()


def model_names(settings: Settings, status: EngineStatus) -> tuple[str, ...]:
    """Return every name under which the loaded model answers, its own first."""
    own = (status.model,) if status.model else ()
    return tuple(dict.fromkeys((*own, *settings.model_aliases)))


def require_model(call: Call, name: str) -> EngineStatus:
    """Return the ready model's status. Raises UsageError for a name it does not answer to, ModelNotLoadedError."""
    if not call.assistant.status.engine.model:  # which names it will answer to is not known before it begins to load
        require_ready(call)
    known = {each.lower() for each in model_names(call.settings, call.assistant.status.engine)}
    if name.lower() not in known and name.lower().removesuffix(":latest") not in known:
        raise UsageError("api.unknown_model", field="model")
    return require_ready(call)


def require_ready(call: Call) -> EngineStatus:
    """Return the ready model's status. Raises ModelNotLoadedError, with the reason where loading failed."""
    status = call.assistant.status.engine
    if status.state is EngineState.READY:
        return status
    if status.error is not None:
        raise ModelNotLoadedError(status.error.code, **status.error.facts)
    is_coming = status.state in (EngineState.EMPTY, EngineState.LOADING)
    raise ModelNotLoadedError("model.still_loading" if is_coming else "model.not_loaded")


async def stage(call: Call, messages: Sequence[SentMessage]) -> tuple[StagedMessage, ...]:
    """Decode the pictures of a conversation, one after the other. Raises UsageError, PictureError, QueueFullError."""
    limit = call.settings.max_pictures
    if sum(len(message.pictures) for message in messages) > limit:
        raise UsageError("question.too_many_pictures", limit=limit)
    status = call.assistant.status
    if status.waiting_in_line >= call.settings.queue_limit:  # before the work of decoding; `ask` looks again
        raise QueueFullError("queue.full", waiting=status.waiting_in_line)
    staged: list[StagedMessage] = []
    for message in messages:
        pictures = [await anyio.to_thread.run_sync(_stage, call, picture) for picture in message.pictures]
        staged.append(StagedMessage(message.role, message.text, tuple(pictures)))
    return tuple(staged)


def _stage(call: Call, picture: SentPicture) -> StagedPicture:
    settings = call.settings
    limit_bytes = settings.largest_upload_bytes if picture.is_clip else settings.max_upload_mb * 2**20
    data = read_picture(picture, folder=settings.api_file_folder or None, limit_bytes=limit_bytes)
    try:
        if picture.is_clip:
            return call.assistant.stage_upload(data, picture.field)
        return call.assistant.stage(data, picture.field, detail=picture.detail)
    except PictureError as error:  # which of several it is, the program wants to know
        raise type(error)(error.code, **{**error.facts, "field": picture.field}) from error


async def stage_upload(call: Call, data: bytes, name: str, *, detail: Detail | None = None) -> StagedPicture:
    """Decode an uploaded file. Raises PictureError."""
    return await anyio.to_thread.run_sync(lambda: call.assistant.stage(data, name, detail=detail))


async def make_form(
    call: Call, schema: Mapping[str, JsonValue] | None, *, must_be_object: bool, field: str, is_strict: bool = True
) -> AnswerForm:
    """Return the form of an answer. Raises UsageError for a schema that cannot be used."""
    return await anyio.to_thread.run_sync(
        lambda: AnswerForm(
            schema,
            must_be_object=must_be_object,
            field=field,
            is_strict=is_strict,
            support=call.assistant.model.form_support,
        )
    )


async def ask(
    call: Call,
    messages: Sequence[StagedMessage],
    sampling: SamplingParams,
    *,
    form: AnswerForm | None = None,
    may_wait: bool = False,
) -> AnswerJob:
    """Queue a conversation whose last message is the question; one that `may_wait` behind everybody else.

    Raises UsageError, QueueFullError.
    """
    *earlier, last = messages
    if last.role != "user":
        raise UsageError("api.last_not_user", field="messages")
    question = Question(
        last.text,
        pictures=last.pictures,
        sampling=sampling,
        earlier=tuple(EarlierMessage(each.role, each.text, each.pictures) for each in earlier),
        schema=None if form is None else form.text,
        is_schema_exact=True,  # a program's schema is its contract: where null may stand, it says so itself
    )
    priority = Priority.BATCH if may_wait else Priority.API
    return await anyio.to_thread.run_sync(
        lambda: call.assistant.ask(question, owner=call.owner, is_kept=False, priority=priority)
    )


class Reply:
    """An answer on its way to a program, in a form where one is wanted: held to it, or checked, with one repair.

    Iterate `news` once; then `text`, `answer`, `usage`, `notes` and `tokens` are there, or `refusal`. A form that is not
    held to while the answer is written is checked before anything goes out, so its text comes in one piece; `tokens` are
    empty where that text is not the model's own.
    """

    def __init__(
        self,
        call: Call,
        job: AnswerJob,
        *,
        messages: Sequence[StagedMessage],
        sampling: SamplingParams,
        form: AnswerForm | None = None,
        is_live: bool,
    ) -> None:
        self.refusal: Refusal | None = None
        self.text = ""
        self.tokens: tuple[ScoredToken, ...] = ()
        self.answer = Answer("", FinishReason.STOPPED)
        self.notes: tuple[Reason, ...] = ()
        self.usage = Usage()
        self._call = call
        self._job = job
        self._messages = tuple(messages)
        self._sampling = sampling
        self._form = form
        self._is_live = is_live

    async def news(self) -> AsyncGenerator[News, None]:
        """Yield what happens. Whoever stops iterating, closes this, and closing stops the answer and frees the model."""
        try:
            is_open = self._form is None or self._form.is_held
            source = follow(self._job) if self._is_live and is_open else follow_quietly(self._job)
            async with aclosing(source) as all_news:
                async for each in all_news:
                    if is_open or each.progress is not None:
                        yield each
            if self._has_answered() and self._form is not None:
                if is_open:
                    await self._judge(self._form)
                    return
                async with aclosing(self._formed(self._form)) as all_news:
                    async for each in all_news:
                        yield each
        except BeganAnewError:
            self.refusal = refusal_of(Reason("api.began_anew"))
        except AppError as error:  # the repair found no place in the queue
            self.refusal = refusal_of(error, expected_wait_s=self._call.assistant.status.expected_wait_s)
        except Exception:  # a mistake of ours: a stream that broke off would not say so, and its text is for the log
            log.exception("an answer failed: %s", self._call.request.url.path)
            self.refusal = refusal_of(Reason("app.unexpected"))
        finally:
            self._job.cancel()

    async def to_the_end(self) -> None:
        """Wait for the whole reply."""
        async with aclosing(self.news()) as all_news:
            async for _ in all_news:
                pass

    async def _formed(self, form: AnswerForm) -> AsyncGenerator[News, None]:
        """Check the answer, let it be repaired once, and yield it whole. One that was cut goes out as it is."""
        misfit = await self._misfit(form)
        if misfit is not None:
            again = (StagedMessage("assistant", self.text), StagedMessage("user", form.repair(misfit)))
            self._job = await ask(self._call, (*self._messages, *again), self._sampling, form=form)
            async with aclosing(follow_quietly(self._job)) as all_news:
                async for each in all_news:
                    if each.progress is not None:
                        yield each
            if not self._has_answered():
                return
        if not await self._judge(form):
            return
        if not self._was_cut():
            self.text = form.fitted(self.text, self.answer)
            self.tokens = self.tokens if self.text == self.answer.text else ()
        yield News(text=self.text, tokens=self.tokens)

    async def _misfit(self, form: AnswerForm) -> str | None:
        if self._was_cut():
            return None
        return await anyio.to_thread.run_sync(form.misfit, self.text, self.answer)

    async def _judge(self, form: AnswerForm) -> bool:
        """Return whether the answer may go out: one that does not fit is refused, or only said to be so."""
        misfit = await self._misfit(form)
        if misfit is not None and form.is_strict:
            self.refusal = refusal_of(Reason("api.answer_does_not_fit", field="response_format"))
        elif misfit is not None:
            self.notes = (Reason("api.form_not_kept"),)
        return self.refusal is None

    def _has_answered(self) -> bool:
        """Take over what the job ended with; False where that is no answer."""
        answer = self._job.answer or Answer("", FinishReason.FAILED, error=Reason("app.unexpected"))
        if answer.finish_reason is FinishReason.STOP and any(note.code == _CUT for note in answer.notes):
            answer = replace(answer, finish_reason=FinishReason.LENGTH)  # a stop text came first: no end for a form
        self.answer, self.text = answer, answer.text
        self.tokens = self._job.news().tokens
        spent, usage = self.usage, answer.usage
        self.usage = replace(
            usage,
            prompt_tokens=spent.prompt_tokens + usage.prompt_tokens,
            picture_tokens=spent.picture_tokens + usage.picture_tokens,
            cached_tokens=spent.cached_tokens + usage.cached_tokens,
            completion_tokens=spent.completion_tokens + usage.completion_tokens,
        )
        if answer.finish_reason is FinishReason.FAILED:
            self.refusal = refusal_of(answer.error or Reason("app.unexpected"))
        elif answer.finish_reason is FinishReason.STOPPED:
            self.refusal = refusal_of(Reason("api.closing"))  # nobody but the app itself stops a program's answer
        return self.refusal is None

    def _was_cut(self) -> bool:
        return self.answer.finish_reason is not FinishReason.STOP
