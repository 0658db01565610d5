"""`ask`: pictures and a question in, the answer out, word by word.

Knows the order of things and how an answer looks as JSON. Does not know how it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qwen_vl_app.answer_job import AnswerJob, JobState
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Answer, Detail, FinishReason, Question, SamplingParams, StagedPicture
from qwen_vl_app.cli.files import is_file, name_of, read_file
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, INTERRUPTED, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.config import Settings
from qwen_vl_app.errors import AppError, PictureError, Reason, UsageError
from qwen_vl_app.texts import render

STOP_TIMEOUT_S = 30.0
"""How long a stopped answer may take to end: a large model on a slow processor works on one layer for seconds."""
WATCH_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Request:
    """What was typed. `page` counts from 0; None for a limit or a detail means what the settings say."""

    files: tuple[str, ...]
    text: str
    page: int = 0
    detail: Detail | None = None
    max_new_tokens: int | None = None
    is_anew: bool = False
    """Ask the model also where the very same question was answered before."""
    in_parts: bool = False


class _FileRefusedError(Exception):
    """One of the files cannot be used; the cause is an AppError."""

    def __init__(self, name: str, error: AppError) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


def ask(
    parts: Parts, request: Request, *, overrides: Mapping[str, Any], is_json: bool = False, is_verbose: bool = False
) -> int:
    """Ask one question, print its answer, return the exit status."""
    terminal = Terminal(language=language_of(overrides), is_json=is_json, is_verbose=is_verbose)
    try:
        settings = parts.settings(overrides)
        terminal.language = language_of({"language": settings.language})
        files = _read(request, settings)  # before anything is loaded: a misspelt name is told at once
        with parts.build_assistant(settings) as assistant:
            pictures = _stage(assistant, request, files)
            sampling = SamplingParams(max_new_tokens=request.max_new_tokens or settings.max_new_tokens)
            question = Question(request.text, pictures, sampling=sampling, in_parts=request.in_parts)
            job = assistant.ask(question, is_anew=request.is_anew)
            return _tell(terminal, job, answer=_follow(terminal, assistant, job))
    except _FileRefusedError as refused:
        terminal.fail(refused.error, name=refused.name)
        return status_of(refused.error)
    except AppError as error:
        terminal.fail(error)
        return status_of(error)


def _read(request: Request, settings: Settings) -> list[bytes]:
    if not request.text.strip():
        raise UsageError("question.empty")
    if is_file(request.text):
        raise UsageError("cli.ask.question_is_a_file", name=name_of(request.text))
    if len(request.files) > settings.max_pictures:
        raise UsageError("question.too_many_pictures", limit=settings.max_pictures)
    contents: list[bytes] = []
    for path in request.files:
        try:
            contents.append(read_file(path, max_bytes=settings.largest_upload_bytes))
        except AppError as error:
            raise _FileRefusedError(path, error) from error
    return contents


def _stage(assistant: Assistant, request: Request, contents: list[bytes]) -> tuple[StagedPicture, ...]:
    pictures: list[StagedPicture] = []
    for path, content in zip(request.files, contents, strict=True):
        try:
            pictures.append(assistant.stage_upload(content, name_of(path), page=request.page, detail=request.detail))
        except (PictureError, UsageError) as error:  # what else goes wrong is not the picture's fault
            raise _FileRefusedError(path, error) from error
    return tuple(pictures)


def _follow(terminal: Terminal, assistant: Assistant, job: AnswerJob) -> Answer | None:
    """Show the answer as it is made and return it; None where Ctrl-C ended even the stopping."""
    shown = ""
    try:
        _watch_until_the_first_word(terminal, assistant, job)
        shown_attempt = 0
        for piece in job:
            if terminal.is_json:
                continue
            if shown_attempt not in (0, job.attempts):
                terminal.stream("\n")  # what stands above was begun anew with smaller pictures
                shown = ""
            shown_attempt = job.attempts
            terminal.stream(piece)
            shown += piece
    except KeyboardInterrupt:
        job.cancel()
        try:
            answer = job.wait(STOP_TIMEOUT_S)
        except KeyboardInterrupt:
            return None
        if answer is not None and not terminal.is_json and answer.text.startswith(shown):
            terminal.stream(answer.text[len(shown) :])  # what was said until the model heard of it
        return answer
    return job.wait()


def _watch_until_the_first_word(terminal: Terminal, assistant: Assistant, job: AnswerJob) -> None:
    """Say on a terminal what is waited for: the model's loading, the reading. A pipe waits in silence."""
    console = terminal.watched()
    if console is None:
        return
    with console.status("") as line:
        while job.wait(WATCH_EVERY_S) is None and not job.text:
            code, percent = _stage_of(assistant, job)
            line.update(terminal.say(code, percent=percent))


def _stage_of(assistant: Assistant, job: AnswerJob) -> tuple[str, int]:
    progress = job.progress()
    if progress.state is JobState.QUEUED:
        engine = assistant.status.engine
        share = engine.loaded_bytes / engine.weights_bytes if engine.weights_bytes else 0.0
        return "cli.ask.loading", round(100 * share)
    return "cli.ask.reading", round(100 * progress.read_fraction)


def _tell(terminal: Terminal, job: AnswerJob, *, answer: Answer | None) -> int:
    """Tell what there is besides the text, and return the exit status."""
    if answer is None:
        terminal.note(Reason("cli.ask.given_up"))
        return INTERRUPTED
    if answer.finish_reason is FinishReason.FAILED:
        _end_line(terminal, answer)
        error = answer.error or Reason("app.unexpected")
        terminal.fail(error, partial_text=answer.text)
        return status_of(error)
    if terminal.is_json:
        terminal.json(as_json(terminal, answer, job.pictures))
    else:
        _end_line(terminal, answer)
        _tell_notes(terminal, answer, job.pictures)
    return INTERRUPTED if answer.finish_reason is FinishReason.STOPPED else DONE


def _end_line(terminal: Terminal, answer: Answer) -> None:
    if answer.text and not terminal.is_json and not answer.text.endswith("\n"):
        terminal.stream("\n")


def _tell_notes(terminal: Terminal, answer: Answer, pictures: tuple[StagedPicture, ...]) -> None:
    if answer.finish_reason in (FinishReason.LENGTH, FinishReason.REPETITION, FinishReason.STOPPED):
        tokens = answer.usage.completion_tokens
        terminal.note(Reason(f"cli.ask.ended.{answer.finish_reason.value}", tokens=tokens))
    for note in (*answer.notes, *answer.parsed.notes):
        # That another instance keeps the history is no news to a person who works beside it.
        if terminal.is_verbose or note.code == "history.from_cache" or not note.code.startswith("history."):
            terminal.note(note)
    if terminal.is_verbose:
        for picture in pictures:
            size = picture.seen.size
            terminal.note(
                Reason("cli.ask.seen", size=str(picture.size), seen=str(size), tokens=picture.seen.tokens),
                name=picture.name,
            )
            for note in picture.notes:
                terminal.note(note, name=picture.name)


def as_json(terminal: Terminal, answer: Answer, pictures: tuple[StagedPicture, ...]) -> dict[str, Any]:
    """Return the answer as `--json` prints it: boxes in pixels of the upright originals, `picture` counted from 0."""
    return {
        "text": answer.text,
        "data": answer.parsed.data if answer.parsed.has_data else None,
        "regions": [
            {
                "label": region.label,
                "bbox": list(region.box.to_pixels(pictures[region.picture_index].size)),
                "picture": region.picture_index,
            }
            for region in answer.parsed.regions
            if 0 <= region.picture_index < len(pictures)
        ],
        "pictures": [
            {
                "name": picture.name,
                "width": picture.size.width,
                "height": picture.size.height,
                "seen_width": picture.seen.size.width,
                "seen_height": picture.seen.size.height,
                "tokens": picture.seen.tokens,
                **(
                    {}
                    if picture.clip is None
                    else {"seconds": picture.clip.seconds, "frames": list(picture.clip.moments)}
                ),
            }
            for picture in pictures
        ],
        "moments": [asdict(moment) for moment in answer.parsed.moments],
        "model": answer.model,
        "finish_reason": answer.finish_reason.value,
        "usage": asdict(answer.usage),
        "seconds": round(answer.timing.total_s, 3),
        "notes": [
            {"code": note.code, "message": render(note, terminal.language)}
            for note in (*answer.notes, *answer.parsed.notes)
        ],
    }
