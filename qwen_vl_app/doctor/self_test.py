"""What a loaded model is asked about itself: what is known of it, where drawn things are, and how long that takes.

Knows questions with known answers, and asks them through the assistant as anybody would, leaving no trace. Does not know how
the model came into memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from statistics import median

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Answer, Question
from qwen_vl_app.doctor.finding import Finding, Verdict
from qwen_vl_app.engine.folders import DEMO_MARK
from qwen_vl_app.errors import AppError, Reason
from qwen_vl_app.imaging import KnownScene, known_scenes
from qwen_vl_app.known_answers import KnownAnswer, KnownAnswersResult, KnownResult, holds, load_known_answers, overlap
from qwen_vl_app.model_check import CheckKind, CheckStatus

log = logging.getLogger(__name__)

FOUND_FROM = 0.5
"""Intersection over union from which a box counts as found."""
TIMEOUT_S = 900.0
QUESTION = "Outline the position of the {label} and output the coordinates in JSON format."


def examine_answers(assistant: Assistant) -> Iterator[Finding]:
    """Ask a loaded model what is known of it, where drawn things are, and measure the answers. Raises nothing."""
    yield from _known(assistant)
    if _is_demo(assistant):
        # It has never seen such drawings; places are among what is known of it.
        yield from _speed(_ask_samples(assistant))
    else:
        answers = [(scene, _ask_scene(assistant, scene)) for scene in known_scenes()]
        yield grounding_finding([(scene, answer) for scene, answer in answers if isinstance(answer, Answer)])
        yield from _speed([answer for _, answer in answers if isinstance(answer, Answer)])


def _is_demo(assistant: Assistant) -> bool:
    """Return whether the demo model answers, also in another process, whose engine tells its name alone."""
    folder = assistant.model.folder()
    return assistant.status.engine.is_demo or (folder is not None and (folder / DEMO_MARK).is_file())


def check_finding(check: CheckStatus) -> Finding | None:
    """Tell what became of the check that a model had when it was loaded; None where there is nothing to tell."""
    about = check.about
    if about is None:
        return None
    name = "grounding" if check.kind is CheckKind.DRAWN else "answers"
    if check.is_well:
        return Finding(name, Verdict.OK, about)
    return Finding(name, Verdict.NOTE if check.kind is CheckKind.DRAWN else Verdict.PROBLEM, about)


def run_known_answers(assistant: Assistant) -> KnownAnswersResult:
    """Ask the loaded model everything that is known of it, one question after the other, and leave no trace of it.

    Takes as long as the answers do and raises nothing: what fails is a wrong answer with its reason. Call it once the
    model is ready (`wait_until_loaded`).
    """
    folder = assistant.model.folder()
    if folder is None:
        return KnownAnswersResult()
    try:
        asked = load_known_answers(folder)
    except ValueError as error:
        log.warning("the known answers of %s cannot be read: %s", folder.name, error)
        return KnownAnswersResult(reasons=(Reason("known.unreadable", model=folder.name),))
    results = tuple(_ask_known(assistant, known) for known in asked)
    return KnownAnswersResult(results, tuple(each.problem for each in results if each.problem is not None))


def _ask_known(assistant: Assistant, known: KnownAnswer) -> KnownResult:
    try:
        pictures = tuple(assistant.stage(data, name) for name, data in known.pictures)
        answer = assistant.ask(Question(known.question, pictures), is_kept=False, is_anew=True).wait()
    except AppError as error:
        return KnownResult(known, "", error.reason)
    if answer is None:  # without a time-out there is always one, but the type cannot say so
        return KnownResult(known, "", Reason("known.wrong", name=known.name))
    if answer.error is not None:
        return KnownResult(known, answer.text, answer.error)
    return KnownResult(known, answer.text, None if holds(answer, known) else Reason("known.wrong", name=known.name))


def _known(assistant: Assistant) -> Iterator[Finding]:
    result = run_known_answers(assistant)
    if not result.total and not result.reasons:
        return
    if result.are_all_right:
        yield Finding("answers", Verdict.OK, Reason("doctor.answers.right", count=result.total))
        return
    yield Finding("answers", Verdict.PROBLEM, Reason("doctor.answers.wrong", right=result.right, count=result.total))
    for reason in result.reasons[:3]:
        yield Finding("answers", Verdict.NOTE, reason)


def _ask_scene(assistant: Assistant, scene: KnownScene) -> Answer | None:
    try:
        picture = assistant.stage(scene.png, f"{scene.name}.png")
        question = Question(QUESTION.format(label=scene.label), (picture,))
        return assistant.ask(question, is_kept=False, is_anew=True).wait(TIMEOUT_S)
    except AppError:
        return None


def _ask_samples(assistant: Assistant) -> list[Answer]:
    answers = []
    for sample in assistant.samples()[:3]:
        try:
            picture = assistant.stage(sample.data, sample.name)
            question = Question(sample.question.get("en", ""), (picture,))
            answer = assistant.ask(question, is_kept=False, is_anew=True).wait(TIMEOUT_S)
        except AppError:
            continue
        if answer is not None and answer.error is None:
            answers.append(answer)
    return answers


def grounding_finding(answers: list[tuple[KnownScene, Answer]]) -> Finding:
    """Judge boxes by where things were drawn.

    Boxes that are all off by one and the same factor come from a model whose coordinates are read in another space.
    """
    overlaps = [_best(scene, answer) for scene, answer in answers]
    found = sum(value >= FOUND_FROM for value in overlaps)
    facts = {"found": found, "count": len(overlaps)}
    if not overlaps:
        return Finding("grounding", Verdict.PROBLEM, Reason("doctor.grounding.no_answer"))
    if found == len(overlaps):
        return Finding("grounding", Verdict.OK, Reason("doctor.grounding.right", overlap=median(overlaps), **facts))
    missed = ", ".join(scene.name for (scene, _), value in zip(answers, overlaps, strict=True) if value < FOUND_FROM)
    verdict = Verdict.NOTE if found * 2 >= len(overlaps) else Verdict.PROBLEM
    return Finding("grounding", verdict, Reason("doctor.grounding.wrong", missed=missed, **facts))


def _best(scene: KnownScene, answer: Answer) -> float:
    return max((overlap(region.box, scene.box) for region in answer.parsed.regions), default=0.0)


def _speed(answers: list[Answer]) -> Iterator[Finding]:
    """Tell how long the first word took and how fast the others came. What an everyday question needs, not a benchmark."""
    firsts = [answer.timing.first_token_s for answer in answers if answer.timing.first_token_s is not None]
    rates = [
        (answer.usage.completion_tokens - 1) / (answer.timing.total_s - answer.timing.first_token_s)
        for answer in answers
        if answer.timing.first_token_s is not None
        and answer.usage.completion_tokens > 1
        and answer.timing.total_s > answer.timing.first_token_s
    ]
    if not firsts or not rates:
        yield Finding("speed", Verdict.NOTE, Reason("doctor.speed.unknown"))
        return
    tokens = round(median(answer.usage.picture_tokens for answer in answers))
    reason = Reason("doctor.speed.told", seconds=median(firsts), tokens=tokens, rate=median(rates))
    yield Finding("speed", Verdict.OK, reason)
