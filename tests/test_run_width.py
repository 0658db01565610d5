"""How many answers of a run are made at a time: what was measured, what memory holds, what a site has set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwen_vl_app.chat import EngineState, EngineStatus
from qwen_vl_app.engine.fake import FAKE_PLAN
from qwen_vl_app.run_width import best_of, width_of
from tests.hub_parts import replace_settings

READY = EngineStatus(
    EngineState.READY, plan=replace(FAKE_PLAN, spare_tokens=10_000), gains={1: 1.0, 2: 1.8, 4: 3.9, 8: 5.1}
)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ({1: 1.0, 2: 1.8, 4: 3.9, 8: 5.1}, 8),
        ({1: 1.0, 2: 1.8, 4: 3.9, 8: 4.0}, 4),
        ({1: 1.0, 2: 1.0, 4: 1.7, 8: 1.7}, 4),
        ({1: 1.0, 2: 1.05, 4: 1.08, 8: 0.9}, 1),
        ({1: 1.0}, 1),
        ({}, 1),
    ],
)
def test_more_at_a_time_have_to_be_worth_waiting_for_each_other(gains: dict[int, float], expected: int) -> None:
    """Each number has to gain a tenth over the best of fewer."""
    assert best_of(gains) == expected


def test_the_reason_says_what_was_measured() -> None:
    """The gain of the number that was chosen; where nothing gains, the best that was seen."""
    width = width_of(READY, replace_settings())
    assert (width.count, width.reason.code, width.reason.facts["gain"]) == (8, "batch.width.gain", 5.1)
    assert (width.share().turns, width.share().room, width.share().rests) == (8, 10_000, True)
    none = width_of(replace(READY, gains={1: 1.0, 2: 1.05}), replace_settings())
    assert (none.count, none.reason.code, none.reason.facts["gain"]) == (1, "batch.width.no_gain", 1.05)


def test_memory_beside_everybodys_contexts_bounds_it() -> None:
    """Large questions go fewer at a time, one in any case."""
    width = width_of(READY, replace_settings())
    assert width.within(1250).count == 8
    fewer = width.within(3000)
    assert (fewer.count, fewer.reason.code) == (3, "batch.width.memory")
    assert width.within(30_000).count == 1


def test_a_site_may_set_it() -> None:
    """Its number stands in the place of the measured one; memory still bounds it."""
    width = width_of(READY, replace_settings(run_batch=2))
    assert (width.count, width.reason.code) == (2, "batch.width.set")
    assert width.within(9000).count == 1


def test_where_nothing_was_measured_a_place_is_left_for_people() -> None:
    """On a card runs share what decode_batch has; a server is asked as often as the site says; before the model, one."""
    card = replace(READY, gains={})
    assert width_of(card, replace_settings()).count == 1
    assert width_of(card, replace_settings(decode_batch=4)).count == 3
    assert not width_of(card, replace_settings(decode_batch=4)).rests
    remote = replace_settings(remote_address="http://127.0.0.1:9/v1", remote_lanes=5)
    assert width_of(READY, remote).count == 5
    assert width_of(replace(READY, state=EngineState.LOADING), replace_settings()).count == 1
