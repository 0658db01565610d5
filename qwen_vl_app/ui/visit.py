"""Who looks at the page, what their tab keeps, which assistant answers them, and in which words."""

from __future__ import annotations

from dataclasses import dataclass

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.ui.state import PageState
from qwen_vl_app.ui.words import Words


@dataclass(frozen=True, slots=True)
class Visit:
    """What every part of the page needs. Made anew at every run."""

    assistant: Assistant
    owner: str
    state: PageState
    words: Words
