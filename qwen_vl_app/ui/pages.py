"""The pages beside the conversation, in the order the side bar offers them.

Knows which there are and how each is called. Does not know what is on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qwen_vl_app.ui.settings_page import show_settings_page
from qwen_vl_app.ui.state import View
from qwen_vl_app.ui.visit import Visit


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One page: the code of its title under `ui`, its Material icon, and what draws it."""

    title_code: str
    icon: str
    show: Callable[[Visit], None]


PAGES: Mapping[View, PageEntry] = {
    View.SETTINGS: PageEntry("settings.title", ":material/settings:", show_settings_page),
}
