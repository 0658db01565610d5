"""A part of the page that runs in the browser: its own script behind the one that all of them share, and its rules.

A script stands behind an address of its own, which names its content: sent with every run of the page, as Streamlit does with a component's
script, it would be sent and read anew each time. Knows where these files lie. Does not know what any of them does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

PARTS = "/app/parts"
"""Where the scripts are served."""
_FRONTEND = Path(__file__).with_name("frontend")
_SHARED = "elements.js"
_LOADER = "loader.js"
PAGE_WIDE = ("turns",)
"""Parts that stand in the page itself, with its rules and within reach of its listeners."""


@cache
def browser_part(name: str) -> Any:
    """Return the component whose files have that name. Where its rules are the whole page's, `style` adds them instead."""
    is_alone = name not in PAGE_WIDE
    address = f"{PARTS}/{_file_name(name)}"
    return st.components.v2.component(
        f"visual_assistant_{name}",
        css=rules_of(name) if is_alone else None,
        js=f"const AT = {json.dumps(address)};\n{_text(_LOADER)}",
        isolate_styles=is_alone,
    )


@cache
def part_scripts() -> Mapping[str, str]:
    """Return the scripts that are to be served under `PARTS`, by their file names there."""
    names = [path.stem for path in _FRONTEND.glob("*.js") if path.name not in (_SHARED, _LOADER)]
    return {_file_name(name): _script_of(name) for name in names}


@cache
def rules_of(name: str) -> str:
    """Return the style rules of that name."""
    return _text(f"{name}.css")


@cache
def _script_of(name: str) -> str:
    return f"{_text(_SHARED)}\n{_text(f'{name}.js')}"  # a part is one module, and loads no other


@cache
def _file_name(name: str) -> str:
    return f"{name}-{hashlib.sha256(_script_of(name).encode()).hexdigest()[:16]}.js"


def _text(name: str) -> str:
    return (_FRONTEND / name).read_text(encoding="utf-8")
