"""Setting up from a wheelhouse of tiny wheels, with real pip and a real virtual environment, without network."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import environment, packages
from scripts.kit import resolving
from tests.setup.house import House, house, make_torch, make_wheel

__all__ = ["house"]


def test_a_cut_off_set_up_is_mended_and_a_finished_one_left_alone(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    """One life of an environment: made, left alone, cut off and mended, grown for the tests, made anew after a move."""
    make_torch(house.kit, cuda=None)
    environment.ensure()
    assert house.has("tiny")
    assert not house.has("grown")
    assert "from offline_pkgs alone" in capsys.readouterr().out

    environment.log_file().unlink()
    environment.ensure()
    assert not environment.log_file().exists(), "pip was called although nothing had changed"
    assert capsys.readouterr().out == ""

    environment.STAMP.unlink()
    module = environment.site_packages() / "tiny" / "__init__.py"
    module.write_text("SI", encoding="utf-8")
    environment.ensure()
    assert "while tiny went in" in capsys.readouterr().out
    assert module.read_text(encoding="utf-8").startswith("SIZE")

    environment.ensure(dev=True)
    assert house.has("grown")
    assert environment.is_ready(dev=False)

    settings = house.venv / "pyvenv.cfg"
    settings.write_text(settings.read_text(encoding="utf-8").replace(str(house.root), "/elsewhere"), encoding="utf-8")
    environment.STAMP.unlink()
    capsys.readouterr()
    environment.ensure()
    assert "making it anew" in capsys.readouterr().out
    assert house.has("tiny")


def test_torchvision_comes_with_a_cuda_torch_and_goes_again_where_it_breaks(house: House) -> None:
    """The pair is installed beside a CUDA build, verified by importing, and taken out where that fails."""
    make_torch(house.kit, cuda="13.0")
    make_wheel(house.kit, "transformers", "1.0", {"transformers.py": "AutoProcessor = None\n"})
    (house.root / "requirements.txt").write_text("torch==9.9\ntransformers==1.0\n", encoding="utf-8")
    vision = make_wheel(house.kit, "torchvision", "0.9", {"torchvision.py": ""}, requires="torch==9.9")
    environment.ensure()
    assert house.has("torchvision")
    assert "torchvision beside it" in environment.STAMP.read_text(encoding="utf-8")

    vision.unlink()
    broken = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    make_wheel(house.kit, "torchvision", "0.10", {"torchvision.py": broken}, requires="torch==9.9")
    (house.root / "requirements-gpu.txt").write_text("torchvision==0.10\nqwen-vl-utils==0.1\n", encoding="utf-8")
    environment.ensure()
    assert not house.has("torchvision")
    assert not (environment.site_packages() / "torchvision.py").exists()
    assert "without torchvision" in environment.STAMP.read_text(encoding="utf-8")
    assert house.has("torch")


def test_a_missing_wheel_is_said_in_a_sentence(house: House) -> None:
    """What is missing, where to read on, and no stamp; once the wheel is there, the next run succeeds."""
    with pytest.raises(packages.SetupError) as caught:
        environment.ensure()
    assert "torch==9.9" in str(caught.value)
    assert "offline_pkgs/README.md" in str(caught.value)
    assert not environment.is_ready(dev=False)
    make_torch(house.kit, cuda=None)
    environment.ensure()
    assert environment.is_ready(dev=False)


def test_two_set_ups_do_not_meet(house: House) -> None:
    """While another process holds the lock it cannot be had, and it is free again when that process ends."""
    environment.SETUP.mkdir()
    code = (
        "import sys; from pathlib import Path; from scripts import environment\n"
        "environment.SETUP = Path(sys.argv[1])\n"
        "with environment._lock():\n    print('held', flush=True); sys.stdin.read()\n"
    )
    root = Path(packages.__file__).resolve().parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", code, str(environment.SETUP)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (environment.SETUP / "lock").open("a+b") as file:
            assert not environment.try_lock(file.fileno())
        other.kill()
        other.wait(timeout=60)
    with (environment.SETUP / "lock").open("a+b") as file:
        assert environment.try_lock(file.fileno())


def _refuse_links(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(self: Path, target: str) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "symlink_to", refuse)


@pytest.mark.skipif(os.name == "nt", reason="an environment on Windows has no links")
@pytest.mark.parametrize(
    ("number", "is_the_links"),
    [(errno.EPERM, True), (errno.ENOSYS, True), (errno.EOPNOTSUPP, True), (errno.ENOSPC, False)],
)
def test_a_disk_without_links_is_told_and_where_to_go(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int, is_the_links: bool
) -> None:
    """An environment has a link on Linux; run again on an exFAT stick, it would fail again for good."""
    python = house.root / "python"
    said = f"Error: [Errno {number}] {os.strerror(number)}: 'lib' -> '{house.venv}/lib64'"
    python.write_text(f'#!/bin/sh\necho "{said}"\nexit 1\n', encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(environment, "_base_python", lambda: str(python))
    monkeypatch.setattr(sys, "executable", str(python))
    _refuse_links(monkeypatch, number)
    tools = house.root / "tools"
    makers: tuple[Callable[[], Path], ...] = (environment.ensure, lambda: resolving.make_tools(tools))
    for make in makers:
        with pytest.raises(packages.SetupError) as told:
            make()
        assert str(told.value).startswith("No virtual environment could be made.")
        assert ("takes no links" in str(told.value)) is is_the_links
        assert ("own disk" in str(told.value)) is is_the_links
        assert ("run this again" in str(told.value)) is (not is_the_links and make is environment.ensure)


def test_a_disk_that_takes_links_is_left_as_it_was(tmp_path: Path) -> None:
    """What asks leaves nothing behind, whether the folder is there already or not."""
    assert packages.takes_links(tmp_path)
    assert packages.takes_links(tmp_path / ".venv")
    assert not list(tmp_path.iterdir())


def test_a_damaged_stamp_is_no_stamp(house: House) -> None:
    """Half a file, or another kind of file, means that the environment is looked at again."""
    house.venv.mkdir()
    for text in ("", "{", "[1]"):
        environment.STAMP.write_text(text, encoding="utf-8")
        assert not environment.is_ready(dev=False)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying after NewConnectionError: Temporary failure in name resolution\n"
            "ERROR: No matching distribution found for torch==2.13.0",
            "index cannot be reached",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)\n"
            "ERROR: No matching distribution found for a==1",
            "cannot be reached, or has nothing",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", "no such package for this Python"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: 'x'",
            "may not be written",
        ),
    ],
)
def test_a_failure_has_its_gist_and_a_next_step(output: str, expected: str) -> None:
    """What pip said, what that means, and what to do."""
    told = packages.explain(output.splitlines())
    assert expected in told
    assert output.splitlines()[-1].removeprefix("ERROR: ") in told
    assert told.endswith("Then run this again; it goes on where it stopped.")


def test_what_is_installed_without_its_needs_has_them_all_but_triton(house: House) -> None:
    """A package that asks for something large, which only another build of torch uses and brings, comes without it."""
    make_wheel(house.kit, "xgrammar", "1.0", {"xgrammar.py": ""}, requires="triton; platform_system != 'Nowhere'")
    make_torch(house.kit, cuda=None)
    (house.root / "requirements.txt").write_text("tiny==1.0\ntorch==9.9\nxgrammar==1.0\n", encoding="utf-8")
    environment.ensure()
    assert house.has("xgrammar")
    assert house.has("tiny")


def test_every_need_of_such_a_package_is_pinned() -> None:
    """Held against what its own wheel says; a new version that asks for more fails here and not at a user's."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    from qwen_vl_app.config import ROOT

    pinned = {
        line.partition("==")[0].strip().lower()
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    }
    for name in packages.WITHOUT_NEEDS:
        assert name in pinned
        asked = [Requirement(line) for line in requires(name) or ()]
        needs = {need.name.lower() for need in asked if need.marker is None or "extra" not in str(need.marker)}
        assert needs - pinned == {"triton", "typing-extensions"}, "typing-extensions is torch's own need as well"
