"""The review of filled forms: which form, its picture with the field under review marked, and what is taken away.

Knows forms as a whole. Does not know how a field looks, how a value was read or what makes it doubtful.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from qwen_vl_app.chat import Region
from qwen_vl_app.errors import Reason, UnreadableImageError
from qwen_vl_app.forms import FormDesk, FormExport, JudgedField, JudgedForm
from qwen_vl_app.forms.evidence import form_state_text
from qwen_vl_app.imaging import draw_regions
from qwen_vl_app.ui.forms_field import field_of, show_field
from qwen_vl_app.ui.forms_proof import show_verdict
from qwen_vl_app.ui.forms_rows import show_fields
from qwen_vl_app.ui.labels import key_of, labels_of
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

ALL = ""
DRAWN_SIDE_PX = 1400
EXPORTS = "/app/forms"


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
    current = field_of(visit, judged)
    with left:
        _show_picture(visit, desk, judged, current)
    with right:
        if current is None:
            _show_finished(visit, desk, judged, forms)
        else:
            show_field(visit, desk, judged, current)
    show_fields(visit, desk, judged, current)


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
            _show_exports(words)
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


def _show_exports(words: Words) -> None:
    for kind in (FormExport.XLSX, FormExport.CSV, FormExport.JSON, FormExport.PDF):
        address = f"{EXPORTS}/{kind.value}?lang={words.language.value}"
        with st.container(key=f"forms-take-{kind.value}"):
            st.link_button(words(f"forms.export_{kind.value}"), address, width="stretch")


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


# 3. After the last field


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
