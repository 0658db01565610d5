"""`models`: the model folders there are, whole or not; checking them against their manifests; recording them.

Knows how a folder's line looks. Does not load anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from qwen_vl_app import model_files
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, FAILED, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of, one_line
from qwen_vl_app.config import Settings
from qwen_vl_app.errors import AppError, Fact, Reason
from qwen_vl_app.model_files import Inspection
from qwen_vl_app.texts import render


def list_models(parts: Parts, *, overrides: Mapping[str, Any], is_json: bool = False) -> int:
    """Print a line for every model folder and return the exit status."""
    terminal = Terminal(language=language_of(overrides), is_json=is_json)
    try:
        settings = _settings(parts, terminal, overrides)
        models = parts.probe(settings).models()
    except AppError as error:
        terminal.fail(error)
        return status_of(error)
    for model in models:
        family = model.family.display_name if model.family else ""
        if terminal.is_json:
            problem = model.problem
            terminal.json(
                {
                    "name": model.name,
                    "family": family,
                    "bytes": model.weight_bytes,
                    "parameters": model.parameters,
                    "dtype": model.dtype,
                    "is_demo": model.is_demo,
                    "has_manifest": model_files.has_manifest(model),
                    "is_complete": problem is None,
                    **(
                        {}
                        if problem is None
                        else {"error": problem.code, "message": render(problem, terminal.language)}
                    ),
                }
            )
        elif model.problem is not None:
            terminal.line(f"{model.name}: {render(model.problem, terminal.language)}")
        else:
            code = "cli.models.demo" if model.is_demo else "cli.models.line"
            words = terminal.say(
                code,
                family=family,
                bytes=model.weight_bytes,
                parameters=model.parameters / 1e9,
                dtype=model.dtype,
            )
            mark = f", {terminal.say('cli.models.has_manifest_mark')}" if model_files.has_manifest(model) else ""
            terminal.line(f"{model.name}: {words}{mark}")
    if not models:
        terminal.note(Reason("cli.models.none"))
    return DONE


def verify(parts: Parts, *, overrides: Mapping[str, Any], wanted: str = "", is_json: bool = False) -> int:
    """Check a model, or all, against their manifests; return 1 where one is not whole."""
    return _each(parts, model_files.verify, "cli.models.verified", overrides=overrides, wanted=wanted, is_json=is_json)


def record(
    parts: Parts, *, overrides: Mapping[str, Any], wanted: str, is_again: bool = False, is_json: bool = False
) -> int:
    """Write a model's manifest; return 1 where that cannot be done."""

    def work(folder: Any, **further: Any) -> Inspection:
        return model_files.record(folder, is_again=is_again, **further)

    return _each(parts, work, "cli.models.recorded", overrides=overrides, wanted=wanted, is_json=is_json)


def _each(
    parts: Parts,
    work: Callable[..., Inspection],
    done_code: str,
    *,
    overrides: Mapping[str, Any],
    wanted: str,
    is_json: bool,
) -> int:
    terminal = Terminal(language=language_of(overrides), is_json=is_json)
    try:
        folders = model_files.find_models(_settings(parts, terminal, overrides), wanted)
    except AppError as error:
        terminal.fail(error)
        return status_of(error)
    inspections = []
    with _Bar(terminal) as bar:
        for folder in folders:
            inspections.append(work(folder, on_progress=bar.advance))
            _tell(terminal, inspections[-1], done_code)
    if not folders:
        terminal.note(Reason("cli.models.none"))
    # Asked for one model, "there is nothing to check it against" is no yes.
    is_bad = any(each.problem is not None or (wanted and each.manifest is None) for each in inspections)
    return FAILED if is_bad else DONE


def _tell(terminal: Terminal, inspection: Inspection, done_code: str) -> None:
    manifest, problem = inspection.manifest, inspection.problem
    if problem is not None:
        sentence = render(problem, terminal.language)
    elif manifest is None:
        sentence = terminal.say("cli.models.no_manifest", model=inspection.model)
    else:
        facts: dict[str, Fact] = {
            "count": len(manifest.files),
            "bytes": manifest.total_bytes,
            "when": manifest.recorded_at,
        }
        sentence = terminal.say(done_code, **facts)
    if terminal.is_json:
        terminal.json(
            {
                "name": inspection.model,
                "is_whole": problem is None,
                "is_checked": problem is None and manifest is not None,
                "code": "" if problem is None else problem.code,
                "message": sentence,
            }
        )
    else:
        terminal.line(f"{inspection.model}: {sentence}", style="" if problem is None else "bold red")


def _settings(parts: Parts, terminal: Terminal, overrides: Mapping[str, Any]) -> Settings:
    settings = parts.settings(overrides)
    terminal.language = language_of({"language": settings.language})
    return settings


class _Bar:
    """How much has been read, where somebody watches."""

    def __init__(self, terminal: Terminal) -> None:
        console = terminal.watched()
        self._progress = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=console,
                transient=True,
            )
            if console is not None
            else None
        )
        self._task: Any = None

    def __enter__(self) -> _Bar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, name: str, read: int, total: int) -> None:
        """Show how far the reading of a model is."""
        if self._progress is None:
            return
        if self._task is None:
            self._task = self._progress.add_task(one_line(name), total=total)
        self._progress.update(self._task, description=one_line(name), completed=read, total=total)
