"""A template from a file or a pasted JSON Schema, in a dialog that stays until it has been understood.

Knows what is asked for and shows what is wrong with it. Does not know how a file becomes a template.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from qwen_vl_app.errors import AppError, FormError, Reason
from qwen_vl_app.forms import FormDesk, FormTemplate
from qwen_vl_app.forms.sources import keep_from_file, keep_from_text
from qwen_vl_app.ui.visit import Visit


def show_take_in(visit: Visit, desk: FormDesk, opened: Callable[[FormTemplate], None]) -> None:
    """Show the dialog from the click that asked for it until a template was taken in (`opened`), or it is closed."""
    words, forms = visit.words, visit.state.forms
    if not forms.is_taking_in:
        return

    def close() -> None:
        forms.is_taking_in = False

    @st.dialog(words("forms.take_in"), width="medium", on_dismiss=close)
    def dialog() -> None:
        st.markdown(words("forms.take_in_what"))
        file = st.file_uploader(words("forms.take_in_file"), key="forms-take-in-file")
        text = st.text_area(words("forms.take_in_text"), key="forms-take-in-text", height=180)
        problem: Reason | None = None
        if st.button(words("forms.take_in"), key="forms-take-in", type="primary"):
            try:
                if file is not None:
                    kept = keep_from_file(desk.templates, file.getvalue(), file.name)
                elif text and text.strip():
                    kept = keep_from_text(desk.templates, text)
                else:
                    raise FormError("builder.nothing_given")
            except AppError as error:
                problem = error.reason
            else:
                close()
                opened(kept)
                st.rerun()
        if problem is not None:
            st.warning(words.render(problem), icon=":material/info:")

    dialog()
