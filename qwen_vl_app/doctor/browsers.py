"""Which browser this machine has: on the path, and on Windows where it lists its programs or where their makers put them.

Knows the names of browsers and the places they are kept in. Does not know what one is wanted for.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qwen_vl_app.config import program_folders

_DRIVABLE = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "msedge"),
    *("brave-browser", "chrome"),
)
_OTHERS = ("firefox", "firefox-esr", "opera", "epiphany", "konqueror")
_WINDOWS_DRIVABLE = (
    ("msedge.exe", ("Microsoft", "Edge", "Application")),
    ("chrome.exe", ("Google", "Chrome", "Application")),
    ("brave.exe", ("BraveSoftware", "Brave-Browser", "Application")),
    ("chrome.exe", ("Chromium", "Application")),
)
"""A program, and the folders that it lies in below one of those that Windows keeps programs in."""
_WINDOWS_OTHERS = (
    ("firefox.exe", ("Mozilla Firefox",)),
    ("opera.exe", ("Programs", "Opera")),
)
_APP_PATHS = r"Software\Microsoft\Windows\CurrentVersion\App Paths"


def find_browser(*, is_drivable: bool = False) -> Path | None:
    """Return a browser of this machine, or None; with `is_drivable`, one of Chromium's kin, which has a door for it."""
    for name in _DRIVABLE if is_drivable else (*_OTHERS[:2], *_DRIVABLE, *_OTHERS[2:]):
        if (found := shutil.which(name)) is not None:
            return Path(found)
    if sys.platform == "win32":
        wanted = _WINDOWS_DRIVABLE if is_drivable else (*_WINDOWS_DRIVABLE, *_WINDOWS_OTHERS)
        return next(windows_browsers(wanted, registered=registered_programs, folders=program_folders()), None)
    if not is_drivable and sys.platform == "darwin" and Path("/Applications/Safari.app").exists():
        return Path("/Applications/Safari.app")
    return None


def windows_browsers(
    wanted: Sequence[tuple[str, Sequence[str]]],
    *,
    registered: Callable[[str], Iterator[Path]],
    folders: Sequence[Path],
) -> Iterator[Path]:
    """Give the browsers that are there: those that Windows itself lists first, then those in the usual places.

    An installation for one account alone lies in that account's folder and needs no administrator, so it is common where
    nobody is one.
    """
    for program, below in wanted:
        places = [*registered(program), *(folder.joinpath(*below, program) for folder in folders)]
        yield from (place for place in places if place.is_file())


def registered_programs(program: str) -> Iterator[Path]:
    """Give where Windows' registry says that a program lies: this account's word first, then the machine's."""
    if sys.platform != "win32":
        return
    import winreg  # noqa: PLC0415 - exists on Windows alone

    for root in (winreg.HKEY_CURRENT_USER, winreg.HKEY_LOCAL_MACHINE):
        try:
            with winreg.OpenKey(root, rf"{_APP_PATHS}\{program}") as key:
                value = str(winreg.QueryValueEx(key, "")[0])
                place = winreg.ExpandEnvironmentStrings(value).strip().strip('"')
        except OSError:  # it is not listed there
            continue
        if place:
            yield Path(place)
