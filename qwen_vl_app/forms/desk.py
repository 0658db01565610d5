"""The forms of a site: templates, filled forms with what people decided, and taking them away. The one object doors hold.

Knows where forms lie and what a site keeps. Does not know how a form is filled, judged or exported.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import JsonValue, StagedPicture
from qwen_vl_app.errors import FormError, UsageError
from qwen_vl_app.forms.acceptance import Acceptance
from qwen_vl_app.forms.cabinet import Cabinet
from qwen_vl_app.forms.erasing import FILLED_NAME, FORMS_NAME
from qwen_vl_app.forms.fields import told_apart
from qwen_vl_app.forms.filled import (
    FORM_FILE,
    Decision,
    DecisionKind,
    dump_decision,
    dump_form,
    load_decision,
    load_form,
)
from qwen_vl_app.forms.filling import Filling, FillPlan, FormFiller
from qwen_vl_app.forms.judging import JudgedForm, judge
from qwen_vl_app.forms.memory_cabinet import MemoryCabinet
from qwen_vl_app.forms.store import TemplateStore
from qwen_vl_app.forms.truth import TruthCase
from qwen_vl_app.imaging import draw_regions

log = logging.getLogger(__name__)

UPLOAD_FILE, VIEW_FILE, THUMBNAIL_FILE = "upload", "view", "thumbnail.jpg"
DECISIONS_FILE = "decisions.jsonl"
VIEW_SIDE_PX = 1600
MAX_WHO = 80


_desks: WeakKeyDictionary[Assistant, FormDesk] = WeakKeyDictionary()
_desks_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure of forms removed."""

    forms: int = 0
    cases: int = 0


class FormDesk:
    """Everything about forms, over an assistant. Any thread."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant
        folder = assistant.settings.data_dir / FORMS_NAME
        self._keeps = assistant.settings.keep
        self.templates = TemplateStore(folder)
        self._filled = MemoryCabinet() if self._keeps == "nothing" else Cabinet(folder / FILLED_NAME)
        self.acceptance = Acceptance(assistant, folder, in_memory=self._keeps == "nothing")
        """The truth set, and which model was found fit by it."""
        self._lock = threading.Lock()
        self._judged: dict[str, tuple[int, JudgedForm]] = {}
        """What is known of forms by the number of their decisions: a list of a thousand is read from the disk once."""
        erasing = self.acceptance.erasing_with(self._filled, on_erased=self._forget_judged)
        assistant.records.erase_also(FORMS_NAME, erasing)

    # 1. Filling

    def fill(self, plan: FillPlan, picture: StagedPicture) -> JudgedForm:
        """Fill one form and keep it, waiting for it. Raises AppError."""
        self.acceptance.refuse_worse()
        return self.keep(FormFiller(self._assistant).fill(plan, picture), picture)

    def keep(self, filling: Filling, picture: StagedPicture) -> JudgedForm:
        """Keep a filled form with its picture and crops; one that is there and was decided about stays as it is.

        Raises FormError `forms.unwritable`.
        """
        form = filling.form
        if self._filled.has(form.form_id):
            if self.decisions(form.form_id):
                return self.judged(form.form_id)
            self._filled.remove(form.form_id)
            with self._lock:
                self._judged.pop(form.form_id, None)
        files = {
            FORM_FILE: dump_form(form).encode("ascii"),
            UPLOAD_FILE: picture.upload,
            VIEW_FILE: draw_regions(picture.view, (), max_side=VIEW_SIDE_PX),
            THUMBNAIL_FILE: picture.thumbnail,
        }
        self._filled.add(form.form_id, {**files, **filling.crops})
        return judge(form)

    # 2. Looking

    def list(
        self, *, owners: Collection[str] | None = None, source: str = "", template: str = ""
    ) -> tuple[JudgedForm, ...]:
        """Return the forms there are, or those of some owners, the worst first; what is reviewed comes last. Raises FormError."""
        found = []
        for form_id in self._filled.drawers():
            try:
                judged = self.judged(form_id)
            except FormError:
                log.warning("a form cannot be read")
                continue
            form = judged.form
            is_theirs = owners is None or form.owner in owners
            if is_theirs and source in ("", form.source) and template in ("", form.template.name):
                found.append(judged)
        return tuple(sorted(found, key=lambda each: (each.is_reviewed, -each.badness, each.form.form_id)))

    def judged(self, form_id: str) -> JudgedForm:
        """Return one form as it stands. Raises FormError `forms.unknown`, `forms.damaged`."""
        if not self._filled.has(form_id):  # erased meanwhile, perhaps by another process
            raise FormError("forms.unknown", form=form_id[:60])
        decisions = self.decisions(form_id)
        with self._lock:
            known = self._judged.get(form_id)
        if known is not None and known[0] == len(decisions):
            return known[1]
        data = self._filled.get(form_id, FORM_FILE)
        if data is None:
            raise FormError("forms.unknown", form=form_id[:60])
        form = load_form(data.decode("utf-8", "replace"))
        judged = judge(form, decisions)
        with self._lock:
            self._judged[form_id] = (len(decisions), judged)
        return judged

    def decisions(self, form_id: str) -> tuple[Decision, ...]:
        """Return everything that people decided about a form, oldest first."""
        found = []
        for line in self._filled.lines(form_id, DECISIONS_FILE):
            try:
                found.append(load_decision(line))
            except FormError:
                log.warning("a decision cannot be read")
        return tuple(found)

    def file(self, form_id: str, name: str) -> bytes | None:
        """Return a picture or crop that lies beside a form; None where there is none."""
        return self._filled.get(form_id, name) if name else None

    # 3. Deciding

    def accept(self, form_id: str, key: str, *, who: str) -> JudgedForm:
        """Confirm a field's value as it stands. Raises FormError, UsageError where nobody says who they are."""
        judged = self.judged(form_id).judged(key)
        written = judged.decision.written if judged.decision is not None else judged.reading.written
        return self._decide(form_id, Decision(key, DecisionKind.ACCEPTED, written, _named(who), _now()))

    def correct(self, form_id: str, key: str, written: JsonValue, *, who: str) -> JudgedForm:
        """Set a field's value; None or an empty text says that nothing stands there. Raises FormError, UsageError."""
        self.judged(form_id).judged(key)
        value = written.strip() if isinstance(written, str) else written
        return self._decide(form_id, Decision(key, DecisionKind.CORRECTED, value or None, _named(who), _now()))

    def accept_rest(self, form_id: str, *, who: str) -> JudgedForm:
        """Confirm every field that nobody has decided and nothing speaks against. Raises FormError, UsageError."""
        judged = self.judged(form_id)
        for each in judged.fields:
            if not each.state.is_settled and not each.doubts:
                judged = self.accept(form_id, each.field.key, who=who)
        return judged

    def _decide(self, form_id: str, decision: Decision) -> JudgedForm:
        self._filled.append(form_id, DECISIONS_FILE, dump_decision(decision))
        judged = self.judged(form_id)
        if judged.is_reviewed and any(each.kind is DecisionKind.CORRECTED for each in self.decisions(form_id)):
            self.add_to_truth(form_id)  # what the model got wrong is what the next one is tried on
        return judged

    def add_to_truth(self, form_id: str) -> TruthCase:
        """Take a reviewed form into the truth set. Raises FormError `forms.truth.not_reviewed`."""
        judged = self.judged(form_id)
        if not judged.is_reviewed:
            raise FormError("forms.truth.not_reviewed")
        form = judged.form
        values = {each.field.key: each.decision.written for each in judged.fields if each.decision is not None}
        who = next((each.decision.who for each in judged.fields if each.decision is not None), "")
        case = TruthCase(
            form.form_id,
            form.template,
            form.language,
            form.picture_name,
            values,
            form.page,
            who,
            form.owner,
            form.filled_at,
        )
        self.acceptance.add(case, self._filled.get(form_id, UPLOAD_FILE) or b"")
        return case

    # 4. Forgetting

    def delete(self, form_id: str) -> None:
        """Delete a form with its pictures and decisions. Raises FormError, also where the site keeps records."""
        self._refuse_records()
        if not self._filled.remove(form_id):
            raise FormError("forms.unknown", form=form_id[:60])
        with self._lock:
            self._judged.pop(form_id, None)

    def erase(self) -> Erased:
        """Delete every form and the truth set; templates stay, which hold no picture. Raises FormError."""
        self._refuse_records()
        forms = sum(self._filled.remove(form_id) for form_id in self._filled.drawers())
        with self._lock:
            self._judged.clear()
        return Erased(forms, self.acceptance.erase())

    def _forget_judged(self) -> None:
        with self._lock:
            self._judged.clear()

    def _refuse_records(self) -> None:
        if self._keeps == "records":
            raise FormError("forms.kept_as_records")


def desk_of(assistant: Assistant) -> FormDesk:
    """Return the one desk of an assistant, made at the first call. Any thread."""
    with _desks_lock:
        desk = _desks.get(assistant)
        if desk is None:
            desk = _desks[assistant] = FormDesk(assistant)
        return desk


def named_values(judged: JudgedForm) -> Mapping[str, JsonValue]:
    """Return a form's values by the names of its fields, as they stand; fields of one name are told apart."""
    language = judged.form.language
    fields = [each.field for each in judged.fields]
    names = told_apart(fields, {field.key: field.names.of(language) or field.key for field in fields}, language)
    return {names[each.field.key]: each.value.value for each in judged.fields}


def _named(who: str) -> str:
    name = " ".join("".join(char for char in who if char.isprintable()).split())[:MAX_WHO]
    if not name:
        raise UsageError("forms.review.who")
    return name


def _now() -> datetime:
    return datetime.now(UTC)
