"""A conversation to take away: as Markdown to read, as JSON to compute with. Words and numbers, no pictures.

Knows turns. Does not know where they are kept, or what is done with the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qwen_vl_app.chat import Answer, Conversation, Turn
from qwen_vl_app.ui.words import Words


def as_markdown(conversation: Conversation, turns: Sequence[Turn], words: Words) -> str:
    """Return a conversation as Markdown, in the reader's language; questions are quoted, answers stand as they are."""
    parts = [f"# {conversation.title}", words("answer.verify")]
    for turn in turns:
        parts.append(f"## {words.time(turn.asked_at)}")
        parts += [
            f"- {picture.name} · {picture.size.width} × {picture.size.height} · "
            + words("picture.seen_as", width=picture.seen.size.width, height=picture.seen.size.height)
            for picture in turn.pictures
        ]
        parts.append("\n".join(f"> {line}" for line in turn.question.splitlines() or [""]))
        if turn.answer is not None:
            parts.append(turn.answer.text)
            if turn.answer.model:
                parts.append(f"*{turn.answer.model}*")
    return "\n\n".join(parts) + "\n"


def as_json(conversation: Conversation, turns: Sequence[Turn]) -> str:
    """Return a conversation as JSON; places are in pixels of the upright original."""
    said = {
        "title": conversation.title,
        "created_at": conversation.created_at.isoformat(),
        "turns": [_turn(turn) for turn in turns],
    }
    return json.dumps(said, ensure_ascii=False, indent=2)


def _turn(turn: Turn) -> Mapping[str, Any]:
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
        "answer": None if turn.answer is None else _answer(turn.answer, turn),
    }


def _answer(answer: Answer, turn: Turn) -> Mapping[str, Any]:
    return {
        "text": answer.text,
        "model": answer.model,
        "finish_reason": answer.finish_reason.value,
        "seconds": round(answer.timing.total_s, 3),
        "prompt_tokens": answer.usage.prompt_tokens,
        "completion_tokens": answer.usage.completion_tokens,
        "data": answer.parsed.data if answer.parsed.has_data else None,
        "places": [
            {
                "label": region.label,
                "picture": region.picture_index,
                "box_px": region.box.to_pixels(turn.pictures[region.picture_index].size),
            }
            for region in answer.parsed.regions
            if region.picture_index < len(turn.pictures)
        ],
    }
