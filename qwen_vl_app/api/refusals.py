"""How a failure is said over HTTP: the one table from the tree of errors to a status, and the shapes clients expect.

Knows codes and statuses; the sentences come from the catalogues, so no reply ever carries the text of an exception.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import JSONResponse

from qwen_vl_app.errors import (
    AppError,
    HistoryError,
    ImageTooLargeError,
    ModelError,
    OutOfMemoryError,
    PictureError,
    PromptTooLongError,
    QueueFullError,
    Reason,
    UsageError,
)
from qwen_vl_app.texts import Language, render

RETRY_AFTER_LOADING_S = 5
LONGEST_RETRY_AFTER_S = 120

_STATUS_OF_CODE = {
    "api.no_key": 401,
    "api.wrong_key": 401,
    "api.unknown_model": 404,
    "api.unknown_address": 404,
    "api.without_base": 404,
    "api.wrong_method": 405,
    "api.body_too_slow": 408,
    "api.body_too_large": 413,
    "api.wrong_type": 415,
    "api.compressed": 415,
    # Well-formed, but not to be used: 422. What no description of fields would let through is 400.
    "api.last_not_user": 422,
    "api.one_of_both": 422,
    "api.not_a_data_uri": 422,
    "api.not_base64": 422,
    "api.address_refused": 422,
    "api.file_refused": 422,
    "api.bad_schema": 422,
    "api.schema_rule": 422,
    "api.needs_other": 422,
    "api.answer_does_not_fit": 422,
    "question.empty": 422,
    "question.too_many_pictures": 422,
    "inference.out_of_memory": 422,
    "engine.out_of_memory": 422,
    "engine.picture.shape": 422,
    "engine.picture.empty": 422,
    "engine.picture.wrong_size": 500,
    "engine.run_failed": 500,
    "api.closing": 503,
}
_STATUS_OF_ERROR: tuple[tuple[type[AppError], int], ...] = (
    (QueueFullError, 429),
    (ImageTooLargeError, 413),
    (PictureError, 422),
    (PromptTooLongError, 400),
    (OutOfMemoryError, 422),
    (ModelError, 503),
    (UsageError, 400),
    (HistoryError, 500),
)
_STATUS_OF_ROOM = {"queue": 429, "image": 422, "model": 503, "engine": 503}
"""For what comes as a reason: the failure of an answer that was already on its way."""
_TOO_LONG = ".prompt_too_long"
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_OPENAI_CODES = {
    "api.no_key": "invalid_api_key",
    "api.wrong_key": "invalid_api_key",
    "api.unknown_model": "model_not_found",
    "queue.full": "rate_limit_exceeded",
    "queue.full_for_you": "rate_limit_exceeded",
}
"""Codes that clients of OpenAI look for; every other failure goes by its own code."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failure as HTTP says it. `param` names the field that it is about, as a path such as `messages.0.content`."""

    status: int
    reason: Reason
    param: str | None = None
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def openai(self, language: Language) -> dict[str, object]:
        """Return OpenAI's error object."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        code = "context_length_exceeded" if self.is_too_long else _OPENAI_CODES.get(self.reason.code, self.reason.code)
        message = render(self.reason, language)
        return {"error": {"message": message, "type": kind, "param": self.param, "code": code}}

    def ollama(self, language: Language) -> dict[str, object]:
        """Return Ollama's error object."""
        return {"error": render(self.reason, language)}

    def response(self, language: Language, *, is_ollama: bool = False) -> JSONResponse:
        """Return the reply."""
        headers = dict(self.headers)
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        body = self.ollama(language) if is_ollama else self.openai(language)
        return JSONResponse(body, status_code=self.status, headers=headers)

    @property
    def is_too_long(self) -> bool:
        """True where the prompt is over the context."""
        return self.reason.code.endswith(_TOO_LONG)


def refusal_of(problem: AppError | Reason, *, expected_wait_s: float | None = None) -> Refusal:
    """Return how a failure is said. `expected_wait_s` is how long the queue will take, where it is known."""
    reason = problem.reason if isinstance(problem, AppError) else problem
    status = _status(problem, reason.code)
    param = reason.facts.get("field")
    retry_after_s: int | None = None
    if status == 429:
        retry_after_s = min(max(math.ceil(expected_wait_s or 0), 1), LONGEST_RETRY_AFTER_S)
    elif status == 503:
        retry_after_s = RETRY_AFTER_LOADING_S
    return Refusal(status, reason, param=None if param is None else str(param), retry_after_s=retry_after_s)


def _status(problem: AppError | Reason, code: str) -> int:
    if code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[code]
    if isinstance(problem, AppError):
        return next((status for kind, status in _STATUS_OF_ERROR if isinstance(problem, kind)), 500)
    if code.endswith(_TOO_LONG):
        return 400
    return _STATUS_OF_ROOM.get(code.partition(".")[0], 500)
