"""Status and settings on a page of their own: what was chosen and why, what the site has set, and how to change it.

Knows settings by their names. Does not change any but the language of the tab: the rest is the site's file.
"""

from __future__ import annotations

from pathlib import Path, PurePath

import streamlit as st

from qwen_vl_app.config import Settings
from qwen_vl_app.ui.model_switch import show_model_switch
from qwen_vl_app.ui.status_view import device_details, model_details
from qwen_vl_app.ui.visit import Visit

_HIDDEN = "••••••"
"""In the place of a key: whoever has it may ask as a program, from anywhere."""


def show_settings_page(visit: Visit) -> None:
    """Show the page."""
    words, status = visit.words, visit.assistant.status
    st.title(words("settings.title"), anchor=False)
    st.header(words("settings.model"), anchor=False)
    st.markdown(model_details(status, words))
    show_model_switch(visit)
    st.header(words("settings.machine"), anchor=False)
    st.markdown(device_details(status.engine, words))
    st.header(words("settings.offline"), anchor=False)
    st.markdown(words("status.offline_why"))
    st.header(words("settings.values"), anchor=False)
    st.markdown(words("settings.how"))
    settings, usual = visit.assistant.settings, Settings()
    names = list(Settings.model_fields)
    st.dataframe(
        {
            words("settings.name"): names,
            words("settings.value"): [_shown(settings, name) for name in names],
            words("settings.usual"): [_shown(usual, name) for name in names],
        },
        hide_index=True,
        alt=words("settings.values"),
    )


def _shown(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if not Settings.model_fields[name].repr:
        return _HIDDEN if value else ""
    # A folder's place on this machine is nobody's business who only looks at the page; a model may be named by its place.
    if name == "model" or isinstance(value, Path):
        return PurePath(value).name
    if isinstance(value, tuple):
        return ", ".join(each.name if isinstance(each, Path) else str(each) for each in value)
    return str(value)
