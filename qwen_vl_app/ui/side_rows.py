"""Rows of the side bar: pages to open, and facts that explain themselves on click. One element, however many rows.

Knows what the browser's part (`frontend/rows.js`) is told. Does not know which pages and facts there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from markdown_it import MarkdownIt

from qwen_vl_app.ui.browser_part import browser_part


@dataclass(frozen=True, slots=True)
class SideRow:
    """One row. `name` is its drawing's; it has an act that a click asks for, or an explanation, in Markdown."""

    name: str
    label: str
    act: str = ""
    is_open: bool = False
    explanation: str = ""


def show_rows(
    rows: Sequence[SideRow], *, key: str, label: str = "", on_click: Callable[[], None] | None = None
) -> None:
    """Show rows. With a `label` they are a landmark of that name; `on_click` reads the act under `key`."""
    browser_part("rows")(
        key=key,
        data={"label": label, "rows": [_told(row) for row in rows]},
        on_did_change=on_click or (lambda: None),
    )


def _told(row: SideRow) -> Mapping[str, object]:
    return {
        "name": row.name,
        "label": row.label,
        "act": row.act,
        "is_open": row.is_open,
        "html": _explained(row.explanation) if row.explanation else "",
    }


@lru_cache(maxsize=64)
def _explained(text: str) -> str:
    return str(_markdown().render(text))  # the same few sentences in every run of the page


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).disable(["image", "link", "autolink"])
