"""Setting aside what cannot be read, so that a fresh start destroys nothing.

Knows names of files. Does not know what is wrong with them.
"""

from __future__ import annotations

from pathlib import Path

from qwen_vl_app.history.durable import sync_folder
from qwen_vl_app.own_files import FOLDER_MODE


def set_aside(folder: Path, names: tuple[str, ...], *, prefix: str = "damaged") -> str:
    """Move those of the named files and folders that exist into a new folder beside them, and return its name.

    They are moved in the order given. Raises OSError.
    """
    number = 1
    while (aside := folder / f"{prefix}-{number}").exists():
        number += 1
    aside.mkdir(mode=FOLDER_MODE)
    for name in names:
        if (folder / name).exists():
            (folder / name).rename(aside / name)
    sync_folder(aside)
    sync_folder(folder)
    return aside.name
