"""One address with its methods: the steps that every request goes through before and after its handler.

Knows keys, methods, languages and how a failure becomes a reply. Does not know any dialect's requests. Whatever a handler
raises, the caller gets one calm sentence, and the log the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qwen_vl_app.api.access import language_of, owner_of
from qwen_vl_app.api.asking import Call
from qwen_vl_app.api.bodies import HELD
from qwen_vl_app.api.refusals import refusal_of
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.errors import AppError, Reason, UsageError
from qwen_vl_app.texts import Language

log = logging.getLogger(__name__)

GetAssistant = Callable[[], Assistant]
Handler = Callable[[Call], Awaitable[Response]]


class Door:
    """Handlers by method, behind the key. An ASGI endpoint, so that a wrong method is answered here and not by the page."""

    def __init__(
        self,
        get_assistant: GetAssistant,
        handlers: Mapping[str, Handler],
        *,
        is_ollama: bool = False,
        is_open: bool = False,
    ) -> None:
        self._get_assistant = get_assistant
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]
        self._is_ollama = is_ollama
        self._is_open = is_open
        """True where no key is asked for: the description of the addresses says nothing about anybody."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return
        finally:
            HELD.give_back(scope)  # pictures are staged by now, and a stream needs nothing of its request
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        language = language_of(request, "auto")
        assistant: Assistant | None = None
        try:
            # In a thread: the first call of a process may be the one that opens everything.
            assistant = await anyio.to_thread.run_sync(self._get_assistant)
            language = language_of(request, assistant.settings.language)
            handler = self._handlers.get(request.method)
            if handler is None:
                allowed = ", ".join(sorted(self._handlers))
                response = self._refuse(UsageError("api.wrong_method", allowed=allowed), language)
                response.headers["Allow"] = allowed
                return response
            owner = "api"
            if not self._is_open:
                owner = await anyio.to_thread.run_sync(owner_of, request, assistant.settings.api_keys)
            return await handler(Call(request, assistant, owner, language))
        except AppError as error:
            wait_s = None if assistant is None else assistant.status.expected_wait_s
            return self._refuse(error, language, expected_wait_s=wait_s)
        except ClientDisconnect:
            raise
        except Exception:  # a mistake of ours: its text is for the log, never for a stranger
            log.exception("a request failed: %s %s", request.method, request.url.path)
            return self._refuse(Reason("app.unexpected"), language)

    def _refuse(
        self, problem: AppError | Reason, language: Language, *, expected_wait_s: float | None = None
    ) -> Response:
        refusal = refusal_of(problem, expected_wait_s=expected_wait_s)
        return refusal.response(language, is_ollama=self._is_ollama)
