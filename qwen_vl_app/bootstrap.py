"""The only file that names concrete classes: it puts the assistant together and holds the one of this process.

Knows how the parts fit; does not know what they do. Nothing heavy is imported before an assistant is opened.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_vl_app import offline
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import RUNS_NAME, BatchRuns, RunErasing
from qwen_vl_app.chat import EngineStatus, Size
from qwen_vl_app.config import ROOT, Settings, load_settings
from qwen_vl_app.doctor import Fit, Probe, RunningApp, TorchFacts
from qwen_vl_app.engine.base import DRIVER_LOST, Engine
from qwen_vl_app.engine.deferred import DeferredEngine
from qwen_vl_app.engine.exchange import EngineExchange
from qwen_vl_app.engine.folders import ModelFolder, list_models
from qwen_vl_app.engine.verified import MEMORY_NAME
from qwen_vl_app.errors import Reason
from qwen_vl_app.forms import FORMS_NAME, form_erasing
from qwen_vl_app.logs import write_to
from qwen_vl_app.own_files import close_to_others
from qwen_vl_app.own_tasks import TASKS_NAME, OwnTasks
from qwen_vl_app.records import Records
from qwen_vl_app.scratch import SCRATCH_NAME

if TYPE_CHECKING:
    from qwen_vl_app.engine.remote import OwnApp
    from qwen_vl_app.history import HistoryStore

log = logging.getLogger(__name__)

DEMO_MODEL = ROOT / "models" / "demo"
HELD_OUT = ROOT / "tests" / "data" / "demo"
"""Pictures that the demo model never saw; they come with the tests, and a copy of the app without those measures no quality."""
COURTESY_S = 2.0
"""How long loading waits for the first page: people who start the app open it at once."""
_lock = threading.Lock()
_instances: list[Assistant] = []
"""Empty, or the one assistant of this process."""
_batch_runs: list[BatchRuns] = []
"""Empty, or its runs of folders."""
_logs: list[Callable[[], None]] = []
"""Empty, or what ends the log of this process."""
LOGS_NAME = "logs"
_NEIGHBOURS = frozenset({FORMS_NAME, LOGS_NAME, MEMORY_NAME, RUNS_NAME, SCRATCH_NAME, TASKS_NAME})
"""What lies in the data folder beside the history."""


def build_assistant(settings: Settings, *, checks_models: bool = False) -> Assistant:
    """Return an assistant of the real parts, not yet opened. The process is offline from here on.

    With `checks_models` it asks a model what is known of it, in idle moments: worth it where it stays.
    """
    offline.go_offline()
    from qwen_vl_app.imaging import MOST_FRAME_PIXELS, ClipDecoder, PictureDecoder

    engine = DeferredEngine(partial(_build_engine, settings))

    def make_other(model: str) -> Engine:
        return _build_engine(settings.model_copy(update={"model": model}))

    return Assistant(
        engine=engine,
        exchange=EngineExchange(engine, make_other, present=settings.model),
        decoder=PictureDecoder(
            max_bytes=settings.max_upload_mb * 2**20,
            max_pixels=settings.max_picture_megapixels * 1_000_000,
            timeout_s=settings.decode_timeout_s,
        ),
        clip_decoder=ClipDecoder(
            max_bytes=settings.max_clip_mb * 2**20,
            max_pixels=min(settings.max_picture_megapixels * 1_000_000, MOST_FRAME_PIXELS),
            max_seconds=settings.max_clip_minutes * 60,
            timeout_s=settings.decode_timeout_s,
        ),
        history=_build_history(settings),
        settings=settings,
        checks_models=checks_models,
    )


def build_command_assistant(settings: Settings) -> Assistant:
    """Return an assistant for a command: where an app already runs on this data folder, one that asks that app's model.

    A second model would need its memory once more. The process is offline from here on.
    """
    offline.go_offline()
    return build_assistant(_through_running_app(settings) or settings)


def _through_running_app(settings: Settings) -> Settings | None:
    """Return the settings that lead to the app which runs on this data folder; None where none does, or none answers."""
    found = None if settings.remote_address else _find_running_app(settings)
    if found is None or (settings.model and Path(settings.model).name != found[1].model):
        return None  # nobody there, or it has another model than the one that is wanted
    port, running = found
    there = {
        "remote_address": _address_at(port),
        "remote_key": _key(settings),
        "remote_model": "",
        "remote_lanes": running.at_a_time,
    }
    return settings.model_copy(update=there)


def _find_running_app(settings: Settings) -> tuple[int, OwnApp] | None:
    """Return the port of the app that runs on this data folder, with what it says of itself; None where none answers."""
    from qwen_vl_app.engine.remote import own_app
    from qwen_vl_app.history.lock import holder_port

    try:
        port = holder_port(settings.data_dir)
    except OSError:
        return None
    running = own_app(_address_at(port), key=_key(settings)) if port else None
    return None if port is None or running is None else (port, running)


def _address_at(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


def _key(settings: Settings) -> str:
    """Return a key that lets a program of this site in; empty where none is needed."""
    return settings.api_keys[0] if settings.api_keys else ""


def build_records(settings: Settings) -> Records:
    """Return what is kept, without a model, as a context manager. The process is offline from here on."""
    offline.go_offline()
    return Records(_build_history(settings))


def build_records_beside(settings: Settings) -> Records:
    """Return the same while an app uses the folder: what is kept at this moment, to be read."""
    offline.go_offline()
    return Records(_build_history(settings, is_beside=True))


def _build_history(settings: Settings, *, is_beside: bool = False) -> HistoryStore:
    from qwen_vl_app.history import HistoryStore, Keeping, KeepingMode

    mode = KeepingMode(settings.keep)
    history = HistoryStore(
        None if mode is KeepingMode.NOTHING else settings.data_dir,
        cache_bytes=settings.cache_mb * 2**20,
        keeping=Keeping(mode, days=settings.keep_days),
        is_beside=is_beside,
        largest_upload_bytes=settings.largest_upload_bytes,
        neighbours=_NEIGHBOURS,
    )
    history.erase_also(RUNS_NAME, RunErasing(settings.data_dir / RUNS_NAME))
    history.erase_also(FORMS_NAME, form_erasing(settings.data_dir / FORMS_NAME))
    history.erase_also(TASKS_NAME, OwnTasks(settings.data_dir / TASKS_NAME))
    return history


def _build_engine(settings: Settings) -> Engine:
    if settings.remote_address:
        from qwen_vl_app.engine.remote import RemoteEngine

        return RemoteEngine(
            settings.remote_address,
            model=settings.remote_model,
            key=settings.remote_key,
            family=settings.remote_family,
            detail=None if settings.detail == "auto" else settings.detail,
        )
    from qwen_vl_app.engine.local import LocalEngine

    return LocalEngine(
        models_dir=settings.models_dir,
        model=settings.model,
        device=settings.device,
        precision=settings.precision,
        attention=settings.attention,
        decode=settings.decode,
        decode_batch=settings.decode_batch,
        threads=settings.threads,
        detail=settings.detail,
        memory_reserve_mb=settings.memory_reserve_mb,
        verified=settings.data_dir / MEMORY_NAME,
    )


class _EngineProbe:
    """The engine's room, as `doctor` and the list of models look at it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def models(self) -> tuple[ModelFolder, ...]:
        return list_models(self._settings.models_dir)

    def torch(self) -> TorchFacts:
        from qwen_vl_app.engine.local.inspection import inspect_torch

        return inspect_torch()

    def fits(self) -> Sequence[Fit]:
        from qwen_vl_app.engine.local.fitting import find_fits

        settings = self._settings
        if settings.remote_address:
            return ()
        found = find_fits(settings.models_dir, device=settings.device, reserve_bytes=settings.memory_reserve_mb * 2**20)
        return tuple(
            Fit(fit.model, fit.precision, fit.needed_bytes, fit.free_bytes, fit.largest, fit.max_tokens)
            for fit in found
        )

    def prepared(self) -> EngineStatus:
        engine = _build_engine(self._settings)
        try:
            engine.prepare()
            return engine.status
        finally:
            engine.close()

    def running(self) -> RunningApp | None:
        found = _find_running_app(self._settings)
        return None if found is None else RunningApp(found[0], found[1].model)


def probe(settings: Settings) -> Probe:
    """Return what tells about models and machine without loading a model. The process is offline from here on."""
    offline.go_offline()
    return _EngineProbe(settings)


def bench(
    *,
    shape: str,
    model: Path | None,
    sizes: Sequence[Size],
    arms: str = "all",
    tokens: int,
    rounds: int,
    threads: int,
    device: str = "auto",
    on_progress: Callable[[Reason], None],
) -> Mapping[str, Any]:
    """Measure this machine and return the report, with what is gained under `ratios`. The process is offline from here on.

    Raises ModelFolderError.
    """
    offline.go_offline()
    from qwen_vl_app.engine.local.bench import ratios, run_bench

    report = run_bench(
        shape=shape,
        model=model,
        sizes=sizes,
        chosen=arms,
        tokens=tokens,
        rounds=rounds,
        threads=threads,
        device=device,
        quality=(DEMO_MODEL, HELD_OUT) if (HELD_OUT / "expected.json").is_file() and DEMO_MODEL.is_dir() else None,
        on_progress=on_progress,
    )
    return {**report, "ratios": ratios(report)}


def open_assistant(settings: Settings) -> Assistant:
    """Return an assistant to be used as a context manager: opened on entering, closed on leaving."""
    return build_assistant(settings)


def current() -> Assistant:
    """Return the one assistant of this process, opened at the first call. Any thread."""
    with _lock:
        if not _instances:
            assistant = build_assistant(load_settings(), checks_models=True)
            _close_to_others(assistant.settings)
            _begin_log(assistant.settings)
            assistant.open(courtesy_s=COURTESY_S)
            _instances.append(assistant)
        return _instances[0]


def driver_is_lost() -> bool:
    """Return whether this process's engine can compute no more, and whoever started the app wants to start it again."""
    with _lock:
        lost = [assistant for assistant in _instances if assistant.settings.exit_on_driver_loss]
    return any(
        status.error is not None and status.error.code == DRIVER_LOST
        for status in (assistant.status.engine for assistant in lost)
    )


def current_batches() -> BatchRuns:
    """Return the runs of folders of this process's assistant. Any thread."""
    assistant = current()
    with _lock:
        if _batch_runs:
            return _batch_runs[0]
        runs = BatchRuns(assistant)
        if assistant in _instances:  # else it was closed meanwhile
            runs.start_sweeping()
            _batch_runs.append(runs)
        return runs


def close_current() -> None:
    """Close the assistant of this process, if there is one, and let its runs of folders be resumable."""
    with _lock:
        closing, ending, logs = list(_instances), list(_batch_runs), list(_logs)
        _logs.clear()
        _instances.clear()
        _batch_runs.clear()
    for runs in ending:
        runs.close()
    for assistant in closing:
        assistant.close()
    for end in logs:
        end()


def _close_to_others(settings: Settings) -> None:
    """Close what lies in the data folder already, also where a site keeps nothing any more and no history is opened."""
    from qwen_vl_app.history.store import is_the_historys

    with contextlib.suppress(OSError):  # there is none yet
        close_to_others(settings.data_dir, is_ours=lambda name: name in _NEIGHBOURS or is_the_historys(name))


def _begin_log(settings: Settings) -> None:
    """Write the log of an app beside what it keeps; a site that keeps nothing has none."""
    if settings.keep == "nothing" or _logs:
        return
    try:
        _logs.append(write_to(settings.data_dir / LOGS_NAME))
    except OSError as error:  # a folder that cannot be written is told by the history, to everybody who looks
        log.warning("there will be no log (errno %s)", error.errno)
