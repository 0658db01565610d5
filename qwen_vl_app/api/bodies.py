"""What came in: bodies within a limit, JSON that is JSON, forms with their files.

Knows HTTP bodies and pydantic's complaints, which it turns into sentences that name the field. Does not know what the
fields mean.
"""

from __future__ import annotations

import asyncio
import codecs
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar
from weakref import WeakValueDictionary

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from qwen_vl_app.errors import QueueFullError, UsageError

READ_TIMEOUT_S = 60.0
SLOWEST_BYTES_PER_S = 16 * 1024
"""A file from a person may take its time, as long as it comes on at this rate, all in all."""
MOST_DRAINED = 4
"""How many times the limit is read and thrown away, so that a client that only writes gets to see the refusal."""
LONGEST_FIELD = 40

MOST_HELD_BYTES = 512 * 2**20
"""Of all bodies that are being read or worked on: many large requests at a time must not fill the memory."""
_HELD = "qwen_vl.held_bytes"

Form = TypeVar("Form", bound=BaseModel)


class HeldBytes:
    """How much of everybody's bodies is in memory at the moment."""

    def __init__(self) -> None:
        self._total = 0
        self._lock = threading.Lock()

    def take(self, scope: Scope, count: int) -> None:
        """Count bytes of a request. Raises QueueFullError where others hold too many already."""
        with self._lock:
            own = scope.get(_HELD, 0)
            if self._total + count > MOST_HELD_BYTES and self._total > own:
                raise QueueFullError("api.too_much_at_once")
            self._total += count
            scope[_HELD] = own + count

    def give_back(self, scope: Scope) -> None:
        """Count the bytes of a request no more."""
        with self._lock:
            self._total -= scope.pop(_HELD, 0)


HELD = HeldBytes()


async def read_json(request: Request, form: type[Form], *, limit_bytes: int) -> Form:
    """Return the body as a `form`. Raises UsageError: too large, not sent as JSON, not JSON, or a field is wrong."""
    if "content-type" in request.headers:  # a form always has one, and some clients say nothing of their JSON
        _require_type(request, "application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UsageError("api.compressed")  # nobody could say before unpacking it how large it is
    body = bytearray()
    receive = limited(request, limit_bytes=limit_bytes)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return await anyio.to_thread.run_sync(parse, bytes(body), form)


def parse(body: bytes, form: type[Form]) -> Form:
    """Read JSON into a `form`, strictly: a number in quotation marks is not a number. Raises UsageError."""
    try:
        return form.model_validate_json(body.removeprefix(codecs.BOM_UTF8), strict=True)
    except ValidationError as error:
        raise complaint(error, form) from error


def complaint(error: ValidationError, form: type[BaseModel]) -> UsageError:
    """Return one thing that is wrong, by the name of its field; what was sent is not repeated."""
    unsupported: frozenset[str] = getattr(form, "UNSUPPORTED", frozenset())
    # Of a union, every member complains; the one that got furthest is the one that was meant.
    first = max(
        error.errors(include_url=False, include_context=False, include_input=False), key=lambda e: len(e["loc"])
    )
    kind = first["type"]
    if kind == "json_invalid":
        return UsageError("api.not_json")
    path = [str(part) for part in first["loc"] if _is_field(part)]
    if kind == "union_tag_invalid":
        path.append("role" if len(path) == 2 else "type")  # of a message, or of a part of one
    name = ".".join(path)
    if path[:1] not in (["response_format"], ["metadata"]) and any(part in unsupported for part in path):
        return UsageError("api.unsupported_field", field=name)
    if kind == "missing":
        return UsageError("api.missing_field", field=name)
    if kind == "extra_forbidden":
        return UsageError("api.unknown_field", field=name)
    return UsageError("api.bad_field", field=name or "body")


def _is_field(part: int | str) -> bool:
    """Tell a field or an index from the names that pydantic gives to the members of a union."""
    if isinstance(part, int):
        return True
    return part.isidentifier() and part.islower() and part not in ("str", "float") and not part.startswith(_TAGS)


_TAGS = ("part_", "role_")


@asynccontextmanager
async def read_form(request: Request, *, limit_bytes: int, fields: tuple[str, ...]) -> AsyncIterator[FormData]:
    """Return the fields and files of a multipart body, held in memory and closed afterwards. Raises UsageError.

    `Request.form` would write what is larger than a megabyte into the machine's temporary folder. A field beyond `fields`
    is refused by its name.
    """
    _require_type(request, "multipart/form-data")
    inner = Request(request.scope, limited(request, limit_bytes=limit_bytes))
    try:
        async with aclosing(inner.stream()) as stream:
            parser = MultiPartParser(inner.headers, stream, max_files=8, max_fields=8, max_part_size=1 << 20)
            parser.spool_max_size = limit_bytes
            form = await parser.parse()
    except MultiPartException as error:
        raise UsageError("api.bad_form") from error
    try:
        for name in form:
            if name not in fields:
                raise UsageError("api.unknown_field", field=name[:LONGEST_FIELD])
        yield form
    finally:
        await form.close()


def limited(request: Request, *, limit_bytes: int) -> Receive:
    """Return the request's `receive`, which raises UsageError once the body is over the limit or too slow.

    Raises QueueFullError where too much of others' bodies is in memory; whoever answers the request gives back what it held.

    A length that is announced over the limit is refused before a byte is kept. What a client goes on sending is thrown
    away for a while: one that is cut off in the middle of writing never reads why. A client that asks before it sends
    (`Expect: 100-continue`) is told at once: to read would be to say yes.
    """
    announced = request.headers.get("content-length", "")
    is_over = announced.isdigit() and int(announced) > limit_bytes
    asks_first = request.headers.get("expect", "").strip().lower() == "100-continue"
    deadline = asyncio.get_running_loop().time() + READ_TIMEOUT_S
    read = 0

    async def receive() -> Message:
        nonlocal read
        too_large = UsageError("api.body_too_large", limit=limit_bytes)
        if is_over and asks_first:
            raise too_large
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    message = await request.receive()
                    read += len(message.get("body", b""))
                    if not is_over and read <= limit_bytes:
                        HELD.take(request.scope, len(message.get("body", b"")))
                        return message
                    if not message.get("more_body") or read > MOST_DRAINED * limit_bytes:
                        raise too_large
        except TimeoutError as error:
            if is_over or read > limit_bytes:
                raise too_large from error
            raise UsageError("api.body_too_slow") from error

    return receive


async def read_patiently(request: Request) -> AsyncIterator[bytes]:
    """Yield a file's body as it comes: nothing of it for a minute, or far too little all in all, is no sending.

    What is yielded counts as held until whoever answers gives it back. Raises UsageError, QueueFullError, ClientDisconnect.
    """
    clock, pieces = asyncio.get_running_loop().time, request.stream()
    began, read = clock(), 0
    while True:
        try:
            async with asyncio.timeout_at(min(clock(), began + read / SLOWEST_BYTES_PER_S) + READ_TIMEOUT_S):
                piece = await anext(pieces, None)
        except TimeoutError as error:
            raise UsageError("api.body_too_slow") from error
        if piece is None:
            return
        read += len(piece)
        HELD.take(request.scope, len(piece))
        yield piece


class Turns:
    """So many bodies at a time of each owner, whose others wait: nobody waits for what somebody else sends. One event loop."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[None]:
        """Wait for an owner's turn and have it."""
        turn = self._of.setdefault(owner, asyncio.Semaphore(self._at_once))  # it lives while somebody waits or has it
        async with turn:
            yield


def _require_type(request: Request, wanted: str) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != wanted:
        raise UsageError("api.wrong_type", wanted=wanted)
