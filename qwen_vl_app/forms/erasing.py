"""Forgetting forms: what was filled from whose picture, what was decided about it, and what the truth set took from it.

Knows whose a form is and when it was filled. A case of the truth set goes with the form that it came from; with a case, the
results that name it go, too. Templates stay: they hold no picture and nobody's words but the site's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from qwen_vl_app.chat import ErasedBeside
from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.cabinet import Cabinet
from qwen_vl_app.forms.filled import FilledForm, load_form
from qwen_vl_app.forms.truth import CASE_NAME, TruthCase, load_case

log = logging.getLogger(__name__)

FORMS_NAME, FILLED_NAME, TRUTH_NAME, RESULTS_NAME = "forms", "filled", "truth", "acceptance"
FORM_FILE = "form.json"


class FormErasing:
    """Erases forms of a site. Any thread; `on_erased` lets go of what is held of them in memory."""

    def __init__(
        self, *, filled: Cabinet, truth: Cabinet, results: Cabinet, on_erased: Callable[[], object] = lambda: None
    ) -> None:
        self._filled = filled
        self._truth = truth
        self._results = results
        self._on_erased = on_erased
        self._erasing = threading.Lock()

    def erase(self, owner: str | None, *, since: datetime | None, until: datetime | None) -> ErasedBeside:
        """Remove an owner's forms, everybody's for None, that were filled in a period, and their part of the truth set."""
        forms = cases = files = file_bytes = 0
        with self._erasing:
            try:
                for name in self._filled.drawers():
                    if not _is_meant(self._form(name), owner, since, until):
                        continue
                    for cabinet in (self._filled, self._truth):
                        count, size = cabinet.size_of(name)
                        files, file_bytes = files + count, file_bytes + size
                        cabinet.remove(name)
                    forms += 1
                for name in self._truth.drawers():  # cases whose form was deleted before
                    if self._filled.has(name) or not _is_meant(self._case(name), owner, since, until):
                        continue
                    count, size = self._truth.size_of(name)
                    files, file_bytes, cases = files + count, file_bytes + size, cases + 1
                    self._truth.remove(name)
                if forms or cases:
                    for name in self._results.drawers():
                        self._results.remove(name)
            except FormError as error:  # what is left is no drawer any more, or is there at the next try
                log.warning("a form could not be erased: %s", error.code)
            self._on_erased()
        return ErasedBeside(forms=forms, files=files, file_bytes=file_bytes)

    def settle(self) -> bool:
        """Go on with what could not be removed; return whether nothing of it is left."""
        are_clean = [cabinet.sweep() for cabinet in (self._filled, self._truth, self._results)]  # each is tried
        return all(are_clean)

    def _form(self, name: str) -> FilledForm | None:
        try:
            data = self._filled.get(name, FORM_FILE)
            return None if data is None else load_form(data.decode("utf-8", "replace"))
        except FormError:
            return None

    def _case(self, name: str) -> TruthCase | None:
        try:
            return load_case(self._truth.get(name, CASE_NAME) or b"")
        except FormError:
            return None


def form_erasing(folder: Path) -> FormErasing:
    """Return what erases the forms below a folder, where no desk has them open."""
    return FormErasing(
        filled=Cabinet(folder / FILLED_NAME), truth=Cabinet(folder / TRUTH_NAME), results=Cabinet(folder / RESULTS_NAME)
    )


def _is_meant(
    kept: FilledForm | TruthCase | None, owner: str | None, since: datetime | None, until: datetime | None
) -> bool:
    if kept is None:  # damaged: nobody knows whose it is, so it goes with everybody's
        return owner is None and since is None and until is None
    if owner not in (None, kept.owner):
        return False
    if kept.filled_at is None:  # an old case: nobody knows its day, so it goes with everything
        return since is None and until is None
    return (since is None or kept.filled_at >= since) and (until is None or kept.filled_at < until)
