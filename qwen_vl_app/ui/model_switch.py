"""The section of the settings page that changes the model: which there are, which fits, how far a change is.

Knows the hub's word on it. Does not load anything.
"""

from __future__ import annotations

import streamlit as st

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import EngineState
from qwen_vl_app.errors import AppError
from qwen_vl_app.model_switch import SwitchState, SwitchStatus
from qwen_vl_app.texts import format_bytes
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.visit import Visit
from qwen_vl_app.ui.words import Words

POLL_S = 0.5


def show_model_switch(visit: Visit) -> None:
    """Show the choice of models, or the change that is under way; nothing where there is nothing to choose."""
    assistant, words = visit.assistant, visit.words
    status = assistant.switch_status
    if status is not None and not status.is_over:
        _follow(visit)
        return
    if status is not None:
        _show_outcome(assistant, status, words)
    present = assistant.status.engine.model
    others = [folder for folder in assistant.models() if folder.is_complete and folder.name != present]
    is_starting = assistant.status.engine.state in (EngineState.EMPTY, EngineState.LOADING)
    if not others or is_starting or not assistant.settings.switch_models or assistant.settings.remote_address:
        return
    sizes = {folder.name: f"{folder.name} · {format_bytes(folder.weight_bytes)}" for folder in others}
    with st.form("switch", border=False):
        chosen = st.selectbox(
            words("switch.choose"), list(sizes), format_func=lambda name: sizes[name], help=words("switch.help")
        )
        if st.form_submit_button(words("switch.button")) and chosen:
            _begin(assistant, chosen, words)


def _follow(visit: Visit) -> None:
    words = visit.words

    @st.fragment(run_every=POLL_S)
    def following() -> None:
        status = visit.assistant.switch_status
        if status is None or status.is_over:
            visit.state.draw_anew()
        if status is None:
            return
        share = min(1.0, status.loaded_bytes / status.weights_bytes) if status.weights_bytes else 0.0
        code = "switch.waiting" if status.state is SwitchState.WAITING else "switch.loading"
        facts = {"loaded": format_bytes(status.loaded_bytes), "total": format_bytes(status.weights_bytes)}
        st.progress(share, text=words(code, model=plain(status.model), **facts))

    following()


def _show_outcome(assistant: Assistant, status: SwitchStatus, words: Words) -> None:
    if status.state is SwitchState.DONE:
        st.success(words("switch.done", model=plain(status.model)))
        return
    sentence = words.render(status.problem) if status.problem is not None else ""
    if status.state is SwitchState.NEEDS_ROOM:
        st.warning(sentence)
        if st.button(words("switch.unload_first", model=plain(status.model)), key="switch_unload"):
            _begin(assistant, status.model, words, unloads_first=True)
        return
    st.error(sentence + " " + words("switch.unchanged"))


def _begin(assistant: Assistant, model: str, words: Words, *, unloads_first: bool = False) -> None:
    try:
        assistant.switch_model(model, unloads_first=unloads_first)
    except AppError as error:
        st.error(words.render(error.reason))
    else:
        st.rerun()
