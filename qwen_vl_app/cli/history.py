"""`history`: what is kept, from a terminal: list, show, search, take away, bring in, back up, play again, erase, check.

Knows how records look as lines and as JSON, and what is asked before something is erased. Does not know how anything is
kept: it asks the hub, and without loading a model wherever none is needed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.chat import Conversation, ErasureReceipt, SearchHit, Turn
from qwen_vl_app.cli.files import require_file
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, FAILED, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.config import Settings
from qwen_vl_app.errors import AppError, HistoryError, Reason, UsageError
from qwen_vl_app.records import Records, backup_in_use, find_traces, restore_backup
from qwen_vl_app.texts import render

Work: TypeAlias = Callable[[Terminal, Records], int]
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Profile:
    """Whose records are meant: one owner's, by default those of the command line itself, or everybody's."""

    owner: str = LOCAL_OWNER
    is_everybody: bool = False

    def owners(self, records: Records) -> tuple[str, ...]:
        """Return the owners that are meant."""
        return records.owners() if self.is_everybody else (self.owner,)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What is to be erased: exactly one of these. `is_confirmed` is what `--yes` says."""

    turn: int | None = None
    conversation: int | None = None
    day: date | None = None
    is_everything: bool = False
    is_confirmed: bool = False


def within(
    parts: Parts, work: Callable[[Terminal, Settings], int], *, overrides: Mapping[str, Any], is_json: bool = False
) -> int:
    """Do a command's work with a terminal in the right language; tell an error and return what it is worth."""
    terminal = Terminal(language=language_of(overrides), is_json=is_json)
    try:
        settings = parts.settings(overrides)
        terminal.language = language_of({"language": settings.language})
        return work(terminal, settings)
    except AppError as error:
        terminal.fail(error)
        return status_of(error)


def with_records(parts: Parts, work: Work, *, overrides: Mapping[str, Any], is_json: bool = False) -> int:
    """Do a command's work on the open records, without a model. A folder that an app uses is told with what to do."""

    def opened(terminal: Terminal, settings: Settings) -> int:
        with parts.build_records(settings) as records:
            for notice in records.notices:
                terminal.note(notice)
            return work(terminal, records)

    return within(parts, opened, overrides=overrides, is_json=is_json)


def reading_records(parts: Parts, work: Work, *, overrides: Mapping[str, Any], is_json: bool = False) -> int:
    """Do a command's work that only reads, also while an app uses the folder: it then sees what is kept at this moment."""

    def opened(terminal: Terminal, settings: Settings) -> int:
        with ExitStack() as stack:
            try:
                records = stack.enter_context(parts.build_records(settings))
            except HistoryError as error:
                if error.code != "history.in_use":
                    raise
                records = stack.enter_context(parts.build_records_beside(settings))
            for notice in records.notices:
                terminal.note(notice)
            return work(terminal, records)

    return within(parts, opened, overrides=overrides, is_json=is_json)


def list_conversations(terminal: Terminal, records: Records, *, profile: Profile, limit: int) -> int:
    """Print a line a conversation, pinned ones first, then the latest."""
    is_empty = True
    for owner in profile.owners(records):
        for conversation in records.conversations(owner, limit=limit):
            is_empty = False
            if terminal.is_json:
                terminal.json(_conversation(conversation) | {"owner": owner})
                continue
            pin = "* " if conversation.is_pinned else "  "
            turns = terminal.say("cli.history.turns", count=conversation.turn_count)
            whose = f"{owner}  " if profile.is_everybody else ""
            terminal.line(
                f"{conversation.id:>6} {pin}{_local(conversation.updated_at)}  {whose}{turns}  {conversation.title}"
            )
    if is_empty and not terminal.is_json:
        terminal.note(Reason("cli.history.none"))
    return DONE


def show(terminal: Terminal, records: Records, *, profile: Profile, conversation_id: int) -> int:
    """Print a conversation's shown branch, with corrections."""
    conversation = records.conversation(profile.owner, conversation_id)
    turns = records.turns(profile.owner, conversation_id)
    added = {turn.id: records.corrections(profile.owner, turn.id) for turn in turns}
    if terminal.is_json:
        told = [
            _turn(turn)
            | {"corrections": [{"text": each.text, "at": each.added_at.isoformat()} for each in added[turn.id]]}
            for turn in turns
        ]
        terminal.json(_conversation(conversation) | {"turns": told})
        return DONE
    terminal.line(conversation.title, style="bold")
    for turn in turns:
        terminal.line()
        names = ", ".join(picture.name for picture in turn.pictures)
        branches = terminal.say("cli.history.branches", count=len(turn.branch_ids)) if len(turn.branch_ids) > 1 else ""
        head = (f"[{turn.id}] {_local(turn.asked_at)}", turn.state.value, names, branches)
        terminal.line("  ".join(part for part in head if part), style="dim")
        terminal.line(f"> {turn.question}")
        if turn.answer is not None:
            for line in turn.answer.text.splitlines():
                terminal.line(line)
            if turn.answer.error is not None:
                terminal.line(render(turn.answer.error, terminal.language))
        for correction in added[turn.id]:
            terminal.line(f"+ {_local(correction.added_at)}  {correction.text}")
    return DONE


def search(terminal: Terminal, records: Records, *, profile: Profile, words: str, limit: int) -> int:
    """Print the turns that have all the words, best first; what was found is between brackets."""
    found = 0
    for owner in profile.owners(records):
        for hit in records.search(owner, words, limit=limit).hits:
            found += 1
            if terminal.is_json:
                terminal.json(_hit(hit) | {"owner": owner})
                continue
            terminal.line(f"{hit.conversation.id:>6}  [{hit.turn_id}] {_local(hit.asked_at)}  {hit.conversation.title}")
            for fragment in hit.fragments:
                marked = "".join(f"[{piece.text}]" if piece.is_match else piece.text for piece in fragment.pieces)
                terminal.line(f"        {marked}")
    if not found:
        terminal.note(Reason("cli.history.nothing_found"))
    return DONE


def export(terminal: Terminal, records: Records, *, profile: Profile, conversation_id: int | None, target: Path) -> int:
    """Write a ZIP under its name once it is complete. An existing file is not replaced."""
    _refuse_existing(target)
    with _disk(target):  # under a name of its own: a file of that name may be somebody's download
        descriptor, name = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".part", dir=target.absolute().parent)
    unfinished = Path(name)
    try:
        with _disk(target), os.fdopen(descriptor, "wb") as stream:
            count = records.export(
                stream, owner=profile.owner, conversation_id=conversation_id, language=terminal.language
            )
            stream.flush()
            os.fsync(stream.fileno())
        with _disk(target):
            unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return _told(terminal, "cli.history.exported", count=count, file=target.name)


def bring_in(terminal: Terminal, records: Records, *, profile: Profile, source: Path) -> int:
    """Keep an exported ZIP's conversations beside those there are."""
    require_file(str(source))
    with _disk(source), source.open("rb") as stream:
        ids = records.import_archive(stream, owner=profile.owner)
    return _told(terminal, "cli.history.imported", count=len(ids))


def back_up(parts: Parts, terminal: Terminal, settings: Settings, *, target: Path) -> int:
    """Write everybody's history into one file, also while an app uses it. An existing file is not replaced."""
    _refuse_existing(target)
    if settings.keep == "nothing":
        raise HistoryError("history.nothing_kept")
    try:
        with parts.build_records(settings) as records:
            for notice in records.notices:
                terminal.note(notice)
            size_bytes = records.backup(target)
    except HistoryError as error:
        if error.code != "history.in_use":
            raise
        size_bytes = backup_in_use(settings.data_dir, target)
    return _told(terminal, "cli.history.backed_up", bytes=size_bytes, file=target.name)


def restore(terminal: Terminal, settings: Settings, *, source: Path) -> int:
    """Put a backup in the place of the history; what was there is set aside, and said."""
    require_file(str(source))
    replaced = restore_backup(settings.data_dir, source)
    if replaced is not None:
        terminal.note(replaced)
    return _told(terminal, "cli.history.restored")


def replay(parts: Parts, terminal: Terminal, settings: Settings, *, profile: Profile, turn_id: int) -> int:
    """Run a turn again with the model and say whether the answer is the same. Returns 1 where it is not."""
    with parts.build_assistant(settings) as assistant:
        problem = assistant.status.history_problem
        if problem is not None:
            raise HistoryError(problem.code, **problem.facts)
        result = assistant.replays.run(profile.owner, turn_id)
    if terminal.is_json:
        terminal.json(
            {
                "turn": turn_id,
                "is_same": result.is_same,
                "is_same_model": result.is_same_model,
                "is_same_precision": result.is_same_precision,
                "model": result.model,
                "precision": result.precision,
                "differs_at": result.differs_at,
                "text": result.answer.text,
            }
        )
        return DONE if result.is_same else FAILED
    before = result.turn
    if not result.is_same_model:
        terminal.note(Reason("cli.history.other_model", model=result.model))
    if not result.is_same_precision:
        terminal.note(Reason("cli.history.other_precision", before=before.precision or "?", now=result.precision))
    if result.is_same:
        return _told(terminal, "cli.history.same", turn=turn_id)
    terminal.line(terminal.say("cli.history.differs", turn=turn_id, at=(result.differs_at or 0) + 1))
    for line in result.answer.text.splitlines():
        terminal.line(line)
    return FAILED


def erase(terminal: Terminal, records: Records, *, profile: Profile, erasure: Erasure) -> int:
    """Erase and print the receipt. Returns 1 where traces stay for now."""
    owners = profile.owners(records)
    works = _works(records, owners, erasure, is_everybody=profile.is_everybody)
    if not erasure.is_confirmed:
        _confirm(terminal, "cli.history.confirm_everybody" if profile.is_everybody else "cli.history.confirm")
    receipts = [work() for work in works]
    for receipt in receipts:
        _tell_receipt(terminal, receipt)
    return DONE if all(receipt.is_complete for receipt in receipts) else FAILED


def verify(terminal: Terminal, records: Records) -> int:
    """Read everything through. Returns 1 where something is wrong."""
    found = records.verify()
    problems = [*((found.audit.problem,) if found.audit.problem else ()), *found.storage]
    if terminal.is_json:
        terminal.json(
            {
                "is_sound": found.is_sound,
                "audit_lines": found.audit.lines,
                "problems": [{"code": each.code, "message": render(each, terminal.language)} for each in problems],
            }
        )
    else:
        for problem in problems:
            terminal.line(render(problem, terminal.language), style="bold red")
        if found.is_sound:
            terminal.line(terminal.say("cli.history.sound", lines=found.audit.lines))
    return DONE if found.is_sound else FAILED


def prove_erased(terminal: Terminal, settings: Settings, *, markers: Sequence[str], is_hex: bool = False) -> int:
    """Look for texts or bytes in every file of the data folder and of the temporary folder. Returns 1 where one is found."""
    folders = (settings.data_dir, Path(tempfile.gettempdir()))
    if not terminal.is_json:
        terminal.note(Reason("cli.history.looking", folder=str(folders[-1])))
    found: list[tuple[str, Path]] = []
    unread = 0
    for marker in markers:
        traces = find_traces(folders, _bytes_of(marker) if is_hex else marker)
        found += [(marker, file) for file in traces.files]
        unread = max(unread, traces.unread)
    if terminal.is_json:
        terminal.json(
            {
                "found": [{"marker": marker, "file": str(file)} for marker, file in found],
                "unread": unread,
            }
        )
    else:
        for marker, file in found:
            terminal.line(f"{marker}: {file}")
        if unread:
            terminal.note(Reason("cli.history.unread", count=unread))
        code = "cli.history.traces" if found else "cli.history.no_traces"
        terminal.line(terminal.say(code, count=len(found)))
    return FAILED if found else DONE


def _works(
    records: Records, owners: Sequence[str], erasure: Erasure, *, is_everybody: bool
) -> list[Callable[[], ErasureReceipt]]:
    """Return what is to be done, one erasure an owner. Raises UsageError unless exactly one thing is named."""
    named = (erasure.turn, erasure.conversation, erasure.day, erasure.is_everything or None)
    if sum(each is not None for each in named) != 1:
        raise UsageError("cli.history.erase_what")
    if is_everybody and (erasure.turn is not None or erasure.conversation is not None):
        raise UsageError("cli.history.one_owner")
    if not records.can_erase:
        raise HistoryError("history.records_are_kept")
    turn, conversation, day = erasure.turn, erasure.conversation, erasure.day
    if turn is not None:
        records.turn(owners[0], turn)
        return [lambda: records.erase_turn(owners[0], turn)]
    if conversation is not None:
        records.conversation(owners[0], conversation)
        return [lambda: records.erase_conversation(owners[0], conversation)]
    if day is not None:
        return [partial(records.erase_day, owner, day) for owner in owners]
    if is_everybody:
        return [records.erase_site]
    return [partial(records.erase_everything, owner) for owner in owners]


def _confirm(terminal: Terminal, code: str) -> None:
    """Ask a person; nobody there, or another word than yes, is a no. Raises UsageError."""
    if not sys.stdin.isatty():
        raise UsageError("cli.history.not_confirmed")
    terminal.note(Reason(code))
    if sys.stdin.readline().strip().casefold() not in ("yes", "y", "是"):
        raise UsageError("cli.history.not_confirmed")


def _tell_receipt(terminal: Terminal, receipt: ErasureReceipt) -> None:
    if terminal.is_json:
        terminal.json(
            {
                "receipt": receipt.id,
                "scope": receipt.scope,
                "is_complete": receipt.is_complete,
                "conversations": receipt.conversations,
                "turns": receipt.turns,
                "pictures": receipt.pictures,
                "runs": receipt.runs,
                "forms": receipt.forms,
                "files": receipt.files,
                "bytes": receipt.file_bytes,
                "caveats": [
                    {"code": each.code, "message": render(each, terminal.language)} for each in receipt.caveats
                ],
            }
        )
        return
    code = "cli.history.erased" if receipt.is_complete else "cli.history.erase_pending"
    told = terminal.say(
        code,
        receipt=receipt.id,
        turns=receipt.turns,
        pictures=receipt.pictures,
        runs=receipt.runs,
        forms=receipt.forms,
        bytes=receipt.file_bytes,
    )
    terminal.line(told)
    for caveat in receipt.caveats:
        terminal.note(caveat)


class _disk:  # noqa: N801 - used as a word in a with statement
    """Turns what the file system says about a file that was named into a sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise UsageError("file.missing") from error
        if isinstance(error, PermissionError):
            raise UsageError("file.forbidden") from error
        if isinstance(error, OSError):
            raise UsageError("cli.history.file_failed") from error


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise UsageError("cli.history.exists", file=target.name)
    if not target.absolute().parent.is_dir():
        raise UsageError("cli.history.no_folder")


def _bytes_of(marker: str) -> bytes:
    try:
        return bytes.fromhex(marker)
    except ValueError as error:
        raise UsageError("cli.history.not_hex") from error


def _told(terminal: Terminal, code: str, /, **facts: str | int) -> int:
    if terminal.is_json:
        terminal.json({"code": code, **facts})
    else:
        terminal.line(terminal.say(code, **facts))
    return DONE


def _conversation(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "title": conversation.title,
        "created_at": conversation.created_at.isoformat(),
        "updated_at": conversation.updated_at.isoformat(),
        "turn_count": conversation.turn_count,
        "is_pinned": conversation.is_pinned,
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "id": turn.id,
        "asked_at": turn.asked_at.isoformat(),
        "state": turn.state.value,
        "question": turn.question,
        "pictures": [picture.name for picture in turn.pictures],
        "answer": turn.answer.text if turn.answer else None,
        "model": turn.answer.model if turn.answer else "",
        "fingerprint": turn.fingerprint,
        "precision": turn.precision,
        "branches": list(turn.branch_ids),
    }


def _hit(hit: SearchHit) -> dict[str, Any]:
    return {
        "conversation": hit.conversation.id,
        "title": hit.conversation.title,
        "turn": hit.turn_id,
        "asked_at": hit.asked_at.isoformat(),
        "fragments": [
            {"field": each.field, "pieces": [[piece.text, piece.is_match] for piece in each.pieces]}
            for each in hit.fragments
        ],
    }


def _local(moment: datetime) -> str:
    """Return a time as this machine's clock shows it."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
