"""The place on the page where pictures for a run are dropped.

Knows what the browser's part (`frontend/dropped.js`) is told and tells. Files travel by a route of their own, never
through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qwen_vl_app.errors import UsageError
from qwen_vl_app.ui.browser_part import browser_part
from qwen_vl_app.ui.state import value_of
from qwen_vl_app.ui.words import Words

DROPPED = "dropped"
"""The place for the pictures of a run over a folder, which is also its key; `FILLED` for those of forms, and `SAMPLE` for one
picture that a template is made beside."""
FILLED = "dropped-forms"
SAMPLE = "dropped-sample"
_LABELS = (
    "how",
    "files",
    "folder",
    "clear",
    "sending",
    "sending_some",
    "there",
    "there_one",
    "unreadable",
    "unreachable",
    "more",
)
_OF_ONE = ("how", "files")


@dataclass(frozen=True, slots=True)
class Drop:
    """What was dropped so far: the id of the drop, empty where nothing was, and its number of files."""

    drop_id: str = ""
    count: int = 0
    is_coming: bool = False
    """Some of it is on its way yet."""


def whole_drop(place: str = DROPPED) -> Drop:
    """Return what lies in a place, in the callback of a run that begins over it. Raises UsageError where that is not all, or nothing."""
    drop = dropped_now(place)
    if drop.is_coming:
        raise UsageError("batch.page.still_coming")
    if not drop.drop_id:
        raise UsageError("batch.page.nothing_dropped")
    return drop


def show_dropped(words: Words, *, token: str, place: str = DROPPED) -> None:
    """Show a place. Another `token` empties it: a run has begun over what was there."""
    is_single = place == SAMPLE
    placeholders = {"count": "{count}", "bytes": "{bytes}", "left": "{left}", "name": "{name}"}
    browser_part("dropped")(
        key=place,
        data={
            "labels": {
                name: words(f"{'builder' if is_single and name in _OF_ONE else 'batch'}.drop.{name}", **placeholders)
                for name in _LABELS
            },
            "place": place,
            "single": is_single,
            "known": dropped_now(place).drop_id,
            "lang": words.language.value,
            "token": token,
        },
        default={"drop": {}},
        on_drop_change=lambda: None,
    )


def dropped_now(place: str = DROPPED) -> Drop:
    """Return what lies in a place, also in a callback."""
    value = value_of(place)
    told = value.get("drop") if isinstance(value, Mapping) else None
    if not isinstance(told, Mapping):
        return Drop()
    if told.get("is_coming"):
        return Drop(is_coming=True)
    drop_id, count = told.get("id"), told.get("count")
    if not isinstance(drop_id, str) or not isinstance(count, int | float):
        return Drop()
    return Drop(drop_id, int(count))
