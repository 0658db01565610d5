"""One picture large, in a dialog: zoom and pan at full resolution, and what the model saw of it.

Knows the picture view without places. Does not know which question the picture belongs to.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from qwen_vl_app.chat import Rendition
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.ui.clip_view import show_clip
from qwen_vl_app.ui.markdown import plain
from qwen_vl_app.ui.picture_view import can_be_opened, show_bare_picture
from qwen_vl_app.ui.pictures import ShownPicture, sizes_line
from qwen_vl_app.ui.words import Words


def open_large(picture: ShownPicture, words: Words, *, on_close: Callable[[], None] | None = None) -> None:
    """Show the upright view in a dialog, and on request what the model sees. `on_close` is called when it is closed."""

    @st.dialog(words("picture.title"), width="large", on_dismiss=on_close or "ignore")
    def large() -> None:
        try:
            if picture.clip is not None:
                show_clip(picture, picture.clip, (), words, key=f"large-{picture.key}")
            elif can_be_opened(picture):
                show_bare_picture(picture, words, key=f"large-{picture.key}")
            else:
                with st.container(key="large-view"):
                    st.image(picture.bytes_of(Rendition.VIEW), alt=words("picture.alt", name=picture.name))
        except HistoryError as error:
            st.caption(words.render(error))
            return
        st.caption(f"{plain(picture.name)}  \n{sizes_line(picture, words)}")

    large()
