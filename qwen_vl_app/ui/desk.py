"""Where an answer lies on the page: whose it is, what a person made of it, and which part is open to be worked on.

Knows the tab's state and the corrections of a turn. Does not know how anything looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qwen_vl_app.answers import AnswerTable, tables_in
from qwen_vl_app.chat import Answer, Size
from qwen_vl_app.corrections import CorrectedTable, corrected
from qwen_vl_app.errors import AppError
from qwen_vl_app.standing import Standing, standing_of_turn
from qwen_vl_app.ui.holdings import Problem
from qwen_vl_app.ui.visit import Visit

NOTHING = "-"


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


def standing_of(desk: Desk | None, answer: Answer, sizes: Sequence[Size]) -> Standing:
    """Return what stands; an answer with nothing that could be corrected asks nobody. `sizes` are the originals'."""
    if desk is None or desk.turn_id is None or desk.is_untouched:
        return Standing(tables_in(answer.parsed))
    visit = desk.visit
    return standing_of_turn(visit.assistant.records, visit.owner, turn_id=desk.turn_id, answer=answer, sizes=sizes)
