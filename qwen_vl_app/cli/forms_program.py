"""The arguments of `forms` and its commands.

Knows typer. Does not know what a command does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from qwen_vl_app.cli import forms
from qwen_vl_app.cli.forms import Filling, Work
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.forms import LookAt

forms_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

DataDirFlag = Annotated[str | None, typer.Option("--data-dir", metavar="DIR")]
ModelFlag = Annotated[str | None, typer.Option("--model", metavar="DIR")]
LanguageFlag = Annotated[str | None, typer.Option("--language", metavar="auto|en|zh")]
JsonFlag = Annotated[bool, typer.Option("--json")]
TemplateFlag = Annotated[str, typer.Option("--template", metavar="NAME", show_default=False)]
SourceFlag = Annotated[str, typer.Option("--run", metavar="RUN", show_default=False)]
WhoFlag = Annotated[str, typer.Option("--who", metavar="NAME", show_default=False)]
FormArgument = Annotated[str, typer.Argument(metavar="FORM", show_default=False)]


@forms_app.command("templates")
def _templates(
    context: typer.Context, *, is_json: JsonFlag = False, data_dir: DataDirFlag = None, language: LanguageFlag = None
) -> None:
    _do(context, forms.list_templates, data_dir=data_dir, language=language, is_json=is_json)


@forms_app.command("template")
def _template(
    context: typer.Context,
    template_name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    *,
    target: Annotated[str, typer.Option("--out", metavar="FILE", show_default=False)] = "",
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(forms.show_template, name=template_name, target=target)
    _do(context, work, data_dir=data_dir, language=language)


@forms_app.command("add")
def _add(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FILE", show_default=False)],
    *,
    template_name: Annotated[str, typer.Option("--name", metavar="NAME", show_default=False)] = "",
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(forms.add_template, file=source, name=template_name)
    _do(context, work, data_dir=data_dir, language=language)


@forms_app.command("remove")
def _remove(
    context: typer.Context,
    template_name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    *,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    _do(context, partial(forms.remove_template, name=template_name), data_dir=data_dir, language=language)


@forms_app.command("fill")
def _fill(
    context: typer.Context,
    form_pictures: Annotated[list[str], typer.Argument(metavar="PICTURE", show_default=False)],
    *,
    template: Annotated[str, typer.Option("--template", metavar="NAME")],
    second_look: Annotated[LookAt, typer.Option("--look")] = LookAt.DEFAULT,
    page: Annotated[int, typer.Option("--page", min=1, metavar="N")] = 1,
    is_json: JsonFlag = False,
    model: ModelFlag = None,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(forms.fill, request=Filling(tuple(form_pictures), template, second_look, page - 1))
    _do(context, work, model=model, data_dir=data_dir, language=language, is_json=is_json, opens=True)


@forms_app.command("list")
def _list(
    context: typer.Context,
    *,
    template: TemplateFlag = "",
    form_run: SourceFlag = "",
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(forms.list_forms, template=template, source=form_run)
    _do(context, work, data_dir=data_dir, language=language, is_json=is_json)


@forms_app.command("show")
def _show(
    context: typer.Context,
    form_id: FormArgument,
    *,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    _do(context, partial(forms.show_form, form_id=form_id), data_dir=data_dir, language=language, is_json=is_json)


@forms_app.command("confirm")
def _confirm(
    context: typer.Context,
    form_id: FormArgument,
    field_key: Annotated[str, typer.Argument(metavar="[FIELD]", show_default=False)] = "",
    *,
    reviewer: WhoFlag = "",
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(forms.confirm, form_id=form_id, key=field_key, who=reviewer)
    _do(context, work, data_dir=data_dir, language=language, is_json=is_json)


@forms_app.command("correct")
def _correct(
    context: typer.Context,
    form_id: FormArgument,
    field_key: Annotated[str, typer.Argument(metavar="FIELD", show_default=False)],
    field_value: Annotated[str, typer.Argument(metavar="VALUE", show_default=False)],
    *,
    reviewer: WhoFlag = "",
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(forms.correct, form_id=form_id, key=field_key, value=field_value, who=reviewer)
    _do(context, work, data_dir=data_dir, language=language, is_json=is_json)


@forms_app.command("export")
def _export(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="FILE", show_default=False)],
    *,
    template: TemplateFlag = "",
    form_run: SourceFlag = "",
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(forms.export, target=target, template=template, source=form_run)
    _do(context, work, data_dir=data_dir, language=language)


@forms_app.command("delete")
def _delete(
    context: typer.Context,
    form_id: Annotated[str, typer.Argument(metavar="[FORM]", show_default=False)] = "",
    *,
    all_forms: Annotated[bool, typer.Option("--everything")] = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(forms.delete, form_id=form_id, everything=all_forms)
    _do(context, work, data_dir=data_dir, language=language)


def _do(
    context: typer.Context,
    work: Work,
    *,
    data_dir: str | None,
    language: str | None,
    model: str | None = None,
    is_json: bool = False,
    opens: bool = False,
) -> None:
    parts = context.find_object(Parts)
    assert parts is not None  # noqa: S101 - the program put it there
    overrides: Mapping[str, Any] = {
        "data_dir": None if data_dir is None else Path(data_dir).expanduser().absolute(),
        "language": language,
        "model": model,
    }
    raise typer.Exit(forms.run(parts, work, overrides=overrides, is_json=is_json, opens=opens))
