"""Whether a model that has just come into memory answers as it should, looked at while nobody else asks.

Knows the questions whose answers are known: those that came with a model or, where it brought none, a drawn picture with a
thing to find. Asks the engine itself, so that no history, no queue and no page sees it. Does not know when it is its turn.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from qwen_vl_app.answers import parse_answer
from qwen_vl_app.chat import (
    Answer,
    Detail,
    EngineStatus,
    FinishReason,
    ImageInput,
    Message,
    Region,
    SamplingParams,
    Size,
)
from qwen_vl_app.engine.base import DRIVER_LOST, Engine, FinishedStep, GenerationRequest, TokenStep
from qwen_vl_app.errors import AppError, ModelError, Reason
from qwen_vl_app.imaging import PictureDecoder, known_scenes, to_image_input
from qwen_vl_app.known_answers import KnownAnswer, finds, holds, load_known_answers

log = logging.getLogger(__name__)

FIRST = 4
"""How many questions a model that is to take over has to answer before it does; the others are asked once it has."""
DRAWN_QUESTION = "Outline the position of the {label} and output the coordinates in JSON format."
DRAWN_TOKENS = 128


class CheckKind(StrEnum):
    """What a model is asked."""

    KNOWN = "known"
    """What its own folder says is known of it."""
    DRAWN = "drawn"
    """Where a drawn thing is; to be wrong about it is worth a word and no more."""
    NOTHING = "nothing"
    """It brought nothing, and is no model for such drawings."""


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """How far the check of a model is, and what came of it. `problems` are the wrong answers' reasons, in their order."""

    model: str
    kind: CheckKind
    total: int
    asked: int = 0
    problems: tuple[Reason, ...] = ()

    @property
    def is_over(self) -> bool:
        """True once nothing more is asked."""
        return self.asked >= self.total

    @property
    def is_well(self) -> bool:
        """True while no answer was wrong."""
        return not self.problems

    @property
    def about(self) -> Reason | None:
        """What a person is told of it, None where there is nothing to tell."""
        right = self.asked - len(self.problems)
        if self.kind is CheckKind.NOTHING:
            return self.problems[0] if self.problems else None
        if not self.is_over:
            return Reason("check.under_way", model=self.model, asked=self.asked, count=self.total)
        end = "right" if self.is_well else "wrong"
        return Reason(f"check.{self.kind.value}_{end}", model=self.model, right=right, count=self.total)


class ModelCheck:
    """The check of one model, which `told` says is loaded. It is asked on the thread that generates; `status` is for any."""

    def __init__(self, told: EngineStatus, folder: Path, *, decoder: PictureDecoder, detail: Detail | None) -> None:
        self._decoder = decoder
        self._detail = detail
        questions, kind, problems = _questions(told, folder)
        self._left = deque(questions)
        self._is_drawn = kind is CheckKind.DRAWN
        self.status = CheckStatus(told.model, kind, len(questions), problems=problems)

    def begin(self, engine: Engine) -> Iterator[None]:
        """Ask the first few questions, a question at a step. Raises ModelError where most were not answered as they should be.

        One wrong answer may be another machine's arithmetic; a model that knows little of what is known of it is damaged.
        """
        # From all over the list, whose neighbours are of one kind.
        stride = max(len(self._left) // FIRST, 1)
        first = list(self._left)[::stride][:FIRST]
        for known in first:
            self._left.remove(known)
            self._ask(engine, known, should_stop=lambda: False)
            yield
        status = self.status
        if status.kind is CheckKind.KNOWN and len(status.problems) * 2 > status.asked:
            right = status.asked - len(status.problems)
            raise ModelError("switch.wrong_answers", model=status.model, right=right, count=status.asked)

    def go_on(self, engine: Engine, should_give_way: Callable[[], bool]) -> bool:
        """Ask one more question; False once none is left. One that had to give way is asked again later."""
        if not self._left:
            return False
        known = self._left.popleft()
        if not self._ask(engine, known, should_stop=should_give_way):
            self._left.appendleft(known)
        return bool(self._left)

    def _ask(self, engine: Engine, known: KnownAnswer, *, should_stop: Callable[[], bool]) -> bool:
        """Ask one question and note what came of it; False where it had to stop. Raises nothing."""
        problem: Reason | None
        try:
            answer = self._answer(engine, known, should_stop)
        except AppError as error:
            problem = error.reason
        except Exception:  # a stranger's error must not take the thread that answers people with it
            log.exception("a model could not be checked")
            problem = Reason("app.unexpected")
        else:
            if answer is None:
                return False
            is_right = finds(answer, known) if self._is_drawn else holds(answer, known)
            problem = None if is_right else Reason("known.wrong", name=known.name)
        if problem is not None and problem.code == DRIVER_LOST:
            self._left.clear()  # nothing more can be asked of it
        self._note(problem)
        return True

    def _note(self, problem: Reason | None) -> None:
        status = self.status
        problems = status.problems if problem is None else (*status.problems, problem)
        self.status = replace(
            status, asked=status.asked + 1, total=status.asked + 1 + len(self._left), problems=problems
        )
        if self.status.is_over:
            log.info("a model was checked: %s", self.status.about and self.status.about.code)

    def _answer(self, engine: Engine, known: KnownAnswer, should_stop: Callable[[], bool]) -> Answer | None:
        images = []
        for name, data in known.pictures:
            if should_stop():
                return None
            images.append(self._picture(engine, data, name))
        message = Message("user", known.question, tuple(images))
        sampling = SamplingParams(max_new_tokens=DRAWN_TOKENS) if self._is_drawn else SamplingParams()
        said: list[str] = []
        finish = FinishReason.FAILED
        for step in engine.generate(GenerationRequest((message,), sampling), should_stop=should_stop):
            match step:
                case TokenStep(text=text):
                    said.append(text)
                case FinishedStep(finish_reason=reason, text=rest):
                    said.append(rest)
                    finish = reason
        if finish is FinishReason.STOPPED:
            return None
        text = "".join(said)
        seen = tuple(image.size for image in images)
        parsed = parse_answer(text, space=engine.status.coordinates, seen=seen)
        return Answer(text, finish, parsed, model=engine.status.model)

    def _picture(self, engine: Engine, data: bytes, name: str) -> ImageInput:
        # A drawn thing is as easy to see on a small picture, and on a processor a large one takes minutes.
        detail = Detail.LOW_MEMORY if self._is_drawn else self._detail

        def fit(size: Size) -> Size:
            return engine.seen_size(size, detail=detail).size

        return to_image_input(self._decoder.render(data, name=name, fit=fit).seen_png)


def _questions(told: EngineStatus, folder: Path) -> tuple[Sequence[KnownAnswer], CheckKind, tuple[Reason, ...]]:
    try:
        known = load_known_answers(folder)
    except ValueError as error:
        log.warning("the known answers of %s cannot be read: %s", folder.name, error)
        return (), CheckKind.NOTHING, (Reason("known.unreadable", model=folder.name),)
    if known:
        return known, CheckKind.KNOWN, ()
    if told.is_demo:  # it has never seen such drawings
        return (), CheckKind.NOTHING, ()
    scene = known_scenes()[0]
    question = DRAWN_QUESTION.format(label=scene.label)
    drawn = KnownAnswer(
        scene.name, question, ((f"{scene.name}.png", scene.png),), regions=(Region(scene.box, scene.label),)
    )
    return (drawn,), CheckKind.DRAWN, ()
