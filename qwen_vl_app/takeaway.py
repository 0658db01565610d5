"""A conversation to take away: as a ZIP of Markdown and its pictures, as JSON to compute with, as a PDF report to show.

Knows turns, and pictures by who hands them over. Does not know where they are kept, or what is done with the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import IO, Any

from qwen_vl_app.answers import says_values, without_data, without_tables
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Answer, Conversation, Region, Rendition, Turn, TurnPicture
from qwen_vl_app.errors import AppError
from qwen_vl_app.imaging import draw_regions
from qwen_vl_app.imaging.report import ReportEntry, write_report
from qwen_vl_app.standing import CORRECTED, as_they_stand, is_corrected
from qwen_vl_app.texts import Language, render, t

_DRAWN_SIDE_PX = 1600


@dataclass(frozen=True, slots=True)
class Taker:
    """Who takes something away: whose records they see, what they read, and the zone of their clock."""

    assistant: Assistant
    owner: str
    language: Language
    zone: tzinfo = UTC

    def turns(self, conversation: Conversation) -> tuple[Turn, ...]:
        """Return the shown branch of a conversation, its answers as persons left them. Raises HistoryError."""
        turns = self.assistant.turns(self.owner, conversation.id)
        return as_they_stand(self.assistant.records, self.owner, turns=turns)


def write_zip(taker: Taker, conversation: Conversation, target: IO[bytes]) -> None:
    """Write a conversation with its pictures: Markdown for people, JSON for programs, to be brought in elsewhere."""
    taker.assistant.records.export(target, owner=taker.owner, conversation_id=conversation.id, language=taker.language)


def write_pdf(taker: Taker, conversation: Conversation, target: IO[bytes]) -> None:
    """Write a report of the shown branch, in the reader's language: every photo with what was found drawn on it."""
    footer = t("ui.answer.verify", taker.language)
    write_report(target, _entries(taker, taker.turns(conversation)), title=conversation.title, footer=footer)


def write_json(taker: Taker, conversation: Conversation, target: IO[bytes]) -> None:
    """Write the shown branch as JSON."""
    target.write(as_json(conversation, taker.turns(conversation)).encode("utf-8", "replace"))


def _entries(taker: Taker, turns: Sequence[Turn]) -> Iterator[ReportEntry]:
    pictures: Sequence[TurnPicture] = ()
    for turn in turns:
        # A question without a picture is about the last ones; they are shown again where something was found on them.
        is_new, pictures = bool(turn.pictures), turn.pictures or pictures
        regions = turn.answer.parsed.regions if turn.answer is not None else ()
        lines = tuple(_lines(turn, pictures, taker.language))
        shown = [at for at in range(len(pictures)) if is_new or any(each.picture_index == at for each in regions)]
        asked_at = turn.asked_at.astimezone(taker.zone)
        title = f"{asked_at:%Y-%m-%d %H:%M:%S}   {turn.question}"
        for at in shown[:-1]:
            yield ReportEntry(pictures[at].name, (), _drawn(taker, pictures[at], regions, at), is_wide=True)
        picture = _drawn(taker, pictures[shown[-1]], regions, shown[-1]) if shown else None
        yield ReportEntry(title, lines, picture, is_wide=True)


def _drawn(taker: Taker, picture: TurnPicture, regions: Sequence[Region], at: int) -> bytes | None:
    """Return a picture's view with its places numbered as `_lines` numbers them; None where it cannot be read."""
    own = [region for region in regions if region.picture_index == at]
    try:
        view = taker.assistant.picture(taker.owner, picture.id, Rendition.VIEW).data
        return draw_regions(view, own, numbers=len(own) > 1, max_side=_DRAWN_SIDE_PX)
    except AppError:  # a picture that is gone or damaged: the words are taken away all the same
        return None


def _lines(turn: Turn, pictures: Sequence[TurnPicture], language: Language) -> Iterator[str]:
    yield from (f"{picture.name} · {_sizes(picture, language)}" for picture in turn.pictures)
    answer = turn.answer
    if answer is None:
        yield t("ui.turn.interrupted", language)
        return
    if answer.error is not None:
        yield render(answer.error, language)
    text = answer.text if says_values(answer.parsed) else without_data(answer.text)
    # What a person corrected stands in the place of the model's own words.
    tables = answer.parsed.tables if is_corrected(answer) else ()
    if tables:
        text = without_tables(without_data(answer.text))
    if text.strip():
        yield text
    if is_corrected(answer):
        yield render(CORRECTED, language)
    for table in tables:
        yield "\n".join(" | ".join(row) for row in (table.columns, *table.rows))
    for at, picture in enumerate(pictures):
        own = [region for region in answer.parsed.regions if region.picture_index == at]
        for number, region in enumerate(own, 1):
            yield f"{number}  {region.label}  {' '.join(map(str, region.box.to_pixels(picture.size)))} px".strip()
    about = (
        answer.model,
        turn.fingerprint[:12],
        turn.precision,
        t("ui.answer.seconds", language, seconds=answer.timing.total_s),
    )
    yield " · ".join(part for part in about if part)


def _sizes(picture: TurnPicture, language: Language) -> str:
    return t(
        "ui.picture.sizes",
        language,
        width=picture.size.width,
        height=picture.size.height,
        seen_width=picture.seen.size.width,
        seen_height=picture.seen.size.height,
        tokens=picture.seen.tokens,
    )


def as_json(conversation: Conversation, turns: Sequence[Turn]) -> str:
    """Return a conversation as JSON; places are in pixels of the upright original.

    A place names its picture by `picture_id` as well: a question without a picture is about the last ones before it.
    """
    taken: list[Mapping[str, Any]] = []
    pictures: Sequence[TurnPicture] = ()
    for turn in turns:
        pictures = turn.pictures or pictures
        taken.append(_turn(turn, pictures))
    said = {
        "title": conversation.title,
        "created_at": conversation.created_at.isoformat(),
        "turns": taken,
    }
    return json.dumps(said, ensure_ascii=False, indent=2)


def _turn(turn: Turn, pictures: Sequence[TurnPicture]) -> Mapping[str, Any]:
    return {
        "asked_at": turn.asked_at.isoformat(),
        "state": turn.state.value,
        "question": turn.question,
        "pictures": [
            {
                "name": picture.name,
                "format": picture.format,
                "page": picture.page + 1,
                "size": [picture.size.width, picture.size.height],
                "seen_size": [picture.seen.size.width, picture.seen.size.height],
                "picture_id": picture.picture_id,
            }
            for picture in turn.pictures
        ],
        "answer": None if turn.answer is None else _answer(turn.answer, pictures),
    }


def _answer(answer: Answer, pictures: Sequence[TurnPicture]) -> Mapping[str, Any]:
    return {
        "text": answer.text,
        "is_corrected": is_corrected(answer),
        "model": answer.model,
        "finish_reason": answer.finish_reason.value,
        "seconds": round(answer.timing.total_s, 3),
        "prompt_tokens": answer.usage.prompt_tokens,
        "completion_tokens": answer.usage.completion_tokens,
        "data": answer.parsed.data if answer.parsed.has_data else None,
        "tables": [{"columns": table.columns, "rows": table.rows} for table in answer.parsed.tables],
        "places": [
            {
                "label": region.label,
                "picture": region.picture_index,
                "picture_id": pictures[region.picture_index].picture_id,
                "box_px": region.box.to_pixels(pictures[region.picture_index].size),
            }
            for region in answer.parsed.regions
            if region.picture_index < len(pictures)
        ],
    }
