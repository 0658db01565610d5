"""The page of forms: fill them, review them, build templates, prove a model on the site's own truth.

Knows its four parts and which one comes first. Does not know how any of them looks.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.batch import BatchRuns
from qwen_vl_app.errors import AppError
from qwen_vl_app.forms import FormDesk
from qwen_vl_app.ui.forms_builder import show_builder
from qwen_vl_app.ui.forms_filling import show_filling
from qwen_vl_app.ui.forms_proof import show_proof
from qwen_vl_app.ui.forms_review import show_review
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.style import reading_column
from qwen_vl_app.ui.visit import Visit

FILL, REVIEW, TEMPLATES, PROOF = "fill", "review", "templates", "proof"
SECTIONS = (FILL, REVIEW, TEMPLATES, PROOF)
_KEY = "forms-section"


def show_forms_page(visit: Visit, desk: FormDesk, batches: Callable[[], BatchRuns]) -> None:
    """Show the page. `batches` are the runs over folders, which fill forms as well."""
    words, state = visit.words, visit.state
    st.title(words("forms.title"), anchor=False)
    try:
        forms = desk.list(owners=owners_of(visit))
    except AppError as error:
        st.warning(words.render(error), icon=":material/info:")
        return
    section = state.forms.section or (REVIEW if any(not each.is_reviewed for each in forms) else FILL)
    waiting = sum(not each.is_reviewed for each in forms)
    titles = {name: words(f"forms.section_{name}") for name in SECTIONS}
    if waiting:
        titles[REVIEW] = words("forms.section_review_count", count=waiting)
    st.segmented_control(
        words("forms.title"),
        list(SECTIONS),
        default=section,
        required=True,
        format_func=titles.__getitem__,
        # Another key after every turn: a control that comes back would bring its old value along.
        key=f"{_KEY}-{state.forms.turns}",
        label_visibility="collapsed",
        on_change=_turn,
        args=(visit, f"{_KEY}-{state.forms.turns}"),
    )
    _say_what_happened(visit)
    match section:
        case "review":
            show_review(visit, desk, forms)
        case "templates":
            show_builder(visit, desk, batches)
        case "proof":
            show_proof(visit, desk)
        case _:
            with reading_column("fill"):
                show_filling(visit, desk, batches)


def owners_of(visit: Visit) -> tuple[str, ...]:
    """Return whose forms a browser shows: its own, and those that the command line filled for the whole site."""
    return (visit.owner, LOCAL_OWNER)


def _turn(visit: Visit, key: str) -> None:
    state = visit.state
    chosen = value_of(key)
    if chosen in SECTIONS:
        state.forms.turn(str(chosen))
        state.problems = []


def _say_what_happened(visit: Visit) -> None:
    state = visit.state
    with st.container(key="forms-told"):  # also while nothing is told: all that comes after it would be drawn anew
        for problem in state.problems:
            st.warning(visit.words.render(problem.reason), icon=":material/info:")
        if state.forms.done is not None:
            # No toast: the page library gives it no name that a screen reader could say, and it is gone before it is read.
            st.success(visit.words.render(state.forms.done), icon=":material/check:")
            state.forms.done = None
