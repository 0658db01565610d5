"""A site decides how long things are kept, and a wrong clock decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qwen_vl_app.chat import Question
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore, Keeping, KeepingMode
from tests.history.traces import traces

OWNER = "a-browser"
TODAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the clock."""

    def set_clock(moment: datetime) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return moment

        for module in ("store", "turn_keeping"):
            monkeypatch.setattr(f"qwen_vl_app.history.{module}.datetime", Clock)

    return set_clock


@pytest.fixture
def thirty_days(folder: Path, at: Callable[[datetime], None]) -> Iterator[HistoryStore]:
    """A store of a site that keeps thirty days, with a turn asked today."""
    at(TODAY)
    store = HistoryStore(folder, keeping=Keeping(KeepingMode.DAYS, days=30))
    store.open()
    store.begin_turn(OWNER, Question("young-marker"), title="t")
    yield store
    store.close()


def used_daily(store: HistoryStore, at: Callable[[datetime], None], *, first: int, last: int) -> None:
    """Let the app run on each of these days."""
    for number in range(first, last + 1):
        at(TODAY + number * DAY)
        store.expire()


def test_what_is_too_old_goes(thirty_days: HistoryStore, at: Callable[[datetime], None], folder: Path) -> None:
    """On its thirty-first day a turn is erased, with a receipt; what is younger stays."""
    used_daily(thirty_days, at, first=1, last=29)
    thirty_days.begin_turn(OWNER, Question("newer"), title="t")
    assert len(thirty_days.conversations(OWNER)) == 2
    used_daily(thirty_days, at, first=30, last=30)
    assert len(thirty_days.conversations(OWNER)) == 2
    at(TODAY + 31 * DAY)
    receipt = thirty_days.expire()
    assert receipt is not None
    assert (receipt.scope, receipt.turns, receipt.is_complete) == ("expired", 1, True)
    assert [head.title for head in thirty_days.conversations(OWNER)] == ["t"]
    assert traces(folder, "young-marker") == set()
    assert thirty_days.expire() is None


def test_a_clock_that_jumps_erases_nothing(thirty_days: HistoryStore, at: Callable[[datetime], None]) -> None:
    """Neither a year forward nor a year back, also over a restart; and after it was set right again, nothing either."""
    used_daily(thirty_days, at, first=1, last=3)
    for moment in (TODAY + 368 * DAY, TODAY - 365 * DAY, TODAY + 4 * DAY, TODAY + 369 * DAY):
        at(moment)
        assert thirty_days.expire() is None
        thirty_days.close()
        thirty_days.open()
        assert len(thirty_days.conversations(OWNER)) == 1
    at(TODAY + 5 * DAY)
    assert thirty_days.expire() is None
    used_daily(thirty_days, at, first=6, last=29)
    assert len(thirty_days.conversations(OWNER)) == 1


def test_a_machine_that_is_on_now_and_then_keeps_no_longer(
    thirty_days: HistoryStore, at: Callable[[datetime], None]
) -> None:
    """Used once a fortnight, it still erases: the second pause without a step back is believed."""
    for number in (14, 28, 42):
        thirty_days.close()
        at(TODAY + number * DAY)
        thirty_days.open()
    assert thirty_days.conversations(OWNER) == ()


def test_records_are_not_erased_but_corrected(folder: Path) -> None:
    """Every erasure is refused with a sentence; corrections are added in their order, and the turn stays as it was."""
    store = HistoryStore(folder, keeping=Keeping(KeepingMode.RECORDS))
    store.open()
    turn = store.begin_turn(OWNER, Question("?"), title="t")
    erasures: list[Callable[[], object]] = [
        lambda: store.erase_turn(OWNER, turn.id),
        lambda: store.erase_conversation(OWNER, turn.conversation_id),
        lambda: store.delete_conversation(OWNER, turn.conversation_id),
        lambda: store.erase_period(OWNER, since=TODAY, until=TODAY + 9999 * DAY),
        lambda: store.erase_everything(OWNER),
    ]
    for erase in erasures:
        with pytest.raises(HistoryError, match=r"history\.records_are_kept"):
            erase()
    assert store.expire() is None
    store.correct(OWNER, turn.id, " it was 41 ")
    store.correct(OWNER, turn.id, "no, 42")
    assert [correction.text for correction in store.corrections(OWNER, turn.id)] == ["it was 41", "no, 42"]
    assert store.turn(OWNER, turn.id) == turn
    with pytest.raises(HistoryError, match=r"history\.empty_correction"):
        store.correct(OWNER, turn.id, " ")
    for call in (lambda: store.correct("b", turn.id, "x"), lambda: store.corrections("b", turn.id)):
        with pytest.raises(HistoryError, match=r"history\.not_found"):
            call()
    assert store.verify_audit().is_sound
    store.close()


def test_a_site_that_keeps_nothing_has_no_file(folder: Path) -> None:
    """Questions are answered and listed as ever, and the data folder is not even made."""
    store = HistoryStore(folder, keeping=Keeping(KeepingMode.NOTHING))
    store.open()
    store.begin_turn(OWNER, Question("?"), title="t")
    assert [head.title for head in store.conversations(OWNER)] == ["t"]
    store.close()
    store.open()
    assert store.conversations(OWNER) == ()
    store.close()
    assert not folder.exists()


def test_days_are_at_least_one() -> None:
    """A site that wants to keep nothing says so."""
    with pytest.raises(ValueError, match="days"):
        Keeping(KeepingMode.DAYS)
