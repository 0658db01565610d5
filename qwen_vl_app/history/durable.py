"""Files that are on the disk when the call returns: whole or not at all, also after a power cut.

Knows bytes and renames. Does not know what the bytes are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from qwen_vl_app.own_files import new_file

TEMPORARY_SUFFIX = ".part"


def write_file(file: Path, content: bytes) -> None:
    """Put the content under its final name in one step, closed to other accounts. The folder's own entry is durable after `sync_folder`."""
    temporary = file.with_name(file.name + TEMPORARY_SUFFIX)
    try:
        with new_file(temporary) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def move_file(source: Path, target: Path) -> None:
    """Give a finished file its final name, durably."""
    # Opened for writing because Windows syncs no other kind of handle.
    with source.open("rb+") as stream:
        os.fsync(stream.fileno())
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
