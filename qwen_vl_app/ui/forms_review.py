"""The review of filled forms: crop, value, confidence, second look and rule side by side, the worst first, by keyboard.

Knows how a judged form looks and how a decision is made. Does not know how a value was read or what makes it doubtful.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import streamlit as st

from qwen_vl_app.chat import JsonValue, Region
from qwen_vl_app.errors import Reason, UnreadableImageError
from qwen_vl_app.forms import (
    FieldState,
    FieldType,
    FormDesk,
    FormExport,
    JudgedField,
    JudgedForm,
    LookOutcome,
    export_forms,
)
from qwen_vl_app.forms.evidence import doubt_texts, form_state_text, look_text, name_of, state_text
from qwen_vl_app.forms.judging import LOW_CONFIDENCE
from qwen_vl_app.imaging import draw_regions
from qwen_vl_app.ui.forms_proof import show_verdict
from qwen_vl_app.ui.labels import key_of, labels_of
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.state import FormsState, value_of
from qwen_vl_app.ui.visit import Visit

ALL = ""
DRAWN_SIDE_PX = 1400
_MIMES = {
    FormExport.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    FormExport.CSV: "text/csv",
    FormExport.JSON: "application/json",
    FormExport.PDF: "application/pdf",
}
_STATE_COLOURS = {
    FieldState.DOUBTFUL: "orange",
    FieldState.UNSEEN: "gray",
    FieldState.ACCEPTED: "green",
    FieldState.CORRECTED: "blue",
}
_LOOK_COLOURS = {LookOutcome.AGREE: "green", LookOutcome.DIFFER: "red", LookOutcome.UNREADABLE: "orange"}
_TOLD_BY_BADGES = ("forms.doubt.low_confidence", "forms.doubt.differ")
_LOOK_ICONS = {LookOutcome.AGREE: "check", LookOutcome.DIFFER: "close", LookOutcome.UNREADABLE: "question_mark"}


def show_review(visit: Visit, desk: FormDesk, forms: tuple[JudgedForm, ...]) -> None:
    """Show the forms and the open one."""
    words, state = visit.words, visit.state
    if not forms:
        st.info(words("forms.none"), icon=":material/inbox:")
        return
    show_verdict(visit, desk)
    by_id = {each.form.form_id: each for each in forms}
    open_id = state.forms.form_id if state.forms.form_id in by_id else forms[0].form.form_id
    _show_head(visit, desk, forms, open_id)
    judged = by_id[open_id]
    left, right = st.columns([2, 3], gap="large")
    current = _current(visit, judged)
    with left:
        _show_picture(visit, desk, judged, current)
    with right:
        if current is None:
            _show_finished(visit, desk, judged, forms)
        else:
            _show_current(visit, desk, judged, current)
    _show_fields(visit, desk, judged, current)


# 1. Which form


def _show_head(visit: Visit, desk: FormDesk, forms: Sequence[JudgedForm], open_id: str) -> None:
    words, state = visit.words, visit.state
    titles = labels_of((each.form.form_id, _line(each, visit)) for each in forms)
    key = key_of(f"forms-open-{open_id}", titles.values())
    with st.container(horizontal=True, vertical_alignment="bottom", key="forms-head"):
        st.selectbox(
            words("forms.which", count=len(forms)),
            list(titles),
            index=list(titles).index(open_id),
            format_func=titles.__getitem__,
            key=key,
            on_change=_open_chosen,
            args=(visit, key),
            width="stretch",
        )
        st.text_input(
            words("forms.who"),
            value=state.forms.who,
            key="forms-who",
            on_change=_note_who,
            args=(visit,),
            max_chars=80,
            width=220,
            placeholder=words("forms.who_example"),
        )
        with st.popover(words("forms.take_away"), icon=":material/download:"):
            _show_exports(visit, desk, forms)
        with st.popover(words("forms.more_menu"), icon=":material/more_horiz:"):
            st.button(
                words("forms.to_truth"),
                key="forms-to-truth",
                icon=":material/verified:",
                on_click=_to_truth,
                args=(visit, desk, open_id),
                width="stretch",
            )
        with st.popover(words("forms.delete"), icon=":material/delete:", type="tertiary", key="forms-ask-delete"):
            st.markdown(words("builder.delete_sure"))
            st.button(
                words("builder.delete_yes"),
                key="forms-delete",
                type="primary",
                on_click=_delete,
                args=(visit, desk, open_id),
            )


def _line(judged: JudgedForm, visit: Visit) -> str:
    form = judged.form
    page = f" ({form.page + 1}/{form.page_count})" if form.page_count > 1 else ""
    language = visit.words.language
    return f"{form_state_text(judged, language)} · {form.picture_name}{page} · {form.template.titled(language)}"


def _open_chosen(visit: Visit, key: str) -> None:
    _open(visit, str(value_of(key) or ""))


def _open(visit: Visit, form_id: str) -> None:
    forms = visit.state.forms
    forms.form_id, forms.field_key, visit.state.problems = form_id, "", []


def _note_who(visit: Visit) -> None:
    visit.state.forms.who = str(value_of("forms-who") or "").strip()
    visit.state.problems = []


def _to_truth(visit: Visit, desk: FormDesk, form_id: str) -> None:
    if visit.state.attempt(lambda: desk.add_to_truth(form_id)):
        visit.state.forms.done = Reason("ui.builder.added_to_truth")


def _delete(visit: Visit, desk: FormDesk, form_id: str) -> None:
    if visit.state.attempt(lambda: desk.delete(form_id)):
        _open(visit, "")


def _show_exports(visit: Visit, desk: FormDesk, forms: Sequence[JudgedForm]) -> None:
    words = visit.words
    for kind, mime in _MIMES.items():

        def make(kind: FormExport = kind) -> bytes:
            with visit.assistant.scratch.directory(visit.owner) as folder:
                target = folder / f"forms.{kind.value}"
                export_forms(kind, target, forms, file_of=desk.file, language=words.language)
                return target.read_bytes()

        st.download_button(
            words(f"forms.export_{kind.value}"),
            make,
            file_name=f"forms.{kind.value}",
            mime=mime,
            key=f"forms-take-{kind.value}",
            on_click="ignore",
            width="stretch",
        )


# 2. The picture


def _show_picture(visit: Visit, desk: FormDesk, judged: JudgedForm, current: JudgedField | None) -> None:
    view = desk.file(judged.form.form_id, "view")
    box = current.reading.box if current is not None else None
    regions = (Region(box),) if box is not None else ()
    try:
        drawn = draw_regions(view or b"", regions, labels=False, max_side=DRAWN_SIDE_PX)
    except UnreadableImageError as error:
        st.caption(visit.words.render(error))
        return
    with st.container(key="forms-picture"):
        st.image(drawn, width="stretch", alt=visit.words("picture.alt", name=judged.form.picture_name))
    st.caption(
        f"{plain(judged.form.picture_name)}  \n"
        + visit.words("forms.read_by", model=plain(judged.form.model), at=visit.words.time(judged.form.filled_at))
        + "".join(f"  \n{plain(visit.words.render(note))}" for note in judged.form.notes)
    )


# 3. The field under review


def _current(visit: Visit, judged: JudgedForm) -> JudgedField | None:
    """Return the field that was chosen, else the worst that nobody has settled; None where all are."""
    key = visit.state.forms.field_key
    for each in judged.fields:
        if each.field.key == key:
            return each
    return next((each for each in judged.worst_first if not each.state.is_settled), None)


def _show_current(visit: Visit, desk: FormDesk, judged: JudgedForm, each: JudgedField) -> None:
    words, state = visit.words, visit.state
    token = f"{judged.form.form_id}-{each.field.key}-{state.forms.decided}"
    with st.container(border=True, key="forms-current"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(plain(name_of(each, words.language)), anchor=False, width="stretch")
            _show_badges(visit, each)
        crop = desk.file(judged.form.form_id, each.reading.crop)
        if crop:
            with st.container(key="forms-crop"):
                st.image(crop, alt=words("forms.crop_alt", name=name_of(each, words.language)))
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
        titles = {column.key: column.names.of(visit.words.language) or column.key for column in field.columns}
        shown = [{key: _as_cell(row.get(key)) for key in titles} for row in rows if isinstance(row, dict)]
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


def _as_cell(value: JsonValue) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _decide(visit: Visit, desk: FormDesk, judged: JudgedForm, each: JudgedField, written: JsonValue) -> None:
    """Keep what a person said; what is as it was is an acceptance. Then draw the page with the next field."""
    form_id, key, who = judged.form.form_id, each.field.key, visit.state.forms.who
    is_same = written == each.value.value if isinstance(written, list) else (written or "") == each.value.shown

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
                on_click=_choose,
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


def _choose(visit: Visit, key: str) -> None:
    visit.state.forms.field_key = key
    visit.state.problems = []


def _accept_rest(visit: Visit, desk: FormDesk, form_id: str) -> None:
    forms = visit.state.forms
    if visit.state.attempt(lambda: desk.accept_rest(form_id, who=forms.who)):
        _go_on(forms, form_id)


def _show_finished(visit: Visit, desk: FormDesk, judged: JudgedForm, forms: Sequence[JudgedForm]) -> None:
    words = visit.words
    st.success(words("forms.reviewed"), icon=":material/task_alt:")
    waiting = next((each for each in forms if not each.is_reviewed), None)
    if waiting is None:
        st.markdown(words("forms.all_reviewed"))
        return
    st.button(
        words("forms.next_form", name=plain(waiting.form.picture_name)),
        key="forms-next-form",
        type="primary",
        icon=":material/arrow_forward:",
        shortcut="Enter",
        on_click=_open,
        args=(visit, waiting.form.form_id),
    )


# 4. All fields side by side


def _show_fields(visit: Visit, desk: FormDesk, judged: JudgedForm, current: JudgedField | None) -> None:
    words = visit.words
    with st.container(key="forms-fields", gap="xsmall"):
        widths = [1.1, 1.5, 1.6, 2.4, 1.3]
        heads = ("field", "crop", "value", "doubts", "state")
        for column, head in zip(st.columns(widths), heads, strict=True):
            column.caption(words(f"forms.head_{head}"))
        for each in judged.worst_first:
            is_current = current is not None and each.field.key == current.field.key
            with st.container(key=f"forms-row-{'now-' if is_current else ''}{each.field.key}"):
                _show_row(visit, desk, judged, each, widths)


def _show_row(visit: Visit, desk: FormDesk, judged: JudgedForm, each: JudgedField, widths: list[float]) -> None:
    words = visit.words
    name, crop, value, doubts, state = st.columns(widths, vertical_alignment="center")
    with name:
        st.button(
            plain(name_of(each, words.language)),
            key=f"forms-choose-{each.field.key}",
            type="tertiary",
            on_click=_choose,
            args=(visit, each.field.key),
        )
    with crop:
        data = desk.file(judged.form.form_id, each.reading.crop)
        if data:
            st.image(data, width="stretch", alt=words("forms.crop_alt", name=name_of(each, words.language)))
    with value:
        shown = "  \n".join(plain(line) for line in each.value.shown.splitlines())
        st.markdown(shown or f":gray[{words.say('forms.nothing_there')}]")
        if each.decision is not None and each.decision.written != each.reading.written and each.reading.written:
            st.caption(words("forms.was", value=plain(_as_cell(each.reading.written))[:80]))
    with doubts:
        _show_badges(visit, each, has_state=False)
        for sentence in doubt_texts(each, judged, words.language, but=_TOLD_BY_BADGES):
            st.caption(plain(sentence))
    with state:
        st.badge(state_text(each.state, words.language), color=_STATE_COLOURS[each.state])  # type: ignore[arg-type]
        if each.decision is not None:
            st.caption(f"{plain(each.decision.who)}  \n{words.time(each.decision.at)}")


def _show_badges(visit: Visit, each: JudgedField, *, has_state: bool = True) -> None:
    words = visit.words
    with st.container(horizontal=True, gap="xsmall", width="content"):
        if has_state:
            st.badge(state_text(each.state, words.language), color=_STATE_COLOURS[each.state])  # type: ignore[arg-type]
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
                color=_LOOK_COLOURS[look.outcome],  # type: ignore[arg-type]
            )


# 5. The keyboard


_FOCUS = """
export default function(component) {
  const { token, place } = component.data;
  if (window.qvlFormsFocus === token) return;
  window.qvlFormsFocus = token;
  requestAnimationFrame(() => {
    const input = document.querySelector(`[class*="st-key-${place}"] input`);
    if (!input) return;
    input.focus({ preventScroll: true });
    input.select();
    (input.closest(".st-key-forms-current") || input).scrollIntoView({ block: "nearest" });
  });
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
