"""Forgetting forms: what was filled from whose picture, what was decided about it, and what the truth set took from it.

Knows whose a form is and when it was filled. A case of the truth set goes with the form that it came from; with a case,
what results say of it goes, too. Templates stay: they hold no picture and nobody's words but the site's.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Collection
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
        self._stubborn: set[tuple[Cabinet, str]] = set()
        """Drawers that another program held open."""
        self._named: set[str] = set()
        """Cases that results may still name."""

    def erase(self, owner: str | None, *, since: datetime | None, until: datetime | None) -> ErasedBeside:
        """Remove an owner's forms, everybody's for None, that were filled in a period, and their part of the truth set."""
        with self._erasing:
            forms = {name for name in _drawers(self._filled) if _is_meant(self._form(name), owner, since, until)}
            cases = {
                name
                for name in _drawers(self._truth)  # those of forms that were deleted before, too
                if not self._filled.has(name) and _is_meant(self._case(name), owner, since, until)
            }
            files = file_bytes = 0
            for name in sorted(forms | cases):
                for cabinet in (self._filled, self._truth):
                    count, size = _size_of(cabinet, name)
                    files, file_bytes = files + count, file_bytes + size
                    self._stubborn.add((cabinet, name))
            if (forms or cases) and owner is None and since is None and until is None:
                self._stubborn |= {(self._results, name) for name in _drawers(self._results)}
            else:
                self._named |= forms | cases
            self._remove()
            self._on_erased()
        return ErasedBeside(forms=len(forms), files=files, file_bytes=file_bytes)

    def settle(self) -> bool:
        """Go on with what could not be removed; return whether nothing of it is left."""
        with self._erasing:
            is_clean = self._remove()
        are_clean = [cabinet.sweep() for cabinet in (self._filled, self._truth, self._results)]  # each is tried
        return is_clean and all(are_clean)

    def _remove(self) -> bool:
        for cabinet, name in tuple(self._stubborn):
            try:
                cabinet.remove(name)
                self._stubborn.discard((cabinet, name))
            except FormError as error:  # the others go all the same; this one at the next try
                log.warning("a form could not be erased: %s", error.code)
        if self._named:
            try:
                forget_cases(self._results, self._named)
                self._named.clear()
            except FormError as error:
                log.warning("the results of erased forms could not be erased: %s", error.code)
        return not self._stubborn and not self._named

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


def forget_cases(results: Cabinet, cases: Collection[str]) -> None:
    """Take what results say of cases out of them; one that says nothing else goes whole. Raises FormError."""
    for drawer in results.drawers():
        for name in results.names(drawer):
            try:
                said = json.loads(results.get(drawer, name) or b"")
                fields = said.get("fields", [])
                left = [each for each in fields if each["case_id"] not in cases]
            except (ValueError, KeyError, TypeError, AttributeError):
                results.remove(drawer)  # nobody knows what it says
                break
            if left and len(left) < len(fields):
                results.put(drawer, name, json.dumps({**said, "fields": left}).encode("ascii"))
            elif len(left) < len(fields):
                results.remove(drawer)
                break


def form_erasing(folder: Path) -> FormErasing:
    """Return what erases the forms below a folder, where no desk has them open."""
    return FormErasing(
        filled=Cabinet(folder / FILLED_NAME), truth=Cabinet(folder / TRUTH_NAME), results=Cabinet(folder / RESULTS_NAME)
    )


def _drawers(cabinet: Cabinet) -> tuple[str, ...]:
    try:
        return cabinet.drawers()
    except FormError as error:
        log.warning("forms could not be listed to be erased: %s", error.code)
        return ()


def _size_of(cabinet: Cabinet, name: str) -> tuple[int, int]:
    try:
        return cabinet.size_of(name)
    except FormError:  # it goes whatever its size
        return 0, 0


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
