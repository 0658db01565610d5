"""One picture's form, from the question to the evidence: asked, understood, looked at again.

Knows the order of things and what is done with an answer that is cut, broken or empty: it is asked for once more, and then
its fields are null. Does not know who asked, where forms are kept, or what a person decides.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import secrets
import time
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.answers import ValueScore, value_scores
from qwen_vl_app.answers.json_text import Path
from qwen_vl_app.assistant import LOCAL_OWNER, Assistant
from qwen_vl_app.chat import (
    Answer,
    EarlierMessage,
    FinishReason,
    JsonValue,
    Question,
    SamplingParams,
    StagedPicture,
)
from qwen_vl_app.errors import FormError, InferenceError, QueueFullError, Reason
from qwen_vl_app.forms.fields import FormField
from qwen_vl_app.forms.filled import FieldReading, FilledForm, LookOutcome, SecondLook
from qwen_vl_app.forms.prompt import form_question
from qwen_vl_app.forms.schema import reading_schema
from qwen_vl_app.forms.second_look import Located, locate, look_again
from qwen_vl_app.forms.template import FormTemplate, as_document, template_from
from qwen_vl_app.forms.values import value_of
from qwen_vl_app.jobs import Priority

log = logging.getLogger(__name__)

TOKENS_A_FIELD = 48
TOKENS_A_TABLE = 600
MIN_TOKENS = 128
WAIT_S = 0.5
FORCED = 0.02
"""A name that the model gave less than this share of probability was written because the grammar left no other."""
_REPAIR = {
    "en": "Answer again with the JSON alone, whole and in that format. Write null for what is not in the image.",
    "zh": "请只按该格式重新输出完整的JSON，图中没有的填null。",
}


class LookAt(StrEnum):
    """Which values are looked at a second time."""

    DEFAULT = "default"
    """What the template says: numbers and identifiers, where it says nothing."""
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class FillPlan:
    """How forms are filled, and whose they are. `source` names the run of a folder that they belong to."""

    template: FormTemplate
    language: str = "en"
    look_at: LookAt = LookAt.DEFAULT
    owner: str = LOCAL_OWNER
    source: str = ""


def dump_fill_plan(plan: FillPlan) -> dict[str, Any]:
    """Return the plan as what a JSON document holds."""
    return {
        "template": as_document(plan.template),
        "language": plan.language,
        "look_at": plan.look_at.value,
        "owner": plan.owner,
        "source": plan.source,
    }


def load_fill_plan(kept: Mapping[str, Any]) -> FillPlan:
    """Return the plan of such a document. Raises FormError, KeyError, ValueError."""
    return FillPlan(
        template_from(kept["template"]),
        str(kept["language"]),
        LookAt(kept["look_at"]),
        str(kept["owner"]),
        str(kept["source"]),
    )


@dataclass(frozen=True, slots=True)
class Filling:
    """A form and the files that lie beside it: crops by name."""

    form: FilledForm
    crops: Mapping[str, bytes]


@dataclass(slots=True)
class FormFiller:
    """Fills forms through the hub, waiting for each answer. `should_stop` is looked at between tokens."""

    assistant: Assistant
    owner: str = LOCAL_OWNER
    priority: Priority = Priority.PAGE
    should_stop: Callable[[], bool] = lambda: False

    def question(self, plan: FillPlan, picture: StagedPicture) -> Question:
        """Return the question that asks for every field."""
        fields = plan.template.fields
        tokens = sum(TOKENS_A_TABLE if field.type.has_parts else TOKENS_A_FIELD for field in fields)
        return Question(
            form_question(plan.template, plan.language),
            (picture,),
            sampling=SamplingParams(max_new_tokens=max(tokens, MIN_TOKENS)),
            schema=json.dumps(reading_schema(plan.template, plan.language), ensure_ascii=False),
            is_schema_exact=True,  # it allows null and leaving out everywhere by itself
        )

    def fill(self, plan: FillPlan, picture: StagedPicture) -> Filling:
        """Ask for a form and return it with its evidence. Raises AppError where the model gives no answer at all."""
        return self.finish(plan, picture, self._ask(self.question(plan, picture)))

    def finish(self, plan: FillPlan, picture: StagedPicture, answer: Answer) -> Filling:
        """Return the form of an answer that is there already: understood, mended where it must be, looked at again."""
        started = time.monotonic() - answer.timing.total_s
        notes: list[Reason] = []
        data = _object_of(answer)
        if data is None or _is_cut(answer):
            notes.append(Reason("forms.fill.asked_again"))
            try:
                better = self._again(plan, picture, answer)
            except InferenceError as error:  # what the first answer had is still there
                log.warning("a form was not asked for again: %s", error.code)
                better = answer
            if _object_of(better) is not None and not (data is not None and _is_cut(better)):
                answer, data = better, _object_of(better)
        if data is None:
            notes.append(Reason("forms.fill.unreadable"))
        elif _is_cut(answer):
            notes.append(Reason("forms.fill.cut"))
        readings = _readings(plan, data or {}, answer)
        readings, crops = self._looked_at(plan, picture, readings)
        status = self.assistant.status.engine
        now = datetime.now(UTC)
        content_hash = hashlib.sha256(picture.upload).hexdigest()
        # A run that is killed between two writes fills the same form again, in the place of the first.
        form_id = f"{plan.source}-{content_hash[:16]}-{picture.page}" if plan.source else ""
        form = FilledForm(
            form_id=form_id or f"{now:%Y%m%d-%H%M%S}-{now.microsecond:06d}{secrets.token_hex(2)}",
            template=plan.template,
            language=plan.language,
            picture_name=picture.name,
            content_hash=content_hash,
            filled_at=now,
            filled_on=now.astimezone().date(),
            readings=readings,
            page=picture.page,
            page_count=picture.page_count,
            size=picture.size,
            seen=picture.seen.size,
            text=answer.text,
            notes=(*notes, *answer.notes, *answer.parsed.notes),
            model=answer.model,
            fingerprint=status.fingerprint,
            precision=status.dtype,
            device=status.device,
            seconds=round(time.monotonic() - started, 3),
            source=plan.source,
            owner=plan.owner,
        )
        return Filling(form, crops)

    def _again(self, plan: FillPlan, picture: StagedPicture, answer: Answer) -> Answer:
        """One turn more, in which the model sees what it wrote: what is broken twice is null."""
        first = self.question(plan, picture)
        earlier = (EarlierMessage("user", first.text, (picture,)), EarlierMessage("assistant", answer.text))
        longer = replace(first.sampling, max_new_tokens=2 * first.sampling.max_new_tokens)
        question = replace(
            first, text=_REPAIR.get(plan.language, _REPAIR["en"]), pictures=(), earlier=earlier, sampling=longer
        )
        return self._ask(question)

    def _looked_at(
        self, plan: FillPlan, picture: StagedPicture, readings: tuple[FieldReading, ...]
    ) -> tuple[tuple[FieldReading, ...], dict[str, bytes]]:
        """Return the readings with boxes and second looks, and the crops by their files' names."""
        fields = {field.key: field for field in plan.template.fields}
        wanted = [reading for reading in readings if _has_a_place(fields[reading.key], reading, plan.look_at)]
        crops: dict[str, bytes] = {}
        found: dict[str, FieldReading] = {}
        for reading in wanted:
            looked, located = self._look(plan, picture, fields[reading.key], reading)
            if located is not None:
                ending = "jpg" if located.crop.startswith(b"\xff\xd8") else "png"
                name = f"crop-{list(fields).index(reading.key) + 1}.{ending}"
                crops[name] = located.crop
                looked = replace(looked, crop=name, box=located.box)
            found[reading.key] = looked
        return tuple(found.get(reading.key, reading) for reading in readings), crops

    def _look(
        self, plan: FillPlan, picture: StagedPicture, field: FormField, reading: FieldReading
    ) -> tuple[FieldReading, Located | None]:
        try:
            located = locate(
                field,
                picture,
                ask=self._ask,
                language=plan.language,
                coordinates=self.assistant.status.engine.coordinates,
            )
            if plan.look_at is not LookAt.ALL and not field.is_looked_at_again:
                return reading, located
            look = look_again(
                field,
                value_of(field, reading.written),
                picture,
                located,
                assistant=self.assistant,
                ask=self._ask,
                language=plan.language,
            )
        except InferenceError as error:  # the first reading stands; that nobody confirmed it is said
            log.warning("a second look failed: %s", error.code)
            return replace(reading, look=SecondLook(LookOutcome.UNREADABLE, reason=error.reason)), None
        return replace(reading, look=look), located

    def _ask(self, question: Question) -> Answer:
        """Wait for an answer. Raises InferenceError where it failed, FormError `forms.fill.stopped` where it was stopped."""
        if self.should_stop():
            raise FormError("forms.fill.stopped")
        job = self._begin(question)
        while (answer := job.wait(WAIT_S)) is None:
            if self.should_stop():
                job.cancel()
        if answer.finish_reason is FinishReason.STOPPED:
            raise FormError("forms.fill.stopped")
        if answer.error is not None:
            raise InferenceError(answer.error.code, **answer.error.facts)
        return answer

    def _begin(self, question: Question) -> AnswerJob:
        """Put a question into the queue; whoever has time waits until there is room in it."""
        while True:
            try:
                return self.assistant.ask(question, owner=self.owner, is_kept=False, priority=self.priority)
            except QueueFullError as error:
                if self.priority is not Priority.BATCH or error.code == "queue.closed":
                    raise
            time.sleep(WAIT_S)
            if self.should_stop():
                raise FormError("forms.fill.stopped")


def _object_of(answer: Answer) -> dict[str, JsonValue] | None:
    data = answer.parsed.data if answer.parsed.has_data else None
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    return data if isinstance(data, dict) else None


def _is_cut(answer: Answer) -> bool:
    return answer.finish_reason in (FinishReason.LENGTH, FinishReason.REPETITION)


def _readings(plan: FillPlan, data: Mapping[str, JsonValue], answer: Answer) -> tuple[FieldReading, ...]:
    scores = value_scores(answer.text, answer.tokens)
    own_accord = _own_accord(answer, scores)
    by_name = {_folded(name): name for name in data}
    asked = {_folded(field.asked_as(plan.language)) for field in plan.template.fields}
    readings = []
    for field in plan.template.fields:
        name = _name_in(field, by_name, plan.language, asked)
        written = None if name is None else data[name]
        own = [score.least for path, score in scores.items() if name is not None and name in path[:2]]
        accord = min((own_accord[path] for path in own_accord if name is not None and name in path[:2]), default=1.0)
        if accord < FORCED and written not in (None, ""):
            text = written if isinstance(written, str) else json.dumps(written, ensure_ascii=False)
            readings.append(FieldReading(field.key, forced=text))
        else:
            readings.append(FieldReading(field.key, written, min(own) if own else None))
    return tuple(readings)


def _own_accord(answer: Answer, scores: Mapping[Path, ValueScore]) -> dict[Path, float]:
    """Return how much the model wanted to write the name before each value, 0..1: the least share of probability that
    the schema left it at any token between the value before and this one.

    Near 0 it wanted to write something else, another name or the end, and the grammar made it write this one.
    """
    ends: list[tuple[int, float]] = []
    at = 0
    for token in answer.tokens:
        ends.append((at, token.allowed))
        at += len(token.text)
    found: dict[Path, float] = {}
    before = 0
    for path, score in sorted(scores.items(), key=lambda each: each[1].start):
        found[path] = math.exp(min((allowed for start, allowed in ends if before <= start < score.start), default=0.0))
        before = score.end
    return found


def _name_in(field: FormField, by_name: Mapping[str, str], language: str, asked: Collection[str]) -> str | None:
    """Return the name under which the model answered a field: the one it was asked for, or one of its own others.

    A key that is another field's name, as of one that was renamed, is that field's.
    """
    own = _folded(field.asked_as(language))
    if own in by_name:
        return by_name[own]
    others = map(_folded, (field.key, field.asked_as("en" if language == "zh" else "zh")))
    return next((by_name[name] for name in others if name in by_name and name not in asked), None)


def _has_a_place(field: FormField, reading: FieldReading, look_at: LookAt) -> bool:
    """True where a value's crop is evidence: a table has no one place, and nothing has none."""
    return look_at is not LookAt.NONE and not field.type.has_parts and not value_of(field, reading.written).is_null


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
