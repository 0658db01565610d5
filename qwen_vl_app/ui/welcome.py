"""The empty conversation: what the app is for, what the demo model can do, and tasks one click from an answer.

Knows the samples that came with the model, and the ready-made tasks for models that came with none. Does not know what
will be answered.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from qwen_vl_app.chat import EngineState
from qwen_vl_app.samples import Sample
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.sending import ask_sample
from qwen_vl_app.ui.tasks_dialog import show_task_cards
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

CARD_COLUMNS = 4
CARD_WIDTH_PX = 150


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
        with st.grid(columns=CARD_COLUMNS, min_column_width=CARD_WIDTH_PX, gap="small"):
            for at, sample in enumerate(samples):
                _show_sample(visit, sample, at=at)
    elif engine.plan is not None and not engine.is_demo:
        show_task_cards(visit, key="welcome")
    if engine.is_demo:
        st.caption(f":material/science: {words('demo.what')}")
        with st.expander(words("demo.real_model_title"), type="compact"):
            st.markdown(words("demo.real_model"))


def _show_sample(visit: Visit, sample: Sample, *, at: int) -> None:
    words = visit.words
    title, question = _in(sample.title, words), _in(sample.question, words)
    with st.container(border=True, key=f"sample-{at}", gap="xsmall"):
        st.image(sample.data, width="stretch", alt="")
        st.markdown(plain(title))
        # The button lies over the card (see `style`), so that the card is what one clicks.
        st.button(
            words("demo.ask", title=plain(title), question=plain(question)),
            key=f"ask-sample-{at}",
            on_click=ask_sample,
            args=(visit,),
            kwargs={"sample": sample, "question": question},
        )


def _in(texts: Mapping[str, str], words: Words) -> str:
    return str(texts.get(words.language.value) or texts.get("en") or "")
