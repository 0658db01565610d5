"""The same question once more where memory ran out: its largest pictures one rung of the plan lower.

Knows rungs, and which pictures of a prompt are above one. Does not know what filled the memory, or when to give up.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from qwen_vl_app.answer_run import Run
from qwen_vl_app.chat import Detail, ImageInput, Message, Rendition, SizePlan, StagedPicture, TurnPicture
from qwen_vl_app.errors import Reason
from qwen_vl_app.imaging import to_image_input
from qwen_vl_app.intake import Intake
from qwen_vl_app.prompts import pictures_of


def smaller_prompt(run: Run, plan: SizePlan | None, intake: Intake) -> tuple[Message, ...] | None:
    """Return the prompt with its largest pictures one rung lower; None where there is no lower rung.

    The pictures of this question keep their new size from here on, and a note says so; those of earlier turns are smaller
    in this prompt alone, since memory that is short today says nothing about tomorrow. Raises PictureError, HistoryError,
    ModelNotLoadedError.
    """
    details = [picture.seen.detail for turn in run.answered for picture in turn.pictures]
    details += [picture.seen.detail for picture in pictures_of(run.question)]
    if plan is None or not details:
        return None
    order = list(Detail)
    rung = plan.below(max(details, key=order.index))
    if rung is None:
        return None

    def is_above(detail: Detail) -> bool:
        return order.index(detail) > order.index(rung.detail)

    def lowered(pictures: tuple[StagedPicture, ...]) -> tuple[StagedPicture, ...]:
        return tuple(
            intake.stage_upload(picture.upload, picture.name, page=picture.page, detail=rung.detail)
            if is_above(picture.seen.detail)
            else picture
            for picture in pictures
        )

    if any(is_above(picture.seen.detail) for picture in pictures_of(run.question)):
        earlier = tuple(replace(each, pictures=lowered(each.pictures)) for each in run.question.earlier)
        pictures = lowered(run.question.pictures)
        run.question = replace(run.question, pictures=pictures, earlier=earlier)
        run.job.pictures = pictures
        if run.turn is not None:
            run.keep(partial(run.history.replace_seen, run.turn.id, pictures))
    messages = list(run.prompt())
    for number, turn in enumerate(run.answered):
        at = len(run.question.earlier) + 2 * number
        images = tuple(
            _lowered_kept(run, picture, rung.detail, intake) if is_above(picture.seen.detail) else image
            for picture, image in zip(turn.pictures, messages[at].images, strict=True)
        )
        messages[at] = replace(messages[at], images=images)
    run.notes.append(Reason("inference.smaller_after_out_of_memory", tokens=rung.max_tokens))
    return tuple(messages)


def _lowered_kept(run: Run, picture: TurnPicture, detail: Detail, intake: Intake) -> ImageInput:
    upload = run.history.picture_bytes(run.job.owner, picture.id, Rendition.UPLOAD).data
    lowered = intake.stage_upload(upload, picture.name, page=picture.page, detail=detail)
    return to_image_input(lowered.seen_png, lowered.clip)
