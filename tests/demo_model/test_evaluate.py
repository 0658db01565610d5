"""How the demo model is examined: marks of several examiners, and that nothing depends on what a model still holds."""

from __future__ import annotations

import threading
from pathlib import Path

from scripts.demo_model.evaluate import Shown, ask_through_app, ask_through_library, examine
from scripts.demo_model.examination import later_papers, papers, skill_papers
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


def test_questions_before_are_asked_in_the_same_conversation() -> None:
    """Each question about the last picture has a conversation of its own, in which every earlier picture was asked about; what
    goes on with a question does not begin again."""
    asked = later_papers(5, 9)
    heard: list[tuple[Shown, str, bool]] = []

    def listens(paper: Shown, question: str, *, goes_on: bool = False) -> Reply:
        heard.append((paper, question, goes_on))
        return Reply("")

    marks = examine(listens, asked, wide=True)
    expected = []
    for paper in asked:
        assert 1 <= len(paper.before) <= 2
        for i, exchange in enumerate(paper.exchanges):
            if i not in paper.continues:
                expected += [(e, e.exchanges[0].question, e is not paper.before[0]) for e in paper.before]
            expected.append((paper, exchange.question, True))
    assert heard == expected
    assert marks.asked["all_answers"] == sum(len(paper.exchanges) for paper in asked)


def test_a_later_picture_is_asked_about_as_a_person_does() -> None:
    """The app and the library get one conversation, the pictures where they come, and say the same."""
    asked = later_papers(7, 2)
    found = []
    for opened in (ask_through_app(MODEL), ask_through_library(MODEL)):
        said = []
        with opened as ask:
            for paper in asked:
                exchange = next(e for e in paper.exchanges if e.skill in ("field", "describe", "count", "read_all"))
                for earlier in paper.before:
                    ask(earlier, earlier.exchanges[0].question, goes_on=earlier is not paper.before[0])
                said.append(ask(paper, exchange.question, goes_on=True).text)
        found.append(said)
    assert found[0] == found[1]


def test_marks_are_taken_over() -> None:
    """Right ones and asked ones, of names that were there and of new ones."""
    mine, other = Marks(), Marks()
    mine.add("a", 1, 2)
    other.add("a", 1)
    other.add("b", 0)
    mine.take(other)
    assert mine.scores() == {"a": 2 / 3, "b": 0.0}


def test_answers_are_the_same_whatever_is_held() -> None:
    """With nothing reused, or several in the making: the marks are those of one question after the other."""
    asked = skill_papers(3031, 2)
    found = []
    for afresh, together in ((False, 1), (True, 1), (False, 3)):
        with ask_through_app(MODEL, afresh=afresh, together=together > 1) as ask:
            found.append(examine(ask, asked, wide=True, together=together))
    assert found[0].asked == found[1].asked == found[2].asked
    assert found[0].right == found[1].right == found[2].right
