"""Files that are made for a browser, handed over once and then gone, and the sentence where none could be made.

Knows responses. Does not know what is in the files. Streamlit's own download would hold a file in memory for as long as its
tab is open, give up on it after three minutes, and say nothing of why there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from qwen_vl_app.api.guard import profile_of
from qwen_vl_app.api.uploads import language_of
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.errors import AppError, HistoryError, UsageError
from qwen_vl_app.texts import render

_PIECE_BYTES = 2**18
_NEVER_STORED = {"Cache-Control": "no-store"}


class Made:
    """A file that is handed over once; it goes when it was, or when nobody takes it any longer."""

    def __init__(self, stream: IO[bytes], ending: ExitStack) -> None:
        self._stream = stream
        self._ending = ending
        self.size_bytes = stream.seek(0, 2)
        stream.seek(0)

    def pieces(self) -> Iterator[bytes]:
        """Yield the file."""
        with self._ending:
            while piece := self._stream.read(_PIECE_BYTES):
                yield piece


def made_on_disk(assistant: Assistant, owner: str, *, name: str, write: Callable[[Path], object]) -> Made:
    """Return a file that is written to a path of that name. Raises OSError, and what `write` raises."""
    with ExitStack() as ending:
        target = ending.enter_context(assistant.scratch.directory(owner)) / name
        write(target)
        return Made(ending.enter_context(target.open("rb")), ending.pop_all())


def owner_of(request: Request) -> str:
    """Return the browser's profile. Raises UsageError where it has none."""
    owner = profile_of(request.headers.get("cookie", ""))
    if owner is None:
        raise UsageError("staging.no_browser")
    return owner


def handed_over(made: Made | Iterator[bytes], *, name: str, mime: str) -> Response:
    """Return a file as a download: whole, or piece by piece while it is being made."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', **_NEVER_STORED}
    if isinstance(made, Made):
        headers["Content-Length"] = str(made.size_bytes)
    return StreamingResponse(made.pieces() if isinstance(made, Made) else made, media_type=mime, headers=headers)


def refused(error: AppError | OSError, request: Request) -> Response:
    """Return the sentence that says why there is no file."""
    told = error if isinstance(error, AppError) else HistoryError("records.not_made")
    return PlainTextResponse(render(told, language_of(request)), status_code=409, headers=_NEVER_STORED)
