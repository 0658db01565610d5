"""All fields of a form side by side: its crop, its value, what speaks against it, and who decided.

Knows how a judged field looks in a row, and its badges. Does not know how a decision is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import streamlit as st

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.forms import FieldState, FormDesk, JudgedField, JudgedForm, LookOutcome
from qwen_vl_app.forms.evidence import doubt_texts, look_text, names_of, state_text
from qwen_vl_app.forms.judging import LOW_CONFIDENCE
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.style import Colour
from qwen_vl_app.ui.visit import Visit

_STATE_COLOURS: Mapping[FieldState, Colour] = {
    FieldState.DOUBTFUL: "orange",
    FieldState.UNSEEN: "gray",
    FieldState.ACCEPTED: "green",
    FieldState.CORRECTED: "blue",
}
_LOOK_COLOURS: Mapping[LookOutcome, Colour] = {
    LookOutcome.AGREE: "green",
    LookOutcome.DIFFER: "red",
    LookOutcome.UNREADABLE: "orange",
}
_LOOK_ICONS = {LookOutcome.AGREE: "check", LookOutcome.DIFFER: "close", LookOutcome.UNREADABLE: "question_mark"}
_TOLD_BY_BADGES = ("forms.doubt.low_confidence", "forms.doubt.differ")


def show_fields(visit: Visit, desk: FormDesk, judged: JudgedForm, current: JudgedField | None) -> None:
    """Show a row for every field, the worst first; `current` is marked."""
    words = visit.words
    with st.container(key="forms-fields", gap="xsmall"):
        names = names_of(judged, words.language)
        widths = [1.1, 1.5, 1.6, 2.4, 1.3]
        heads = ("field", "crop", "value", "doubts", "state")
        for column, head in zip(st.columns(widths), heads, strict=True):
            column.caption(words(f"forms.head_{head}"))
        for each in judged.worst_first:
            is_current = current is not None and each.field.key == current.field.key
            with st.container(key=f"forms-row-{'now-' if is_current else ''}{each.field.key}"):
                _show_row(visit, desk, judged, each, widths, title=names[each.field.key])


def _show_row(
    visit: Visit, desk: FormDesk, judged: JudgedForm, each: JudgedField, widths: list[float], *, title: str
) -> None:
    words = visit.words
    name, crop, value, doubts, state = st.columns(widths, vertical_alignment="center")
    with name:
        st.button(
            plain(title),
            key=f"forms-choose-{each.field.key}",
            type="tertiary",
            on_click=choose_field,
            args=(visit, each.field.key),
        )
    with crop:
        data = desk.file(judged.form.form_id, each.reading.crop)
        if data:
            st.image(data, width="stretch", alt=words("forms.crop_alt", name=title))
    with value:
        shown = "  \n".join(plain(line) for line in each.value.shown.splitlines())
        st.markdown(shown or f":gray[{words.say('forms.nothing_there')}]")
        if each.decision is not None and each.decision.written != each.reading.written and each.reading.written:
            st.caption(words("forms.was", value=plain(as_cell(each.reading.written))[:80]))
    with doubts:
        show_badges(visit, each, has_state=False)
        for sentence in doubt_texts(each, judged, words.language, but=_TOLD_BY_BADGES):
            st.caption(plain(sentence))
    with state:
        st.badge(state_text(each.state, words.language), color=_STATE_COLOURS[each.state])
        if each.decision is not None:
            st.caption(f"{plain(each.decision.who)}  \n{words.time(each.decision.at)}")


def show_badges(visit: Visit, each: JudgedField, *, has_state: bool = True) -> None:
    """Show its state, how sure the model was, and what a second look said."""
    words = visit.words
    with st.container(horizontal=True, gap="xsmall", width="content"):
        if has_state:
            st.badge(state_text(each.state, words.language), color=_STATE_COLOURS[each.state])
        if each.reading.confidence is not None:
            percent = round(100 * each.reading.confidence)
            st.badge(
                words("forms.sure", percent=percent),
                color="gray" if each.reading.confidence >= LOW_CONFIDENCE else "orange",
            )
        look = each.reading.look
        if look is not None:
            st.badge(
                words("forms.looked", look=look_text(each, words.language)),
                icon=f":material/{_LOOK_ICONS[look.outcome]}:",
                color=_LOOK_COLOURS[look.outcome],
            )


def choose_field(visit: Visit, key: str) -> None:
    """Open a field for review, for callbacks."""
    visit.state.forms.field_key = key
    visit.state.problems = []


def as_cell(value: JsonValue) -> str:
    """Return a value as a cell of a table is typed."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
