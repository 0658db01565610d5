"""`batch`: a folder of pictures in, a run that survives everything, files to take away.

Knows arguments, progress on a terminal and Ctrl-C. Does not know how a run works.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import (
    BatchPlan,
    BatchProgress,
    BatchRuns,
    ExportKind,
    RunState,
    left_out_text,
    refuse_within,
    rounds_csv,
)
from qwen_vl_app.chat import Detail
from qwen_vl_app.cli.files import is_file, name_of, read_file
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, FAILED, INTERRUPTED, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.errors import AppError, BatchError, Reason, UsageError
from qwen_vl_app.forms import FillPlan, LookAt, desk_of
from qwen_vl_app.forms.sources import template_from_file
from qwen_vl_app.tasks import prompt_of, task_named
from qwen_vl_app.texts import render

LOOK_S = 0.5
MAX_TEMPLATE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Request:
    """What was typed. `exports` are written into `out` when the run has ended."""

    folder: str = ""
    task: str = ""
    given: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    detail: Detail | None = None
    max_new_tokens: int | None = None
    is_recursive: bool = False
    is_watching: bool = False
    out: str = ""
    exports: tuple[ExportKind, ...] = ()
    resume: str = ""
    retry_failed: bool = False
    compare: str = ""
    tag: str = ""
    template: str = ""
    look: LookAt = LookAt.DEFAULT
    is_listing: bool = False
    taken: str = ""
    """A run whose exports are written as it stands; nothing is asked."""


def batch(
    parts: Parts, request: Request, *, overrides: Mapping[str, Any], is_json: bool = False, is_verbose: bool = False
) -> int:
    """Begin or resume a run, follow it to its end, write the exports, return the exit status."""
    terminal = Terminal(language=language_of(overrides), is_json=is_json, is_verbose=is_verbose)
    try:
        settings = parts.settings(overrides)
        terminal.language = language_of({"language": settings.language})
        assistant = parts.build_assistant(settings)
        if request.is_listing:
            return _list(terminal, BatchRuns(assistant))
        _check(request)
        if request.taken:
            return _take_only(terminal, assistant, request)
        with assistant:
            runs = BatchRuns(assistant)
            try:
                return _run(terminal, assistant, runs, request=request)
            finally:
                runs.close()
    except AppError as error:
        terminal.fail(error)
        return status_of(error)


def _check(request: Request) -> None:
    """Refuse what cannot be meant before a model is loaded."""
    if request.resume or request.taken:
        if request.folder or request.task or request.prompts or request.template or (request.resume and request.taken):
            raise UsageError("cli.batch.folder_and_resume")
    elif not request.folder:
        raise UsageError("cli.batch.no_folder")
    elif request.template and (request.task or request.prompts):
        raise UsageError("cli.batch.template_alone")
    elif request.task and request.prompts:
        raise UsageError("cli.batch.task_and_prompt")
    elif not request.task and not request.template and not any(prompt.strip() for prompt in request.prompts):
        raise UsageError("cli.batch.nothing_asked")
    if request.task:
        task = task_named(request.task)
        if task.picture_count > 1:
            raise UsageError("cli.batch.one_picture_at_a_time", task=task.name)
    if (request.exports or request.compare or request.taken) and not request.out:
        raise UsageError("cli.batch.no_out")


def _run(terminal: Terminal, assistant: Assistant, runs: BatchRuns, *, request: Request) -> int:
    if request.compare:
        runs.plan(request.compare)  # a misspelt run is told before hours of work
    if request.resume:
        run_id = request.resume
        _prepare_out(request, runs.plan(run_id))
        runs.resume(run_id, retry_failed=request.retry_failed)
    else:
        plan = _plan(terminal, assistant, request)
        _prepare_out(request, plan)
        run_id = runs.start(plan)
    if not terminal.is_json:
        terminal.note(Reason("cli.batch.begun", run=run_id, folder=runs.plan(run_id).folder.name))
    progress = _follow(terminal, runs, run_id)
    try:
        if progress.state is RunState.FINISHED or request.is_watching:
            _take_away(terminal, runs, run_id, request=request)
    except AppError as error:
        # Hours of answers are kept: what came of them is told all the same, and how to get at them.
        _tell(terminal, replace(progress, error=error.reason))
        terminal.note(Reason("cli.batch.take_away_with", run=run_id))
        return status_of(error)
    return _tell(terminal, progress)


def _plan(terminal: Terminal, assistant: Assistant, request: Request) -> BatchPlan:
    task = task_named(request.task) if request.task else None
    questions = request.prompts
    form = _form(terminal, assistant, request) if request.template else None
    if task is not None:
        # Which words a model was trained on is known with the plan of sizes, before its weights are there.
        coordinates = assistant.wait_for_plan().coordinates
        questions = (prompt_of(task, request.given, coordinates=coordinates, language=terminal.language.value),)
    elif request.given:
        raise UsageError("tasks.takes_nothing", task="--prompt")
    return BatchPlan(
        folder=Path(request.folder),
        questions=questions,
        task=task.name if task else "",
        detail=request.detail or (task.detail if task else None),
        is_recursive=request.is_recursive,
        is_watching=request.is_watching,
        max_new_tokens=request.max_new_tokens or assistant.settings.max_new_tokens,
        form=form,
    )


def _form(terminal: Terminal, assistant: Assistant, request: Request) -> FillPlan:
    """Return what is filled: a template by its name, or one in a file."""
    if is_file(request.template):
        data = read_file(request.template, max_bytes=MAX_TEMPLATE_BYTES)
        template = template_from_file(data, name_of(request.template))
    else:
        template = desk_of(assistant).templates.get(request.template)
    return FillPlan(template, terminal.language.value, request.look)


def _prepare_out(request: Request, plan: BatchPlan) -> None:
    """Make the folder for the exports, and refuse one that cannot be written before anything is asked."""
    if not request.out:
        return
    out = Path(request.out)
    refuse_within(plan, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BatchError("batch.target_unwritable", name=out.name or str(out)) from error


def _follow(terminal: Terminal, runs: BatchRuns, run_id: str) -> BatchProgress:
    """Show how far it is, on a terminal alone; Ctrl-C stops the run so that it can be resumed."""
    console = terminal.watched()
    try:
        if console is None:
            while not runs.wait(run_id, LOOK_S):
                pass
        else:
            told: Reason | None = None
            with console.status("") as line:
                while not runs.wait(run_id, LOOK_S):
                    progress = runs.progress(run_id)
                    line.update(_said(terminal, progress))
                    if progress.why is not None and told is None:
                        told = progress.why
                        console.print(render(told, terminal.language), soft_wrap=True)
    except KeyboardInterrupt:
        runs.close()
    return runs.progress(run_id)


def _said(terminal: Terminal, progress: BatchProgress) -> str:
    if progress.state is RunState.LOADING:
        return terminal.say("cli.batch.waiting")
    if progress.state is RunState.WATCHING:
        return terminal.say("batch.state.watching")
    if progress.files_per_minute is None or progress.left_s is None:
        return terminal.say("cli.batch.progress_early", done=progress.done, total=progress.total)
    return terminal.say(
        "cli.batch.progress",
        done=progress.done,
        total=progress.total,
        rate=progress.files_per_minute,
        left=progress.left_s,
    )


def _take_away(terminal: Terminal, runs: BatchRuns, run_id: str, *, request: Request) -> None:
    if not request.out:
        return
    out = Path(request.out)
    for kind in request.exports or (ExportKind.CSV,):
        target = out / ("annotated" if kind is ExportKind.ANNOTATED else f"{run_id}.{kind.value}")
        export = runs.export(run_id, kind, target, language=terminal.language)
        terminal.note(Reason("cli.batch.wrote", name=target.name, count=export.count))
        for sentence in left_out_text(export.left_out, terminal.language):
            terminal.tell(sentence)
    if request.compare:
        target = out / f"{run_id}-since-{request.compare}.csv"
        count = rounds_csv(runs.compare(run_id, request.compare, tag=request.tag), target, language=terminal.language)
        terminal.note(Reason("cli.batch.wrote", name=target.name, count=count))


def _take_only(terminal: Terminal, assistant: Assistant, request: Request) -> int:
    """Write a run's exports as it stands, with a decoder for its pictures and without a model."""
    runs = BatchRuns(assistant)
    _prepare_out(request, runs.plan(request.taken))
    with ExitStack() as closing:
        if ExportKind.ANNOTATED in request.exports:
            assistant.open_to_look()
            closing.callback(assistant.close)
        _take_away(terminal, runs, request.taken, request=request)
    if terminal.is_json:
        terminal.json(_as_json(terminal, runs.progress(request.taken)))
    return DONE


def _tell(terminal: Terminal, progress: BatchProgress) -> int:
    if terminal.is_json:
        terminal.json(_as_json(terminal, progress))
    else:
        counts = {name: getattr(progress, name) for name in ("answered", "failed", "duplicates", "skipped")}
        state = terminal.say(f"batch.state.{progress.state.value}")
        terminal.line(terminal.say("cli.batch.ended", state=state, **counts))
    if progress.error is not None:
        terminal.note(progress.error)
    if progress.has_found_nothing:
        terminal.note(Reason("batch.folder.nothing_found"))
    if progress.state.is_resumable:
        terminal.note(Reason("cli.batch.resume_with", run=progress.run_id))
    if progress.state in (RunState.STOPPED, RunState.INTERRUPTED):
        return INTERRUPTED
    return FAILED if progress.state is RunState.FAILED or progress.failed else DONE


def _as_json(terminal: Terminal, progress: BatchProgress) -> dict[str, Any]:
    told = {field.name: getattr(progress, field.name) for field in fields(progress)}
    told["state"] = progress.state.value
    told["why"] = None if progress.why is None else render(progress.why, terminal.language)
    if progress.error is not None:
        told["error"] = {"code": progress.error.code, "message": render(progress.error, terminal.language)}
    return told


def _list(terminal: Terminal, runs: BatchRuns) -> int:
    summaries = runs.list()
    for summary in summaries:
        progress = summary.progress
        if terminal.is_json:
            terminal.json({**_as_json(terminal, progress), "folder": str(summary.plan.folder)})
        else:
            state = terminal.say(f"batch.state.{progress.state.value}")
            counts = {"done": progress.done, "total": progress.total}
            said = terminal.say("cli.batch.listed", state=state, folder=str(summary.plan.folder), **counts)
            terminal.line(f"{summary.run_id}  {said}")
    if not summaries and not terminal.is_json:
        terminal.note(Reason("cli.batch.none"))
    return DONE
