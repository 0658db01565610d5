"""The arguments of `forms` and its commands.

Knows typer. Does not know what a command does.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from qwen_vl_app.cli import forms
from qwen_vl_app.cli.files import expanded
from qwen_vl_app.cli.flags import Shared, taking
from qwen_vl_app.cli.forms import Filling, Work
from qwen_vl_app.forms import LookAt

forms_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

TemplateFlag = Annotated[str, typer.Option("--template", metavar="NAME", show_default=False)]
SourceFlag = Annotated[str, typer.Option("--run", metavar="RUN", show_default=False)]
WhoFlag = Annotated[str, typer.Option("--who", metavar="NAME", show_default=False)]
FormArgument = Annotated[str, typer.Argument(metavar="FORM", show_default=False)]


@forms_app.callback()
@taking("language")
def _forms(
    shared: Shared,
) -> None:
    return None


@forms_app.command("templates")
@taking("is_json", "data_dir", "language")
def _templates(
    shared: Shared,
) -> int:
    return _do(shared, forms.list_templates)


@forms_app.command("template")
@taking("data_dir", "language")
def _template(
    shared: Shared,
    template_name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    *,
    target: Annotated[str, typer.Option("--out", metavar="FILE", show_default=False)] = "",
) -> int:
    work = partial(forms.show_template, name=template_name, target=target)
    return _do(shared, work)


@forms_app.command("add")
@taking("data_dir", "language")
def _add(
    shared: Shared,
    source: Annotated[str, typer.Argument(metavar="FILE", show_default=False)],
    *,
    template_name: Annotated[str, typer.Option("--name", metavar="NAME", show_default=False)] = "",
) -> int:
    work = partial(forms.add_template, file=source, name=template_name)
    return _do(shared, work)


@forms_app.command("remove")
@taking("data_dir", "language")
def _remove(
    shared: Shared,
    template_name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
) -> int:
    return _do(shared, partial(forms.remove_template, name=template_name))


@forms_app.command("fill")
@taking("is_json", "model", "data_dir", "language")
def _fill(
    shared: Shared,
    form_pictures: Annotated[list[str], typer.Argument(metavar="PICTURE", show_default=False)],
    *,
    template: Annotated[str, typer.Option("--template", metavar="NAME")],
    second_look: Annotated[LookAt, typer.Option("--look")] = LookAt.DEFAULT,
    page: Annotated[int, typer.Option("--page", min=1, metavar="N")] = 1,
) -> int:
    work = partial(forms.fill, request=Filling(expanded(form_pictures), template, second_look, page - 1))
    return _do(shared, work, opens=True)


@forms_app.command("list")
@taking("is_json", "data_dir", "language")
def _list(
    shared: Shared,
    *,
    template: TemplateFlag = "",
    form_run: SourceFlag = "",
) -> int:
    work = partial(forms.list_forms, template=template, source=form_run)
    return _do(shared, work)


@forms_app.command("show")
@taking("is_json", "data_dir", "language")
def _show(
    shared: Shared,
    form_id: FormArgument,
) -> int:
    return _do(shared, partial(forms.show_form, form_id=form_id))


@forms_app.command("confirm")
@taking("is_json", "data_dir", "language")
def _confirm(
    shared: Shared,
    form_id: FormArgument,
    field_key: Annotated[str, typer.Argument(metavar="[FIELD]", show_default=False)] = "",
    *,
    reviewer: WhoFlag = "",
) -> int:
    work = partial(forms.confirm, form_id=form_id, key=field_key, who=reviewer)
    return _do(shared, work)


@forms_app.command("correct")
@taking("is_json", "data_dir", "language")
def _correct(
    shared: Shared,
    form_id: FormArgument,
    field_key: Annotated[str, typer.Argument(metavar="FIELD", show_default=False)],
    field_value: Annotated[str, typer.Argument(metavar="VALUE", show_default=False)],
    *,
    reviewer: WhoFlag = "",
) -> int:
    work = partial(forms.correct, form_id=form_id, key=field_key, value=field_value, who=reviewer)
    return _do(shared, work)


@forms_app.command("export")
@taking("data_dir", "language")
def _export(
    shared: Shared,
    target: Annotated[str, typer.Argument(metavar="FILE", show_default=False)],
    *,
    template: TemplateFlag = "",
    form_run: SourceFlag = "",
) -> int:
    work = partial(forms.export, target=target, template=template, source=form_run)
    return _do(shared, work)


@forms_app.command("delete")
@taking("data_dir", "language")
def _delete(
    shared: Shared,
    form_id: Annotated[str, typer.Argument(metavar="[FORM]", show_default=False)] = "",
    *,
    all_forms: Annotated[bool, typer.Option("--everything")] = False,
) -> int:
    work = partial(forms.delete, form_id=form_id, everything=all_forms)
    return _do(shared, work)


def _do(shared: Shared, work: Work, *, opens: bool = False) -> int:
    return forms.run(shared.parts, work, overrides=shared.overrides, is_json=shared.is_json, opens=opens)
