"""The template builder: fields as a table to edit, a sample picture beside it, and a try on that picture.

Knows how a template becomes lines of a table and back. Does not know what a template is good for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.chat import StagedPicture
from qwen_vl_app.errors import AppError, FormError, Reason
from qwen_vl_app.forms import (
    Checksum,
    Choice,
    FieldType,
    FillPlan,
    FormDesk,
    FormField,
    FormFiller,
    FormRule,
    FormTemplate,
    JudgedForm,
    LookAt,
    Looking,
    Names,
    RuleKind,
    dump_template,
    judge,
)
from qwen_vl_app.forms.evidence import doubt_texts, name_of
from qwen_vl_app.forms.sources import keep_from_file, keep_from_text
from qwen_vl_app.forms.template import checked, slug
from qwen_vl_app.forms.units import known_units
from qwen_vl_app.ui.dropped import dropped_now, show_dropped
from qwen_vl_app.ui.forms_filling import titled
from qwen_vl_app.ui.forms_rules import show_rules
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.visit import Visit

NEW = "+"
_COLUMNS = (
    "en",
    "zh",
    "type",
    "required",
    "unit",
    "choices",
    "columns",
    "format",
    "minimum",
    "maximum",
    "pattern",
    "checksum",
    "identifier",
    "needle",
    "look",
    "label",
    "hint",
    "key",
)


def show_builder(visit: Visit, desk: FormDesk, batches: Callable[[], BatchRuns]) -> None:
    """Show the templates and the editor."""
    words, forms = visit.words, visit.state.forms
    templates = {template.name: template for template in desk.templates.list()}
    chosen = forms.template if forms.template in templates or forms.template == NEW else next(iter(templates))
    with st.container(horizontal=True, vertical_alignment="bottom", key="forms-templates"):
        st.selectbox(
            words("forms.template"),
            [*templates, NEW],
            index=[*templates, NEW].index(chosen),
            format_func=lambda name: words("forms.new_template") if name == NEW else titled(templates[name], visit),
            key=f"forms-edit-{forms.drafts}",
            on_change=_choose,
            args=(visit, f"forms-edit-{forms.drafts}"),
            width="stretch",
        )
        with st.popover(words("forms.take_in"), icon=":material/upload:"):
            _show_take_in(visit, desk)
        if chosen != NEW:
            st.download_button(
                words("forms.share"),
                dump_template(templates[chosen]),
                file_name=f"{chosen}.json",
                mime="application/json",
                key="forms-share",
                icon=":material/download:",
                on_click="ignore",
            )
            if templates[chosen].version:
                st.button(
                    words("forms.remove_template"),
                    key="forms-remove-template",
                    icon=":material/delete:",
                    on_click=_remove,
                    args=(visit, desk, chosen),
                )
    template = templates.get(chosen)
    left, right = st.columns([3, 2], gap="large")
    with left:
        draft = _show_editor(visit, desk, template)
    with right:
        _show_sample(visit, batches, draft)


def _choose(visit: Visit, key: str) -> None:
    _open(visit, str(value_of(key) or NEW))


def _open(visit: Visit, name: str) -> None:
    forms = visit.state.forms
    forms.template, forms.tried, visit.state.problems = name, None, []
    forms.drafts += 1


def _remove(visit: Visit, desk: FormDesk, name: str) -> None:
    if visit.state.attempt(lambda: desk.templates.remove(name)):
        _open(visit, "")


def _show_take_in(visit: Visit, desk: FormDesk) -> None:
    words = visit.words
    st.markdown(words("forms.take_in_what"))
    file = st.file_uploader(words("forms.take_in_file"), type=["json", "xlsx", "csv"], key="forms-take-in-file")
    text = st.text_area(words("forms.take_in_text"), key="forms-take-in-text", height=140)
    if st.button(words("forms.take_in"), key="forms-take-in", type="primary"):

        def act() -> None:
            if file is not None:
                kept = keep_from_file(desk.templates, file.getvalue(), file.name)
            else:
                kept = keep_from_text(desk.templates, text or "")
            _open(visit, kept.name)

        visit.state.attempt(act)
        st.rerun()


# 1. The editor


def _show_editor(visit: Visit, desk: FormDesk, template: FormTemplate | None) -> FormTemplate | None:
    """Show a template as tables and return what they make at this moment; None where that cannot be meant."""
    words, forms = visit.words, visit.state.forms
    token = f"{forms.drafts}-{template.name if template else ''}-{template.version if template else 0}"
    with st.container(horizontal=True):
        english = st.text_input(
            words("forms.title_en"), value=template.title.en if template else "", key=f"ft-en-{token}"
        )
        chinese = st.text_input(
            words("forms.title_zh"), value=template.title.zh if template else "", key=f"ft-zh-{token}"
        )
    lines: Any = st.data_editor(
        _lines_of(template.fields if template else ()) or [_line_of(FormField(""))],
        column_config=_column_config(visit),
        column_order=_COLUMNS,
        num_rows="dynamic",
        hide_index=True,
        key=f"ft-fields-{token}",
        height="content",
    )
    fields = fields_of(lines, before=template)
    rules = show_rules(visit, template, fields, token=token)
    draft: FormTemplate | None = None
    problem: AppError | None = None
    try:
        draft = template_of(
            fields, rules, names=Names((english or "").strip(), (chinese or "").strip()), before=template
        )
    except FormError as error:
        problem = error
    if st.button(words("forms.save"), key=f"ft-save-{token}", type="primary", icon=":material/save:"):
        if draft is not None:
            kept: list[FormTemplate] = []
            save = desk.templates.save if template is not None else desk.templates.save_new
            if visit.state.attempt(lambda: kept.append(save(draft))):
                forms.done = Reason("ui.forms.saved", title=titled(kept[0], visit))
                _open(visit, kept[0].name)
        st.rerun() if problem is None else st.warning(words.render(problem), icon=":material/info:")
    return draft


def _column_config(visit: Visit) -> Mapping[str, Any]:
    words = visit.words
    config = st.column_config

    def title(name: str) -> str:
        return words(f"forms.col_{name}")

    return {
        "en": config.TextColumn(title("en"), width="medium"),
        "zh": config.TextColumn(title("zh"), width="small"),
        "type": config.SelectboxColumn(
            title("type"), options=list(FieldType), format_func=lambda kind: words(f"forms.type_{kind}"), required=True
        ),
        "required": config.CheckboxColumn(title("required")),
        "unit": config.SelectboxColumn(title("unit"), options=["", *known_units()]),
        "choices": config.TextColumn(title("choices"), help=words("forms.col_choices_what")),
        "columns": config.TextColumn(title("columns"), help=words("forms.col_columns_what")),
        "format": config.SelectboxColumn(
            title("format"), options=["", "YYYY-MM-DD", "DD.MM.YYYY", "DD/MM/YYYY", "MM/DD/YYYY", "YYYY年M月D日"]
        ),
        "minimum": config.NumberColumn(title("minimum")),
        "maximum": config.NumberColumn(title("maximum")),
        "pattern": config.TextColumn(title("pattern"), help=words("forms.col_pattern_what")),
        "checksum": config.SelectboxColumn(
            title("checksum"),
            options=["", *Checksum],
            format_func=lambda kind: words(f"forms.sum_{kind}") if kind else "",
        ),
        "identifier": config.CheckboxColumn(title("identifier"), help=words("forms.col_identifier_what")),
        "needle": config.CheckboxColumn(title("needle"), help=words("forms.col_needle_what")),
        "look": config.SelectboxColumn(
            title("look"), options=list(Looking), format_func=lambda look: words(f"forms.looking_{look}")
        ),
        "label": config.TextColumn(title("label"), help=words("forms.col_label_what")),
        "hint": config.TextColumn(title("hint"), help=words("forms.col_hint_what")),
        "key": config.TextColumn(title("key"), help=words("forms.col_key_what")),
    }


def _lines_of(fields: Iterable[FormField]) -> list[dict[str, Any]]:
    return [_line_of(field) for field in fields]


def _line_of(field: FormField) -> dict[str, Any]:
    return {
        "en": field.names.en,
        "zh": field.names.zh,
        "type": field.type.value,
        "required": field.is_required,
        "unit": field.unit,
        "choices": ", ".join("=".join((choice.value, *choice.also)) for choice in field.choices),
        "columns": ", ".join(
            f"{column.names.en or column.names.zh or column.key}"
            + ("" if column.type is FieldType.TEXT else f":{column.type.value}")
            for column in field.columns
        ),
        "format": field.format,
        "minimum": field.minimum,
        "maximum": field.maximum,
        "pattern": field.pattern,
        "checksum": field.checksum.value if field.checksum else "",
        "identifier": field.is_identifier,
        "needle": field.is_needle,
        "look": field.second_look.value,
        "label": field.label.en or field.label.zh,
        "hint": field.hint.en or field.hint.zh,
        "key": field.key,
    }


def fields_of(lines: Iterable[Mapping[str, Any]], *, before: FormTemplate | None) -> tuple[FormField, ...]:
    """Return the fields that the editor's table says; what it cannot show stays as it was."""
    fields: list[FormField] = []
    for number, line in enumerate(lines, 1):
        if any(_text(line, name) for name in ("en", "zh", "key")):
            key = _text(line, "key") or slug(_text(line, "en"), fallback=f"field_{number}")
            fields.append(_field_of(line, key, _of_key(before, key)))
    return tuple(fields)


def template_of(
    fields: Sequence[FormField],
    rules: Iterable[Mapping[str, Any]],
    *,
    names: Names,
    before: FormTemplate | None,
) -> FormTemplate:
    """Return the template that the editor says. Raises FormError."""
    kept = tuple(
        FormRule(RuleKind(rule["kind"]), tuple(rule["fields"]), float(rule["tolerance"] or 0.0))
        for rule in rules
        if rule["fields"]
    )
    name = before.name if before is not None else slug(names.en or names.zh, fallback="form")
    return checked(
        FormTemplate(
            name=name,
            fields=tuple(fields),
            title=names,
            version=before.version if before is not None else 0,
            rules=kept,
            about=before.about if before is not None else Names(),
        )
    )


def _of_key(template: FormTemplate | None, key: str) -> FormField | None:
    return next((field for field in template.fields if field.key == key), None) if template is not None else None


def _field_of(line: Mapping[str, Any], key: str, before: FormField | None) -> FormField:
    kind = FieldType(_text(line, "type") or "text")
    label, hint = _text(line, "label"), _text(line, "hint")
    checksum = _text(line, "checksum")
    was = _line_of(before) if before is not None else {}
    return replace(
        before or FormField(key),
        names=Names(_text(line, "en"), _text(line, "zh")),
        type=kind,
        is_required=bool(line.get("required")),
        unit=_text(line, "unit"),
        # What the table shows shortened is only taken from it where somebody changed it.
        choices=before.choices
        if before and was["choices"] == _text(line, "choices")
        else _choices(_text(line, "choices")),
        columns=before.columns
        if before and was["columns"] == _text(line, "columns")
        else _cells(_text(line, "columns")),
        format=_text(line, "format"),
        minimum=_number(line, "minimum"),
        maximum=_number(line, "maximum"),
        pattern=_text(line, "pattern"),
        checksum=Checksum(checksum) if checksum else None,
        is_identifier=bool(line.get("identifier")),
        is_needle=bool(line.get("needle")),
        second_look=Looking(_text(line, "look") or Looking.DEFAULT.value),
        label=before.label if before and was["label"] == label else Names(en=label),
        hint=before.hint if before and was["hint"] == hint else Names(en=hint),
    )


def _choices(text: str) -> tuple[Choice, ...]:
    found = (tuple(part.strip() for part in each.split("=") if part.strip()) for each in _split(text))
    return tuple(Choice(words[0], words[1:]) for words in found if words)


def _cells(text: str) -> tuple[FormField, ...]:
    columns: list[FormField] = []
    for number, each in enumerate(_split(text), 1):
        name, _, kind = each.partition(":")
        key = slug(name, fallback=f"column_{number}")
        is_kind = kind.strip() in tuple(FieldType)
        columns.append(FormField(key, Names(en=name.strip()), FieldType(kind.strip()) if is_kind else FieldType.TEXT))
    return tuple(columns)


def _split(text: str) -> Sequence[str]:
    return [part for each in text.replace("，", ",").replace("、", ",").split(",") if (part := each.strip())]


def _text(line: Mapping[str, Any], name: str) -> str:
    value = line.get(name)
    return value.strip() if isinstance(value, str) else ""


def _number(line: Mapping[str, Any], name: str) -> float | None:
    value = line.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    return float(value) if is_number and value is not None else None


# 2. The sample picture


def _show_sample(visit: Visit, batches: Callable[[], BatchRuns], draft: FormTemplate | None) -> None:
    words, forms = visit.words, visit.state.forms
    picture: StagedPicture | None = None
    try:
        picture = _dropped_picture(visit, batches)
    except AppError as error:
        st.warning(words.render(error), icon=":material/info:")
    st.caption(words("forms.sample_what"))
    if picture is None:
        show_dropped(words, token=visit.state.drop_token)
        return
    with st.container(key="forms-sample"):
        st.image(picture.view, width="stretch", alt=words("picture.alt", name=picture.name))
    with st.container(horizontal=True):
        is_tried = st.button(
            words("forms.try"), key="forms-try", icon=":material/science:", disabled=draft is None, type="primary"
        )
        st.button(words("forms.other_sample"), key="forms-other-sample", on_click=_drop_sample, args=(visit,))
    if is_tried and draft is not None:
        with st.spinner(words("forms.trying")):
            forms.tried = _tried(visit, draft, picture)
    if isinstance(forms.tried, JudgedForm):
        for each in forms.tried.fields:
            value = plain(each.value.shown) or f":gray[{words.say('forms.nothing_there')}]"
            st.markdown(f"**{plain(name_of(each, words.language))}** {value}")
            for sentence in doubt_texts(each, forms.tried, words.language):
                st.caption(plain(sentence))
    elif isinstance(forms.tried, Reason):
        st.warning(words.render(forms.tried), icon=":material/info:")


def _drop_sample(visit: Visit) -> None:
    visit.state.drop_token = f"{visit.state.drop_token}+"
    visit.state.forms.sample = visit.state.forms.tried = None


def _tried(visit: Visit, draft: FormTemplate, picture: StagedPicture) -> JudgedForm | Reason:
    try:
        plan = FillPlan(draft, visit.words.language.value, LookAt.NONE, visit.owner)
        return judge(FormFiller(visit.assistant, owner=visit.owner).fill(plan, picture).form)
    except AppError as error:
        return error.reason


def _dropped_picture(visit: Visit, batches: Callable[[], BatchRuns]) -> StagedPicture | None:
    forms = visit.state.forms
    if forms.sample is not None:  # from then on the place where it was dropped is not shown, and knows nothing
        return forms.sample
    drop = dropped_now()
    if not drop.drop_id:
        return None
    folder = batches().dropped.folder(visit.owner, drop.drop_id)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not files:
        return None
    forms.sample = visit.assistant.stage(files[0].read_bytes(), files[0].name)
    return forms.sample
