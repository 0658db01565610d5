"""Reading everything through that is kept: is the database whole, and are the picture files there and unchanged.

Knows SQLite's own checks and the files' hashes. Changes nothing; does not know what a turn means.
"""

from __future__ import annotations

from sqlalchemy import select, text

from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.folder import OpenFolder
from qwen_vl_app.history.tables import ConversationRow, PictureRow, RenditionRow, TurnRow


def check_storage(opened: OpenFolder) -> tuple[Reason, ...]:
    """Return what is wrong: nothing where the database is whole and every picture file has its content.

    Raises HistoryError where the database cannot be read at all.
    """
    problems: list[Reason] = []
    with opened.database.reading() as session:
        if session.execute(text("PRAGMA integrity_check(1)")).scalar() != "ok":
            problems.append(Reason("history.database_unsound"))
            opened.database.is_doubtful = True
        if strays := len(session.execute(text("PRAGMA foreign_key_check")).all()):
            problems.append(Reason("history.rows_without_place", count=strays))
        files = session.execute(
            select(RenditionRow.file, ConversationRow.owner)
            .join(PictureRow, PictureRow.id == RenditionRow.turn_picture_id)
            .join(TurnRow, TurnRow.id == PictureRow.turn_id)
            .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
            .distinct()
        ).all()
    bad = {"history.picture_missing": 0, "history.picture_damaged": 0}
    for file, owner in files:
        try:
            with translated():
                opened.files.read(file, owner=owner)
        except HistoryError as error:
            if error.code not in bad:
                raise
            bad[error.code] += 1
    if missing := bad["history.picture_missing"]:
        problems.append(Reason("history.pictures_missing", count=missing))
    if damaged := bad["history.picture_damaged"]:
        problems.append(Reason("history.pictures_damaged", count=damaged))
    return tuple(problems)
