"""Good pictures wait for their turn on a busy machine; hanging and endless ones do not."""

from __future__ import annotations

import pytest

from qwen_vl_app.imaging.work_clock import PATIENCE, WorkClock


def given_up_at(share: float, *, limit_s: float = 5.0) -> float:
    """The wall time at which a child that gets this share of a processor is given up."""
    clock, wall_s = WorkClock(limit_s), 0.0
    for _ in range(1000):
        left_s = clock.left_s(wall_s=wall_s, cpu_s=share * wall_s)
        if left_s <= 0:
            return wall_s
        wall_s += left_s
    raise AssertionError("never given up")


def test_a_child_that_has_the_processor_gets_the_limit() -> None:
    """On an idle machine the limit is wall time."""
    assert given_up_at(1.0) == pytest.approx(5.0)


def test_several_threads_do_not_shorten_the_time() -> None:
    """Four threads use four seconds in one, and the limit is not for them."""
    assert given_up_at(4.0) == pytest.approx(5.0)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.3])
def test_a_child_that_waits_for_its_turn_gets_the_work_it_was_promised(share: float) -> None:
    """Half a processor means twice the wall time."""
    assert given_up_at(share) == pytest.approx(5.0 / share, rel=0.02)


def test_patience_ends() -> None:
    """However busy the machine is, the wall clock has the last word."""
    assert given_up_at(0.05) == pytest.approx(PATIENCE * 5.0, rel=0.02)


def test_a_child_that_stands_still_is_given_up_at_the_limit() -> None:
    """Hanging without computing is not waiting for one's turn."""
    assert given_up_at(0.0) == pytest.approx(5.0)
    clock = WorkClock(5.0)
    assert clock.left_s(wall_s=5.0, cpu_s=2.0) == pytest.approx(3.0)
    assert clock.left_s(wall_s=8.0, cpu_s=2.01) == 0.0
