"""What every test stands on: no network, no settings of this machine, one thread, and the pictures of others where they are.

A room's own fixtures stand in a conftest of its own folder.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# Before anything imports numpy or torch: results that do not depend on the number of cores, and cores left to others.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from qwen_vl_app.config import ENVIRONMENT_PREFIX, ROOT, Settings
from qwen_vl_app.offline import go_offline

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

go_offline()  # for this whole process: whatever a test does, nothing but loopback is reached

# A process that was started in the background of a shell may have been told to ignore Ctrl-C, which some tests press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that does other things as well is no reason to fail: examples may take their time.
hypothesis.settings.register_profile(
    "unhurried", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Answer `-n auto`: two processes where the machine carries them."""
    from tests.sharing import processes

    return processes()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Share the tests out as `--dist loadfile` does, with all browsers in one process."""
    if config.option.dist != "loadfile":
        return None
    from tests.sharing import Sharing

    config.option.loadscopereorder = False  # the order is made below
    return Sharing(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let what drives Chromium be tried once more, and begin in a shared run."""
    for item in items:
        # Chromium is the one part that nobody here can mend; the summary tells of every such second try.
        if "running_chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=1))
    if hasattr(config, "workerinput"):
        from tests.sharing import longest_first

        items[:] = longest_first(items)


@pytest.fixture(autouse=True)
def keep_main() -> Iterator[None]:
    """Put this process's own main module back: Streamlit leaves a page's script in its place, which a spawned process would run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


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
