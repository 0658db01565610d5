"""Where an answer lies on the page: whose it is, what a person made of it, and which part is open to be worked on.

Knows the tab's state and the corrections of a turn. Does not know how anything looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from qwen_vl_app.answers import AnswerTable, says_values, tables_in
from qwen_vl_app.chat import Answer, Size, Turn
from qwen_vl_app.corrections import Corrected, CorrectedTable, corrected
from qwen_vl_app.errors import AppError, HistoryError, Reason
from qwen_vl_app.ui.holdings import Problem
from qwen_vl_app.ui.visit import Visit

NOTHING = "-"
CORRECTED = Reason("corrections.stands")


@dataclass(frozen=True, slots=True)
class Desk:
    """One answer of a kept turn, or of one that could not be kept (`turn_id` None). `is_latest` opens its first picture."""

    visit: Visit
    question: str = ""
    turn_id: int | None = None
    is_latest: bool = False
    is_untouched: bool = False
    """True where it is known already that nobody has corrected it."""

    def is_open(self, key: str, *, is_first: bool = False) -> bool:
        """Return whether the part of that key is the one being worked on."""
        looked_at = self.visit.state.looked_at
        is_whole = looked_at == f"turn-{self.turn_id}" or (not looked_at and self.is_latest)
        return looked_at == key or (is_first and is_whole)

    def open(self, key: str) -> Callable[[], None]:
        """Return the callback that opens a part, and closes every other."""
        return lambda: self._look_at(key)

    def close(self) -> None:
        """Close what is open: a callback."""
        self._look_at(NOTHING)

    def _look_at(self, key: str) -> None:
        self.visit.state.looked_at = key
        if self.turn_id is not None and key != NOTHING:  # it stays as elements when another answer comes below it
            self.visit.state.opened.add(self.turn_id)

    @property
    def can_correct(self) -> bool:
        """True where a correction can be kept."""
        return self.turn_id is not None

    def correct(self, text: str) -> bool:
        """Keep a correction beside the answer; say why on the page where that fails."""
        self.visit.state.problems = []
        try:
            if self.turn_id is not None:
                self.visit.assistant.records.correct(self.visit.owner, self.turn_id, text)
        except AppError as error:
            self.refuse(error)
            return False
        return True

    def table_now(self, number: int, tables: Sequence[AnswerTable]) -> CorrectedTable | None:
        """Return how an answer's table of that number stands this moment, None as the model made it. Raises HistoryError."""
        if self.turn_id is None:
            return None
        added = self.visit.assistant.records.corrections(self.visit.owner, self.turn_id)
        return corrected(added, regions=(), tables=[each.table for each in tables], sizes=()).tables.get(number)

    def refuse(self, error: AppError) -> None:
        """Say on the page why something was not taken."""
        self.visit.state.problems = [Problem(error.reason)]


@dataclass(frozen=True, slots=True)
class Standing:
    """An answer's tables, and what stands of it after every correction."""

    tables: tuple[AnswerTable, ...] = ()
    corrected: Corrected = field(default_factory=Corrected)


def standing_of(desk: Desk | None, answer: Answer, sizes: Sequence[Size]) -> Standing:
    """Return what stands; an answer with nothing that could be corrected asks nobody. `sizes` are the originals'."""
    tables = tables_in(answer.parsed)
    if (
        desk is None
        or desk.turn_id is None
        or desk.is_untouched
        or not (tables or answer.parsed.regions or answer.parsed.data == [])
    ):
        return Standing(tables)
    try:
        added = desk.visit.assistant.records.corrections(desk.visit.owner, desk.turn_id)
    except HistoryError:
        return Standing(tables)  # the answer itself is there; the page says elsewhere that the history is not
    after = corrected(
        added,
        regions=answer.parsed.regions,
        tables=[each.table for each in tables],
        sizes=sizes,
    )
    return Standing(tables, after)


def as_they_stand(visit: Visit, turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return turns with their answers as persons left them: for what is taken away."""
    shown: list[Turn] = []
    sizes: tuple[Size, ...] = ()
    for turn in turns:
        sizes = tuple(picture.size for picture in turn.pictures) or sizes
        if turn.answer is None:
            shown.append(turn)
            continue
        standing = standing_of(Desk(visit, turn_id=turn.id), turn.answer, sizes)
        shown.append(replace(turn, answer=_as_corrected(turn.answer, standing)))
    return tuple(shown)


def is_corrected(answer: Answer) -> bool:
    """Return whether an answer that was made ready to be read is not the model's alone."""
    return CORRECTED in answer.notes


def _as_corrected(answer: Answer, standing: Standing) -> Answer:
    after = standing.corrected
    if after.places is None and not after.tables:
        return answer
    parsed = answer.parsed
    if after.places is not None:
        parsed = replace(parsed, regions=tuple(place.region for place in after.places))
    if after.tables:
        shown = [each.table for each in standing.tables]
        for number, mine in after.tables.items():
            shown[number] = mine.table
        # Data that a table was made of still says what was put right.
        has_places_alone = parsed.has_data and bool(parsed.regions) and not says_values(parsed)
        parsed = replace(parsed, tables=tuple(shown), has_data=has_places_alone)
    return replace(answer, parsed=parsed, notes=(CORRECTED, *answer.notes))
