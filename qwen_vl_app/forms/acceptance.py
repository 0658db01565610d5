"""The site's proof: its truth set run again with the model that is loaded, held against what was accepted before.

Knows which model, precision, device and kernels were found fit, and refuses what got worse unless a person says otherwise.
Does not know templates' meaning, or how a form is filled.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.errors import AppError, FormError
from qwen_vl_app.forms.cabinet import Cabinet
from qwen_vl_app.forms.erasing import RESULTS_NAME, TRUTH_NAME, FormErasing, forget_cases
from qwen_vl_app.forms.fields import shown_names
from qwen_vl_app.forms.filling import FillPlan, FormFiller, LookAt
from qwen_vl_app.forms.memory_cabinet import MemoryCabinet
from qwen_vl_app.forms.truth import CASE_NAME, PICTURE_NAME, TruthCase, dump_case, load_case
from qwen_vl_app.forms.values import FieldValue, value_of
from qwen_vl_app.jobs import Priority
from qwen_vl_app.texts import Language, t

log = logging.getLogger(__name__)

RESULT_FILE, _ACTIVE_DRAWER, _ACTIVE_FILE = "result.json", "active", "active.json"


class FieldMark(StrEnum):
    """What a field came to."""

    RIGHT = "right"
    WRONG = "wrong"
    MISSED = "missed"
    """Something stands there, and null was given."""
    INVENTED = "invented"
    """Nothing stands there, and something was given."""
    FAILED = "failed"
    """The picture could not be asked about."""


class Change(StrEnum):
    """A field beside what it was under the model that was accepted before."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What answers: weights, precision, device, kernels, and the library and driver below. A change of any is a change of
    the whole. What was accepted before `build` and `driver` were written down has none, and so differs.
    """

    model: str
    fingerprint: str
    precision: str
    device: str
    attention: str
    build: str = ""
    driver: str = ""

    @property
    def key(self) -> str:
        """A name for files."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:24]

    def differences(self, other: Configuration) -> tuple[Difference, ...]:
        """Return what is not the same in another one, which came after."""
        pairs = ((part.name, str(getattr(self, part.name)), str(getattr(other, part.name))) for part in fields(self))
        return tuple(Difference(name, before, after) for name, before, after in pairs if before != after)


@dataclass(frozen=True, slots=True)
class Difference:
    """A part of a configuration that has changed."""

    part: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FieldResult:
    """One field of one case."""

    case_id: str
    picture_name: str
    key: str
    expected: str
    got: str
    mark: FieldMark
    change: Change = Change.NEW


@dataclass(frozen=True, slots=True)
class AcceptanceReport:
    """A whole run. `active` is the configuration it is held against, None where none was accepted yet."""

    configuration: Configuration
    active: Configuration | None
    fields: tuple[FieldResult, ...]
    ran_at: datetime

    def count(self, kind: FieldMark | Change) -> int:
        """Return how many fields have a mark or a change."""
        return sum(kind in (each.mark, each.change) for each in self.fields)

    @property
    def is_worse(self) -> bool:
        """True where anything that was right is right no more."""
        return self.count(Change.WORSE) > 0

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What has changed since the configuration it is held against."""
        return () if self.active is None else self.active.differences(self.configuration)

    @property
    def changed(self) -> tuple[FieldResult, ...]:
        """The fields that got worse, then those that got better, then what is wrong as before."""
        order = {Change.WORSE: 0, Change.BETTER: 1}
        shown = [each for each in self.fields if each.change in order or each.mark is not FieldMark.RIGHT]
        return tuple(sorted(shown, key=lambda each: order.get(each.change, 2)))


class Verdict(StrEnum):
    """What is known of the model that is loaded."""

    NO_TRUTH = "no_truth"
    ACCEPTED = "accepted"
    UNTRIED = "untried"
    WORSE = "worse"


class Acceptance:
    """The truth set and its results in a data folder. Any thread."""

    def __init__(self, assistant: Assistant, folder: Path, *, in_memory: bool = False) -> None:
        self._assistant = assistant
        self._truth = MemoryCabinet() if in_memory else Cabinet(folder / TRUTH_NAME)
        self._results = MemoryCabinet() if in_memory else Cabinet(folder / RESULTS_NAME)

    # 1. The truth set

    def add(self, case: TruthCase, picture: bytes) -> None:
        """Keep a case, over an earlier one of its id. Raises FormError `forms.unwritable`."""
        self._truth.remove(case.case_id)
        self._truth.add(case.case_id, {CASE_NAME: dump_case(case), PICTURE_NAME: picture})

    def cases(self) -> tuple[TruthCase, ...]:
        """Return the cases there are; damaged ones are passed over."""
        found = []
        for name in self._truth.drawers():
            try:
                found.append(load_case(self._truth.get(name, CASE_NAME) or b""))
            except FormError:
                log.warning("a case of the truth set cannot be read")
        return tuple(found)

    def picture(self, case_id: str) -> bytes:
        """Return a case's picture."""
        return self._truth.get(case_id, PICTURE_NAME) or b""

    def remove(self, case_id: str) -> None:
        """Take a case out of the set, and out of the results. Raises FormError `forms.unknown`."""
        if not self._truth.remove(case_id):
            raise FormError("forms.unknown", form=case_id[:60])
        forget_cases(self._results, {case_id})

    def erasing_with(self, filled: Cabinet, *, on_erased: Callable[[], object]) -> FormErasing:
        """Return what erases filled forms together with the cases that came from them."""
        return FormErasing(filled=filled, truth=self._truth, results=self._results, on_erased=on_erased)

    def erase(self) -> int:
        """Remove every case and all results; return the number of cases."""
        count = sum(self._truth.remove(name) for name in self._truth.drawers())
        for name in self._results.drawers():
            self._results.remove(name)
        return count

    # 2. Running it

    def run(
        self,
        cases: Iterable[tuple[TruthCase, bytes]] | None = None,
        *,
        on_case: Callable[[int, TruthCase], None] = lambda _number, _case: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> AcceptanceReport:
        """Fill every case's form with the model that is loaded, and keep and return the report.

        Without `cases`, the site's own. Raises FormError `forms.truth.empty`, ModelNotLoadedError.
        """
        self._assistant.wait_until_loaded()
        active = self.active()
        before = self._marks(active) if active is not None else {}
        filler = FormFiller(self._assistant, priority=Priority.BATCH, should_stop=should_stop)
        results: list[FieldResult] = []
        for number, (case, picture) in enumerate(self._own() if cases is None else cases):
            on_case(number, case)
            results += self._of_case(filler, case, picture, before)
        if cases is None:  # erased while others were asked
            results = [each for each in results if self._truth.has(each.case_id)]
        if not results:
            raise FormError("forms.truth.empty")
        report = AcceptanceReport(self.configuration(), active, tuple(results), datetime.now(UTC))
        self._results.put(report.configuration.key, RESULT_FILE, _dump_report(self._with_earlier(report)))
        return report

    def _with_earlier(self, report: AcceptanceReport) -> AcceptanceReport:
        """Return the report with what this configuration gave for cases that were not run now: sets may be run in parts."""
        earlier = self.report(report.configuration)
        ran = {each.case_id for each in report.fields}
        kept = () if earlier is None else tuple(each for each in earlier.fields if each.case_id not in ran)
        return replace(report, fields=(*report.fields, *kept))

    def _own(self) -> Iterator[tuple[TruthCase, bytes]]:
        for case in self.cases():
            yield case, self.picture(case.case_id)

    def _of_case(
        self, filler: FormFiller, case: TruthCase, picture: bytes, before: Mapping[tuple[str, str], FieldMark]
    ) -> list[FieldResult]:
        got: dict[str, FieldValue] | None = None
        try:
            staged = self._assistant.stage(picture, case.picture_name, page=case.page)
            form = filler.fill(FillPlan(case.template, case.language, LookAt.NONE), staged).form
            got = {field.key: value_of(field, form.reading(field.key).written) for field in case.template.fields}
        except AppError as error:
            if error.code == "forms.fill.stopped":
                raise
            log.warning("a case of the truth set could not be asked: %s", error.code)
        results = []
        for field in case.template.fields:
            if field.key not in case.values:
                continue
            expected = value_of(field, case.values[field.key])
            given = None if got is None else got[field.key]
            mark = mark_of(expected, given)
            was = before.get((case.case_id, field.key))
            results.append(
                FieldResult(
                    case.case_id,
                    case.picture_name,
                    field.key,
                    expected.shown,
                    "" if given is None else given.shown,
                    mark,
                    _change(was, mark),
                )
            )
        return results

    # 3. Activating

    def configuration(self) -> Configuration:
        """Return what is loaded now."""
        status = self._assistant.status.engine
        return Configuration(
            model=status.model,
            fingerprint=status.fingerprint,
            precision=status.dtype,
            device=status.device,
            attention=status.attention,
            build=status.build,
            driver=status.driver,
        )

    def active(self) -> Configuration | None:
        """Return the configuration that was accepted last; None where none was."""
        data = self._results.get(_ACTIVE_DRAWER, _ACTIVE_FILE)
        try:
            return None if data is None else Configuration(**json.loads(data)["configuration"])
        except (ValueError, KeyError, TypeError):
            log.warning("what was accepted cannot be read")
            return None

    def activate(self, report: AcceptanceReport, *, anyway: bool = False, who: str = "") -> None:
        """Make a configuration the accepted one. Raises FormError `forms.accept.worse` where it is, unless `anyway`."""
        if report.is_worse and not anyway:
            raise FormError("forms.accept.worse", count=report.count(Change.WORSE))
        record = {
            "configuration": asdict(report.configuration),
            "at": datetime.now(UTC).isoformat(),
            "who": who,
            "anyway": anyway and report.is_worse,
        }
        self._results.put(_ACTIVE_DRAWER, _ACTIVE_FILE, json.dumps(record).encode("ascii"))

    def verdict(self) -> Verdict:
        """Return what is known of the model that is loaded."""
        active = self.active()
        if active is None:
            return Verdict.NO_TRUTH
        now = self.configuration()
        if now == active:
            return Verdict.ACCEPTED
        report = self.report(now)
        return Verdict.UNTRIED if report is None else Verdict.WORSE if report.is_worse else Verdict.UNTRIED

    def refuse_worse(self) -> None:
        """Raise FormError `forms.accept.refused` where the loaded model was tried and got worse, and nobody activated it."""
        if self.verdict() is Verdict.WORSE:
            raise FormError("forms.accept.refused", model=self.configuration().model)

    def report(self, configuration: Configuration | None = None) -> AcceptanceReport | None:
        """Return the last report of a configuration, of the loaded one where none is named; None where there is none."""
        wanted = configuration or self.configuration()
        data = self._results.get(wanted.key, RESULT_FILE)
        try:
            return None if data is None else _load_report(data)
        except FormError:
            log.warning("a report cannot be read")
            return None

    def _marks(self, configuration: Configuration) -> dict[tuple[str, str], FieldMark]:
        report = self.report(configuration)
        return {} if report is None else {(each.case_id, each.key): each.mark for each in report.fields}


def cells_of(
    report: AcceptanceReport, language: Language, *, cases: Iterable[TruthCase] = ()
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the table of a report: its titles, and a line for each field, what got worse first.

    Fields have the names that the templates of the `cases` give them, or their keys.
    """
    names = {
        (case.case_id, key): name
        for case in cases
        for key, name in shown_names(case.template.fields, language.value).items()
    }
    titles = tuple(
        t(f"forms.accept_column.{name}", language) for name in ("picture", "field", "expected", "got", "mark", "change")
    )
    nothing = t("forms.nothing_there", language)
    changed = report.changed
    lines = [*changed, *(each for each in report.fields if each not in changed)]
    return titles, tuple(
        (
            each.picture_name,
            names.get((each.case_id, each.key)) or each.key,
            each.expected or nothing,
            each.got or nothing,
            t(f"forms.mark.{each.mark.value}", language),
            t(f"forms.change.{each.change.value}", language),
        )
        for each in lines
    )


def differences_text(differences: Sequence[Difference], language: Language) -> str:
    """Return what has changed as one line: `precision: fp32 → int8`."""
    return "; ".join(
        f"{t(f'forms.configuration.{each.part}', language)}: {_short(each.before) or '–'} → {_short(each.after) or '–'}"
        for each in differences
    )


def _short(text: str) -> str:
    """Return a fingerprint's beginning; everything else as it is."""
    return f"{text[:12]}…" if len(text) >= 64 and " " not in text else text


def mark_of(expected: FieldValue, got: FieldValue | None) -> FieldMark:
    """Return what a value came to, held against the one that a person confirmed."""
    if got is None:
        return FieldMark.FAILED
    if expected.is_null:
        return FieldMark.RIGHT if got.is_null else FieldMark.INVENTED
    if got.is_null:
        return FieldMark.MISSED
    is_same = expected.value == got.value if expected.problem is None and got.problem is None else False
    return FieldMark.RIGHT if is_same or expected.compared == got.compared else FieldMark.WRONG


def _change(before: FieldMark | None, now: FieldMark) -> Change:
    if before is None:
        return Change.NEW
    if (before is FieldMark.RIGHT) == (now is FieldMark.RIGHT):
        return Change.SAME
    return Change.BETTER if now is FieldMark.RIGHT else Change.WORSE


def _dump_report(report: AcceptanceReport) -> bytes:
    return json.dumps({**asdict(report), "ran_at": report.ran_at.isoformat()}).encode("ascii")


def _load_report(data: bytes) -> AcceptanceReport:
    try:
        kept: dict[str, Any] = json.loads(data)
        return AcceptanceReport(
            Configuration(**kept["configuration"]),
            None if kept["active"] is None else Configuration(**kept["active"]),
            tuple(
                FieldResult(**{**each, "mark": FieldMark(each["mark"]), "change": Change(each["change"])})
                for each in kept["fields"]
            ),
            datetime.fromisoformat(kept["ran_at"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FormError("forms.damaged") from error
