"""A part of the page that runs in the browser: its own script behind the one that all of them share, and its rules.

Knows where these files lie. Does not know what any of them does.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

_FRONTEND = Path(__file__).with_name("frontend")
_SHARED = "elements.js"
PAGE_WIDE = ("turns",)
"""Parts that stand in the page itself, with its rules and within reach of its listeners."""


@cache
def browser_part(name: str) -> Any:
    """Return the component whose files have that name. Where its rules are the whole page's, `style` adds them instead."""
    is_alone = name not in PAGE_WIDE
    return st.components.v2.component(
        f"visual_assistant_{name}",
        css=rules_of(name) if is_alone else None,
        js=f"{_text(_SHARED)}\n{_text(f'{name}.js')}",
        isolate_styles=is_alone,
    )


@cache
def rules_of(name: str) -> str:
    """Return the style rules of that name."""
    return _text(f"{name}.css")


def _text(name: str) -> str:
    return (_FRONTEND / name).read_text(encoding="utf-8")
