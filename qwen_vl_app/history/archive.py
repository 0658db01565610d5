"""Taking conversations away: a ZIP of Markdown for people, JSON for programs, and the pictures; and bringing it in elsewhere.

An archive holds one folder a conversation. Nothing in it is trusted when it comes back: names of entries lead to no
file, sizes are bounded one by one and together, pictures are checked against their hashes. Knows the archive's form and
the rows; does not know how text is shown, nor what a picture is: who asks may hand over how Markdown is made harmless.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from qwen_vl_app.chat import ParsedAnswer, Rendition, Size, TurnState
from qwen_vl_app.errors import HistoryError, PictureError
from qwen_vl_app.history.answer_json import load_answer, load_clip, load_reasons, load_sampling, load_schema
from qwen_vl_app.history.conversations import own_conversation, path_to
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.folder import DataFolder, OpenFolder
from qwen_vl_app.history.markdown import MIME_SUFFIXES, Taken, to_markdown
from qwen_vl_app.history.picture_files import PictureFiles
from qwen_vl_app.history.search_index import index_turns
from qwen_vl_app.history.tables import ConversationRow, CorrectionRow, PictureRow, RenditionRow, TurnRow
from qwen_vl_app.texts import Language

FORMAT, VERSION = "qwen-vl-history", 1
MANIFEST = "manifest.json"
_LARGEST_DOCUMENT_BYTES = 64 * 2**20
_LARGEST_SHOWN_BYTES = {Rendition.VIEW: 2**27, Rendition.SEEN: 2**28, Rendition.THUMBNAIL: 2**22}
"""Of what the app makes itself of its largest pictures and clips; an upload has the site's own limit."""
_LEFT_FREE_BYTES = 512 * 2**20
"""What an archive leaves of the free room; where there is less than twice as much, half of it."""
_SWELLING = 100
_SWELLING_FROM_BYTES = 2**30
"""An archive of this size or more, unpacked, that is over so many times as large as its file was made to fill a disk."""
_TURN_COLUMNS = ("question", "sampling", "answer_text", "answer", "fingerprint", "precision")
_PICTURE_COLUMNS = (
    "position", "picture_id", "name", "format", "width", "height", "seen_width", "seen_height", "seen_tokens",
    "seen_detail", "view_mime", "page", "page_count", "notes",
)  # fmt: skip
_SHOWN = ("image/jpeg", "image/png")
"""What the app itself makes of pictures, to be shown."""
_SIZES = ("width", "height", "seen_width", "seen_height")
_UPLOADED = frozenset((*MIME_SUFFIXES, "application/octet-stream"))
_PICTURE_TEXTS = {"picture_id", "name", "format", "seen_detail", "view_mime", "notes"}


def export_archive(
    folder: DataFolder,
    target: IO[bytes],
    *,
    owner: str,
    conversation_ids: Sequence[int] | None,
    language: Language,
    clean: Callable[[str], str],
) -> int:
    """Write an archive of an owner's conversations, all of them where none are named; return how many there are.

    One conversation is read at a time, and others may change meanwhile. Raises HistoryError and what the target raises.
    """
    opened = folder.ready()
    with opened.database.reading() as session:
        if conversation_ids is None:
            query = select(ConversationRow.id).where(ConversationRow.owner == owner).order_by(ConversationRow.id)
            ids = list(session.scalars(query))
        else:
            ids = [own_conversation(session, owner, number).id for number in conversation_ids]
    folders: list[str] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, conversation_id in enumerate(ids, 1):
            with opened.database.reading() as session:
                row = session.get(ConversationRow, conversation_id)
                if row is None:
                    continue  # erased meanwhile
                name = f"{number:04}-{_slug(row.title)}"
                taken = _take(session, row)
            folders.append(name)
            _write_conversation(archive, name, taken, opened=opened, owner=owner, language=language, clean=clean)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "exported_at": datetime.now(UTC).isoformat(),
            "conversations": folders,
        }
        archive.writestr(MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
    return len(folders)


def import_archive(
    folder: DataFolder, source: IO[bytes], *, owner: str, largest_upload_bytes: int, check: Check
) -> tuple[int, ...]:
    """Keep an archive's conversations as an owner's, beside those there are; return their ids.

    Raises HistoryError: `history.not_an_archive` where it is none or is damaged, `history.archive_newer`,
    `history.archive_too_large` where a file in it is, `history.archive_no_room`. Conversations before the damaged one are
    kept then.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            manifest = _document(archive, MANIFEST)
            if manifest["format"] != FORMAT:
                raise HistoryError("history.not_an_archive")
            if manifest["version"] > VERSION:
                raise HistoryError("history.archive_newer")
            names = [_text(name) for name in manifest["conversations"]]
            if len(set(names)) != len(names):  # each folder once, or what is small in the file is large on the disk
                raise HistoryError("history.not_an_archive")
            _check_room(folder, archive, packed_bytes=source.seek(0, io.SEEK_END))
            return tuple(
                _bring_in(folder, archive, name, owner=owner, largest_upload_bytes=largest_upload_bytes, check=check)
                for name in names
            )
    except (
        zipfile.BadZipFile, zipfile.LargeZipFile, KeyError, ValueError, TypeError, AttributeError, OverflowError,
        RuntimeError,
    ) as error:  # fmt: skip
        # What a stranger's ZIP can be wrong in; one that is nested too deep or packed in an unknown way is a RuntimeError.
        raise HistoryError("history.not_an_archive") from error


def _check_room(folder: DataFolder, archive: zipfile.ZipFile, *, packed_bytes: int) -> None:
    """Refuse an archive that would fill the disk. No entry is read further than the size that the archive says it has."""
    needed = sum(entry.file_size for entry in archive.infolist())
    if needed >= _SWELLING_FROM_BYTES and needed > _SWELLING * packed_bytes:
        raise HistoryError("history.not_an_archive")
    folder.ready()
    free = folder.free_bytes()
    room = max(free - _LEFT_FREE_BYTES, free // 2)
    if needed > room:
        raise HistoryError("history.archive_no_room", needed=needed, room=room)


class Check(Protocol):
    """Looks at a rendition of a picture; raises PictureError where it is none that the app itself makes."""

    def __call__(self, data: bytes, rendition: Rendition, *, mime: str, seen: Size) -> None:
        """`seen` is the size that the seen rendition must have; of a clip, that of its frames one below the other."""
        ...


def believe(data: bytes, rendition: Rendition, *, mime: str, seen: Size) -> None:
    """Look at nothing: for those who know where an archive is from."""


class _Contents(Mapping[str, bytes]):
    """The pictures of a conversation by the keys of their files, each read from the archive when it is asked for.

    They are many, and together larger than memory may be.
    """

    def __init__(
        self, archive: zipfile.ZipFile, folder: str, *, owner: str, largest_upload_bytes: int, check: Check
    ) -> None:
        self._archive = archive
        self._folder = folder
        self._owner = owner
        self._largest_upload_bytes = largest_upload_bytes
        self._entries: dict[str, tuple[str, int]] = {}
        self._check = check
        self._looked_at: dict[tuple[str, Rendition, str, Size], tuple[str, str]] = {}

    def add(self, file: str, rendition: Rendition, *, mime: str, seen: Size) -> tuple[str, str]:
        """Look at a rendition once; return the key of its file and the SHA-256 of its content."""
        told = (file, rendition, mime, seen)
        if told not in self._looked_at:
            entry = f"{self._folder}/{file}"
            largest_bytes = _LARGEST_SHOWN_BYTES.get(rendition, self._largest_upload_bytes)
            size = self._archive.getinfo(entry).file_size
            if size > largest_bytes:
                if rendition is Rendition.UPLOAD:
                    raise HistoryError("history.archive_too_large", size=size, limit=largest_bytes)
                raise HistoryError("history.not_an_archive")
            content = _entry(self._archive, entry, largest_bytes=largest_bytes)
            key = PictureFiles.key_for(self._owner, content)
            try:
                self._check(content, rendition, mime=mime, seen=seen)
            except PictureError as error:
                raise HistoryError("history.not_an_archive") from error
            self._entries[key] = (entry, len(content))
            self._looked_at[told] = (key, hashlib.sha256(content).hexdigest())
        return self._looked_at[told]

    def __getitem__(self, key: str) -> bytes:
        entry, size = self._entries[key]
        content = _entry(self._archive, entry, largest_bytes=size)
        if PictureFiles.key_for(self._owner, content) != key:  # the file was changed while it is read
            raise HistoryError("history.not_an_archive")
        return content

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _take(session: Session, row: ConversationRow) -> Taken:
    turns = session.scalars(
        select(TurnRow)
        .where(TurnRow.conversation_id == row.id)
        .order_by(TurnRow.id)
        .options(selectinload(TurnRow.pictures).selectinload(PictureRow.renditions))
    ).all()
    corrections: dict[int, list[CorrectionRow]] = {}
    for correction in session.scalars(
        select(CorrectionRow)
        .join(TurnRow, TurnRow.id == CorrectionRow.turn_id)
        .where(TurnRow.conversation_id == row.id)
        .order_by(CorrectionRow.id)
    ):
        corrections.setdefault(correction.turn_id, []).append(correction)
    return Taken(row, tuple(turns), frozenset(path_to(session, row.id, row.active_turn_id)), corrections)


def _write_conversation(
    archive: zipfile.ZipFile,
    name: str,
    taken: Taken,
    *,
    opened: OpenFolder,
    owner: str,
    language: Language,
    clean: Callable[[str], str],
) -> None:
    entries: dict[str, tuple[str, str]] = {}
    for form in (form for turn in taken.turns for picture in turn.pictures for form in picture.renditions):
        if form.file in entries:
            continue
        try:
            content = opened.files.read(form.file, owner=owner)
        except HistoryError:
            continue  # gone or damaged: the words are taken away all the same
        digest = hashlib.sha256(content).hexdigest()
        entries[form.file] = (f"pictures/{digest[:32]}{MIME_SUFFIXES.get(form.mime, '.bin')}", digest)
        entry = f"{name}/{entries[form.file][0]}"
        if entry not in archive.NameToInfo:
            archive.writestr(zipfile.ZipInfo(entry), content, zipfile.ZIP_STORED)
    document = {
        "title": taken.conversation.title,
        "is_pinned": taken.conversation.is_pinned,
        "is_renamed": taken.conversation.is_renamed,
        "created_at": taken.conversation.created_at.isoformat(),
        "updated_at": taken.conversation.updated_at.isoformat(),
        "active_turn": taken.conversation.active_turn_id,
        "turns": [_turn_document(turn, entries, taken.corrections.get(turn.id, ())) for turn in taken.turns],
    }
    archive.writestr(f"{name}/conversation.json", json.dumps(document, ensure_ascii=False, indent=1))
    shown = {file: entry for file, (entry, _) in entries.items()}
    archive.writestr(f"{name}/conversation.md", to_markdown(taken, shown, language=language, clean=clean))


def _turn_document(
    turn: TurnRow, entries: Mapping[str, tuple[str, str]], corrections: Sequence[CorrectionRow]
) -> dict[str, Any]:
    return {
        "id": turn.id,
        "parent": turn.parent_id,
        "state": turn.state,
        "asked_at": turn.asked_at.isoformat(),
        "finished_at": turn.finished_at.isoformat() if turn.finished_at else None,
        **{column: getattr(turn, column) for column in _TURN_COLUMNS},
        "corrections": [{"text": each.text, "added_at": each.added_at.isoformat()} for each in corrections],
        "pictures": [
            {
                **{column: getattr(picture, column) for column in _PICTURE_COLUMNS},
                **({} if picture.clip is None else {"clip": picture.clip}),
                "renditions": {
                    form.rendition: {"file": entries[form.file][0], "sha256": entries[form.file][1], "mime": form.mime}
                    for form in picture.renditions
                    if form.file in entries
                },
            }
            for picture in turn.pictures
        ],
    }


def _bring_in(
    folder: DataFolder, archive: zipfile.ZipFile, name: str, *, owner: str, largest_upload_bytes: int, check: Check
) -> int:
    document = _document(archive, f"{name}/conversation.json")
    contents = _Contents(archive, name, owner=owner, largest_upload_bytes=largest_upload_bytes, check=check)
    rows: list[tuple[int, int | None, TurnRow]] = []
    corrections: dict[int, list[CorrectionRow]] = {}
    for turn in sorted(document["turns"], key=lambda each: int(each["id"])):
        pictures = [_picture_row(picture, contents) for picture in turn["pictures"]]
        rows.append((int(turn["id"]), turn["parent"], _turn_row(turn, pictures)))
        corrections[int(turn["id"])] = [
            CorrectionRow(text=_text(each["text"]), added_at=_moment(each["added_at"])) for each in turn["corrections"]
        ]
    if not rows:
        raise HistoryError("history.not_an_archive")
    head = ConversationRow(
        owner=owner,
        title=_text(document["title"]),
        is_pinned=bool(document["is_pinned"]),
        is_renamed=bool(document["is_renamed"]),
        created_at=_moment(document["created_at"]),
        updated_at=_moment(document["updated_at"]),
        last_turn_id=0,
    )
    with folder.writing() as opened:
        with translated():
            fresh = opened.files.keep(contents)
        try:
            with opened.database.writing() as session:
                session.add(head)
                session.flush()
                ids: dict[int | None, int] = {}
                for former, parent, row in rows:
                    # A parent comes before its child; one that is not there makes the turn a beginning.
                    row.conversation_id, row.parent_id = head.id, ids.get(parent)
                    session.add(row)
                    session.flush()
                    ids[former] = row.id
                    for correction in corrections[former]:
                        correction.turn_id = row.id
                        session.add(correction)
                head.last_turn_id = max(ids.values())
                head.active_turn_id = ids.get(document["active_turn"], head.last_turn_id)
                index_turns(session, list(ids.values()))
                return head.id
        except BaseException:
            opened.files.remove(fresh)
            raise


def _turn_row(turn: Mapping[str, Any], pictures: list[PictureRow]) -> TurnRow:
    answer_text = None if turn["answer_text"] is None else _text(turn["answer_text"])
    answer = None if turn["answer"] is None else _text(turn["answer"])
    sampling = _text(turn["sampling"])
    try:
        load_sampling(sampling)
        load_schema(sampling)
        if answer is not None and not _is_whole(load_answer(answer, answer_text or "").parsed):
            raise HistoryError("history.not_an_archive")
    except HistoryError as error:
        raise HistoryError("history.not_an_archive") from error
    state = TurnState(turn["state"])
    return TurnRow(
        # What was open there is not open here.
        state=(TurnState.INTERRUPTED if state in (TurnState.QUEUED, TurnState.RUNNING) else state).value,
        asked_at=_moment(turn["asked_at"]),
        finished_at=None if turn["finished_at"] is None else _moment(turn["finished_at"]),
        question=_text(turn["question"]),
        sampling=sampling,
        answer_text=answer_text,
        answer=answer,
        fingerprint=_text(turn["fingerprint"]),
        precision=_text(turn["precision"]),
        pictures=pictures,
    )


def _is_whole(parsed: ParsedAnswer) -> bool:
    """True where places have numbers, and names and cells are text: what no answer of ours ever is otherwise."""
    return all(
        isinstance(region.label, str)
        and isinstance(region.picture_index, int)
        and region.picture_index >= 0
        and all(
            isinstance(edge, int | float) and math.isfinite(edge)
            for edge in (region.box.x1, region.box.y1, region.box.x2, region.box.y2)
        )
        for region in parsed.regions
    ) and all(isinstance(cell, str) for table in parsed.tables for row in (table.columns, *table.rows) for cell in row)


def _picture_row(picture: Mapping[str, Any], contents: _Contents) -> PictureRow:
    values = {
        column: _text(picture[column]) if column in _PICTURE_TEXTS else int(picture[column])
        for column in _PICTURE_COLUMNS
    }
    if values["view_mime"] not in _SHOWN or any(int(values[column]) < 1 for column in _SIZES):
        raise HistoryError("history.not_an_archive")
    load_reasons(str(values["notes"]))
    document = None if picture.get("clip") is None else _text(picture["clip"])
    clip = load_clip(document)
    rows = int(values["seen_height"]) * (1 if clip is None else len(clip.moments))
    seen = Size(int(values["seen_width"]), rows)
    renditions = []
    for name, told in picture["renditions"].items():
        rendition, mime = Rendition(name), _text(told["mime"])
        if mime not in (_UPLOADED if rendition is Rendition.UPLOAD else _SHOWN):
            # A browser is told what it says: a page or a program of a stranger's would run as this app's own.
            raise HistoryError("history.not_an_archive")
        key, digest = contents.add(_text(told["file"]), rendition, mime=mime, seen=seen)
        if digest != told["sha256"]:
            raise HistoryError("history.not_an_archive")
        renditions.append(RenditionRow(rendition=rendition.value, file=key, mime=mime))
    return PictureRow(**values, clip=document, renditions=renditions)


def _document(archive: zipfile.ZipFile, entry: str) -> dict[str, Any]:
    told = json.loads(_entry(archive, entry, largest_bytes=_LARGEST_DOCUMENT_BYTES))
    if not isinstance(told, dict):
        raise HistoryError("history.not_an_archive")
    return told


def _entry(archive: zipfile.ZipFile, entry: str, *, largest_bytes: int) -> bytes:
    try:
        with archive.open(entry) as stream:
            # Read up to the limit and no further, whatever size the archive says it has.
            content = stream.read(largest_bytes + 1)
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        raise HistoryError("history.not_an_archive") from error
    if len(content) > largest_bytes:
        raise HistoryError("history.not_an_archive")
    return content


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise HistoryError("history.not_an_archive")
    return value


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _slug(title: str) -> str:
    plain = "".join(character if character.isalnum() else "-" for character in title)
    return "-".join(part for part in plain.split("-") if part)[:40] or "conversation"
