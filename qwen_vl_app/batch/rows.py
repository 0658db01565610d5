"""One row of a run: a question about a picture and its answer, or why there is none.

Knows how a row is kept as JSON. Does not know where.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from qwen_vl_app.chat import Answer, Detail, JsonValue, SeenSize, Size
from qwen_vl_app.errors import BatchError, HistoryError, Reason
from qwen_vl_app.history.answer_json import dump_answer, load_answer


class RowOutcome(StrEnum):
    """What became of a question or a file."""

    ANSWERED = "answered"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    """The same bytes as another file, which has the answers."""
    SKIPPED = "skipped"
    """Passed over: a link, a device, a folder that may not be read."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One line of the table. `question_index` is None where the row is about a file as a whole."""

    name: str
    outcome: RowOutcome
    finished_at: datetime
    page: int = 0
    page_count: int = 1
    question_index: int | None = None
    question: str = ""
    content_hash: str = ""
    """SHA-256 over the file's bytes."""
    size: Size | None = None
    seen: SeenSize | None = None
    answer: Answer | None = None
    confidence: float | None = None
    """How sure the model was, 0..1, as `sureness` has it: low is worth a look, high proves nothing."""
    error: Reason | None = None
    duplicate_of: str = ""
    thumbnail: str = ""
    """A file's name in the run's folder of thumbnails."""
    form_id: str = ""
    """The form that was filled, where the run fills forms."""
    values: Mapping[str, JsonValue] | None = None
    """Its values by the names of its fields, as they were understood."""
    badness: float = 0.0
    """How much speaks against the worst of them."""


def dump_row(row: BatchRow) -> dict[str, Any]:
    """Return the row as what a JSON document holds."""
    return {
        "name": row.name,
        "outcome": row.outcome.value,
        "finished_at": row.finished_at.astimezone(UTC).isoformat(),
        "page": row.page,
        "page_count": row.page_count,
        "question_index": row.question_index,
        "question": row.question,
        "content_hash": row.content_hash,
        "size": None if row.size is None else [row.size.width, row.size.height],
        "seen": None
        if row.seen is None
        else [row.seen.size.width, row.seen.size.height, row.seen.tokens, row.seen.detail.value],
        "text": None if row.answer is None else row.answer.text,
        "answer": None if row.answer is None else json.loads(dump_answer(row.answer)),
        "confidence": row.confidence,
        "error": None if row.error is None else {"code": row.error.code, "facts": dict(row.error.facts)},
        "duplicate_of": row.duplicate_of,
        "thumbnail": row.thumbnail,
        "form_id": row.form_id,
        "values": None if row.values is None else dict(row.values),
        "badness": row.badness,
    }


def load_row(kept: Mapping[str, Any]) -> BatchRow:
    """Return the row of such a document. Raises BatchError `batch.journal.damaged` where it is none."""
    try:
        size, seen, error = kept["size"], kept["seen"], kept["error"]
        return BatchRow(
            name=kept["name"],
            outcome=RowOutcome(kept["outcome"]),
            finished_at=datetime.fromisoformat(kept["finished_at"]),
            page=int(kept["page"]),
            page_count=int(kept["page_count"]),
            question_index=kept["question_index"],
            question=kept["question"],
            content_hash=kept["content_hash"],
            size=None if size is None else Size(*size),
            seen=None if seen is None else SeenSize(Size(seen[0], seen[1]), seen[2], Detail(seen[3])),
            answer=None if kept["answer"] is None else load_answer(json.dumps(kept["answer"]), kept["text"]),
            confidence=kept["confidence"],
            error=None if error is None else Reason(error["code"], **error["facts"]),
            duplicate_of=kept["duplicate_of"],
            thumbnail=kept["thumbnail"],
            form_id=str(kept.get("form_id", "")),
            values=kept.get("values"),
            badness=float(kept.get("badness", 0.0)),
        )
    except (ValueError, KeyError, TypeError, IndexError, HistoryError) as error:
        raise BatchError("batch.journal.damaged") from error
