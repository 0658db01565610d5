"""A form that was filled: what was read of each field, with its evidence, and what a person decided since.

Knows how both are kept as JSON. A reading is never changed: a correction is a decision beside it, with who and when.
Does not know where forms lie, or how they are filled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.chat import Box, JsonValue, Size
from qwen_vl_app.errors import FormError, Reason
from qwen_vl_app.forms.template import FormTemplate, as_document, template_from

FORM_FILE = "form.json"


class LookOutcome(StrEnum):
    """What reading a value a second time, on its crop alone, came to."""

    AGREE = "agree"
    DIFFER = "differ"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class SecondLook:
    """The second reading: what was written then, and why it could not be read, where it could not."""

    outcome: LookOutcome
    written: str = ""
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class FieldReading:
    """What the model gave for one field, and its evidence. `confidence` is 0..1; `crop` a file beside the form.

    `forced` is what the model wrote under a name that it would not have written by itself: it is no value, and kept so
    that a person can look.
    """

    key: str
    written: JsonValue = None
    confidence: float | None = None
    box: Box | None = None
    look: SecondLook | None = None
    crop: str = ""
    forced: str = ""


class DecisionKind(StrEnum):
    """What a person did with a field."""

    ACCEPTED = "accepted"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's word on one field: the value as they leave it, who they are and when. The time is UTC."""

    key: str
    kind: DecisionKind
    written: JsonValue
    who: str
    at: datetime


@dataclass(frozen=True, slots=True)
class FilledForm:
    """One picture's form. The template is the one it was filled with, whole, so that later versions change nothing.

    `fingerprint`, `precision` and `device` say which model answered and how. `source` names the run of a folder.
    """

    form_id: str
    template: FormTemplate
    language: str
    picture_name: str
    content_hash: str
    filled_at: datetime
    readings: tuple[FieldReading, ...]
    page: int = 0
    page_count: int = 1
    size: Size | None = None
    seen: Size | None = None
    text: str = ""
    notes: tuple[Reason, ...] = ()
    model: str = ""
    fingerprint: str = ""
    precision: str = ""
    device: str = ""
    seconds: float = 0.0
    source: str = ""
    owner: str = LOCAL_OWNER
    """Whose form it is: a browser's profile, or the local owner of the command line."""
    filled_on: date | None = None
    """The site's own day when it was filled, which UTC does not tell; None in forms that were kept before it was written down."""

    @property
    def day(self) -> date:
        """The site's day on which it was filled: as it was written down, else as this machine's zone has it."""
        return self.filled_on or self.filled_at.astimezone().date()

    def reading(self, key: str) -> FieldReading:
        """Return the reading of a field; an empty one where there is none."""
        return next((reading for reading in self.readings if reading.key == key), FieldReading(key))


def dump_form(form: FilledForm) -> str:
    """Return the form as a JSON document in ASCII, whatever its picture's name holds."""
    return json.dumps(
        {
            "form_id": form.form_id,
            "template": as_document(form.template),
            "language": form.language,
            "picture_name": form.picture_name,
            "content_hash": form.content_hash,
            "filled_at": form.filled_at.astimezone(UTC).isoformat(),
            "filled_on": None if form.filled_on is None else form.filled_on.isoformat(),
            "page": form.page,
            "page_count": form.page_count,
            "size": _size(form.size),
            "seen": _size(form.seen),
            "text": form.text,
            "notes": [_dumped(note) for note in form.notes],
            "model": form.model,
            "fingerprint": form.fingerprint,
            "precision": form.precision,
            "device": form.device,
            "seconds": form.seconds,
            "source": form.source,
            "owner": form.owner,
            "readings": [_dump_reading(reading) for reading in form.readings],
        }
    )


def load_form(document: str) -> FilledForm:
    """Return the form of a document. Raises FormError `forms.damaged` where it is none."""
    try:
        kept = json.loads(document)
        return FilledForm(
            form_id=str(kept["form_id"]),
            template=template_from(kept["template"]),
            language=str(kept["language"]),
            picture_name=str(kept["picture_name"]),
            content_hash=str(kept["content_hash"]),
            filled_at=datetime.fromisoformat(kept["filled_at"]),
            page=int(kept["page"]),
            page_count=int(kept["page_count"]),
            size=None if kept["size"] is None else Size(*kept["size"]),
            seen=None if kept["seen"] is None else Size(*kept["seen"]),
            text=str(kept["text"]),
            notes=tuple(_loaded(note) for note in kept["notes"]),
            model=str(kept["model"]),
            fingerprint=str(kept["fingerprint"]),
            precision=str(kept["precision"]),
            device=str(kept["device"]),
            seconds=float(kept["seconds"]),
            source=str(kept["source"]),
            owner=str(kept.get("owner", LOCAL_OWNER)),
            filled_on=date.fromisoformat(told) if (told := kept.get("filled_on")) else None,
            readings=tuple(_load_reading(reading) for reading in kept["readings"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormError) as error:
        raise FormError("forms.damaged") from error


def dump_decision(decision: Decision) -> dict[str, Any]:
    """Return a decision as what a line of a journal holds."""
    return {
        "key": decision.key,
        "kind": decision.kind.value,
        "written": decision.written,
        "who": decision.who,
        "at": decision.at.astimezone(UTC).isoformat(),
    }


def load_decision(kept: Mapping[str, Any]) -> Decision:
    """Return the decision of such a line. Raises FormError `forms.damaged`."""
    try:
        return Decision(
            str(kept["key"]),
            DecisionKind(kept["kind"]),
            kept["written"],
            str(kept["who"]),
            datetime.fromisoformat(kept["at"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FormError("forms.damaged") from error


def _dump_reading(reading: FieldReading) -> dict[str, Any]:
    box, look = reading.box, reading.look
    return {
        "key": reading.key,
        "written": reading.written,
        "confidence": reading.confidence,
        "box": None if box is None else [box.x1, box.y1, box.x2, box.y2],
        "crop": reading.crop,
        "forced": reading.forced,
        "look": None
        if look is None
        else {
            "outcome": look.outcome.value,
            "written": look.written,
            "reason": None if look.reason is None else _dumped(look.reason),
        },
    }


def _load_reading(kept: Mapping[str, Any]) -> FieldReading:
    look, box = kept["look"], kept["box"]
    return FieldReading(
        key=str(kept["key"]),
        written=kept["written"],
        confidence=None if kept["confidence"] is None else float(kept["confidence"]),
        box=None if box is None else Box(*box),
        crop=str(kept["crop"]),
        forced=str(kept.get("forced", "")),
        look=None
        if look is None
        else SecondLook(
            LookOutcome(look["outcome"]),
            str(look["written"]),
            None if look["reason"] is None else _loaded(look["reason"]),
        ),
    )


def _dumped(reason: Reason) -> dict[str, Any]:
    return {"code": reason.code, "facts": dict(reason.facts)}


def _loaded(kept: Mapping[str, Any]) -> Reason:
    return Reason(str(kept["code"]), **kept["facts"])


def _size(size: Size | None) -> list[int] | None:
    return None if size is None else [size.width, size.height]
