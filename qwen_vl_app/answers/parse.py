"""From an answer's text to what it holds: data, regions, tables, and notes on everything that was mended.

Knows which reader looks where. Never raises, on any text. Does not know pictures or models, only the family's coordinate space.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from qwen_vl_app.answers.code import code_blocks, outside_code
from qwen_vl_app.answers.json_blocks import json_blocks
from qwen_vl_app.answers.moments import find_moments
from qwen_vl_app.answers.named_boxes import asks_for_places
from qwen_vl_app.answers.regions import find_regions
from qwen_vl_app.answers.tables import html_tables, markdown_tables
from qwen_vl_app.answers.thoughts import without_thoughts
from qwen_vl_app.chat import CoordinateSpace, JsonValue, ParsedAnswer, Size, Table
from qwen_vl_app.errors import Reason

log = logging.getLogger(__name__)

MAX_CHARACTERS = 1_000_000
"""Longer texts are read up to here, with a note; no answer comes near it."""
_MARKUP_FENCES = frozenset({"", "html", "xml", "markdown", "md", "qwenvl"})


def parse_answer(
    text: str, *, space: CoordinateSpace, seen: Sequence[Size], clip_seconds: float | None = None, question: str = ""
) -> ParsedAnswer:
    """Return what the text holds. `seen` are the sizes at which the model saw the pictures, in the question's order.

    With `clip_seconds`, the length of the clip that it speaks about, it names times and no places: a box would lie on one
    of many frames, and nobody says on which.
    `question` is what was asked: four numbers without a box's key are one only where it asks for places.
    Several JSON blocks become one list. Boxes are fractions of the upright original. Never raises.
    """
    try:
        looked_at = seen if clip_seconds is None else ()
        return _parse(text, space=space, seen=looked_at, clip_seconds=clip_seconds, question=question)
    except Exception:  # an answer is always shown, whatever a reader here stumbles over; the log has the traceback
        log.exception("an answer could not be taken apart")
        return ParsedAnswer(notes=(Reason("answers.unreadable"),))


def _parse(
    text: str, *, space: CoordinateSpace, seen: Sequence[Size], clip_seconds: float | None, question: str
) -> ParsedAnswer:
    repairs: Counter[str] = Counter()
    if len(text) > MAX_CHARACTERS:
        repairs["text_too_long"] = len(text) - MAX_CHARACTERS
        text = text[:MAX_CHARACTERS]
    text = without_thoughts(text)
    blocks = code_blocks(text)
    values = json_blocks(text, blocks, repairs)
    data: JsonValue = None
    if values:
        data = values[0].value if len(values) == 1 else [block.value for block in values]
    # What is code to show (a page rebuilt from a screenshot, say) locates nothing on the picture.
    stretches = [*outside_code(text, blocks)]
    stretches += [(block.start, block.source) for block in blocks if block.language in _MARKUP_FENCES]
    tables: list[tuple[int, Table]] = []
    for start, part in stretches:
        tables += [(start, table) for table in (*markdown_tables(part, repairs), *html_tables(part, repairs))]
    is_asked_for = asks_for_places(question)
    places = find_regions(text, values, space=space, seen=seen, repairs=repairs, is_asked_for=is_asked_for)
    return ParsedAnswer(
        data=data,
        has_data=bool(values),
        regions=places.regions,
        tables=tuple(table for _, table in sorted(tables, key=lambda found: found[0])),
        notes=tuple(Reason(f"answers.{code}", count=count) for code, count in sorted(repairs.items()) if count),
        left_out=places.left_out,
        moments=() if clip_seconds is None else find_moments(text, values, seconds=clip_seconds),
    )
