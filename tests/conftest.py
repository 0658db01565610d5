"""What every test stands on: no network, no settings of this machine, one thread, and the pictures of others where they are.

A room's own fixtures stand in a conftest of its own folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything imports numpy or torch: results that do not depend on the number of cores, and cores left to others.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from qwen_vl_app.config import ENVIRONMENT_PREFIX, ROOT, Settings
from qwen_vl_app.offline import go_offline

go_offline()  # for this whole process: whatever a test does, nothing but loopback is reached


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this machine's own QWEN_VL_* variables away from the test."""
    for name in [name for name in os.environ if name.upper().startswith(ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Default settings with a data folder of the test's own."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of pictures that others made, at `shared/corpus` beside the project or up to two levels higher."""
    for folder in [ROOT, *ROOT.parents][:4]:
        found = folder / "shared" / "corpus"
        if found.is_dir():
            return found
    pytest.skip("the corpus of pictures is not on this machine")
