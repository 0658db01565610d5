"""A link that a test makes, where the system and the account let it.

Windows grants it to few accounts; Wine 8 says that it did it, and makes none.
"""

from __future__ import annotations

from pathlib import Path


def make_link(link: Path, target: Path, *, is_folder: bool = False) -> None:
    """Make a link that leads to `target`. Raises OSError where none is there afterwards."""
    link.symlink_to(target, target_is_directory=is_folder)
    if not link.is_symlink():
        raise OSError(f"no link was made at {link}")
