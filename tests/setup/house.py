"""A project folder of a test's own, with a wheelhouse of tiny wheels; no pip of it reaches any index."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from scripts import environment


def make_wheel(
    kit: Path, name: str, version: str, modules: dict[str, str], *, requires: str = "", tag: str = "py3-none-any"
) -> Path:
    """Write a wheel with the given modules, which says that it is for `tag`."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = modules | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}")
    record = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    wheel = kit / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in [*files.items(), (f"{info}/RECORD", record)]:
            archive.writestr(path, text)
    return wheel


def make_torch(kit: Path, *, cuda: str | None) -> None:
    """Write a torch that says which build it is."""
    modules = {"torch/__init__.py": "from torch import version\n", "torch/version.py": f"cuda = {cuda!r}\n"}
    make_wheel(kit, "torch", "9.9", modules)


class House:
    """A project folder of the test's own, which the set-up takes for its root."""

    def __init__(self, root: Path) -> None:
        self.root, self.kit, self.venv = root, root / "offline_pkgs", root / ".venv"
        self.kit.mkdir()
        (root / "requirements.txt").write_text("tiny==1.0\ntorch==9.9\n", encoding="utf-8")
        (root / "requirements-dev.txt").write_text("grown==1.0\n", encoding="utf-8")
        (root / "requirements-gpu.txt").write_text("torchvision==0.9\nqwen-vl-utils==0.1\n", encoding="utf-8")
        make_wheel(self.kit, "tiny", "1.0", {"tiny/__init__.py": "SIZE = 'as it should be'\n"})
        make_wheel(self.kit, "grown", "1.0", {"grown.py": ""})
        make_wheel(self.kit, "qwen_vl_utils", "0.1", {"qwen_vl_utils.py": ""})

    def has(self, module: str) -> bool:
        """Whether the environment can import a module."""
        ran = subprocess.run([str(environment.environment_python()), "-I", "-c", f"import {module}"], check=False)
        return ran.returncode == 0


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A fresh project, and a pip that knows nothing of this machine's indexes."""
    made = House(tmp_path)
    venv = made.venv
    for name, value in {
        "ROOT": tmp_path,
        "FOLDER": venv,
        "STAMP": venv / "setup.json",
        "SETUP": tmp_path / ".setup",
        "KIT": made.kit,
        "SELF_TEST": tmp_path / "self_test.py",
    }.items():
        monkeypatch.setattr(environment, name, value)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    return made
