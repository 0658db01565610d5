"""What the state of a tab is made of: its pages, what waits or is offered on them, and what was typed and is not kept yet.

Knows values only. What becomes of them in a run of the page is `state.py`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.chat import ErasureReceipt, StagedPicture
from qwen_vl_app.corrections import CorrectedTable
from qwen_vl_app.errors import Reason
from qwen_vl_app.records import Verification

if TYPE_CHECKING:
    from qwen_vl_app.ui.forms_draft import TemplateDraft
    from qwen_vl_app.ui.live_answer import OpenTurn


class View(StrEnum):
    """The pages there are."""

    CHAT = "chat"
    RECORDS = "records"
    BATCH = "batch"
    FORMS = "forms"
    SETTINGS = "settings"
    DOCTOR = "doctor"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something was not taken. `name` is the file that it is about, where it is about one."""

    reason: Reason
    name: str = ""


class Followed:
    """The answers in the making that the page shows, as the newest drawing of it read them.

    Streamlit begins the next drawing beside one that has not come to its end, and that one may hand over what it read only
    after the next one has: it knows less, and is not listened to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0
        self._newest = 0
        self.turns: tuple[OpenTurn, ...] = ()

    def begin(self) -> int:
        """Return the number of a drawing that now begins to read."""
        with self._lock:
            self._begun += 1
            return self._begun

    def take(self, number: int, turns: Sequence[OpenTurn]) -> None:
        """Follow what the drawing of that number read, unless a later one has said already what it read."""
        with self._lock:
            if number >= self._newest:
                self._newest, self.turns = number, tuple(turns)


@dataclass(frozen=True, slots=True)
class RowRequest:
    """What was asked of a conversation in the list, and wants a dialog first: `rename` or `delete`."""

    act: str
    conversation_id: int


@dataclass(frozen=True, slots=True)
class LooseQuestion:
    """A question that the history could not keep: it lives as long as the tab."""

    text: str
    pictures: tuple[StagedPicture, ...]
    conversation_id: int | None
    job: AnswerJob
    is_private: bool = False
    """True where it began privately: asked once more it does so again."""
    asked_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class TableDraft:
    """A table that is being corrected: how it stands, with what was done in a grid that is no longer drawn."""

    corrected: CorrectedTable
    turn_id: int
    conversation_id: int | None
    generation: int = 0
    """Grows with every draft of one table, so that the grid is drawn anew from it."""
    began_with: CorrectedTable | None = None
    """How the table stood when its correcting began. Where it stands otherwise now, somebody else has corrected it."""


@dataclass(frozen=True, slots=True)
class TableInHand:
    """The grid that was drawn last for a table: what a person has done in it since is in its widget alone."""

    key: str
    widget: str
    names: tuple[str, ...]
    draft: TableDraft


@dataclass(frozen=True, slots=True)
class Restored:
    """What goes back into the composer, once: `token` grows with each."""

    text: str
    staged_ids: tuple[str, ...]
    token: int
    replaces: bool = False
    """True where it takes the place of what is typed there."""
    detail: str = ""
    """The rung that goes with it; empty where it stays as it is."""
    is_private: bool = False
    """True where it was meant to be asked privately, and still is."""


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that the composer tells. What was not heard yet is told again with the next, under the same number."""

    number: int
    kind: str
    """`sent`, `did` or `went`."""
    value: Mapping[str, object]


@dataclass(slots=True)
class FormsState:
    """What the page of forms has open."""

    section: str = ""
    """The part of the page; empty for the one that fits what there is."""
    turns: int = 0
    """Grows with every turn to another part, so that the control above is drawn anew."""
    form_id: str = ""
    field_key: str = ""
    """The field under review; empty for the worst."""
    template: str = ""
    """The template in the editor, or chosen for filling."""
    run_id: str = ""
    """The run that fills forms just now."""
    who: str = ""
    """Who reviews."""
    decided: int = 0
    """Grows with every decision, so that the next value's own input is drawn anew; `refused` with every one that was not taken."""
    refused: int = 0
    drafts: dict[str, TemplateDraft] = field(default_factory=dict)
    """What was typed into the editor and not saved yet, by the templates' names."""
    opened: int = 0
    """Grows with every template that is opened in the editor."""
    is_taking_in: bool = False
    """Whether the dialog for a template from elsewhere is open."""
    done: Reason | None = None
    """What was just done, said once."""
    sample: StagedPicture | None = None
    """The picture beside the editor."""
    sample_at: datetime | None = None
    """When it was taken."""
    sample_taken: str = ""
    """The drop that it was taken from, `sample_token` what empties the place, `sample_problem` why it was no picture."""
    sample_token: str = ""
    sample_problem: Reason | None = None
    tried: object = None
    """What the template in the editor gave for the sample picture."""

    def turn(self, section: str) -> None:
        """Turn to another part of the page."""
        self.section = section
        self.turns += 1

    def drop_sample(self) -> None:
        """Let go of the sample picture and of what was read from it; its place is empty then."""
        self.sample_token = f"{self.sample_token}+"
        self.sample = self.tried = self.sample_problem = None


@dataclass(slots=True)
class RecordsState:
    """What the records page keeps: how far a search was leafed through, and what was done last."""

    offset: int = 0
    asking: str = ""
    """What a person is asked about before it is erased: `days` or `everything`, until they have answered."""
    receipt: ErasureReceipt | None = None
    verification: Verification | None = None
    told: Reason | None = None
    """What came of the last thing that leaves no receipt."""
    upload: int = 0
    """Grows with each archive that was brought in, so that the next finds an empty place."""
