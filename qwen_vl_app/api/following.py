"""Following an answer from an event loop: new text as it comes, a sign of life while it waits, an end when the client leaves.

Knows `AnswerJob` and ASGI. Holds no thread while it waits: the job wakes the loop. Does not know in which shape the text
goes out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qwen_vl_app.answer_job import AnswerJob, JobProgress
from qwen_vl_app.chat import ScoredToken

HEARTBEAT_S = 5.0
LEFT = Response(status_code=499)
"""For nobody: the client is gone."""


@dataclass(frozen=True, slots=True)
class News:
    """What happened: text and tokens that are new, or, with `progress`, nothing but a sign of life."""

    text: str = ""
    tokens: tuple[ScoredToken, ...] = ()
    progress: JobProgress | None = None


class BeganAnewError(Exception):
    """The model began anew, with smaller pictures, after text had gone out that nobody can take back."""


async def follow(job: AnswerJob, *, heartbeat_s: float = HEARTBEAT_S) -> AsyncGenerator[News, None]:
    """Yield an answer as it is made. The first news of one that waits is its place in the queue.

    Raises BeganAnewError. Leaving the loop early does not stop the answer: whoever leaves cancels.
    """
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(woken.set)
        except RuntimeError:
            return  # the loop is closed, so nobody waits any more

    unwatch = job.watch(wake)
    attempts = text_read = tokens_read = 0
    try:
        yield News(progress=job.progress())
        while True:
            woken.clear()
            news = job.news(text_start=text_read, token_start=tokens_read)
            if news.attempts != attempts:
                if text_read:
                    raise BeganAnewError
                attempts, tokens_read = news.attempts, 0
            elif news.text or news.tokens:
                text_read += len(news.text)
                tokens_read += len(news.tokens)
                yield News(text=news.text, tokens=news.tokens)
            elif news.is_over:
                return
            else:
                with anyio.move_on_after(heartbeat_s) as patience:
                    await woken.wait()
                if patience.cancelled_caught:
                    yield News(progress=job.progress())
    finally:
        unwatch()


async def unless_left(request: Request, work: Callable[[], Awaitable[None]]) -> bool:
    """Do the work; end it, and return False, where the client leaves before it is done."""
    async with anyio.create_task_group() as group:
        group.start_soon(_cancel_when_left, request.receive, group.cancel_scope)
        await work()
        group.cancel_scope.cancel()
        return True
    return False


async def follow_quietly(job: AnswerJob) -> AsyncGenerator[News, None]:
    """Follow to the end, also where the model begins anew: nothing has gone out yet."""
    while job.answer is None:
        try:
            async with aclosing(follow(job)) as all_news:
                async for news in all_news:
                    yield news
        except BeganAnewError:
            continue


class LiveResponse(Response):
    """A reply that grows. When the client leaves, its source is closed at once, and with it whatever it holds."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], *, media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send every piece when it is there."""
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_left, receive, group.cancel_scope)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with aclosing(self._pieces) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()


async def _cancel_when_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            scope.cancel()
            return
