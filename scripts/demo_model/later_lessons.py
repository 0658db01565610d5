"""Lessons about a picture that comes later in a conversation: behind another one, what was asked about it and the answer to that.

It joins lessons that were drawn for themselves, and does not know when in training a lesson comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scripts.demo_model import wide_questions
from scripts.demo_model.drawn_lessons import pair_lesson, shortened, skill_lesson
from scripts.demo_model.lessons import Conversation, Lesson, length

LONGEST_BEFORE, LONGEST_AFTER = 120, 150
"""Tokens of what was said about an earlier picture, where it has anything so short, and of all that is asked about the last one."""
SAME_LABELS = 0.4
"""The part of lessons whose pictures are plates with the same labels: the ones that are most easily taken for each other."""
THREE_PICTURES = 0.2


def later_lesson(
    rng: np.random.Generator, columns: int, lines: int, *, seen: tuple[int, int], surfaces: float, most_pictures: int
) -> Lesson:
    """Draw two pictures, seldom three, and ask about the last one after a question about each of the others."""
    if rng.random() < SAME_LABELS:
        drawn = _same_labels(rng, columns, lines, seen)
    else:
        count = 3 if most_pictures > 2 and rng.random() < THREE_PICTURES else 2
        drawn = [skill_lesson(rng, columns, lines, seen=seen, surfaces=surfaces) for _ in range(count)]
    return joined(rng, drawn)


def _same_labels(rng: np.random.Generator, columns: int, lines: int, seen: tuple[int, int]) -> list[Lesson]:
    pair = pair_lesson(rng, columns, lines, seen=seen)
    return [Lesson((picture,), tuple(wide_questions.about_plate(rng, picture))) for picture in pair.pictures]


def joined(rng: np.random.Generator, drawn: Sequence[Lesson]) -> Lesson:
    """Return the last of some lessons as it is when the pictures of the others came before it, with one conversation about each."""
    *earlier, last = drawn
    before = tuple(_one_conversation(rng, lesson) for lesson in earlier)
    lesson = replace(last, pictures=tuple(p for each in drawn for p in each.pictures), before=before)
    return shortened(lesson, length(replace(lesson, conversations=(), alone=())) + LONGEST_AFTER)


def _one_conversation(rng: np.random.Generator, lesson: Lesson) -> Conversation:
    """Choose a conversation about an earlier picture: any of the short ones, or the shortest."""
    bare = length(replace(lesson, conversations=(), alone=()))
    sizes = [length(replace(lesson, conversations=(talk,), alone=())) - bare for talk in lesson.conversations]
    short = [talk for talk, size in zip(lesson.conversations, sizes, strict=True) if size <= LONGEST_BEFORE]
    if not short:
        return lesson.conversations[int(np.argmin(sizes))]
    return short[int(rng.integers(0, len(short)))]
