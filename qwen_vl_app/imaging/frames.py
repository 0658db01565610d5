"""What parent and decoder child say to each other: a JSON head and byte strings, each with its length before it.

Never pickles: the child has touched strangers' bytes, and the parent believes only what it can check.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.errors import Fact, Reason

_LENGTHS = struct.Struct(">IQ")
"""Bytes of the JSON head, and of everything behind it."""
MAX_HEAD_BYTES = 1 << 20
MAX_BODY_BYTES = 1 << 32


class BrokenFrameError(Exception):
    """The other side closed the pipe, or what came through it is not a frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: named values and unnamed byte strings."""

    head: Mapping[str, JsonValue]
    parts: tuple[bytes, ...] = field(default=(), repr=False)


def write_frame(stream: BinaryIO, head: Mapping[str, JsonValue], *, parts: Sequence[bytes] = ()) -> None:
    """Write one message. Raises OSError where the pipe is closed."""
    text = json.dumps({**head, "parts": [len(part) for part in parts]}).encode()
    stream.write(_LENGTHS.pack(len(text), sum(map(len, parts))))
    stream.write(text)
    for part in parts:
        stream.write(part)
    stream.flush()


def read_frame(stream: BinaryIO) -> Frame:
    """Read one message, waiting for it. Raises BrokenFrameError, also at the end of the stream."""
    try:
        head_length, body_length = _LENGTHS.unpack(_read(stream, _LENGTHS.size))
        if head_length > MAX_HEAD_BYTES or body_length > MAX_BODY_BYTES:
            raise BrokenFrameError("too long")
        head = json.loads(_read(stream, head_length))
        lengths = head.pop("parts")
        if sum(lengths) != body_length or any(length < 0 for length in lengths):
            raise BrokenFrameError("lengths do not agree")
        return Frame(head, tuple(_read(stream, length) for length in lengths))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFrameError("not a frame") from error


def _read(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length) if length else b""
    if len(data) != length:
        raise BrokenFrameError("the other side is gone")
    return data


def reasons_to_json(reasons: Sequence[Reason]) -> JsonValue:
    """Return reasons as JSON."""
    return [[reason.code, facts_to_json(reason.facts)] for reason in reasons]


def facts_to_json(facts: Mapping[str, Fact]) -> JsonValue:
    """Return facts as JSON."""
    return dict(facts)


def reasons_from_json(value: JsonValue) -> tuple[Reason, ...]:
    """Return the reasons in a message. Raises BrokenFrameError."""
    if not isinstance(value, list):
        raise BrokenFrameError("no reasons")
    reasons: list[Reason] = []
    for entry in value:
        match entry:
            case [str(code), dict(facts)]:
                reasons.append(Reason(code, **facts_from_json(facts)))
            case _:
                raise BrokenFrameError("no reason")
    return tuple(reasons)


def facts_from_json(value: JsonValue) -> dict[str, Fact]:
    """Return the facts in a message. Raises BrokenFrameError."""
    if not isinstance(value, dict):
        raise BrokenFrameError("no facts")
    facts: dict[str, Fact] = {}
    for name, fact in value.items():
        if isinstance(fact, list | dict):
            raise BrokenFrameError("no fact")
        facts[name] = fact
    return facts


def whole(value: JsonValue) -> int:
    """Return a whole number in a message. Raises BrokenFrameError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise BrokenFrameError("no number")
    return value


def text(value: JsonValue) -> str:
    """Return a text in a message. Raises BrokenFrameError."""
    if not isinstance(value, str):
        raise BrokenFrameError("no text")
    return value
