"""From a question and the turns before it to the prompt that the model is given.

Knows turns, questions and where the pixels of a kept picture come from. Does not know when it is asked, or what the
answer is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from qwen_vl_app.chat import ImageInput, Message, Question, StagedPicture, Turn, TurnPicture, TurnState
from qwen_vl_app.imaging import to_image_input

SeenPng: TypeAlias = Callable[[TurnPicture], bytes]
"""Reads, as PNG, exactly the pixels that the model saw of a kept picture."""


def pictures_of(question: Question) -> tuple[StagedPicture, ...]:
    """Return all pictures that a question brings along, those of the messages before it first."""
    return (*(picture for earlier in question.earlier for picture in earlier.pictures), *question.pictures)


def answered(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return the turns that the model is told of: those that have an answer, whole or stopped."""
    return tuple(
        turn for turn in turns if turn.state is not TurnState.FAILED and turn.answer is not None and turn.answer.text
    )


def prompt_of(question: Question, turns: Sequence[Turn], *, seen_png: SeenPng) -> tuple[Message, ...]:
    """Return the whole prompt; `turns` are answered ones, oldest first. Raises what `seen_png` raises."""
    messages = [
        Message(earlier.role, earlier.text, tuple(_input_of(picture) for picture in earlier.pictures))
        for earlier in question.earlier
    ]
    for turn in turns:
        images = tuple(to_image_input(seen_png(picture), picture.clip) for picture in turn.pictures)
        messages.append(Message("user", turn.question, images))
        messages.append(Message("assistant", turn.answer.text if turn.answer else ""))
    images = tuple(_input_of(picture) for picture in question.pictures)
    return (*messages, Message("user", question.text, images))


def outline_of(question: Question, turns: Sequence[Turn]) -> tuple[Message, ...]:
    """Return the prompt with the pictures' ids in the place of their pixels, which nobody needs to decode for a key."""
    messages = [Message(each.role, each.text, _ids(each.pictures)) for each in question.earlier]
    for turn in turns:
        messages.append(Message("user", turn.question, _ids(turn.pictures)))
        messages.append(Message("assistant", turn.answer.text if turn.answer else ""))
    return (*messages, Message("user", question.text, _ids(question.pictures)))


def latest_images(messages: Sequence[Message]) -> tuple[ImageInput, ...]:
    """Return the latest pictures in a prompt: a follow-up without pictures speaks about those before it."""
    return next((message.images for message in reversed(messages) if message.images), ())


def _input_of(picture: StagedPicture) -> ImageInput:
    return to_image_input(picture.seen_png, picture.clip)


def _ids(pictures: Sequence[StagedPicture] | Sequence[TurnPicture]) -> tuple[ImageInput, ...]:
    return tuple(ImageInput(picture.picture_id, picture.seen.size, b"", picture.clip) for picture in pictures)
