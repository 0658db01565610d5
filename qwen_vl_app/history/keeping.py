"""How long a site keeps what was asked: until it is erased, for days, not at all, or as records that nobody erases.

Also when the clock can be believed: one that jumped must go on for a day before anything is erased by it. Does not
know how things are erased.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy.orm import Session

from qwen_vl_app.history.tables import FactRow

_CLOCK_FACT = "clock"
_LONGEST_PAUSE = timedelta(days=2)
_SMALLEST_STEP_BACK = timedelta(minutes=5)
_CONFIRMED_AFTER = timedelta(days=1)
_PAUSES_BELIEVED = 2


class KeepingMode(StrEnum):
    """What a site keeps."""

    UNTIL_ERASED = "until_erased"
    DAYS = "days"
    NOTHING = "nothing"
    """In memory only: the history is then made without a folder."""
    RECORDS = "records"
    """Nothing is erased; corrections are added."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """A site's choice; `days` counts for KeepingMode.DAYS alone."""

    mode: KeepingMode = KeepingMode.UNTIL_ERASED
    days: int = 0

    def __post_init__(self) -> None:
        if self.mode is KeepingMode.DAYS and self.days < 1:
            raise ValueError("days must be at least 1")


def may_expire(session: Session, now: datetime) -> bool:
    """Write down the time, and tell whether the clock has gone on without a jump for long enough to erase by it.

    A machine that was off for days looks like a clock that jumped: it is believed again after a day, or at the second
    such pause without a step back between them.
    """
    fact = session.get(FactRow, _CLOCK_FACT)
    if fact is None:
        session.add(FactRow(name=_CLOCK_FACT, value=f"{now.isoformat()} {now.isoformat()} 0"))
        return False
    parts = fact.value.split()
    seen, steady_since, pauses = datetime.fromisoformat(parts[0]), datetime.fromisoformat(parts[1]), int(parts[2])
    if seen - now > _SMALLEST_STEP_BACK:
        # What goes back comes forward again: that pause is not to be believed.
        steady_since, pauses = now, -1
    elif now - seen > _LONGEST_PAUSE:
        steady_since, pauses = now, pauses + 1
    fact.value = f"{now.isoformat()} {steady_since.isoformat()} {pauses}"
    return now - steady_since >= _CONFIRMED_AFTER or pauses >= _PAUSES_BELIEVED
