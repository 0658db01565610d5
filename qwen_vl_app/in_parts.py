"""One question asked about a large picture and about each of its parts, and the one answer that comes of it.

Knows the engine and the way of one question. Does not know which parts there are and how what they show becomes one
(`tiles.py`, `answers/joining.py`), nor how the answer is ended and kept.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from qwen_vl_app.answer_run import Run
from qwen_vl_app.answers import Move, joined_answers, parse_answer, regions_as_answer, say_more_than_places
from qwen_vl_app.chat import Box, CoordinateSpace, FinishReason, Message, Region, Size, Usage
from qwen_vl_app.engine.base import Engine, FinishedStep, GenerationRequest, StageStep, TokenStep
from qwen_vl_app.errors import Reason
from qwen_vl_app.imaging import crop_region, to_image_input
from qwen_vl_app.intake import Intake
from qwen_vl_app.tiles import Part, mapped, merged_regions


@dataclass(frozen=True, slots=True)
class LookedOver:
    """How a question in parts ended; its text is in the job. `regions` are fractions of the whole, None where none were found."""

    reason: FinishReason
    usage: Usage
    regions: tuple[Region, ...] | None


def ask_in_parts(
    run: Run, boxes: Sequence[Box], *, engine: Engine, intake: Intake
) -> Generator[None, None, LookedOver]:
    """Ask about the whole picture and about each of its parts, and make one answer of them; a stop keeps what there is.

    Each is told what was said before it in the conversation, and held to the question's schema, as the whole would be.
    `boxes` are the parts, fractions of the upright original. Raises PictureError, ModelNotLoadedError, InferenceError,
    HistoryError.
    """
    *before, _ = run.prompt()
    picture, status = run.question.pictures[0], engine.status
    run.seen = (picture.seen.size,)
    run.job.begin_reading()
    looked: list[Part] = []
    moves: list[Move] = []
    usage, reason = Usage(), FinishReason.STOP
    is_cut_off = False
    for number, box in enumerate((Box(0.0, 0.0, 1.0, 1.0), *boxes)):
        if run.job.is_cancelled:
            reason = FinishReason.STOPPED
            break
        seen_png = picture.seen_png
        if number:
            seen_png = intake.stage_upload(crop_region(picture.view, box, margin=0.0), picture.name).seen_png
        image = to_image_input(seen_png)
        request = GenerationRequest(
            messages=(*before, Message("user", run.question.text, (image,))),
            sampling=run.question.sampling,
            conversation_key=None if run.job.conversation_id is None else str(run.job.conversation_id),
            schema=run.schema,
            is_schema_open=not run.question.is_schema_exact,
            is_background=run.is_background,
        )
        said: list[str] = []
        for step in engine.generate(request, should_stop=lambda: run.job.is_cancelled):
            match step:
                case StageStep(done=done, total=total):
                    run.job.read_to((number + 0.5 * done / max(total, 1)) / (len(boxes) + 1))
                case TokenStep(text=text):
                    said.append(text)
                case FinishedStep(finish_reason=ended, usage=used, text=rest):
                    said.append(rest)
                    usage = added(usage, used)
                    run.notes += [note for note in step.notes if note not in run.notes]
                    reason = ended if ended is not FinishReason.STOP else reason
            yield
        text = "".join(said)
        found = parse_answer(text, space=status.coordinates, seen=(image.size,), question=run.question.text).regions
        looked.append(Part(box, mapped(found, box), text))
        moves.append(_move_to_whole(box, seen=image.size, whole=picture.seen.size, space=status.coordinates))
        if reason is FinishReason.STOPPED:
            is_cut_off = True
            break
    run.notes.append(Reason("tiles.asked", count=len(boxes), looked=max(0, len(looked) - 1)))
    whole = looked[0].regions if looked else ()
    regions = merged_regions(whole, looked[1:])
    if regions and not say_more_than_places([part.text for part in looked]):
        text = regions_as_answer(regions, space=status.coordinates, seen=picture.seen.size)
    else:
        # Of a part that was stopped first, the first letters are no more than what was said of the whole.
        parts = [] if is_cut_off and len(looked) == 2 else looked[1:]
        joined = joined_answers(
            [part.text for part in parts],
            whole=looked[0].text if looked else "",
            moves=moves[1:] if regions else (),
            is_bare=run.schema is not None,
        )
        text = joined.text
        run.notes += joined.notes
    run.job.add(text, is_token=False)
    return LookedOver(reason, usage, regions or None)


def _move_to_whole(part: Box, *, seen: Size, whole: Size, space: CoordinateSpace) -> Move:
    """Return the way from a model's numbers about a part to those about the whole; it sees both in these sizes."""
    if space is CoordinateSpace.THOUSANDTHS:
        seen = whole = Size(1000, 1000)

    def move(x: float, y: float) -> tuple[int, int]:
        across = part.x1 + x / seen.width * (part.x2 - part.x1)
        down = part.y1 + y / seen.height * (part.y2 - part.y1)
        return round(across * whole.width), round(down * whole.height)

    return move


def added(one: Usage, other: Usage) -> Usage:
    """Return the counts of two prompts and their answers together."""
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        picture_tokens=one.picture_tokens + other.picture_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
    )
