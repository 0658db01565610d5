"""The examination: everything is looked at in turn, the quick things first. Works where settings, packages or models are
broken: that is when people run it.

Knows the order. Does not know how findings are shown.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator

from qwen_vl_app.chat import EngineState, EngineStatus
from qwen_vl_app.config import ROOT, Settings
from qwen_vl_app.doctor.accelerator import torch_findings, torch_problem
from qwen_vl_app.doctor.browsers import find_browser
from qwen_vl_app.doctor.finding import Finding, Verdict
from qwen_vl_app.doctor.machine import (
    clock_finding,
    data_folder_findings,
    fonts_finding,
    last_written,
    measure_memory,
    memory_finding,
    packages_finding,
    python_finding,
)
from qwen_vl_app.doctor.models import choice_findings, fit_findings, model_findings, running_finding
from qwen_vl_app.doctor.network import browser_finding, offline_finding, port_finding
from qwen_vl_app.doctor.pictures import decoder_finding
from qwen_vl_app.doctor.probe import Probe
from qwen_vl_app.errors import AppError, Reason, SettingsError
from qwen_vl_app.imaging import can_write_chinese

log = logging.getLogger(__name__)


def examine(
    load_settings: Callable[[], Settings],
    probe_for: Callable[[Settings], Probe],
    *,
    running: EngineStatus | None = None,
) -> Iterator[Finding]:
    """Look at everything, the quick things first; a finding is given as soon as it is made. Raises nothing.

    `running` is the engine of this very app: it is told of instead of what would be loaded, since its model takes the
    memory that another would need. Without it, an app that runs on the data folder is told of in the same way.
    """
    yield python_finding(sys.version_info[:2], is_64_bit=sys.maxsize > 2**32)
    yield packages_finding(ROOT / "requirements.txt")
    try:
        settings = load_settings()
        yield Finding("settings", Verdict.OK, Reason("doctor.settings.fine"))
    except SettingsError as error:
        yield Finding("settings", Verdict.PROBLEM, error.reason)
        settings = Settings()  # so that the rest can still be looked at
    yield from data_folder_findings(settings.data_dir)
    yield port_finding(settings.port)
    yield offline_finding()
    yield browser_finding(find_browser(), port=settings.port)
    yield fonts_finding(can_write_chinese())
    yield decoder_finding(settings.decode_timeout_s)
    kit, history = ROOT / "offline_pkgs" / "KIT.json", settings.data_dir / "history.db"
    yield clock_finding(written=last_written(ROOT / "app.py", kit, history, history.with_name("history.db-wal")))
    probe = probe_for(settings)
    yield from model_findings(probe.models())
    yield memory_finding(measure_memory())
    try:
        facts = probe.torch()
    except Exception:  # a damaged installation raises anything: ImportError, OSError of a library, RuntimeError
        log.info("the engine's libraries cannot be imported", exc_info=True)
        yield Finding("torch", Verdict.PROBLEM, torch_problem())
        return
    yield from torch_findings(facts)
    if running is not None and running.state is EngineState.READY:
        yield from choice_findings(running)
        return
    if running is None and (app := probe.running()) is not None:
        yield running_finding(app)
        return
    try:
        yield from fit_findings(probe.fits())
        yield from choice_findings(probe.prepared())
    except AppError as error:
        yield Finding("choice", Verdict.PROBLEM, error.reason)
