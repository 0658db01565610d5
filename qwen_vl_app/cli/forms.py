"""`forms`: templates in and out, forms filled from pictures, decided about, and taken away.

Knows arguments and how a form looks on a terminal. Does not know how one is filled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.cli.files import name_of, read_file
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, WRONG_INPUT, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.errors import AppError, FormError, Reason, UsageError
from qwen_vl_app.forms import (
    FillPlan,
    FormDesk,
    FormExport,
    FormTemplate,
    JudgedForm,
    LookAt,
    desk_of,
    dump_template,
    export_forms,
)
from qwen_vl_app.forms.evidence import doubt_texts, form_document, form_state_text, look_text, names_of, state_text
from qwen_vl_app.forms.sources import keep_from_file
from qwen_vl_app.texts import render

Work: TypeAlias = Callable[[Terminal, FormDesk, Assistant], int]
MAX_TEMPLATE_FILE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Filling:
    """What was typed for a filling. `page` counts from 0."""

    files: tuple[str, ...]
    template: str
    look: LookAt = LookAt.DEFAULT
    page: int = 0


def run(parts: Parts, work: Work, *, overrides: Mapping[str, Any], is_json: bool = False, opens: bool = False) -> int:
    """Do something with the desk and return the exit status; only what asks the model opens the assistant."""
    terminal = Terminal(language=language_of(overrides), is_json=is_json)
    try:
        settings = parts.settings(overrides)
        terminal.language = language_of({"language": settings.language})
        assistant = parts.build_assistant(settings)
        if not opens:
            return work(terminal, desk_of(assistant), assistant)
        with assistant:
            return work(terminal, desk_of(assistant), assistant)
    except AppError as error:
        terminal.fail(error)
        return WRONG_INPUT if isinstance(error, FormError) and error.code in _INPUT_CODES else status_of(error)


_INPUT_CODES = frozenset({"forms.unknown", "forms.no_template"})


# 1. Templates


def list_templates(terminal: Terminal, desk: FormDesk, _assistant: Assistant) -> int:
    """List the templates there are."""
    for template in desk.templates.list():
        if terminal.is_json:
            terminal.json(
                {
                    "name": template.name,
                    "version": template.version,
                    "title": {"en": template.title.en, "zh": template.title.zh},
                    "fields": [field.key for field in template.fields],
                }
            )
        else:
            code = "cli.forms.template_own" if template.version else "cli.forms.template_shipped"
            told = terminal.say(code, version=template.version, count=len(template.fields))
            terminal.line(f"{template.name}  {template.titled(terminal.language)}  ({told})")
    return DONE


def show_template(terminal: Terminal, desk: FormDesk, _assistant: Assistant, *, name: str, target: str) -> int:
    """Write a template to a file, or print it."""
    document = dump_template(desk.templates.get(name))
    if not target:
        terminal.stream(document)
        return DONE
    try:
        Path(target).write_text(document, encoding="utf-8", newline="\n")
    except OSError as error:
        raise FormError("forms.target_unwritable", name=name_of(target)) from error
    terminal.note(Reason("cli.forms.wrote", name=name_of(target)))
    return DONE


def add_template(terminal: Terminal, desk: FormDesk, _assistant: Assistant, *, file: str, name: str) -> int:
    """Take in a template, a JSON Schema, or the header of a workbook or CSV file."""
    data = read_file(file, max_bytes=MAX_TEMPLATE_FILE_BYTES)
    kept = keep_from_file(desk.templates, data, name_of(file), name=name)
    terminal.note(Reason("cli.forms.kept_template", name=kept.name, version=kept.version, count=len(kept.fields)))
    return DONE


def remove_template(terminal: Terminal, desk: FormDesk, _assistant: Assistant, *, name: str) -> int:
    """Remove a site's template."""
    desk.templates.remove(name)
    terminal.note(Reason("cli.forms.removed_template", name=name))
    return DONE


# 2. Forms


def fill(terminal: Terminal, desk: FormDesk, assistant: Assistant, *, request: Filling) -> int:
    """Fill a form from each picture and print it; one picture's failure does not stop the others."""
    template = desk.templates.get(request.template)
    status = DONE
    limit = assistant.settings.max_upload_mb * 2**20
    contents = []
    for path in request.files:  # all of them before the model works: a misspelt name is told at once
        try:
            contents.append((path, read_file(path, max_bytes=limit)))
        except AppError as error:
            terminal.fail(error, name=path)
            return status_of(error)
    assistant.wait_until_loaded()
    plan = FillPlan(template, terminal.language.value, request.look)
    for path, data in contents:
        try:
            picture = assistant.stage(data, name_of(path), page=request.page)
            _tell(terminal, desk.fill(plan, picture))
        except AppError as error:
            if isinstance(error, FormError):
                raise
            terminal.fail(error, name=path)
            status = max(status, status_of(error))
    return status


def list_forms(terminal: Terminal, desk: FormDesk, _assistant: Assistant, *, template: str, source: str) -> int:
    """List forms, the worst first."""
    found = desk.list(template=template, source=source)
    for judged in found:
        if terminal.is_json:
            terminal.json(form_document(judged, terminal.language))
        else:
            state = form_state_text(judged, terminal.language)
            terminal.line(f"{judged.form.form_id}  {judged.form.template.name}  {judged.form.picture_name}  {state}")
    if not found and not terminal.is_json:
        terminal.note(Reason("cli.forms.none"))
    return DONE


def show_form(terminal: Terminal, desk: FormDesk, _assistant: Assistant, *, form_id: str) -> int:
    """Print one form with its evidence."""
    _tell(terminal, desk.judged(form_id))
    return DONE


def confirm(terminal: Terminal, desk: FormDesk, _assistant: Assistant, *, form_id: str, key: str, who: str) -> int:
    """Accept a field as it stands, or with no field all that nothing speaks against."""
    if key:
        _known(desk, form_id, key)
        judged = desk.accept(form_id, key, who=who)
    else:
        judged = desk.accept_rest(form_id, who=who)
    _tell(terminal, judged)
    return DONE


def correct(
    terminal: Terminal, desk: FormDesk, _assistant: Assistant, *, form_id: str, key: str, value: str, who: str
) -> int:
    """Set a field's value; an empty one says that nothing stands there."""
    _known(desk, form_id, key)
    _tell(terminal, desk.correct(form_id, key, value, who=who))
    return DONE


def export(
    terminal: Terminal, desk: FormDesk, _assistant: Assistant, *, target: str, template: str, source: str
) -> int:
    """Write forms to a file whose ending says as what."""
    ending = Path(target).suffix.lower().lstrip(".")
    if ending not in tuple(FormExport):
        raise UsageError("cli.forms.unknown_ending", name=name_of(target), known=", ".join(FormExport))
    found = desk.list(template=template, source=source)
    count = export_forms(FormExport(ending), Path(target), found, file_of=desk.file, language=terminal.language)
    terminal.note(Reason("cli.forms.wrote_count", name=name_of(target), count=count))
    return DONE


def delete(terminal: Terminal, desk: FormDesk, _assistant: Assistant, *, form_id: str, everything: bool) -> int:
    """Delete one form, or all with the truth set."""
    if everything == bool(form_id):
        raise UsageError("cli.forms.one_or_all")
    if everything:
        erased = desk.erase()
        terminal.note(Reason("cli.forms.erased", forms=erased.forms, cases=erased.cases))
    else:
        desk.delete(form_id)
        terminal.note(Reason("cli.forms.deleted", form=form_id))
    return DONE


def _known(desk: FormDesk, form_id: str, key: str) -> None:
    template: FormTemplate = desk.judged(form_id).form.template
    keys = [field.key for field in template.fields]
    if key not in keys:
        raise UsageError("cli.forms.no_field", field=key, known=", ".join(keys))


def _tell(terminal: Terminal, judged: JudgedForm) -> None:
    language = terminal.language
    if terminal.is_json:
        terminal.json(form_document(judged, language))
        return
    form = judged.form
    terminal.line(f"{form.form_id}  {form.picture_name}  {form_state_text(judged, language)}", style="bold")
    for note in form.notes:
        terminal.line(f"  {render(note, language)}")
    names = names_of(judged, language)
    for each in judged.worst_first:
        value = each.value.shown.replace("\n", " / ") or terminal.say("forms.nothing_there")
        told = [state_text(each.state, language)]
        if each.reading.confidence is not None:
            told.append(f"{round(100 * each.reading.confidence)} %")
        if look := look_text(each, language):
            told.append(terminal.say("cli.forms.looked", look=look))
        terminal.line(f"  {names[each.field.key]} [{each.field.key}]: {value}  ({', '.join(told)})")
        for doubt in doubt_texts(each, judged, language):
            terminal.line(f"      {doubt}")
