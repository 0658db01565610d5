"""An update leaves what works alone until the new environment has shown that it works too."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import environment, packages


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose environments are folders with one file, made in no time."""
    for name, value in {
        "ROOT": tmp_path,
        "FOLDER": tmp_path / ".venv",
        "STAMP": tmp_path / ".venv" / "setup.json",
        "SETUP": tmp_path / ".setup",
        "KIT": tmp_path / "offline_pkgs",
        "SELF_TEST": tmp_path / "self_test.py",
        "_is_usable": Path.exists,
        "_is_sound": lambda: True,
    }.items():
        monkeypatch.setattr(environment, name, value)
    (tmp_path / "requirements-gpu.txt").write_text("", encoding="utf-8")
    (tmp_path / "requirements-dev.txt").write_text("", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "history").write_text("precious", encoding="utf-8")
    want(tmp_path, 1)
    monkeypatch.setattr(environment, "_make", maker(tmp_path))
    return tmp_path


def want(root: Path, version: int) -> None:
    """Let the app need another version."""
    (root / "requirements.txt").write_text(f"torch=={version}\n", encoding="utf-8")


def maker(root: Path, *, error: BaseException | None = None) -> Callable[..., str]:
    """Return what makes an environment that says what it was made for, or fails half-way."""

    def make(**_: object) -> str:
        python = environment.environment_python()
        python.parent.mkdir(parents=True, exist_ok=True)
        environment.STAMP.unlink(missing_ok=True)
        python.write_text((root / "requirements.txt").read_text(encoding="utf-8"), encoding="utf-8")
        if error is not None:
            raise error
        return python.read_text(encoding="utf-8").strip()

    return make


def in_use() -> str:
    """What the environment in use was made for."""
    return environment.environment_python().read_text(encoding="utf-8").strip()


def test_an_update_that_fails_brings_back_what_worked(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says how to start the app all the same; the next run tries the update again."""
    environment.ensure()
    want(world, 2)
    monkeypatch.setattr(environment, "_make", maker(world, error=packages.SetupError("The new one is broken.")))
    with pytest.raises(packages.SetupError, match=r"(?s)The new one is broken.*is back.*--rollback"):
        environment.ensure()
    assert in_use() == "torch==1"
    assert not environment.is_ready(dev=False)
    environment.roll_back()
    assert environment.is_ready(dev=False), "a person has said that the old one will do"
    want(world, 3)
    assert not environment.is_ready(dev=False), "but not for ever"
    monkeypatch.setattr(environment, "_make", maker(world))
    environment.ensure()
    assert in_use() == "torch==3"
    assert (world / "data" / "history").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "x.dll"), "x.dll cannot be written to"),
        (OSError(errno.EROFS, "Read-only file system", "lib"), "lib cannot be written to"),
        (OSError(errno.EIO, "Input/output error", "lib"), "The disk refused: Input/output error"),
    ],
)
def test_what_a_disk_refuses_is_a_sentence_and_changes_nothing_that_worked(
    world: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, told: str
) -> None:
    """Also where the log of the set-up is what it refuses. The first set-up and an update both end in words."""
    monkeypatch.setattr(environment, "_make", maker(world, error=error))
    with pytest.raises(packages.SetupError, match=told):
        environment.ensure()
    monkeypatch.setattr(environment, "_make", maker(world))
    environment.ensure()
    want(world, 2)
    monkeypatch.setattr(environment, "_make", maker(world, error=error))
    with pytest.raises(packages.SetupError, match=rf"(?s){told}.*is back"):
        environment.ensure()
    assert in_use() == "torch==1"


def test_a_folder_that_is_only_read_is_said(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a stick that is locked."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(world / ".setup"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    for start in (environment.ensure, environment.roll_back):
        with pytest.raises(packages.SetupError, match="Copy the project to a folder of your own"):
            start()


def test_an_environment_from_another_place_is_not_gone_back_to(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder was moved since: what waits aside does not work here, and what works stays in its place."""
    environment.ensure()
    want(world, 2)
    environment.ensure()
    monkeypatch.setattr(environment, "_is_sound", lambda: in_use() != "torch==1")
    with pytest.raises(packages.SetupError, match="The present one stays"):
        environment.roll_back()
    assert in_use() == "torch==2"
    assert environment.is_ready(dev=False)


def test_a_moved_folder_is_not_told_that_the_app_s_needs_have_changed(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is mended, and the sentence says what was the matter."""
    environment.ensure()
    stamp = environment._read_stamp()
    environment._write_stamp(stamp | {"root": "/elsewhere"})
    capsys.readouterr()
    environment.ensure()
    assert "has changed" not in capsys.readouterr().out
    want(world, 2)
    environment.ensure()
    assert "has changed" in capsys.readouterr().out


def test_one_can_go_back_and_forth(world: Path) -> None:
    """The environment from before stays until the next update."""
    environment.ensure()
    with pytest.raises(packages.SetupError, match="no environment from before"):
        environment.last_good().mark.unlink(missing_ok=True)
        environment.STAMP.rename(world / "stamp")
        environment.roll_back()
    (world / "stamp").rename(environment.STAMP)
    want(world, 2)
    environment.ensure()
    assert in_use() == "torch==2"
    environment.roll_back()
    assert in_use() == "torch==1"
    assert environment.is_ready(dev=False)
    environment.roll_back()
    assert in_use() == "torch==2"


def test_a_killed_update_is_finished_or_taken_back(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves half an environment and the good one aside: the next run goes on, and a failure still brings it back."""
    environment.ensure()
    want(world, 2)
    monkeypatch.setattr(environment, "_make", maker(world, error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        environment.ensure()
    assert environment.last_good().is_awaited
    monkeypatch.setattr(environment, "_make", maker(world, error=packages.SetupError("Broken.")))
    with pytest.raises(packages.SetupError, match="is back"):
        environment.ensure()
    assert in_use() == "torch==1"
    monkeypatch.setattr(environment, "_make", maker(world, error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        environment.ensure()
    environment.roll_back()
    assert in_use() == "torch==1"
    monkeypatch.setattr(environment, "_make", maker(world))
    want(world, 4)
    environment.ensure()
    assert in_use() == "torch==4"
    assert not environment.last_good().is_awaited


def test_an_environment_that_fails_its_test_is_not_taken(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken is an error; another answer of the demo model is one only where something better waits."""
    import sys

    environment.SETUP.mkdir()
    environment.SELF_TEST.write_text("print('torch is broken'); raise SystemExit(1)", encoding="utf-8")
    with pytest.raises(packages.SetupError, match="torch is broken"):
        environment._test(Path(sys.executable))
    environment.SELF_TEST.write_text("print('it says 7'); raise SystemExit(2)", encoding="utf-8")
    environment._test(Path(sys.executable))
    assert "it says 7" in capsys.readouterr().out
    environment.FOLDER.mkdir()
    environment.last_good().put_aside()
    with pytest.raises(packages.SetupError, match="it says 7"):
        environment._test(Path(sys.executable))
    environment.SELF_TEST.write_text("print('fine')", encoding="utf-8")
    environment._test(Path(sys.executable))
