"""What is different on Windows and can be shown elsewhere: code pages, launchers, long names, folders with any letters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qwen_vl_app.config import ROOT
from qwen_vl_app.imaging import child_process
from scripts import packages

SCRIPTS = ("run.py", "test.py", "check.py", "build_kit.py", "record_model.py", "shortcuts.py", "uninstall.py")


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts in a folder whose name no Western code page can write."""
    root = tmp_path_factory.mktemp("place") / "图像助手 é"
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("demo_model", "__pycache__"))
    (root / ".venv").mkdir()
    return root


@pytest.mark.parametrize("code_page", ["cp1252", "cp936", "ascii"])
def test_a_folder_s_name_breaks_no_sentence_on_any_code_page(chinese: Path, code_page: str) -> None:
    """Where a console or a file cannot write a letter, it is written by its number, and the script goes on."""
    (chinese / ".venv").mkdir(exist_ok=True)
    surroundings = {**os.environ, "PYTHONIOENCODING": code_page, "PYTHONUTF8": "0", "QWEN_VL_DATA_DIR": ""}
    told = subprocess.run(
        [sys.executable, str(chinese / "scripts" / "uninstall.py")],
        capture_output=True,
        env=surroundings,
        timeout=60,
        check=False,
    )
    said = (told.stdout + told.stderr).decode(code_page)
    assert told.returncode == 0, said
    assert "Removed" in said
    assert ("图像助手" in said) is (code_page == "cp936")
    assert ("\\u56fe" in said) is (code_page != "cp936")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_speaks_anywhere_before_it_says_anything(name: str) -> None:
    """It is the first thing that each of them does."""
    main = (ROOT / "scripts" / name).read_text(encoding="utf-8").partition("def main(")[2]
    first = main.partition('"""\n')[2].splitlines()[0]
    assert first.strip() == "speak_anywhere()"


def test_programs_that_are_listened_to_speak_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's own code page would else lose the letters of a path before they reach the log."""
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    surroundings = packages.clean_environment()
    assert "PYTHONPATH" not in surroundings
    told = subprocess.run(
        [sys.executable, "-c", "print('图像')"],
        env={**surroundings, "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    )
    assert told.stdout.decode("utf-8").strip() == "图像"


def test_the_decoder_is_started_without_the_launcher_of_a_virtual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows that is a process of its own: its time, its memory and its end would be watched instead of the decoder's."""
    assert child_process._interpreter() == sys.executable or sys.platform == "win32"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "_base_executable", r"C:\Python311\python.exe", raising=False)
    assert child_process._interpreter() == r"C:\Python311\python.exe"
    monkeypatch.setattr(sys, "_base_executable", "")
    assert child_process._interpreter() == sys.executable


def test_names_that_are_too_long_for_windows_have_a_next_step() -> None:
    """pip's own hint is about a setting that most people may not change."""
    told = packages.explain(
        [
            "ERROR: Could not install packages due to an OSError: [Errno 2] No such file or directory: 'C:\\\\a\\\\b'",
            "HINT: This error might have occurred since this system does not have Windows Long Path support enabled.",
        ]
    )
    assert "short place" in told
