"""The sample picture beside the template editor: dropped, looked at, and read with the template as it stands.

Knows one picture. Does not know how a template is edited or a form is filled.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st

from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.chat import StagedPicture
from qwen_vl_app.errors import AppError, Reason
from qwen_vl_app.forms import FillPlan, FormFiller, FormTemplate, JudgedForm, LookAt, judge
from qwen_vl_app.forms.evidence import doubt_texts, names_of
from qwen_vl_app.ui.dropped import SAMPLE, dropped_now, show_dropped
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.visit import Visit


def show_sample(visit: Visit, batches: Callable[[], BatchRuns], draft: FormTemplate | Reason) -> None:
    """Show the picture, or where to drop it. `draft` is what can be tried on it, or why there is none."""
    words, forms = visit.words, visit.state.forms
    problem = draft if isinstance(draft, Reason) else None
    st.caption(words("forms.sample_what"))
    if forms.sample is None:
        _take_dropped(visit, batches)
    if forms.sample is None:
        if forms.sample_problem is not None:
            st.warning(words.render(forms.sample_problem), icon=":material/info:")
        show_dropped(words, token=forms.sample_token, place=SAMPLE)
        return
    picture = forms.sample
    with st.container(key="forms-sample"):
        st.image(picture.view, width="stretch", alt=words("picture.alt", name=picture.name))
    with st.container(horizontal=True):
        is_tried = st.button(
            words("forms.try"), key="forms-try", icon=":material/science:", disabled=problem is not None, type="primary"
        )
        st.button(words("forms.other_sample"), key="forms-other-sample", on_click=forms.drop_sample)
    if problem is not None:
        st.caption(words("builder.try_when", why=words.render(problem)))
    if is_tried and not isinstance(draft, Reason):
        with st.spinner(words("forms.trying")):
            forms.tried = _tried(visit, draft, picture)
    if isinstance(forms.tried, JudgedForm):
        _show_tried(visit, forms.tried, draft)
    elif isinstance(forms.tried, Reason):
        st.warning(words.render(forms.tried), icon=":material/info:")


def _show_tried(visit: Visit, tried: JudgedForm, draft: FormTemplate | Reason) -> None:
    words = visit.words
    with st.container(gap="xsmall", key="forms-tried"):
        if tried.form.template != draft:
            st.caption(words("builder.tried_before"))
        names = names_of(tried, words.language)
        for each in tried.fields:
            shown = "  \n".join(plain(line) for line in each.value.shown.splitlines())
            shown = shown or f":gray[{words.say('forms.nothing_there')}]"
            st.markdown(f"**{plain(names[each.field.key])}** {shown}")
            for sentence in doubt_texts(each, tried, words.language):
                st.caption(plain(sentence))


def _tried(visit: Visit, draft: FormTemplate, picture: StagedPicture) -> JudgedForm | Reason:
    try:
        plan = FillPlan(draft, visit.words.language.value, LookAt.NONE, visit.owner)
        return judge(FormFiller(visit.assistant, owner=visit.owner).fill(plan, picture).form)
    except AppError as error:
        return error.reason


def _take_dropped(visit: Visit, batches: Callable[[], BatchRuns]) -> None:
    """Take the picture that was dropped; one that cannot be read leaves its sentence, and an empty place."""
    forms = visit.state.forms
    drop = dropped_now(SAMPLE)
    if not drop.drop_id or drop.drop_id == forms.sample_taken:
        return
    forms.sample_taken, forms.sample_problem = drop.drop_id, None
    folder = batches().dropped.folder(visit.owner, drop.drop_id)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    try:
        if files:
            forms.sample = visit.assistant.stage(files[0].read_bytes(), files[0].name)
            forms.sample_at = datetime.now(UTC)
    except AppError as error:
        forms.sample_problem = error.reason
    except OSError:  # swept meanwhile
        forms.sample = None
    finally:
        forms.sample_token = f"{forms.sample_token}+"
