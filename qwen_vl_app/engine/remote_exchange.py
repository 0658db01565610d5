"""One question to a server on loopback and the events that come back, in a way that a stop is noticed while nothing comes.

Knows HTTP and server-sent events. Does not know what the events say.
"""

from __future__ import annotations

import http.client
import json
import logging
import queue
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from qwen_vl_app.errors import AppError, InferenceError, PromptTooLongError

log = logging.getLogger(__name__)

STOP_CHECK_S = 0.05
_TOO_LONG = re.compile(rb"context[ _]length|maximum context|longer than the model", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


class Exchange:
    """One request and the events that come back. A thread reads, so that a stop is noticed while nothing comes."""

    def __init__(self, connection: http.client.HTTPConnection, place: str) -> None:
        self._connection = connection
        self._place = place
        self._events: queue.SimpleQueue[dict[str, Any] | _Failure | None] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None
        self._socket: socket.socket | None = None
        """Kept here: the connection forgets it as soon as a reply says that it will be the last."""

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it may be gone already
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the reader; a server that sees this stops answering
        if self._reader is not None:
            self._reader.join()
        self._connection.close()

    def send(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send the question. Raises InferenceError where nobody takes it."""
        try:
            self._connection.request("POST", path, body=body, headers=dict(headers))
        except (OSError, http.client.HTTPException) as error:
            raise InferenceError("engine.remote.lost", address=self._place) from error
        self._socket = self._connection.sock
        self._reader = threading.Thread(target=self._read, name="remote answer", daemon=True)
        self._reader.start()

    def events(self, should_stop: Callable[[], bool]) -> Iterator[dict[str, Any] | None]:
        """Yield the events to the end, or None once `should_stop` says so. Raises what went wrong."""
        while True:
            try:
                event = self._events.get(timeout=STOP_CHECK_S)
            except queue.Empty:
                if should_stop():
                    yield None
                    return
                continue
            if isinstance(event, _Failure):
                raise event.error
            if event is None:
                return
            if should_stop():
                yield None
                return
            yield event

    def _read(self) -> None:
        try:
            self._read_events()
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("the server on loopback broke off: %s", type(error).__name__)
            self._events.put(_Failure(InferenceError("engine.remote.lost", address=self._place)))
        except AppError as error:
            self._events.put(_Failure(error))
        except Exception as error:  # a connection closed in mid-read fails in many ways; who waits must hear of each
            log.exception("the server's answer could not be read")
            self._events.put(_Failure(error))

    def _read_events(self) -> None:
        response = self._connection.getresponse()
        if response.status != http.client.OK:
            raise self._refusal(response.status, response.read(65536))
        is_whole = False
        while line := response.readline():
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                is_whole = True
                break
            event = json.loads(data)
            if not isinstance(event, dict) or event.get("error"):
                raise InferenceError("engine.remote.failed", address=self._place, status=response.status)
            self._events.put(event)
        # A stream that ends without its last line was broken off, and its text must not pass for an answer.
        self._events.put(None if is_whole else _Failure(InferenceError("engine.remote.lost", address=self._place)))

    def _refusal(self, status: int, body: bytes) -> Exception:
        if status == http.client.BAD_REQUEST and _TOO_LONG.search(body):
            return PromptTooLongError("engine.remote.prompt_too_long")
        return InferenceError("engine.remote.failed", address=self._place, status=status)
