"""What a person should look at twice: where an answer looks certain and is not.

Knows the published weak sides of these models and what the answer itself gives away. Does not know whether it is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from qwen_vl_app.answers.code import CodeBlock, parts_of
from qwen_vl_app.answers.tables import says_values
from qwen_vl_app.chat import Answer, FinishReason, SeenSize, Size
from qwen_vl_app.errors import Reason

SMALL_SHARE = 0.5
"""Seen at less than this share of its width, a picture's small print may be gone."""
_NEEDLES = re.compile(
    r"\b(?:gauges?|gages?|manometers?|needles?|analog(?:ue)?|dials?|speedometers?)\b|指针|仪表|压力表|表盘|刻度盘",
    re.I,
)
_COUNTING = re.compile(
    r"\bhow many\b|\bcount\b"
    # Not a serial number of something, nor the number of one thing.
    r"|(?:^|[^\w\s]\s*|\b(?:the|total|exact|what|which|give|state|tell|and|a)\s+)number of (?!(?:the|this|that|an?|its)\b)"
    r"|(?<![是为])多少|数量|几个|数一数|数出|计数",
    re.I,
)
_MANY = 20


def checks(question: str, answer: Answer, pictures: Sequence[tuple[Size, SeenSize]]) -> tuple[Reason, ...]:
    """Return what to check, most telling first. `pictures` are the originals' and seen sizes of those that were asked about."""
    return tuple(_checks(question, answer, pictures))


def _checks(question: str, answer: Answer, pictures: Sequence[tuple[Size, SeenSize]]) -> Iterator[Reason]:
    parsed, text = answer.parsed, answer.text
    has_structure = bool(parsed.has_data or parsed.regions or parsed.tables)
    has_figures = any(char.isdigit() for char in text)
    # What stands in a program says nothing about the picture.
    prose = "".join(part if isinstance(part, str) else _data_of(part) for part in parts_of(text))
    if has_figures and (_NEEDLES.search(question) or _NEEDLES.search(prose)):
        yield Reason("answers.check_needle")
    if answer.finish_reason in (FinishReason.LENGTH, FinishReason.REPETITION) and has_structure:
        yield Reason("answers.check_incomplete")
    if _COUNTING.search(question) and (len(parsed.regions) >= _MANY or not parsed.regions) and has_figures:
        yield Reason("answers.check_count")
    shares = [seen.size.width / size.width for size, seen in pictures if size.width]
    if has_figures and shares and min(shares) < SMALL_SHARE:
        yield Reason("answers.check_small", percent=round(min(shares) * 100))
    if (parsed.data and says_values(parsed)) or parsed.tables:
        yield Reason("answers.check_values")


def _data_of(block: CodeBlock) -> str:
    return block.source if block.language in ("", "json") else ""
