"""The arguments of `models` and its commands; `models` alone lists them.

Knows typer. Does not know what a command does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from qwen_vl_app.cli import models
from qwen_vl_app.cli.flags import Shared, taking

models_app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

NameArgument = Annotated[str, typer.Argument(metavar="[MODEL]", show_default=False)]


@models_app.callback(invoke_without_command=True)
@taking("is_json", "models_dir", "language")
def _models(
    shared: Shared,
) -> int | None:
    return None if shared.subcommand else _run(shared, models.list_models)


@models_app.command("list")
@taking("is_json", "models_dir", "language")
def _list(
    shared: Shared,
) -> int:
    return _run(shared, models.list_models)


@models_app.command("verify")
@taking("is_json", "models_dir", "language")
def _verify(
    shared: Shared,
    model_name: NameArgument = "",
) -> int:
    return _run(shared, models.verify, wanted=model_name)


@models_app.command("record")
@taking("is_json", "models_dir", "language")
def _record(
    shared: Shared,
    model_name: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
    *,
    again: Annotated[bool, typer.Option("--again")] = False,
) -> int:
    return _run(shared, models.record, wanted=model_name, is_again=again)


def _run(shared: Shared, work: Callable[..., int], **further: object) -> int:
    return work(shared.parts, overrides=shared.overrides, is_json=shared.is_json, **further)
