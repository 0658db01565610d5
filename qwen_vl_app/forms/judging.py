"""A filled form as a reviewer sees it: each field's value as it stands now, what speaks against it, and the worst first.

Puts values, confidence, second look and rules together. What needs a person's eye is decided here and nowhere else. Does not
know pages or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from qwen_vl_app.errors import Reason
from qwen_vl_app.forms.decimal_marks import point_doubts
from qwen_vl_app.forms.fields import FormField
from qwen_vl_app.forms.filled import Decision, FieldReading, FilledForm, LookOutcome
from qwen_vl_app.forms.rules import breaches
from qwen_vl_app.forms.values import UNCERTAIN, FieldValue, value_of

LOW_CONFIDENCE = 0.95
"""Below this a person is asked. Measured on the demo model and hard panels, where it and the second look together left no wrong value: docs/forms.md."""
_LOOK_WEIGHTS = {LookOutcome.AGREE: 0.0, LookOutcome.DIFFER: 100.0, LookOutcome.UNREADABLE: 60.0}


class FieldState(StrEnum):
    """Where a field stands."""

    DOUBTFUL = "doubtful"
    """Something speaks against it, and nobody has looked yet."""
    UNSEEN = "unseen"
    """Nothing speaks against it, and nobody has looked yet."""
    ACCEPTED = "accepted"
    CORRECTED = "corrected"

    @property
    def is_settled(self) -> bool:
        """True where a person has decided."""
        return self in (FieldState.ACCEPTED, FieldState.CORRECTED)


@dataclass(frozen=True, slots=True)
class JudgedField:
    """One field with everything that is known of it. `value` is the latest word, the person's where there is one.

    `doubts` are sentences' reasons, the gravest first; `badness` orders fields, 0 for one that nothing speaks against.
    """

    field: FormField
    reading: FieldReading
    value: FieldValue
    state: FieldState
    doubts: tuple[Reason, ...] = ()
    badness: float = 0.0
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class JudgedForm:
    """A form with its fields in the template's order."""

    form: FilledForm
    fields: tuple[JudgedField, ...]

    @property
    def worst_first(self) -> tuple[JudgedField, ...]:
        """The fields in the order in which a person should look: doubtful, unseen, settled."""
        order = list(FieldState)
        return tuple(sorted(self.fields, key=lambda each: (min(order.index(each.state), 2), -each.badness)))

    @property
    def doubtful(self) -> int:
        """How many fields wait for a person."""
        return sum(each.state is FieldState.DOUBTFUL for each in self.fields)

    @property
    def is_reviewed(self) -> bool:
        """True where a person has decided every field."""
        return all(each.state.is_settled for each in self.fields)

    @property
    def badness(self) -> float:
        """The worst of its fields that nobody has settled."""
        return max((each.badness for each in self.fields if not each.state.is_settled), default=-1.0)

    @property
    def confidence(self) -> float | None:
        """The lowest confidence of its fields."""
        return min(
            (each.reading.confidence for each in self.fields if each.reading.confidence is not None), default=None
        )

    def judged(self, key: str) -> JudgedField:
        """Return one field. Raises KeyError."""
        for each in self.fields:
            if each.field.key == key:
                return each
        raise KeyError(key)


def judge(form: FilledForm, decisions: Sequence[Decision] = (), *, today: date | None = None) -> JudgedForm:
    """Return the form as it stands after the decisions, the latest one of a field counting.

    `today` of its rules is the site's day on which it was filled, whenever it is judged.
    """
    latest: Mapping[str, Decision] = {decision.key: decision for decision in decisions}
    values = {
        field.key: value_of(
            field, latest[field.key].written if field.key in latest else form.reading(field.key).written
        )
        for field in form.template.fields
    }
    broken: dict[str, list[Reason]] = {}
    for breach in breaches(form.template, values, today=today or form.day):
        for key in breach.keys:
            broken.setdefault(key, []).append(breach.reason)
    marks = point_doubts(form.template, {reading.key: reading.written for reading in form.readings})
    return JudgedForm(
        form,
        tuple(
            _judged(
                form,
                field,
                values[field.key],
                broken.get(field.key, ()),
                latest.get(field.key),
                marks=marks.get(field.key, ()),
            )
            for field in form.template.fields
        ),
    )


def _judged(
    form: FilledForm,
    field: FormField,
    value: FieldValue,
    broken: Iterable[Reason],
    decision: Decision | None,
    *,
    marks: Iterable[Reason] = (),
) -> JudgedField:
    reading = form.reading(field.key)
    weighed: list[tuple[float, Reason]] = [(90.0, reason) for reason in broken]
    is_read = decision is None or decision.written == reading.written
    if is_read:
        weighed += _doubts_of(form, field, reading, value)
        weighed += [(50.0, reason) for reason in marks if reason not in value.notes]
    weighed.sort(key=lambda each: -each[0])
    badness = weighed[0][0] + len(weighed) if weighed else 0.0
    if is_read and reading.confidence is not None:
        badness += 10.0 * (1.0 - reading.confidence)
    if decision is not None:
        state = FieldState(decision.kind.value)
    else:
        state = FieldState.DOUBTFUL if weighed else FieldState.UNSEEN
    return JudgedField(field, reading, value, state, tuple(reason for _, reason in weighed), badness, decision)


def _doubts_of(
    form: FilledForm, field: FormField, reading: FieldReading, value: FieldValue
) -> list[tuple[float, Reason]]:
    found: list[tuple[float, Reason]] = []
    if reading.forced:
        found.append((65.0, Reason("forms.doubt.forced", written=reading.forced[:60])))
    look = reading.look
    if look is not None and look.outcome is LookOutcome.DIFFER:
        found.append((_LOOK_WEIGHTS[look.outcome], Reason("forms.doubt.differ", read=look.written[:60])))
    elif look is not None and look.outcome is LookOutcome.UNREADABLE:
        found.append((_LOOK_WEIGHTS[look.outcome], look.reason or Reason("forms.doubt.unreadable")))
    if any(note.code in ("forms.fill.cut", "forms.fill.unreadable") for note in form.notes):
        found.append((80.0, Reason("forms.doubt.cut")))
    if field.is_needle and not value.is_null:
        found.append((70.0, Reason("forms.doubt.needle")))
    found += [(50.0, note) for note in value.notes if note.code in UNCERTAIN]
    if reading.confidence is not None and reading.confidence < LOW_CONFIDENCE:
        percent = round(100 * reading.confidence)
        found.append((40.0, Reason("forms.doubt.low_confidence", percent=percent)))
    return found
