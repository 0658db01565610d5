"""A kit is used alone, checked to the last byte, and refused in a sentence where it does not fit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from scripts import environment, packages
from scripts.kit import folder as kits
from scripts.kit.wheels import list_wheels, sha256_of
from tests.setup.house import House, house, make_torch, make_wheel
from tests.setup.tiny_kit import describe_kit

__all__ = ["house"]


def flip(file: Path, *, at: int = -30) -> None:
    """Change one bit of a file, and neither its length nor its name."""
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_a_kit_is_installed_by_its_hashes_and_one_flipped_byte_is_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is told the hash of every file; a changed wheel is noticed before anything is installed."""
    make_torch(house.kit, cuda=None)
    describe_kit(house.kit, house.root / "requirements.txt")
    wheel = house.kit / "tiny-1.0-py3-none-any.whl"
    flip(wheel)
    with pytest.raises(packages.SetupError, match=r"tiny-1.0-py3-none-any.whl .* another one"):
        environment.ensure()
    assert not environment.environment_python().exists()
    flip(wheel)
    asked: list[list[str]] = []
    install = packages.Installer.install

    def listen(self: packages.Installer, words: Iterable[str]) -> None:
        asked.append(list(words))
        install(self, asked[-1])

    monkeypatch.setattr(packages.Installer, "install", listen)
    environment.ensure()
    assert asked == [["--require-hashes", "-r", str(house.kit / "requirements.lock")]]
    assert house.has("tiny")
    assert environment.is_ready(dev=False)
    assert not environment.is_ready(dev=True)
    with pytest.raises(packages.SetupError, match="--with-tests"):
        environment.ensure(dev=True)
    make_wheel(house.kit, "tiny", "1.0", {"tiny/__init__.py": "SIZE = 'another build'\n"})
    describe_kit(house.kit, house.root / "requirements.txt")
    assert not environment.is_ready(dev=False), "another kit, and what is installed came from the old one"


def test_no_setting_of_this_machine_s_pip_reaches_into_a_kit(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that is gone, another index, a folder for everything: with a kit, pip reads none of that."""
    make_torch(house.kit, cuda=None)
    describe_kit(house.kit, house.root / "requirements.txt")
    settings = tmp_path / "pip.ini"
    settings.write_text("[global]\nrequire-virtualenv = nonsense\nfind-links = \\\\gone\\share\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "nowhere.txt"))
    environment.ensure()
    assert house.has("tiny")
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_mac_leaves_beside_every_file_of_a_stick_is_not_in_the_way(house: House) -> None:
    """On exFAT a Mac keeps what it knows of `a.whl` in `._a.whl`: no wheel, no stranger, and no kit where it lies alone."""
    make_torch(house.kit, cuda=None)
    describe_kit(house.kit, house.root / "requirements.txt")
    wheels, size = list_wheels(house.kit), kits.wheel_bytes(house.kit)
    for path in list(house.kit.iterdir()):
        (house.kit / f"._{path.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    kits.verify(house.kit)
    assert (list_wheels(house.kit), kits.wheel_bytes(house.kit)) == (wheels, size)
    mark = kits.mark_of(house.kit)
    assert kits.write_sums(house.kit) == mark
    environment.ensure()
    assert house.has("tiny")
    for path in list(house.kit.iterdir()):
        if not path.name.startswith("._"):
            path.unlink()
    installer = packages.Installer(python=environment.environment_python(), log=house.root / "log", kit=house.kit)
    assert not installer.has_kit


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A small kit that fits."""
    folder = tmp_path / "offline_pkgs"
    folder.mkdir()
    (tmp_path / "requirements.txt").write_text("tiny==1.0\n", encoding="utf-8")
    make_wheel(folder, "tiny", "1.0", {"tiny.py": ""})
    describe_kit(folder, tmp_path / "requirements.txt")
    return folder


def _told(folder: Path) -> str:
    with pytest.raises(kits.KitError) as caught:
        kits.verify(folder)
    return str(caught.value)


def test_every_way_a_kit_can_be_wrong_names_the_file(kit: Path) -> None:
    """Missing, changed, half copied, or not on the list: each with what to do."""
    kits.verify(kit)
    lock = (kit / "requirements.lock").read_text(encoding="utf-8")
    assert f"tiny==1.0 --hash=sha256:{sha256_of(kit / 'tiny-1.0-py3-none-any.whl')}" in lock
    make_wheel(kit, "stranger", "1.0", {"stranger.py": ""})
    assert "stranger" in _told(kit)
    assert "not on the kit's list" in _told(kit)
    (kit / "stranger-1.0-py3-none-any.whl").unlink()
    (kit / "requirements.lock").write_text(lock.replace("1.0", "1.1"), encoding="utf-8", newline="\n")
    assert "requirements.lock" in _told(kit)
    (kit / "requirements.lock").write_text(lock, encoding="utf-8", newline="\n")
    wheel = kit / "tiny-1.0-py3-none-any.whl"
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:-10])
    assert "tiny" in _told(kit)
    wheel.unlink()
    assert "is missing" in _told(kit)
    wheel.write_bytes(whole)
    kits.verify(kit)
    (kit / "SHA256SUMS").unlink()
    assert "SHA256SUMS is missing" in _told(kit)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"system": "plan9"}, "is for plan9"),
        ({"machine": "vax"}, "is for vax processors"),
        ({"python": "3.99"}, "is for Python 3.99"),
        ({"requirements": {"requirements.txt": "0" * 64}}, "another requirements.txt"),
    ],
)
def test_a_kit_for_another_machine_is_refused_with_the_command_that_builds_the_right_one(
    kit: Path, changes: dict[str, object], expected: str
) -> None:
    """The sentence says what the kit is for."""
    requirements = kit.parent / "requirements.txt"
    describe_kit(kit, requirements, **changes)
    found = kits.read_kit(kit)
    assert found is not None
    assert expected in kits.misfit(found, requirements={"requirements.txt": kits.digest_of(requirements)})


def test_a_kit_that_fits_has_nothing_to_say(kit: Path) -> None:
    """Also with other line ends: the file may come from a checkout on Windows."""
    requirements = kit.parent / "requirements.txt"
    found = kits.read_kit(kit)
    assert found is not None
    requirements.write_bytes(b"tiny==1.0\r\n")
    assert kits.misfit(found, requirements={"requirements.txt": kits.digest_of(requirements)}) == ""


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_a_damaged_description_is_said_to_be_one(kit: Path, text: str) -> None:
    """No traceback, and never taken for a folder without a kit."""
    (kit / "KIT.json").write_text(text, encoding="utf-8")
    with pytest.raises(kits.KitError):
        kits.read_kit(kit)
