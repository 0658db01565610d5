"""The flags that commands share, said once: which there are, and the settings they come to.

Knows typer. Does not know what any command does. Their help is put in by the program, in the language of this machine.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.config import with_home

LanguageFlag = Annotated[str | None, typer.Option("--language", metavar="auto|en|zh")]
_FLAGS: Mapping[str, tuple[Any, Any]] = {
    "is_json": (Annotated[bool, typer.Option("--json")], False),
    "model": (Annotated[str | None, typer.Option("--model", metavar="DIR")], None),
    "device": (Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda")], None),
    "precision": (Annotated[str | None, typer.Option("--precision", metavar="auto|fp32|bf16|int8|fp8|nf4")], None),
    "data_dir": (Annotated[str | None, typer.Option("--data-dir", metavar="DIR")], None),
    "models_dir": (Annotated[str | None, typer.Option("--models-dir", metavar="DIR")], None),
    "language": (LanguageFlag, None),
    "is_verbose": (Annotated[bool, typer.Option("--verbose", "-v")], False),
}
_SETTINGS = ("model", "device", "precision", "data_dir", "models_dir", "language")
ANSWERING = _SETTINGS
"""The flags of what brings a model up."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What a command gets beside its own arguments. `overrides` are the flags as settings, None where nothing was said."""

    parts: Parts
    overrides: Mapping[str, Any]
    is_json: bool = False
    is_verbose: bool = False
    subcommand: str | None = None
    """What was typed behind a command that has commands of its own."""


def taking(*names: str) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Give a command flags by their names; it gets them as `Shared`, its first argument, and returns its exit status.

    None goes on to the sub-command that was typed.
    """

    def decorated(command: Callable[..., int | None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in _FLAGS.items()
            if name in names
        ]
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

        @functools.wraps(command)
        def run(context: typer.Context, **given: Any) -> None:
            flags = {name: given.pop(name) for name in names}
            status = command(_shared(context, flags), **given)
            if status is not None:
                raise typer.Exit(status)

        parameters = [context, *own, *shared]
        vars(run)["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorated


def _shared(context: typer.Context, flags: Mapping[str, Any]) -> Shared:
    parts = context.find_object(Parts)
    assert parts is not None  # noqa: S101 - the program put it there
    settings = {name: flags.get(name) for name in _SETTINGS}
    settings["language"] = _language(context, settings["language"])
    return Shared(
        parts=parts,
        overrides=_overrides(settings),
        is_json=bool(flags.get("is_json")),
        is_verbose=bool(flags.get("is_verbose")),
        subcommand=context.invoked_subcommand,
    )


def _language(context: typer.Context, said: str | None) -> str | None:
    """Return the language that a command was given, itself or in front of it."""
    above: Any = context.parent
    while said is None and above is not None:
        said, above = above.params.get("language"), above.parent
    return said


def _overrides(values: dict[str, Any]) -> Mapping[str, Any]:
    """Return the flags as settings. Folders are meant from where the command was typed, not from the app's folder."""
    for key in ("data_dir", "models_dir"):
        if values[key] is not None:
            values[key] = _from_here(values[key])
    model = values["model"]
    if model and (folder := with_home(Path(model))).is_dir():
        values["model"] = str(folder.absolute())
    return values


def _from_here(folder: str) -> Path | str:
    """Return the whole path of a folder; what can be none stays as it was typed, for the settings to refuse."""
    if not folder.strip():
        return folder
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError:  # nobody of this name has a home here
        return folder
