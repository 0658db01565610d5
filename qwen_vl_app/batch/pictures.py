"""The pictures of a run on their way to the model: read, known again by their bytes, decoded page by page.

Knows which questions about them have no row yet; what cannot be asked about gets its row here. Does not know who asks, or
what is answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch.book import RunBook, now
from qwen_vl_app.batch.plan import BatchPlan
from qwen_vl_app.batch.rows import BatchRow, RowOutcome
from qwen_vl_app.batch.source import FoundFile, SourceFolder
from qwen_vl_app.chat import StagedPicture
from qwen_vl_app.errors import BatchError, PictureError
from qwen_vl_app.own_files import make_folder, write_new

THUMBNAILS_NAME = "thumbnails"
_DOCUMENTS = frozenset({"PDF", "TIFF"})
_SEEN_AGAIN = ("batch.file.changing", "batch.file.gone", "batch.folder.gone")
"""What a watched folder may do to a file, or to itself, for a while."""


@dataclass(slots=True)
class RunFile:
    """A file under way: how many of its questions have no row yet, and whether all have been put."""

    found: FoundFile
    content_hash: str
    open_questions: int = 0
    is_all_put: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One question about one page."""

    file: RunFile
    picture: StagedPicture
    question_index: int
    thumbnail: str


class Pictures:
    """Makes items of a folder's files. `go_on` is called before every step: it waits while the run is paused, and raises to end it.

    `on_file` is told the name of every file that is taken up.
    """

    def __init__(
        self,
        assistant: Assistant,
        plan: BatchPlan,
        *,
        book: RunBook,
        folder: Path,
        go_on: Callable[[], None],
        on_file: Callable[[str], None],
    ) -> None:
        self._assistant = assistant
        self._plan = plan
        self._book = book
        self._thumbnails = folder / THUMBNAILS_NAME
        self._go_on = go_on
        self._on_file = on_file
        self._given_up: set[FoundFile] = set()

    def waiting(self, files: Sequence[FoundFile]) -> list[FoundFile]:
        """Return the files that need something. One that could not be read is not tried again as it was then."""
        return [file for file in files if self._book.needs(file) and file not in self._given_up]

    def items(self, source: SourceFolder, files: Sequence[FoundFile]) -> Iterator[Item]:
        """Yield the questions that have no row yet; nothing of the next file is touched before somebody asks for it."""
        for found in files:
            self._go_on()
            self._on_file(found.name)
            try:
                as_is, data = source.read(found.name, max_bytes=self._assistant.settings.max_upload_mb * 2**20)
            except BatchError as error:
                if self._plan.is_watching and error.code in _SEEN_AGAIN:
                    continue  # the next look sees what became of it
                if error.code == "batch.folder.gone":  # a row for every file would tell nobody
                    raise
                self._given_up.add(found)
                self._book.write(BatchRow(found.name, RowOutcome.FAILED, now(), error=error.reason))
                self._book.count_file()
                continue
            content_hash = hashlib.sha256(data).hexdigest()
            owner = self._book.owner_of(content_hash, as_is.name)
            if owner != as_is.name:
                self._book.write(
                    BatchRow(as_is.name, RowOutcome.DUPLICATE, now(), content_hash=content_hash, duplicate_of=owner)
                )
                self._book.finish_file(as_is, content_hash)
                continue
            yield from self._questions_of(RunFile(as_is, content_hash), data)

    def _questions_of(self, file: RunFile, data: bytes) -> Iterator[Item]:
        page, page_count = 0, 1
        while page < page_count:
            wanted = [
                index
                for index in range(len(self._plan.questions))
                if not self._book.is_done(file.found.name, file.content_hash, page=page, question_index=index)
            ]
            # Page 0 tells how many there are, also where all of its own questions are done.
            if wanted or page == 0:
                try:
                    picture = self._assistant.stage(data, file.found.name, page=page, detail=self._plan.detail)
                except PictureError as error:
                    if page == 0:  # the others may be sound
                        page_count = self._assistant.intake.page_count(data)
                    self._write_refused(file, error, page=page, page_count=page_count)
                else:
                    if page == 0 and picture.format in _DOCUMENTS:
                        page_count = picture.page_count
                    thumbnail = self._keep_thumbnail(file, picture)
                    file.open_questions += len(wanted)
                    for index in wanted:
                        self._go_on()
                        yield Item(file, picture, index, thumbnail)
            page += 1
        file.is_all_put = True
        if file.open_questions == 0:
            self._book.finish_file(file.found, file.content_hash)

    def _write_refused(self, file: RunFile, error: PictureError, *, page: int, page_count: int) -> None:
        self._book.write(
            BatchRow(
                file.found.name,
                RowOutcome.FAILED,
                now(),
                page=page,
                page_count=page_count,
                content_hash=file.content_hash,
                error=error.reason,
            )
        )

    def _keep_thumbnail(self, file: RunFile, picture: StagedPicture) -> str:
        name = f"{file.content_hash[:32]}-{picture.page}.jpg"
        target = self._thumbnails / name
        if not target.exists():
            try:
                make_folder(target.parent)
                partial = target.with_suffix(".part")
                write_new(partial, picture.thumbnail)
                partial.replace(target)
            except OSError as error:
                raise BatchError("batch.journal.unwritable") from error
        return name
