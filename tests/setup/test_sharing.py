"""The suite in two processes: when, and what stays together."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from xdist.scheduler import LoadFileScheduling

from scripts import check as the_checks
from scripts import test as the_command
from scripts.test import quick_room, shared_out
from tests import sharing

ALL = ["-n", "auto", "--dist", "loadfile"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ALL),
        (["--color=no", "-ra", "--durations=9"], ALL),
        (["tests/ui"], []),
        (["-k", "queue"], []),
        (["-n0"], []),
        (["-n", "4"], []),
        (["--dist=load"], []),
        (["-s"], []),
        (["--pdb"], []),
    ],
)
def test_only_a_whole_suite_is_shared_and_only_where_nobody_decided(arguments: list[str], expected: list[str]) -> None:
    """A part of it is there sooner in one process, and whoever says how it is to run is heard."""
    assert shared_out(arguments) == expected


def test_a_small_machine_keeps_it_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes need memory that is really there."""
    monkeypatch.setattr(sharing, "NEEDED_BYTES", 2**60)
    assert sharing.processes() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such folder on Windows")
@pytest.mark.parametrize(
    ("memory", "disk", "flags", "decided", "is_taken"),
    [
        (2**40, 2**40, 0, "", True),
        (2**30, 2**40, 0, "", False),
        (2**40, 2**26, 0, "", False),
        (2**40, 2**40, getattr(os, "ST_NOEXEC", 0), "", False),
        (2**40, 2**40, 0, "TMPDIR", False),
    ],
)
def test_files_lie_in_memory_only_where_there_is_plenty_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: int,
    disk: int,
    flags: int,
    decided: str,
    is_taken: bool,
) -> None:
    """A container gives that folder 64 MiB or lets nothing start from it; and whoever chose a place is heard."""
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.delenv("PYTEST_DEBUG_TEMPROOT", raising=False)
    if decided:
        monkeypatch.setenv(decided, str(tmp_path))
    state = SimpleNamespace(f_bavail=disk // 4096, f_frsize=4096, f_flag=flags)
    monkeypatch.setattr(the_command, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(the_command, "_free_memory", lambda: memory)
    monkeypatch.setattr(os, "statvfs", lambda path: state)
    assert quick_room() == ({"PYTEST_DEBUG_TEMPROOT": str(tmp_path)} if is_taken else {})


def test_all_browsers_are_in_one_process_and_begin() -> None:
    """Other files are shared out one by one, in their order."""
    scope_of = object.__new__(sharing.Sharing)._split_scope
    browsing = ["tests/ui/test_page_browser.py::test_a", "tests/api/test_guard_browser.py::test_b[1]"]
    assert {scope_of(nodeid) for nodeid in browsing} == {sharing.BROWSING}
    assert scope_of("tests/test_jobs.py::TestTurns::test_a") == "tests/test_jobs.py"
    assert issubclass(sharing.Sharing, LoadFileScheduling)


def test_every_test_with_a_browser_stands_in_a_file_that_says_so(request: pytest.FixtureRequest) -> None:
    """The process that shares the tests out knows nothing of them but their names."""
    browsing = [
        item.nodeid for item in request.session.items if "running_chromium" in getattr(item, "fixturenames", ())
    ]
    assert [nodeid for nodeid in browsing if not sharing.is_browsing(nodeid)] == []


@pytest.mark.parametrize("script", [the_checks, the_command])
def test_who_asks_for_help_downloads_nothing(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the script does is told before gigabytes are fetched for it."""
    monkeypatch.setattr(script.environment, "ensure", lambda **_: pytest.fail("it was set up"))
    try:
        assert script.main(["--help"]) == 0
    except SystemExit as end:
        assert end.code == 0
    assert "downloading packages the first time" in " ".join(capsys.readouterr().out.split())
