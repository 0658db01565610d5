"""The pages beside the conversation, in the order the side bar offers them.

Knows which there are and how each is called. Does not know what is on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qwen_vl_app.bootstrap import current_batches
from qwen_vl_app.forms import desk_of
from qwen_vl_app.ui.batch_page import show_batch_page
from qwen_vl_app.ui.doctor_page import show_doctor_page
from qwen_vl_app.ui.forms_page import show_forms_page
from qwen_vl_app.ui.holdings import View
from qwen_vl_app.ui.records_page import show_records_page
from qwen_vl_app.ui.settings_page import show_settings_page
from qwen_vl_app.ui.visit import Visit


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One page: the code of its title under `ui`, and what draws it. Its icon is drawn under the name of its view."""

    title_code: str
    show: Callable[[Visit], None]
    is_wide: bool = False
    """True for pages of tables."""


def _show_batch(visit: Visit) -> None:
    show_batch_page(visit, current_batches())


def _show_forms(visit: Visit) -> None:
    show_forms_page(visit, desk_of(visit.assistant), current_batches)


PAGES: Mapping[View, PageEntry] = {
    View.RECORDS: PageEntry("records.title", show_records_page),
    View.BATCH: PageEntry("batch.title", _show_batch, is_wide=True),
    View.FORMS: PageEntry("forms.title", _show_forms, is_wide=True),
    View.SETTINGS: PageEntry("settings.title", show_settings_page),
    View.DOCTOR: PageEntry("checkup.title", show_doctor_page, is_wide=True),
}
