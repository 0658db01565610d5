"""A kit is put together from an index of tiny wheels, with what a person brought where it fits; then it is installed."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts import build_kit
from scripts.kit import folder as kits
from scripts.kit import resolving
from scripts.kit.resolving import TARGETS, Target
from scripts.kit.wheels import list_wheels, normalised
from scripts.packages import SetupError
from tests.setup.house import House, house, make_wheel

__all__ = ["house"]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CP = "cp" + PYTHON.replace(".", "")
HERE = sys.platform == "linux" and platform.machine() == "x86_64"


class Index:
    """A folder that stands for the package index, with what resolving and fetching would do with one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.asked: list[list[str]] = []

    def resolve(
        self,
        tools: Path,
        target: Target,
        *,
        version: str,
        requirements: Sequence[Path],
        lines: Sequence[str],
        brought: Path | None,
    ) -> dict[str, str]:
        """Return what is pinned; a build of the same version that was brought is as good as the index's own."""
        pins = [*(line for file in requirements for line in file.read_text(encoding="utf-8").splitlines()), *lines]
        self.asked.append(list(lines))
        there = [wheel for place in (brought, self.folder) if place for wheel in list_wheels(place)]
        found: dict[str, str] = {}
        for name, _, version in (pin.partition("==") for pin in pins if "==" in pin):
            fitting = [wheel.version for wheel in there if wheel.name == normalised(name)]
            near = [version] if version in fitting else [each for each in fitting if each.startswith(version)]
            if not near:
                raise SetupError(f"There is no {name}=={version}.")
            found[name] = near[0]
        return found

    def fetch(
        self,
        tools: Path,
        target: Target,
        packages: Mapping[str, str],
        *,
        version: str,
        into: Path,
        brought: Path | None,
    ) -> None:
        """Copy the wheels."""
        into.mkdir(parents=True, exist_ok=True)
        for place in (self.folder, brought):
            for wheel in list_wheels(place) if place else ():
                if packages.get(wheel.name) == wheel.version:
                    shutil.copy(wheel.path, into)


@pytest.fixture
def index(house: House, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An index with a CUDA torch and a package, for a project that pins both; no network, and no tools but this Python."""
    made = Index(house.root / "index")
    for wheel in house.kit.glob("*.whl"):
        wheel.unlink()
    (house.root / "requirements.txt").write_text("tiny==1.0\ntorch==9.9\n", encoding="utf-8")
    (house.root / "requirements-gpu.txt").write_text("", encoding="utf-8")
    (house.root / "qwen_vl_app").mkdir()
    (house.root / "qwen_vl_app" / "__init__.py").write_text('__version__ = "1.2"\n', encoding="utf-8")
    make_wheel(made.folder, "tiny", "1.0", {"tiny.py": ""})
    torch = {"torch/__init__.py": "from torch import version\n", "torch/version.py": "cuda = '13.0'\n"}
    make_wheel(made.folder, "torch", "9.9", torch)
    monkeypatch.setattr(resolving, "make_tools", lambda folder: Path(sys.executable))
    monkeypatch.setattr(resolving, "resolve", made.resolve)
    monkeypatch.setattr(resolving, "fetch", made.fetch)
    monkeypatch.setattr(build_kit, "write_bill", lambda tools, stage: (stage / kits.SBOM_NAME).write_text("{}"))
    return made


def order(house: House, *, brought: Path | None, target: str = "linux-cuda") -> build_kit.Order:
    return build_kit.Order(TARGETS[target], PYTHON, house.kit, brought, has_tests=False)


def bring(house: House, name: str) -> Path:
    """Put a flash-attn of that name among the files that a person brought."""
    folder = house.root / "brought"
    folder.mkdir(exist_ok=True)
    version, _, tag = name.removesuffix(".whl").removeprefix("flash_attn-").partition("-")
    made = make_wheel(folder, "flash_attn", version, {"flash_attn.py": "KERNELS = 2\n"}, tag=tag)
    assert made.name == name
    return folder


FLASH = f"flash_attn-2.8.3+cu13torch9.9cxx11abiTRUE-{CP}-{CP}-linux_x86_64.whl"


def test_a_prebuilt_flash_attention_that_fits_is_taken_along_and_installed(house: House, index: Index) -> None:
    """It is in the lock by its hash, in the kit's own words, and on a machine of the kit's kind in the environment."""
    assert build_kit.build(order(house, brought=bring(house, FLASH)))
    kit = kits.read_kit(house.kit)
    assert kit is not None
    assert kit.flash_attn == "2.8.3+cu13torch9.9cxx11abiTRUE"
    assert (kit.cuda, kit.packages) == ("13.0", 3)
    digest = hashlib.sha256((house.kit / FLASH).read_bytes()).hexdigest()
    lock = (house.kit / kits.LOCK_NAME).read_text(encoding="utf-8")
    assert f"flash-attn=={kit.flash_attn} --hash=sha256:{digest}" in lock
    kits.verify(house.kit)
    if HERE:
        place = house.root / "installed"
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--find-links", str(house.kit)]
        command += ["--require-hashes", "-r", str(house.kit / kits.LOCK_NAME), "--target", str(place)]
        subprocess.run(command, check=True, timeout=170)
        assert (place / "flash_attn.py").is_file()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (FLASH.replace(CP, "cp37"), "cp37"),
        (FLASH.replace("linux_x86_64", "win_amd64"), "win_amd64"),
        (FLASH.replace("linux_x86_64", "manylinux_2_39_x86_64"), "manylinux_2_39"),
        (FLASH.replace("torch9.9", "torch9.8"), "torch 9.8"),
        (FLASH.replace("cu13", "cu12"), "CUDA 12"),
        (FLASH.replace("TRUE", "FALSE"), "C\\+\\+"),
        (FLASH.replace("+cu13torch9.9cxx11abiTRUE", ""), "does not say"),
    ],
)
def test_one_that_does_not_fit_is_left_out_with_its_reason(
    house: House, index: Index, name: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python, system, its C library, torch, CUDA, the C++ interface, or no word on any: the kit is whole without it."""
    build_kit.build(order(house, brought=bring(house, name)))
    told = capsys.readouterr().out
    assert re.search(f"{re.escape(name)} is left out: .*{why}", told), told
    assert _described(house)["flash_attn"] == ""
    assert not list(house.kit.glob("flash*"))
    kits.verify(house.kit)


def test_the_fitting_one_of_several_is_taken(house: House, index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    """And an archive of sources, which would be compiled on arrival, never."""
    folder = bring(house, FLASH)
    bring(house, FLASH.replace("2.8.3", "2.9.0").replace("torch9.9", "torch10.0"))
    (folder / "flash_attn-2.9.1.tar.gz").write_bytes(b"sources")
    build_kit.build(order(house, brought=folder))
    told = capsys.readouterr().out
    assert "flash_attn-2.9.1.tar.gz is left out" in told
    assert "torch10.0" in told
    assert [path.name for path in house.kit.glob("flash*")] == [FLASH]


def test_a_kit_for_windows_with_a_card_takes_the_torch_that_was_brought(house: House, index: Index) -> None:
    """Where the index's own is for the processor alone, it stops before anything else is fetched, and names the file."""
    for wheel in index.folder.glob("torch-*"):
        wheel.unlink()
    make_wheel(index.folder, "torch", "9.9", {"torch/version.py": "cuda = None\n"})
    with pytest.raises(SetupError, match=rf"PIP_EXTRA_INDEX_URL.*torch-9\.9\+cu130-{CP}-{CP}-win_amd64\.whl"):
        build_kit.build(order(house, brought=None, target="windows-cuda"))
    assert not (house.kit / kits.KIT_NAME).exists()
    folder = house.root / "brought"
    folder.mkdir()
    modules = {"torch/version.py": "cuda = '13.0'\n"}
    make_wheel(folder, "torch", "9.9+cu130", modules, tag=f"{CP}-{CP}-win_amd64")
    for wheel in index.folder.glob("torch-*"):
        wheel.unlink()
    build_kit.build(order(house, brought=folder, target="windows-cuda"))
    told = _described(house)
    assert (told["system"], told["torch"], told["cuda"], told["driver"]) == ("windows", "9.9+cu130", "13.0", "580.88")


def test_a_kit_for_the_processor_says_where_its_torch_is_found(house: House, index: Index) -> None:
    """The public index gives Linux the CUDA build under torch's plain name: the other index, the file, or the other kit."""
    with pytest.raises(SetupError, match=rf"PIP_EXTRA_INDEX_URL.*torch-9\.9\+cpu-{CP}-{CP}-manylinux.*linux-cuda"):
        build_kit.build(order(house, brought=None, target="linux-cpu"))
    assert not (house.kit / kits.KIT_NAME).exists()


def test_the_kit_s_mark_is_the_last_line(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is where the documents tell people to find it."""
    monkeypatch.setattr(build_kit, "build", lambda order: "12ab")
    assert build_kit.main(["--target", "linux-cuda", "--out", str(house.kit)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" 12ab")


def _described(house: House) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((house.kit / kits.KIT_NAME).read_text(encoding="utf-8"))
    return told
