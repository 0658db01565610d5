"""The empty conversation: what the app is for, what the demo model can do, and tasks one click from an answer.

Knows the samples that came with the model, and the ready-made tasks for models that came with none. Does not know what
will be answered.
"""

from __future__ import annotations

import streamlit as st

from qwen_vl_app.chat import EngineState
from qwen_vl_app.ui.cards_html import show_sample_cards, show_task_cards
from qwen_vl_app.ui.visit import Visit


def show_welcome(visit: Visit) -> None:
    """Show the empty conversation."""
    assistant, words = visit.assistant, visit.words
    engine = assistant.status.engine
    st.title(words("welcome.title"), anchor=False)
    st.markdown(words("welcome.text"))
    if engine.state is EngineState.FAILED and engine.error is not None:
        st.warning(words.render(engine.error), icon=":material/info:")
        st.markdown(words("demo.real_model"))
        return
    if engine.state in (EngineState.EMPTY, EngineState.LOADING):
        st.caption(f":material/hourglass_top: {words('welcome.loading')}")
    samples = assistant.samples()
    if samples and engine.plan is not None:
        show_sample_cards(samples, words)
    elif engine.plan is not None and not engine.is_demo:
        show_task_cards(words)
    if engine.is_demo:
        st.caption(f":material/science: {words('demo.what')}")
        with st.expander(words("demo.real_model_title"), type="compact"):
            st.markdown(words("demo.real_model"))
