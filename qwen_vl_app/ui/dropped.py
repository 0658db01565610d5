"""The place on the page where pictures for a run are dropped.

Knows what the browser's part (`frontend/dropped.js`) is told and tells. Files travel by a route of their own, never
through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qwen_vl_app.ui.browser_part import browser_part
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.words import Words

DROPPED = "dropped"
"""The key of the place."""
_LABELS = (
    "how",
    "files",
    "folder",
    "clear",
    "sending",
    "sending_some",
    "there",
    "unreadable",
    "unreachable",
    "more",
)


@dataclass(frozen=True, slots=True)
class Drop:
    """What was dropped so far: the id of the drop, empty where nothing was, and its number of files."""

    drop_id: str = ""
    count: int = 0


def show_dropped(words: Words, *, token: str) -> None:
    """Show the place. Another `token` empties it: a run has begun over what was there."""
    placeholders = {"count": "{count}", "bytes": "{bytes}", "left": "{left}", "name": "{name}"}
    browser_part("dropped")(
        key=DROPPED,
        data={
            "labels": {name: words(f"batch.drop.{name}", **placeholders) for name in _LABELS},
            "lang": words.language.value,
            "token": token,
        },
        default={"drop": {}},
        on_drop_change=lambda: None,
    )


def dropped_now() -> Drop:
    """Return what lies in the place, also in a callback."""
    value = value_of(DROPPED)
    told = value.get("drop") if isinstance(value, Mapping) else None
    if not isinstance(told, Mapping):
        return Drop()
    drop_id, count = told.get("id"), told.get("count")
    if not isinstance(drop_id, str) or not isinstance(count, int | float):
        return Drop()
    return Drop(drop_id, int(count))
