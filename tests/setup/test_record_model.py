"""Recording a model where nothing is installed but Python, as on the machine that it was fetched with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qwen_vl_app import model_files
from qwen_vl_app.config import ROOT
from qwen_vl_app.engine.folders import inspect_folder
from scripts import record_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that may be changed, in a folder with any letters."""
    return Path(shutil.copytree(ROOT / "models" / "demo", tmp_path / "模型 7b"))


def test_a_bare_python_records_what_the_app_then_verifies(model: Path) -> None:
    """With no package beside the standard library; a manifest that is there is not written over unasked."""
    command = [sys.executable, "-I", "-S", str(ROOT / "scripts" / "record_model.py"), str(model)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    inspection = model_files.verify(inspect_folder(model))
    assert inspection.problem is None and inspection.manifest is not None
    assert record_model.main([str(model)]) == 1
    assert record_model.main([str(model), "--again"]) == 0


def test_what_cannot_be_recorded_is_said(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there, and one with something in it that has no place there."""
    assert record_model.main(["no-such-model"]) == 2
    assert "demo" in capsys.readouterr().err
    (model / "evil.py").touch()
    assert record_model.main([str(model)]) == 1
    assert "evil.py" in capsys.readouterr().err
    assert not (model / "manifest.json").exists()
