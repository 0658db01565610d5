"""How the demo model is examined: marks of several examiners, and that nothing depends on what a model still holds."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from scripts.demo_model.evaluate import Shown, ask_through_app, examine
from scripts.demo_model.examination import papers, skill_papers
from scripts.demo_model.scoring import Marks, Reply

MODEL = Path(__file__).resolve().parents[2] / "models" / "demo"


def test_several_examiners_mark_as_one() -> None:
    """Every paper is asked once, by one of them, and all marks are counted."""
    asked = papers(5, 10)
    answers = {(id(paper), e.question): e.answer for paper in asked for e in paper.exchanges}
    threads, lock = set(), threading.Lock()

    def knows_half(paper: Shown, question: str, *, goes_on: bool = False) -> Reply:
        with lock:
            threads.add(threading.get_ident())
        return Reply(answers[id(paper), question] if len(question) % 2 else "no idea")

    alone, together = examine(knows_half, asked), examine(knows_half, asked, together=3)
    assert together.asked == alone.asked and together.right == alone.right
    assert len(threads) > 1


def test_marks_are_taken_over() -> None:
    """Right ones and asked ones, of names that were there and of new ones."""
    mine, other = Marks(), Marks()
    mine.add("a", 1, 2)
    other.add("a", 1)
    other.add("b", 0)
    mine.take(other)
    assert mine.scores() == {"a": 2 / 3, "b": 0.0}


@pytest.mark.parametrize(("afresh", "together"), [(True, 1), (False, 3)])
def test_answers_are_the_same_whatever_is_held(afresh: bool, together: int) -> None:
    """With nothing reused, or several in the making: the marks are those of one question after the other."""
    asked = skill_papers(3031, 3)
    found = []
    for each in ((False, 1), (afresh, together)):
        with ask_through_app(MODEL, afresh=each[0], together=each[1] > 1) as ask:
            found.append(examine(ask, asked, wide=True, together=each[1]))
    assert found[0].asked == found[1].asked and found[0].right == found[1].right
