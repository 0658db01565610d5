"""What happens before a history can be used: look, set aside what is broken, create or migrate.

Knows which files make up a data folder. Does not know conversations. Runs under the folder's lock.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from qwen_vl_app.errors import HistoryError, Reason
from qwen_vl_app.history.faults import translated
from qwen_vl_app.history.picture_files import PictureFiles
from qwen_vl_app.history.quarantine import set_aside
from qwen_vl_app.history.schema import COMPANIONS, bring_up_to_date, create, look_at

DATABASE_NAME = "history.db"
PICTURES_NAME = "pictures"
COPIES_NAME = "before-upgrade"
SNAPSHOT_NAME = "history.db.snapshot"
"""The database's copy while a backup is made."""
RESTORING_NAME = "restoring"
"""The folder in which a backup is unpacked before it takes the history's place."""
# The log goes before its database: a log left behind would be replayed into the next database of that name.
EVERYTHING = (*(DATABASE_NAME + end for end in COMPANIONS), DATABASE_NAME, PICTURES_NAME)


def prepare(folder: Path, *, is_trusted: bool = False) -> tuple[Reason, ...]:
    """Leave a sound database of the newest version in the folder, and say what had to be done for it.

    A trusted database is not read through, which takes seconds where there is much in it.

    Never deletes what a user kept: what cannot be read is moved into a folder named `damaged-N`, with the pictures that
    belong to it. Raises HistoryError.
    """
    with translated():
        notices: list[Reason] = []
        (folder / SNAPSHOT_NAME).unlink(missing_ok=True)
        # What a kill left of a backup that was being put back; the backup itself lies elsewhere.
        shutil.rmtree(folder / RESTORING_NAME, ignore_errors=True)
        file = folder / DATABASE_NAME
        if file.exists() and not file.is_file():
            raise HistoryError("history.folder_unusable")
        state = look_at(file, is_trusted=is_trusted) if file.exists() else None
        if state is None and _has_remains(folder):
            notices.append(Reason("history.database_lost", folder=set_aside(folder, EVERYTHING)))
        elif state is not None and not state.is_sound:
            notices.append(Reason("history.quarantined", folder=set_aside(folder, EVERYTHING)))
            state = None
        if state is None:
            for end in COMPANIONS:
                (folder / (DATABASE_NAME + end)).unlink(missing_ok=True)
            create(file)
        elif copy := bring_up_to_date(file, state.version, copies=folder / COPIES_NAME):
            notices.append(Reason("history.upgraded", folder=COPIES_NAME, copy=copy.name))
        return tuple(notices)


def _has_remains(folder: Path) -> bool:
    log = folder / f"{DATABASE_NAME}-wal"
    return (log.exists() and log.stat().st_size > 0) or PictureFiles(folder / PICTURES_NAME).has_any()
