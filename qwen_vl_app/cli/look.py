"""`look`: what files are, and what the model would see of them. One line a file, and never an end before the last.

Knows how a file's line looks. Loads no weights: the plan of sizes is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Detail
from qwen_vl_app.cli.files import name_of, read_file
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, WRONG_INPUT, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.errors import AppError, Reason
from qwen_vl_app.imaging import sniff_clip
from qwen_vl_app.texts import render


@dataclass(frozen=True, slots=True)
class Request:
    """What was typed. `page` counts from 0."""

    files: tuple[str, ...]
    page: int = 0
    detail: Detail | None = None


def look(
    parts: Parts, request: Request, *, overrides: Mapping[str, Any], is_json: bool = False, is_verbose: bool = False
) -> int:
    """Print a line for every file; return 0 where all can be asked about, 2 where one was refused, 1 without a model."""
    terminal = Terminal(language=language_of(overrides), is_json=is_json, is_verbose=is_verbose)
    try:
        settings = parts.settings(overrides)
        terminal.language = language_of({"language": settings.language})
        assistant = parts.build_assistant(settings)
        refused = 0
        try:
            assistant.open_to_look()
            assistant.wait_for_plan()
            for file in request.files:
                line = _line(assistant, file, request, max_bytes=settings.largest_upload_bytes, terminal=terminal)
                refused += "error" in line
                _tell(terminal, line)
        finally:
            assistant.close()
    except AppError as error:
        terminal.fail(error)
        return status_of(error)
    return WRONG_INPUT if refused else DONE


def _line(assistant: Assistant, file: str, request: Request, *, max_bytes: int, terminal: Terminal) -> dict[str, Any]:
    try:
        content = read_file(file, max_bytes=max_bytes)
        if sniff_clip(content) is not None:
            return _clip_line(assistant, file, content, request, terminal=terminal)
        facts, seen = assistant.intake.look(content, name_of(file), page=request.page, detail=request.detail)
    except AppError as error:
        return {"file": file, "error": error.code, "message": render(error, terminal.language)}
    return {
        "file": file,
        "format": facts.format,
        "width": facts.size.width,
        "height": facts.size.height,
        "seen_width": seen.size.width,
        "seen_height": seen.size.height,
        "tokens": seen.tokens,
        "pages": facts.page_count,
        "notes": [_note(note, terminal) for note in facts.notes],
    }


def _clip_line(
    assistant: Assistant, file: str, content: bytes, request: Request, *, terminal: Terminal
) -> dict[str, Any]:
    facts, seen = assistant.intake.look_clip(content, detail=request.detail)
    return {
        "file": file,
        "format": facts.format,
        "width": facts.size.width,
        "height": facts.size.height,
        "seconds": round(facts.seconds, 3),
        "frames": facts.frame_count,
        "seen_frames": seen.count,
        "seen_width": seen.seen.size.width,
        "seen_height": seen.seen.size.height,
        "tokens": seen.seen.tokens,
        "notes": [_note(note, terminal) for note in facts.notes],
    }


def _note(note: Reason, terminal: Terminal) -> dict[str, str]:
    return {"code": note.code, "message": render(note, terminal.language)}


def _tell(terminal: Terminal, line: dict[str, Any]) -> None:
    if terminal.is_json:
        terminal.json(line)
    elif "error" in line:
        terminal.line(f"{line['file']}: {line['error']}: {line['message']}")
    else:
        is_clip = "seen_frames" in line
        shown = (*_SHOWN, "seconds", "seen_frames") if is_clip else _SHOWN
        words = terminal.say("clip.look_line" if is_clip else "cli.look.line", **{key: line[key] for key in shown})
        pages = terminal.say("cli.look.pages", pages=line["pages"]) if line.get("pages", 1) > 1 else ""
        notes = "".join(f" {note['message']}" for note in line["notes"])
        terminal.line(f"{line['file']}: {words}{pages}{notes}")


_SHOWN = ("format", "width", "height", "seen_width", "seen_height", "tokens")
