"""The queue under many callers, in short: the trial of `scripts/try_queue.py` for a few seconds."""

from __future__ import annotations

from scripts.try_queue import Remains, Result, Tally, report, try_queue


def test_nothing_is_lost_mixed_up_or_left_behind() -> None:
    """Ten callers through every door, some leaving at random: each gets their own answer, and nothing stays."""
    for duration_s in (4.0, 60.0):  # a machine that does other things as well gets the time it needs
        result = try_queue(duration_s=duration_s, token_s=0.002)
        assert result.problems == []
        counts = result.tally.counts
        if counts["answered"] > 50 and counts["cancelled"] and all(result.tally.seconds.values()):
            break
    else:
        raise AssertionError(f"not every door was used, or hardly: {report(result)}")
    assert "Problems: none." in report(result)


def test_the_trial_notices_what_went_wrong() -> None:
    """A wrong answer, a job that stays and a run that does not end are problems."""
    tally = Tally()
    tally.add("mixed up", door="page", fault="asked 'a', got 'b'")
    before, after = Remains(10, 20, 0, 0), Remains(60, 20, 3, 0)
    problems = Result(1.0, tally, before, after, open_runs=1, waiting=0).problems
    assert len(problems) == 4
