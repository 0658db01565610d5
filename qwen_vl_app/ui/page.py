"""The script that Streamlit runs for every tab: it hands the process's one assistant to the page."""

import streamlit as st

from qwen_vl_app import bootstrap
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.errors import AppError
from qwen_vl_app.texts import Language, render
from qwen_vl_app.ui.chat_page import show_chat_page, visit_of


@st.cache_resource(show_spinner=False)
def resident_assistant() -> Assistant:
    """Return the assistant of this process. The process holds it; clearing this cache drops nothing."""
    return bootstrap.current()


try:
    visit = visit_of(resident_assistant())
except AppError as error:  # a setting that cannot be, or a browser without its cookie: there is nothing to show but why
    st.error(render(error, Language.from_locale(st.context.locale)))
    st.stop()
show_chat_page(visit)
