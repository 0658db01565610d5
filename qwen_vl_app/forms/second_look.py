"""The second look: where a value stands, cut out of the upload at full size and read again, alone and in other words.

Knows crops and how two readings are held against each other. Agreement is no proof: one model read twice. Does not know what
a person will make of it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Protocol

from qwen_vl_app.answers import parse_answer
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Answer, Box, CoordinateSpace, FinishReason, Question, SamplingParams, Size, StagedPicture
from qwen_vl_app.errors import PictureError, Reason
from qwen_vl_app.forms.fields import FieldType, FormField
from qwen_vl_app.forms.filled import LookOutcome, SecondLook
from qwen_vl_app.forms.numbers import plain_signs
from qwen_vl_app.forms.prompt import field_question, place_question
from qwen_vl_app.forms.units import is_unit
from qwen_vl_app.forms.values import FieldValue, value_of
from qwen_vl_app.imaging import blank_outside, crop_region

MARGIN = 0.03
"""Around what was located, as a share of its longer side: models cut close."""
MIN_HEIGHT_PX = 8
"""Lower writing than this holds too little of a letter."""
LOCATE_TOKENS = 160
READ_TOKENS = 64
_NUMBER = re.compile(r"(?:[<>≤≥≦≧⩽⩾±]=? ?)?(?:(?<!\w)[-+] ?)?(?<![\w.])\d(?:[\d.,'’ ]*\d)?(?!\w)")


class Ask(Protocol):
    """Puts a question and returns its finished answer. Raises AppError where there is none."""

    def __call__(self, question: Question) -> Answer:
        """Wait for the answer."""
        ...


@dataclass(frozen=True, slots=True)
class Located:
    """Where a value stands, and its crop as the page shows it (JPEG or PNG)."""

    box: Box
    crop: bytes


def locate(
    field: FormField, picture: StagedPicture, *, ask: Ask, language: str, coordinates: CoordinateSpace
) -> Located | None:
    """Return where a field's value stands on the picture; None where the model points at nothing."""
    question = place_question(field, language, coordinates=coordinates)
    answer = ask(Question(question, (picture,), sampling=SamplingParams(max_new_tokens=LOCATE_TOKENS)))
    regions = [region for region in answer.parsed.regions if not region.is_point and region.picture_index == 0]
    wanted = field.asked_as(language).casefold()
    named = [region for region in regions if region.label.casefold() == wanted]
    chosen = named or regions
    if not chosen or len({region.box for region in chosen}) > 3:
        return None  # pointing everywhere is pointing nowhere
    box = chosen[0].box
    return Located(box, crop_region(picture.view, box, margin=MARGIN))


def look_again(
    field: FormField,
    first: FieldValue,
    picture: StagedPicture,
    located: Located | None,
    *,
    assistant: Assistant,
    ask: Ask,
    language: str,
) -> SecondLook:
    """Read a value again on its crop and hold it against the first reading."""
    if located is None:
        return SecondLook(LookOutcome.UNREADABLE, reason=Reason("forms.doubt.not_located"))
    _, top, _, bottom = located.box.to_pixels(picture.size)
    if bottom - top < MIN_HEIGHT_PX:
        return SecondLook(LookOutcome.UNREADABLE, reason=Reason("forms.doubt.too_small", pixels=bottom - top))
    if _blows_crops_up(assistant):
        shown = blank_outside(picture.view, located.box, margin=MARGIN)
    else:
        shown = crop_region(picture.view, located.box, margin=MARGIN)
    try:
        crop = assistant.stage(shown, picture.name)
    except PictureError:  # a strip that is too long and thin for the model
        return SecondLook(LookOutcome.UNREADABLE, reason=Reason("forms.doubt.unreadable"))
    answer = ask(
        Question(field_question(field, language), (crop,), sampling=SamplingParams(max_new_tokens=READ_TOKENS))
    )
    if answer.finish_reason is not FinishReason.STOP:
        return SecondLook(LookOutcome.UNREADABLE, _short(answer.text), Reason("forms.doubt.unreadable"))
    return held_against(field, first, answer.text, language=language)


def held_against(field: FormField, first: FieldValue, text: str, *, language: str) -> SecondLook:
    """Return what a second reading's text says of the first value."""
    said = _said(field, text, language)
    second = value_of(field, said)
    if second.is_null:
        return SecondLook(LookOutcome.UNREADABLE, _short(said), Reason("forms.doubt.unreadable"))
    if second.problem is None and first.problem is None and second.value == first.value:
        return SecondLook(LookOutcome.AGREE, second.shown)
    if _folded(second.shown) == _folded(first.shown):
        return SecondLook(LookOutcome.AGREE, second.shown)
    if field.type in (FieldType.INTEGER, FieldType.NUMBER) and first.problem is None:
        return _numbers_within(field, first, said, field.asked_as(language))
    # A model that answers in a sentence still says the value as a word of its own.
    words = {_folded(word.strip(".,;:!?\"'“”‘’()（）。，；：")) for word in said.split()}
    if len(words) > 2 and _folded(first.shown) in words:
        return SecondLook(LookOutcome.AGREE, first.shown)
    return SecondLook(LookOutcome.DIFFER, _short(said))


def _numbers_within(field: FormField, first: FieldValue, said: str, label: str) -> SecondLook:
    """Compare where a sentence stands around the number: it must hold one alone, beside those of the label."""
    rest = plain_signs(re.sub(re.escape(label), " ", said, flags=re.IGNORECASE))
    values = set()
    for number in _NUMBER.finditer(rest):
        word = rest[number.end() :].split(maxsplit=1)[:1]
        unit = word[0].strip(".,;)") if word else ""
        found = value_of(field, f"{number.group()} {unit}" if is_unit(unit) else number.group())
        if found.problem is None and not found.is_null:
            values.add(found.value)
    if not values:
        return SecondLook(LookOutcome.UNREADABLE, _short(said))
    return SecondLook(LookOutcome.AGREE if values == {first.value} else LookOutcome.DIFFER, _short(said))


def _said(field: FormField, text: str, language: str) -> str:
    """Return what an answer says of the value: out of its JSON where it wrote some, without the label before it."""
    parsed = parse_answer(text, space=CoordinateSpace.SEEN_PIXELS, seen=(Size(1, 1),))
    if parsed.has_data and isinstance(parsed.data, dict) and parsed.data:
        found = next(iter(parsed.data.values()))
        return "" if found is None else " ".join(str(found).split())
    said = " ".join(text.split()).strip("`*\"'“”").rstrip("。")
    label = field.asked_as(language)
    if said.casefold().startswith(label.casefold()) and len(said) > len(label):
        rest = said[len(label) :]
        if not rest[0].isalnum() or not label[-1].isalnum():
            said = rest.lstrip(" :：=是为")
    return said[:-1] if said.endswith(".") and field.type is not FieldType.TEXT else said


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _blows_crops_up(assistant: Assistant) -> bool:
    """Return whether a model sees even a narrow crop with about as many pixels as any picture, its letters as never taught."""
    plan = assistant.status.engine.plan
    return plan is not None and plan.rungs[0].max_pixels < 2 * plan.min_pixels


def _short(text: str) -> str:
    said = " ".join(text.split())
    return said if len(said) <= 200 else f"{said[:199]}…"
