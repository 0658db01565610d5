"""A conversation as Markdown that a person can read without this app: the shown branch, with its pictures.

Knows words, times and links within an archive. Does not know whether Markdown is harmless: `clean` is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from qwen_vl_app.chat import FinishReason, Rendition, Turn
from qwen_vl_app.history.rows_to_words import to_turn
from qwen_vl_app.history.tables import ConversationRow, CorrectionRow, TurnRow
from qwen_vl_app.texts import Language, t

MIME_SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/tiff": ".tif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heif": ".heif",
    "image/heic": ".heic",
    "image/avif": ".avif",
    "application/pdf": ".pdf",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}
_ENDS = {
    FinishReason.STOP: "history.export_stop",
    FinishReason.LENGTH: "history.export_length",
    FinishReason.STOPPED: "history.export_stopped",
    FinishReason.REPETITION: "history.export_repetition",
    FinishReason.FAILED: "history.export_failed",
}
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]()<>#+!|~$"})


@dataclass(frozen=True, slots=True)
class Taken:
    """A conversation to be taken away: all its turns with pictures and renditions, and which of them are shown."""

    conversation: ConversationRow
    turns: tuple[TurnRow, ...]
    shown: frozenset[int]
    corrections: Mapping[int, Sequence[CorrectionRow]]


def to_markdown(taken: Taken, files: Mapping[str, str], *, language: Language, clean: Callable[[str], str]) -> str:
    """Return the shown branch of a conversation; `files` tells the entry of each picture file that is in the archive."""
    lines = [f"# {_plain(taken.conversation.title)}", ""]
    for row in taken.turns:
        if row.id in taken.shown:
            lines += _turn(row, files, language=language, clean=clean)
            for correction in taken.corrections.get(row.id, ()):
                lines += [f"## {t('history.export_correction', language)} · {_time(correction.added_at)}", ""]
                lines += [clean(correction.text), ""]
    hidden = len(taken.turns) - len(taken.shown)
    if hidden:
        lines += ["---", "", t("history.export_branches", language, count=hidden), ""]
    return "\n".join(lines)


def _turn(row: TurnRow, files: Mapping[str, str], *, language: Language, clean: Callable[[str], str]) -> Iterator[str]:
    turn = to_turn(row, branch_ids=())
    yield f"## {t('history.export_question', language)} · {_time(turn.asked_at)}"
    yield ""
    for picture in row.pictures:
        views = [form.file for form in picture.renditions if form.rendition == Rendition.VIEW and form.file in files]
        name = _plain(picture.name)
        yield f"![{name}]({files[views[0]]})" if views else t("history.export_no_picture", language, name=name)
        yield ""
    yield clean(turn.question)
    yield ""
    yield f"## {t('history.export_answer', language)}"
    yield ""
    yield clean(turn.answer.text) if turn.answer and turn.answer.text else t("history.export_no_answer", language)
    yield ""
    if turn.answer is not None:
        yield f"*{_about(turn, language)}*"
        yield ""


def _about(turn: Turn, language: Language) -> str:
    answer = turn.answer
    told = [t("history.export_seen", language, size=str(each.seen.size)) for each in turn.pictures]
    if answer is not None:
        told.insert(0, _plain(" ".join(part for part in (answer.model, turn.fingerprint[:12], turn.precision) if part)))
        told.append(t("history.export_took", language, seconds=answer.timing.total_s))
        told.append(t(_ENDS[answer.finish_reason], language))
    return " · ".join(part for part in told if part)


def _plain(words: str) -> str:
    return " ".join(words.translate(_SPECIAL).split())


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
