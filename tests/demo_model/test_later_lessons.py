"""Lessons whose picture comes after others: the very sequence that the app sends, and places on the last picture alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qwen_vl_app.chat import ImageInput, Message, Size
from qwen_vl_app.engine.families import FAMILIES
from qwen_vl_app.engine.local.prompt import PromptBuilder, read_frame
from qwen_vl_app.engine.local.tokens import TextTokens
from scripts.demo_model import later_lessons
from scripts.demo_model.curriculum import Split, generator, make_lessons
from scripts.demo_model.lessons import Lesson, length, pack, sequence_of

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"


def drawn(number: int) -> Lesson:
    rng = generator(Split.EXAMINATION, 31, number)
    return later_lessons.later_lesson(rng, 10, 6, seen=(10, 6), surfaces=0.4, most_pictures=3)


def as_messages(lesson: Lesson, number: int) -> list[Message]:
    """Return one conversation of a lesson as the app keeps it, up to its last answer."""
    messages = []
    for picture, talk in zip(lesson.pictures, (*lesson.before, lesson.conversations[number]), strict=True):
        size = Size(*picture.image.size)
        shown: tuple[ImageInput, ...] = (ImageInput("p", size, picture.image.tobytes()),)
        for exchange in talk:
            messages += [Message("user", exchange.question, shown), Message("assistant", exchange.answer)]
            shown = ()
    return messages


@pytest.mark.parametrize("number", range(6))
def test_the_sequence_is_the_one_that_the_app_sends(number: int) -> None:
    """Every token of the pictures, questions and answers, with the frame around them."""
    lesson = drawn(number)
    made = sequence_of(lesson)
    tokens, family = TextTokens(DEMO / "tokenizer.json", model="demo"), FAMILIES["qwen2_5_vl"]
    prompts = PromptBuilder(
        tokens, read_frame(DEMO, family), family, picture_token=tokens.specials["<|image_pad|>"], model="demo"
    )
    for conversation in range(len(lesson.conversations)):
        messages = as_messages(lesson, conversation)
        sent = list(prompts.build(messages[:-1]).token_ids)
        inside = [t for t, s in zip(made.tokens, made.segments, strict=True) if s in (0, conversation + 1)]
        assert inside[: len(sent)] == sent


@pytest.mark.parametrize("number", range(12))
def test_what_is_asked_about_the_last_picture_is_looked_for_there_alone(number: int) -> None:
    """Whatever stands on the pictures before; and what was asked about those is looked for on them."""
    lesson = drawn(number)
    batch, made = pack([lesson]), sequence_of(lesson)
    cells = batch.lines * batch.columns
    assert len(made.pictures) == len(lesson.pictures) == len(lesson.before) + 1
    segments = torch.tensor(made.segments)
    is_visual = torch.zeros(len(segments), dtype=torch.bool)
    for start in made.pictures:
        is_visual[start : start + cells] = True
    last = made.pictures[-1]
    for places in (batch.guides[0], batch.matches[0], batch.late[0]):
        for token in ((places >= 0) & (segments > 0)).nonzero().flatten().tolist():
            place = int(places[token])
            assert batch.allowed[0, token, place]
            assert not is_visual[place] or last <= place < last + cells
        for token in ((places >= 0) & (segments == 0)).nonzero().flatten().tolist():
            latest = max(start for start in made.pictures if start <= token)
            place = int(places[token])
            assert not is_visual[place] or latest <= place < latest + cells
    assert ((batch.targets[0] >= 0) & (segments == 0)).any()  # the answers before are lessons too


def test_plates_with_the_same_labels_are_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second plate's value is asked for where the first one has another under the same label."""
    monkeypatch.setattr(later_lessons, "SAME_LABELS", 1.0)
    differing = 0
    for number in range(6):
        first, second = drawn(number).pictures
        assert [row.label for row in first.rows] == [row.label for row in second.rows]
        differing += [row.value for row in first.rows] != [row.value for row in second.rows]
    assert differing >= 3


def test_lessons_stay_as_long_as_the_steps_of_others() -> None:
    """A long answer about an earlier picture is not taken where there is a shorter one, and what is asked behind it is limited."""
    for number in range(12):
        lesson = drawn(number)
        bare = length(Lesson(lesson.pictures, (), before=lesson.before))
        rest = length(Lesson(lesson.pictures, lesson.conversations, before=lesson.before)) - bare
        first = length(Lesson(lesson.pictures, lesson.conversations[:1], before=lesson.before)) - bare
        assert rest <= max(first, later_lessons.LONGEST_AFTER)


def test_they_come_in_the_stage_that_teaches_turns_and_in_no_earlier_one() -> None:
    """With one picture before and with two."""
    assert not any(lesson.before for first in range(0, 72, 12) for lesson in make_lessons("parts", 5, first))
    found: set[int] = set()
    for first in range(0, 600, 12):
        found |= {len(lesson.before) for lesson in make_lessons("turns", 5, first)}
        if found == {0, 1, 2}:
            return
    pytest.fail(f"only {found} pictures before")
