"""What a person is asked to look at twice, and what is no reason to."""

from __future__ import annotations

import pytest

from qwen_vl_app.answers import checks, parse_answer
from qwen_vl_app.chat import Answer, CoordinateSpace, Detail, FinishReason, SeenSize, Size
from qwen_vl_app.texts import Language, render

WHOLE = (Size(800, 600), SeenSize(Size(812, 588), 609, Detail.BALANCED))
SMALL = (Size(4032, 3024), SeenSize(Size(1148, 840), 1230, Detail.BALANCED))


def told(
    question: str, text: str, picture: tuple[Size, SeenSize] = WHOLE, ended: FinishReason = FinishReason.STOP
) -> list[str]:
    parsed = parse_answer(text, space=CoordinateSpace.SEEN_PIXELS, seen=[picture[1].size])
    found = checks(question, Answer(text, ended, parsed), [picture])
    for language in Language:
        assert all(render(check, language) != check.code for check in found)
    return [check.code.removeprefix("answers.check_") for check in found]


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What does the gauge show?", "It shows 4.2 bar."),
        ("Read it.", "The needle points to 30."),
        ("压力表的读数？", "4.2"),
    ],
)
def test_needles_are_never_certain(question: str, text: str) -> None:
    """A reading of a dial asks for a person's eye, in both languages."""
    assert "needle" in told(question, text)


def test_what_is_sure_enough_says_nothing() -> None:
    """A sentence about a picture that was seen whole has nothing to check."""
    assert told("What is this?", "A red valve.") == []
    assert told("What does the gauge look like?", "It is round.") == []
    assert told("Read the plate.", "Engauge 3000") == []
    assert told("As code, please.", "Here:\n\n```css\n.gauge { width: 10px; needle: 4; }\n```\n") == []


def test_small_print_counts_cuts_and_values() -> None:
    """Each has its own sentence, where there is something to check."""
    assert told("Read the number.", "SN 00123", SMALL) == ["small"]
    assert told("How many screws are there?", "There are 17 screws.") == ["count"]
    cut = '[{"bbox_2d": [1, 2, 30, 40], "label": "a"}, {"bbox_2d": [1'
    assert told("Where?", cut, ended=FinishReason.LENGTH) == ["incomplete"]
    assert told("Fields", '{"date": "2026-11-21"}') == ["values"]


@pytest.mark.parametrize(
    ("question", "is_count"),
    [
        ("TEMP的值是多少？", False),
        ("压力为多少？", False),
        ("图中有多少个按钮？", True),
        ("按钮的数量是多少？", True),
        ("What is the serial number of the pump?", False),
        ("Give the part number of each motor.", False),
        ("What is the number of this room?", False),
        ("What is the number of lamps?", True),
        ("Number of screws?", True),
        ("Tell me the total number of red buttons.", True),
        ("Look at the panel: number of switches", True),
    ],
)
def test_what_a_value_is_asks_for_no_count(question: str, is_count: bool) -> None:
    """The same Chinese word asks how much and how many, and a serial number counts nothing."""
    notes = checks(question, Answer("68.4", FinishReason.STOP), [])
    assert any("count" in note.code for note in notes) is is_count
