"""The arguments of `models` and its commands; `models` alone lists them.

Knows typer. Does not know what a command does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from qwen_vl_app.cli import models
from qwen_vl_app.cli.parts import Parts

models_app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

JsonFlag = Annotated[bool, typer.Option("--json")]
ModelsDirFlag = Annotated[str | None, typer.Option("--models-dir", metavar="DIR")]
LanguageFlag = Annotated[str | None, typer.Option("--language", metavar="auto|en|zh")]
NameArgument = Annotated[str, typer.Argument(metavar="[MODEL]", show_default=False)]


@models_app.callback(invoke_without_command=True)
def _models(
    context: typer.Context,
    *,
    is_json: JsonFlag = False,
    models_dir: ModelsDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    if context.invoked_subcommand is None:
        _run(context, models.list_models, is_json=is_json, models_dir=models_dir, language=language)


@models_app.command("list")
def _list(
    context: typer.Context,
    *,
    is_json: JsonFlag = False,
    models_dir: ModelsDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    _run(context, models.list_models, is_json=is_json, models_dir=models_dir, language=language)


@models_app.command("verify")
def _verify(
    context: typer.Context,
    model_name: NameArgument = "",
    *,
    is_json: JsonFlag = False,
    models_dir: ModelsDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    _run(context, models.verify, is_json=is_json, models_dir=models_dir, language=language, wanted=model_name)


@models_app.command("record")
def _record(
    context: typer.Context,
    model_name: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
    *,
    again: Annotated[bool, typer.Option("--again")] = False,
    is_json: JsonFlag = False,
    models_dir: ModelsDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    _run(
        context,
        models.record,
        is_json=is_json,
        models_dir=models_dir,
        language=language,
        wanted=model_name,
        is_again=again,
    )


def _run(
    context: typer.Context,
    work: Callable[..., int],
    *,
    models_dir: str | None,
    language: str | None,
    **further: object,
) -> None:
    parts = context.find_object(Parts)
    assert parts is not None  # noqa: S101 - `main` put it there
    folder = Path(models_dir).expanduser().absolute() if models_dir is not None else None
    overrides: Mapping[str, Any] = {"models_dir": folder, "language": language}
    raise typer.Exit(work(parts, overrides=overrides, **further))
