"""Answers, sampling and reasons as JSON documents, and back, with nothing lost on the way.

Knows the words and JSON. Does not know rows; the answer's text is not in the document, it has a column of its own.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from qwen_vl_app.chat import (
    Answer,
    Box,
    Clip,
    Confidence,
    FinishReason,
    JsonValue,
    LeftOut,
    Moment,
    ParsedAnswer,
    Region,
    SamplingParams,
    Table,
    Timing,
    Usage,
)
from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.tables import storable

_HELD = ("schema", "is_schema_exact")


def dump_answer(answer: Answer) -> str:
    """Return the document of an answer without its text.

    Structure that JSON cannot carry (nested a thousand deep, say) is left out and a note says so: the words count more.
    """
    try:
        return _dumps(_answer_document(answer, answer.parsed))
    except (RecursionError, ValueError, TypeError):
        parsed = ParsedAnswer(
            regions=answer.parsed.regions,
            tables=answer.parsed.tables,
            notes=(*answer.parsed.notes, Reason("history.structure_not_kept")),
            left_out=answer.parsed.left_out,
        )
        return _dumps(_answer_document(answer, parsed))


def load_answer(document: str, text: str) -> Answer:
    """Return the answer of a document and its text. Raises HistoryError `history.record_damaged` where it is no such document."""
    try:
        kept = json.loads(document)
        parsed = kept["parsed"]
        return Answer(
            text=text,
            finish_reason=FinishReason(kept["finish_reason"]),
            parsed=ParsedAnswer(
                data=parsed["data"],
                has_data=parsed["has_data"],
                regions=tuple(
                    Region(
                        Box(*region["box"]), region["label"], region["picture_index"], tuple(region.get("doubts", ()))
                    )
                    for region in parsed["regions"]
                ),
                tables=tuple(
                    Table(tuple(table["columns"]), tuple(tuple(row) for row in table["rows"]))
                    for table in parsed["tables"]
                ),
                notes=_reasons(parsed["notes"]),
                left_out=tuple(LeftOut(**each) for each in parsed.get("left_out", ())),
                moments=tuple(Moment(**each) for each in parsed.get("moments", ())),
            ),
            usage=Usage(**kept["usage"]),
            timing=Timing(**kept["timing"]),
            model=kept["model"],
            notes=_reasons(kept["notes"]),
            error=_reason(kept["error"]) if kept["error"] else None,
            confidence=Confidence(**told) if (told := kept.get("confidence")) else None,
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HistoryError("history.record_damaged") from error


def dump_sampling(sampling: SamplingParams, *, schema: str | None = None, is_schema_exact: bool = False) -> str:
    """Return the document of how tokens were chosen, and of the schema that they were held to."""
    held = {} if schema is None else {"schema": schema, "is_schema_exact": is_schema_exact}
    return _dumps(asdict(sampling) | held)


def load_sampling(document: str) -> SamplingParams:
    """Return how tokens were chosen. Raises HistoryError `history.record_damaged`."""
    try:
        kept = json.loads(document)
        chosen = {name: value for name, value in kept.items() if name not in _HELD}
        return SamplingParams(**{**chosen, "stop": tuple(kept["stop"])})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HistoryError("history.record_damaged") from error


def load_schema(document: str) -> tuple[str | None, bool]:
    """Return the schema that tokens were held to and whether to the letter. Raises HistoryError `history.record_damaged`."""
    try:
        kept = json.loads(document)
        schema = kept.get("schema")
        if not isinstance(schema, str | None):
            raise HistoryError("history.record_damaged")
        return schema, kept.get("is_schema_exact") is True
    except (ValueError, AttributeError, RecursionError) as error:
        raise HistoryError("history.record_damaged") from error


def dump_reasons(reasons: tuple[Reason, ...]) -> str:
    """Return the document of a list of reasons."""
    return _dumps([_reason_document(reason) for reason in reasons])


def load_reasons(document: str) -> tuple[Reason, ...]:
    """Return a list of reasons. Raises HistoryError `history.record_damaged`."""
    try:
        return _reasons(json.loads(document))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HistoryError("history.record_damaged") from error


def dump_clip(clip: Clip | None) -> str | None:
    """Return the document of a clip; None for a picture."""
    return None if clip is None else _dumps({"seconds": clip.seconds, "moments": clip.moments})


def load_clip(document: str | None) -> Clip | None:
    """Return a clip. Raises HistoryError `history.record_damaged` where it is no such document."""
    if document is None:
        return None
    try:
        kept = json.loads(document)
        moments = tuple(float(moment) for moment in kept["moments"])
        clip = Clip(float(kept["seconds"]), moments)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HistoryError("history.record_damaged") from error
    if (
        not moments
        or len(moments) % 2
        or not all(math.isfinite(each) and each >= 0 for each in (clip.seconds, *moments))
    ):
        raise HistoryError("history.record_damaged")
    return clip


def _answer_document(answer: Answer, parsed: ParsedAnswer) -> dict[str, Any]:
    return {
        "finish_reason": answer.finish_reason.value,
        "parsed": {
            "data": parsed.data,
            "has_data": parsed.has_data,
            "regions": [
                {
                    "box": [region.box.x1, region.box.y1, region.box.x2, region.box.y2],
                    "label": region.label,
                    "picture_index": region.picture_index,
                    **({"doubts": list(region.doubts)} if region.doubts else {}),
                }
                for region in parsed.regions
            ],
            "tables": [{"columns": table.columns, "rows": table.rows} for table in parsed.tables],
            "notes": [_reason_document(note) for note in parsed.notes],
            **({"left_out": [asdict(each) for each in parsed.left_out]} if parsed.left_out else {}),
            **({"moments": [asdict(each) for each in parsed.moments]} if parsed.moments else {}),
        },
        "usage": asdict(answer.usage),
        "timing": asdict(answer.timing),
        "model": answer.model,
        "notes": [_reason_document(note) for note in answer.notes],
        "error": _reason_document(answer.error) if answer.error else None,
        **({"confidence": asdict(answer.confidence)} if answer.confidence else {}),
    }


def _reason_document(reason: Reason) -> dict[str, JsonValue]:
    return {"code": reason.code, "facts": dict(reason.facts)}


def _reason(document: dict[str, Any]) -> Reason:
    return Reason(document["code"], **document["facts"])


def _reasons(documents: list[dict[str, Any]]) -> tuple[Reason, ...]:
    return tuple(_reason(document) for document in documents)


def _dumps(document: Any) -> str:
    return storable(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
