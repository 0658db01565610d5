"""The field under review: its crop and what speaks against its value, what a person says of it, and the way to the next, by keyboard.

Knows one judged field and how a decision is made. Does not know which form is open or how its other fields look.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import streamlit as st

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.forms import FieldState, FieldType, FormDesk, JudgedField, JudgedForm, value_of
from qwen_vl_app.forms.evidence import doubt_texts, names_of
from qwen_vl_app.forms.fields import shown_names
from qwen_vl_app.ui.forms_rows import choose_field, show_badges
from qwen_vl_app.ui.holdings import FormsState
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.visit import Visit


def field_of(visit: Visit, judged: JudgedForm) -> JudgedField | None:
    """Return the field that was chosen, else the worst that nobody has settled; None where all are."""
    key = visit.state.forms.field_key
    for each in judged.fields:
        if each.field.key == key:
            return each
    return next((each for each in judged.worst_first if not each.state.is_settled), None)


def show_field(visit: Visit, desk: FormDesk, judged: JudgedForm, each: JudgedField) -> None:
    """Show one field with everything that helps to decide about it."""
    words, state = visit.words, visit.state
    name = names_of(judged, words.language)[each.field.key]
    token = f"{judged.form.form_id}-{each.field.key}-{state.forms.decided}"
    with st.container(border=True, key="forms-current"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(plain(name), anchor=False, width="stretch")
            show_badges(visit, each)
        crop = desk.file(judged.form.form_id, each.reading.crop)
        if crop:
            with st.container(key="forms-crop"):
                st.image(crop, alt=words("forms.crop_alt", name=name))
        for sentence in doubt_texts(each, judged, words.language):
            st.markdown(f":orange[:material/warning:] {plain(sentence)}")
        for note in each.value.notes:
            if note not in each.doubts:
                st.caption(plain(words.render(note)))
        with st.form(f"forms-decide-{token}", border=False, enter_to_submit=True):
            written = _show_input(visit, each, token)
            with st.container(horizontal=True, vertical_alignment="center"):
                is_kept = st.form_submit_button(
                    words("forms.accept"), type="primary", icon=":material/check:", key=f"forms-accept-{token}"
                )
                is_null = st.form_submit_button(
                    words("forms.nothing"),
                    icon=":material/block:",
                    key=f"forms-null-{token}",
                    shortcut="Alt+N",
                )
        if is_null:
            written = None
        if is_kept or is_null:
            _decide(visit, desk, judged, each, written)
        st.caption(words("forms.keys"))
        _show_steps(visit, desk, judged, each)
        _focus(visit, token)


def _show_input(visit: Visit, each: JudgedField, token: str) -> JsonValue:
    """Show where a value is typed and return it; the value as it stands where nothing was typed."""
    label, field = visit.words("forms.value"), each.field
    if field.type is FieldType.TABLE:
        rows = each.value.value if isinstance(each.value.value, list) else []
        titles = shown_names(field.columns, visit.words.language)
        shown = [
            {column.key: value_of(column, row.get(column.key)).shown for column in field.columns}
            for row in rows
            if isinstance(row, dict)
        ]
        edited: Any = st.data_editor(
            shown or [dict.fromkeys(titles, "")],
            column_config=titles,
            num_rows="dynamic",
            key=f"forms-input-{token}",
            hide_index=True,
        )
        lines: list[JsonValue] = [dict(line) for line in edited if any(line.values())]
        return lines or None
    text = st.text_input(
        label, value=each.value.shown, key=f"forms-input-{token}", label_visibility="collapsed", placeholder=label
    )
    return (text or "").strip() or None


def _decide(visit: Visit, desk: FormDesk, judged: JudgedForm, each: JudgedField, written: JsonValue) -> None:
    """Keep what a person said; what is as it was is an acceptance. Then draw the page with the next field."""
    form_id, key, who = judged.form.form_id, each.field.key, visit.state.forms.who
    if isinstance(written, list):  # a cell comes back as its text, and an empty one as none
        is_same = value_of(each.field, written).value == each.value.value
    else:
        is_same = (written or "") == each.value.shown

    def act() -> None:
        if is_same:
            desk.accept(form_id, key, who=who)
        else:
            desk.correct(form_id, key, written, who=who)

    if visit.state.attempt(act):
        forms = visit.state.forms
        _go_on(forms, form_id)
    else:
        visit.state.forms.refused += 1
    st.rerun()


def _go_on(forms: FormsState, form_id: str) -> None:
    """Stay with the form, whose next field then shows; also where it was the last that waited."""
    forms.section, forms.form_id, forms.field_key = "review", form_id, ""
    forms.decided += 1


def _show_steps(visit: Visit, desk: FormDesk, judged: JudgedForm, each: JudgedField) -> None:
    words = visit.words
    order = [field.field.key for field in judged.worst_first]
    at = order.index(each.field.key)
    with st.container(horizontal=True, gap="small", key="forms-steps"):
        for name, step, icon, shortcut in (
            ("previous", -1, ":material/arrow_upward:", "Alt+Up"),
            ("next", 1, ":material/arrow_downward:", "Alt+Down"),
        ):
            st.button(
                words(f"forms.{name}"),
                key=f"forms-{name}",
                icon=icon,
                type="tertiary",
                shortcut=shortcut,
                on_click=choose_field,
                args=(visit, order[(at + step) % len(order)]),
            )
        unseen = sum(field.state is FieldState.UNSEEN for field in judged.fields)
        if unseen > 1:
            st.button(
                words("forms.accept_rest", count=unseen),
                key="forms-accept-rest",
                icon=":material/done_all:",
                type="tertiary",
                shortcut="Alt+A",
                on_click=_accept_rest,
                args=(visit, desk, judged.form.form_id),
            )


def _accept_rest(visit: Visit, desk: FormDesk, form_id: str) -> None:
    forms = visit.state.forms
    if visit.state.attempt(lambda: desk.accept_rest(form_id, who=forms.who)):
        _go_on(forms, form_id)


# The keyboard


_FOCUS = """
export default function(component) {
  const { token, place } = component.data;
  if (window.qvlFormsFocus === token) return;
  window.qvlFormsFocus = token;
  const until = Date.now() + 5000;
  let given = null;
  const look = () => {
    const rests = document.querySelector('[data-testid="stApp"]')?.dataset.testScriptState === "notRunning";
    if (window.qvlFormsFocus !== token || Date.now() > until) return;
    const input = document.querySelector(`[class*="st-key-${place}"]:not([data-stale="true"]) input`);
    const isNowhere = document.activeElement === document.body;
    if (input && (!given || isNowhere)) {
      given = input;
      input.focus({ preventScroll: true });
      input.select();
      (input.closest(".st-key-forms-current") || input).scrollIntoView({ block: "nearest" });
    }
    if (!rests || !given?.isConnected || isNowhere) requestAnimationFrame(look); // not there yet, or drawn anew since it has the focus
  };
  requestAnimationFrame(look);
}
"""


@cache
def _focus_component() -> Any:
    return st.components.v2.component("visual_assistant_forms_focus", js=_FOCUS)


def _focus(visit: Visit, token: str) -> None:
    """Put the keyboard into the value's input, once for each value; into the name where that was missing."""
    is_nameless = any(problem.reason.code == "forms.review.who" for problem in visit.state.problems)
    place = "forms-who" if is_nameless else "forms-input-"
    told = f"{token}-{visit.state.forms.who}-{visit.state.forms.refused if is_nameless else ''}"
    _focus_component()(key="forms-focus", data={"token": told, "place": place}, height=1)
