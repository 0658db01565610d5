"""What a card does is timed to its end, on a card that takes its time and says so only when it is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch

from qwen_vl_app.chat import Message
from qwen_vl_app.engine.local import bench_arms, one_token
from qwen_vl_app.engine.local.device_clock import Clock, StepTimes, clock_of, wait_for

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")


class Card:
    """A card and the host's clock: to be told costs a thousandth of a second, the work waits until somebody waits for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done = 0.0

    def told(self, seconds: float) -> None:
        """Be told work of so many seconds."""
        self.now += 0.001
        self.done = max(self.done, self.now) + seconds

    def wait(self, device: object = None) -> None:
        """Let the host wait for all of it."""
        self.now = max(self.now, self.done)

    def event(self, *, enable_timing: bool) -> Any:
        """Return a mark for the queue."""
        assert enable_timing
        return Mark(self)


class Mark:
    """The time at which the card came by."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self.at = -1.0

    def record(self) -> None:
        """Stand behind what was told until now."""
        self.at = max(self._card.now, self._card.done)

    def elapsed_time(self, other: Mark) -> float:
        """Return milliseconds; a mark that the card has not come by is an error there too."""
        assert self._card.now >= other.at, "nobody waited"
        return (other.at - self.at) * 1000


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """Put one in the place of torch's, and of the clocks."""
    card = Card()
    monkeypatch.setattr(torch.cuda, "synchronize", card.wait)
    monkeypatch.setattr(torch.cuda, "Event", card.event)
    monkeypatch.setattr("time.perf_counter", lambda: card.now)
    return card


def test_steps_are_timed_to_their_end_and_not_held_up(card: Card) -> None:
    """The loop's share is what the model leaves; on a card it read as nearly everything."""
    times = StepTimes(CARD)
    step = times.around(lambda: card.told(0.010))
    for _ in range(5):
        step()
        assert card.now < 0.06, "telling goes on while the card works"
        card.now += 0.001  # the loop's own
    assert times.seconds == pytest.approx(0.050, abs=0.006)
    assert times.seconds == pytest.approx(0.050, abs=0.006), "counted once"
    on_processor = StepTimes(CPU)
    on_processor.around(lambda: card.told(7.0))()
    assert on_processor.seconds == pytest.approx(0.001)


def test_a_processor_is_not_waited_for(card: Card) -> None:
    """There is nothing to wait for, and a build without CUDA could not."""
    card.told(5.0)
    for device in ("cpu", CPU):
        wait_for(device)
    assert clock_of(CPU)() and not clock_of(CPU).is_card and card.now < 1.0
    wait_for("cuda")
    assert card.now >= 5.0 and clock_of(CARD).is_card
    assert Clock(wait=lambda: card.told(1.0), now=lambda: card.now)() == card.now


def test_an_answer_is_timed_from_an_idle_card_to_an_idle_card(card: Card) -> None:
    """What the answer before left to do is not this one's, and what this one leaves is."""

    class Way:
        device = CARD

        def answer(self, messages: object, *, tokens: int, key: str) -> Iterator[None]:
            for _ in range(tokens):
                card.told(0.1)
                card.wait()  # the number itself is needed on the host
                yield
            card.told(0.5)

    card.told(30.0)
    first, rest = bench_arms._spent(cast(Any, Way()), (Message("user", "?"),), tokens=3, key="")
    assert first == pytest.approx(0.1, abs=0.01) and rest == pytest.approx(0.7, abs=0.01)
    assert one_token.device_stopwatch(CARD)(lambda: card.told(0.2)) == pytest.approx(0.2, abs=0.01)


def test_the_library_s_tokens_are_there_when_they_are_counted(
    card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Its criteria for stopping are asked before it waits for the token: a first token came as soon as it was told of."""
    from qwen_vl_app.chat import Size
    from qwen_vl_app.engine.local.bench_arms import ARMS, Work, _Stock, random_picture
    from qwen_vl_app.engine.local.bench_models import make_model

    make_model("tiny", tmp_path / "tiny")
    way = _Stock(Work(ARMS[0], tmp_path / "tiny", (), 2, 1, 1, 0))
    waited: list[str] = []
    monkeypatch.setattr(bench_arms, "wait_for", lambda device: waited.append(threading.current_thread().name))
    question = Message("user", "?", (random_picture(1, Size(56, 56)),))
    for count, _ in enumerate(way.answer((question,), tokens=3, key="a")):
        assert len(waited) > count and threading.current_thread().name not in waited
