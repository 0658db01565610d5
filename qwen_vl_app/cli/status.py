"""What an end is worth as an exit status.

Knows the error tree. Does not know who asks.
"""

from __future__ import annotations

from qwen_vl_app.errors import AppError, PictureError, PromptTooLongError, Reason, SettingsError, UsageError

DONE = 0
FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130
"""What shells make of Ctrl-C: 128 and the signal's number."""

_INPUT_CODES = frozenset(
    {"engine.model.not_found", "engine.model.not_found_near", "engine.prompt_too_long", "batch.unknown"}
)
"""Errors from deeper down that are about what was typed."""


def status_of(error: AppError | Reason) -> int:
    """Return 2 where the person can ask differently, 1 where something failed."""
    is_input = isinstance(error, SettingsError | UsageError | PictureError | PromptTooLongError)
    return WRONG_INPUT if is_input or error.code in _INPUT_CODES else FAILED
