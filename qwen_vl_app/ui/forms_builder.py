"""The template builder: which template, its fields and rules, a sample picture beside them, and its next version.

Knows what is done with a template as a whole. Does not know how its fields, its rules or the picture look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.errors import FormError, Reason
from qwen_vl_app.forms import FormDesk, FormTemplate, Names, dump_template
from qwen_vl_app.ui.forms_draft import MAX_NAME, TemplateDraft, fields_of, template_of
from qwen_vl_app.ui.forms_fields import show_fields
from qwen_vl_app.ui.forms_filling import titled
from qwen_vl_app.ui.forms_rules import refuse_unfit, show_rules
from qwen_vl_app.ui.forms_sample import show_sample
from qwen_vl_app.ui.forms_take_in import show_take_in
from qwen_vl_app.ui.labels import key_of, labels_of
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.visit import Visit

NEW = "+"
"""In the place of a template's name: one that has none yet."""
SIDE_PX = 330


def show_builder(visit: Visit, desk: FormDesk, batches: Callable[[], BatchRuns]) -> None:
    """Show the templates and the editor."""
    forms = visit.state.forms
    templates = {template.name: template for template in desk.templates.list()}
    chosen = forms.template if forms.template in templates or forms.template == NEW else next(iter(templates))
    _show_head(visit, desk, templates, chosen)
    show_take_in(visit, desk, lambda kept: _open_anew(visit, kept.name))
    draft = forms.drafts.get(chosen)
    if draft is None:
        draft = forms.drafts[chosen] = TemplateDraft.of(templates.get(chosen))
    if draft.shown == draft.edition and value_of(f"ft-en-{draft.edition}") is None:
        draft.settle()  # the page showed something else meanwhile, and forgot its widgets
    with st.grid(columns=2, min_column_width=SIDE_PX, gap="large"):
        with st.container():
            _show_titles(visit, draft)
            show_fields(visit, draft)
            show_rules(visit, draft)
            made = _made(draft, visit.words.language.value)
            _show_save(visit, desk, draft, made, chosen=chosen)
        with st.container():
            show_sample(visit, batches, made)
    if draft.do_pending():
        st.rerun()


# 1. Which template


def _show_head(visit: Visit, desk: FormDesk, templates: Mapping[str, FormTemplate], chosen: str) -> None:
    words, forms = visit.words, visit.state.forms

    def said(name: str) -> str:
        title = words("forms.new_template") if name == NEW else titled(templates[name], visit)
        draft = forms.drafts.get(name)
        return words("builder.unsaved_title", title=title) if draft is not None and draft.is_changed else title

    labels = labels_of((name, said(name)) for name in (*templates, NEW))
    key = key_of(f"forms-edit-{forms.opened}", labels.values())
    with st.container(horizontal=True, vertical_alignment="bottom", key="forms-templates"):
        st.selectbox(
            words("forms.template"),
            list(labels),
            index=list(labels).index(chosen),
            format_func=labels.__getitem__,
            key=key,
            on_change=lambda: _choose(visit, str(value_of(key) or chosen), chosen),
            width="stretch",
        )
        st.button(
            words("forms.new_template"),
            key="forms-new-template",
            icon=":material/add:",
            on_click=_open,
            args=(visit, NEW),
        )
        st.button(
            words("forms.take_in"), key="forms-ask-take-in", icon=":material/upload:", on_click=_take_in, args=(visit,)
        )
        if chosen != NEW:
            _show_acts(visit, desk, templates[chosen])


def _show_acts(visit: Visit, desk: FormDesk, template: FormTemplate) -> None:
    words = visit.words
    st.download_button(
        words("forms.share"),
        dump_template(template),
        file_name=f"{template.name}.json",
        mime="application/json",
        key="forms-share",
        icon=":material/download:",
        on_click="ignore",
    )
    if template.version:
        with st.popover(words("forms.remove_template"), icon=":material/delete:", key="forms-ask-remove"):
            st.markdown(words("builder.remove_sure"))
            st.button(
                words("builder.remove_yes"),
                key="forms-remove-template",
                type="primary",
                on_click=_remove,
                args=(visit, desk, template.name),
            )


def _open(visit: Visit, name: str) -> None:
    forms = visit.state.forms
    forms.template, forms.tried, visit.state.problems = name, None, []
    forms.opened += 1


def _choose(visit: Visit, name: str, shown: str) -> None:
    """Open what was chosen in the list; a list may report what it shows already, beside a click on something else."""
    if name != shown:
        _open(visit, name)


def _open_anew(visit: Visit, name: str) -> None:
    """Open a template as it is kept now."""
    visit.state.forms.drafts.pop(name, None)
    _open(visit, name)


def _take_in(visit: Visit) -> None:
    visit.state.forms.is_taking_in = True


def _remove(visit: Visit, desk: FormDesk, name: str) -> None:
    if visit.state.attempt(lambda: desk.templates.remove(name)):
        _open_anew(visit, "")
        visit.state.forms.drafts.pop(name, None)


# 2. The editor


def _show_titles(visit: Visit, draft: TemplateDraft) -> None:
    words = visit.words
    with st.container(horizontal=True):
        english = st.text_input(
            words("forms.title_en"), value=draft.title.en, key=f"ft-en-{draft.edition}", max_chars=MAX_NAME
        )
        chinese = st.text_input(
            words("forms.title_zh"), value=draft.title.zh, key=f"ft-zh-{draft.edition}", max_chars=MAX_NAME
        )
    draft.shown = draft.edition
    draft.now_title = Names((english or "").strip(), (chinese or "").strip())


def _made(draft: TemplateDraft, language: str) -> FormTemplate | Reason:
    """Return the template as the editor says it now, or why there is none."""
    try:
        if draft.now_title == Names():
            raise FormError("builder.no_title")
        refuse_unfit(draft, language)
        fields = fields_of(draft.now_lines, before=draft.before)
        return template_of(fields, draft.now_rules, names=draft.now_title, before=draft.before)
    except FormError as error:
        return error.reason


def _show_save(visit: Visit, desk: FormDesk, draft: TemplateDraft, made: FormTemplate | Reason, *, chosen: str) -> None:
    words = visit.words

    def save(_draft: TemplateDraft) -> None:
        made = _made(draft, words.language.value)
        draft.is_refused = isinstance(made, Reason)
        if isinstance(made, FormTemplate):
            _keep(visit, desk, made, chosen=chosen)

    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            words("forms.save"),
            key=f"ft-save-{draft.edition}",
            type="primary",
            icon=":material/save:",
            on_click=draft.wish,
            args=(f"ft-save-{draft.edition}", save),
        )
        if draft.is_changed:
            st.button(
                words("builder.discard"),
                key=f"ft-discard-{draft.edition}",
                type="tertiary",
                icon=":material/undo:",
                on_click=_open_anew,
                args=(visit, chosen),
            )
            st.caption(words("builder.unsaved"))
    if draft.is_refused and isinstance(made, Reason):
        st.warning(words.render(made), icon=":material/info:")


def _keep(visit: Visit, desk: FormDesk, made: FormTemplate, *, chosen: str) -> None:
    forms = visit.state.forms
    save = desk.templates.save_new if chosen == NEW else desk.templates.save
    kept: list[FormTemplate] = []
    if visit.state.attempt(lambda: kept.append(save(made))):
        forms.done = Reason("ui.forms.saved", title=titled(kept[0], visit))
        forms.drafts.pop(chosen, None)
        _open_anew(visit, kept[0].name)
