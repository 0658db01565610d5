"""Finding a browser: on the path, and on Windows by its list of programs, for one account or for all."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from qwen_vl_app import config
from qwen_vl_app.doctor import browser_finding, browsers, find_browser

USER, MACHINE = "the account's", "the machine's"
APP_PATHS = r"Software\Microsoft\Windows\CurrentVersion\App Paths"


class Registry:
    """Windows' registry, as far as it lists programs."""

    HKEY_CURRENT_USER, HKEY_LOCAL_MACHINE = USER, MACHINE

    def __init__(self, told: dict[tuple[str, str], str]) -> None:
        self.told = told

    def OpenKey(self, root: str, name: str) -> Any:
        value = self.told.get((root, name))
        if value is None:
            raise FileNotFoundError(2, "not listed")

        class Key(SimpleNamespace):
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None: ...

        return Key(value=value)

    def QueryValueEx(self, key: Any, name: str) -> tuple[str, int]:
        assert name == ""
        return key.value, 1

    def ExpandEnvironmentStrings(self, text: str) -> str:
        return text.replace("%ProgramFiles%", "/programs")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Windows with no browser yet; return where its folders of programs are."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "winreg", Registry({}))
    for name, folder in (
        ("LOCALAPPDATA", "own"),
        ("ProgramFiles", "all"),
        ("ProgramW6432", "all"),
        ("ProgramFiles(x86)", "narrow (x86)"),
    ):
        monkeypatch.setenv(name, str(tmp_path / folder))
    return tmp_path


def put(program: Path) -> Path:
    program.parent.mkdir(parents=True)
    program.touch()
    return program


@pytest.mark.parametrize("place", ["own", "all", "narrow (x86)"])
@pytest.mark.parametrize("program", ["Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe"])
def test_a_browser_for_one_account_or_for_all_is_found(windows: Path, place: str, program: str) -> None:
    assert find_browser() is None
    there = put(windows / place / program)
    assert find_browser() == there
    assert find_browser(is_drivable=True) == there


def test_a_browser_that_cannot_be_driven_is_one_to_look_with(windows: Path) -> None:
    """Firefox shows the page; the proof needs one of Chromium's kin."""
    there = put(windows / "all" / "Mozilla Firefox" / "firefox.exe")
    assert find_browser() == there
    assert find_browser(is_drivable=True) is None
    assert browser_finding(there, port=8501).about.facts["name"] == "firefox"


@pytest.mark.parametrize("root", [USER, MACHINE])
def test_windows_own_list_of_programs_knows_any_place(
    windows: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    """Quotes are part of some entries, variables of others; what is listed and gone is no browser."""
    there = put(windows / "elsewhere" / "chrome.exe")
    listed = {(root, rf"{APP_PATHS}\chrome.exe"): f'"{there}"'}
    monkeypatch.setitem(sys.modules, "winreg", Registry(listed))
    assert find_browser() == there
    there.unlink()
    assert find_browser() is None
    monkeypatch.setitem(sys.modules, "winreg", Registry({(root, rf"{APP_PATHS}\x.exe"): "%ProgramFiles%/x.exe"}))
    assert list(browsers.registered_programs("x.exe")) == [Path("/programs/x.exe")]


def test_a_machine_that_names_no_folders_has_none(windows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a service gives its programs an empty environment."""
    assert config.program_folders() == tuple(windows / name for name in ("own", "all", "narrow (x86)"))
    for name in ("LOCALAPPDATA", "ProgramFiles", "ProgramW6432", "ProgramFiles(x86)"):
        monkeypatch.delenv(name)
    assert config.program_folders() == ()
    assert find_browser() is None


def test_elsewhere_the_path_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in ("konqueror", "chrome") else None)
    assert find_browser() == Path("/bin/chrome")
    assert list(browsers.registered_programs("chrome.exe")) == []
