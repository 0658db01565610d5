"""A question asked again stands beside the first; one branch is shown, and the others are a switch away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from qwen_vl_app.chat import Question, StagedPicture
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore

OWNER = "a-browser"


def ask(store: HistoryStore, text: str, *, into: int | None = None, beside: int | None = None) -> tuple[int, int]:
    """Keep a question; return the ids of its turn and conversation."""
    turn = store.begin_turn(OWNER, Question(text, conversation_id=into), title=text, beside=beside)
    return turn.id, turn.conversation_id


def shown(store: HistoryStore, conversation: int, **window: int) -> str:
    """The questions of the shown branch, one letter each."""
    return "".join(turn.question for turn in store.turns(OWNER, conversation, **window))


def test_a_question_asked_again_begins_a_branch(store: HistoryStore) -> None:
    """It takes the place of the first, whose answers leave the page and stay in the history; the next one continues it."""
    a, conversation = ask(store, "a")
    b, _ = ask(store, "b", into=conversation)
    ask(store, "c", into=conversation)
    d, _ = ask(store, "d", beside=b)
    assert shown(store, conversation) == "ad"
    ask(store, "e", into=conversation)
    assert shown(store, conversation) == "ade"

    first, second, third = store.turns(OWNER, conversation)
    assert (first.parent_id, second.parent_id, third.parent_id) == (None, a, d)
    assert (first.branch_ids, second.branch_ids, third.branch_ids) == ((a,), (b, d), (third.id,))
    assert [turn.question for turn in store.branches(OWNER, d)] == ["b", "d"]
    assert store.branches(OWNER, b) == store.branches(OWNER, d)
    assert store.conversation(OWNER, conversation).turn_count == 5


def test_returning_to_a_branch_shows_it_to_its_end(store: HistoryStore) -> None:
    """Its newest turns come back, the next question continues it, and both branches can be windowed."""
    a, conversation = ask(store, "a")
    b, _ = ask(store, "b", into=conversation)
    c, _ = ask(store, "c", into=conversation)
    d, _ = ask(store, "d", beside=b)
    store.switch_branch(OWNER, b)
    assert shown(store, conversation) == "abc"
    assert shown(store, conversation, limit=2) == "bc"
    assert shown(store, conversation, limit=1, before=c) == "b"
    # What a turn continues does not depend on what is shown.
    assert shown(store, conversation, before=d) == "a"
    assert shown(store, conversation, before=a) == ""
    ask(store, "f", into=conversation)
    assert shown(store, conversation) == "abcf"
    store.switch_branch(OWNER, d)
    assert shown(store, conversation) == "ad"


def test_the_first_question_can_be_asked_differently(store: HistoryStore) -> None:
    """A conversation may have several beginnings."""
    a, conversation = ask(store, "a")
    ask(store, "b", into=conversation)
    c, _ = ask(store, "c", beside=a)
    assert shown(store, conversation) == "c"
    assert store.turn(OWNER, a).branch_ids == (a, c)
    store.switch_branch(OWNER, a)
    assert shown(store, conversation) == "ab"


def test_a_branch_stays_in_its_conversation(store: HistoryStore, picture: Callable[..., StagedPicture]) -> None:
    """A turn of another conversation or of somebody else is nothing to stand beside, and nothing is kept of the try."""
    a, _ = ask(store, "a")
    _, other = ask(store, "b")
    with pytest.raises(HistoryError, match=r"history\.not_found"):
        ask(store, "x", into=other, beside=a)
    for call in (
        lambda: store.begin_turn("b-browser", Question("x", (picture("x"),)), title="x", beside=a),
        lambda: store.switch_branch("b-browser", a),
        lambda: store.branches("b-browser", a),
    ):
        with pytest.raises(HistoryError, match=r"history\.not_found"):
            call()
    assert shown(store, other) == "b"
    assert store.conversations("b-browser") == ()


def test_the_branch_is_remembered(store: HistoryStore, open_store: Callable[[], HistoryStore]) -> None:
    """The next start of the app shows the branch that was shown last."""
    a, conversation = ask(store, "a")
    b, _ = ask(store, "b", into=conversation)
    ask(store, "c", beside=b)
    store.switch_branch(OWNER, b)
    store.close()
    assert shown(open_store(), conversation) == "ab"
    assert a < b


def test_pinned_conversations_come_first(store: HistoryStore) -> None:
    """They keep their order among themselves, the pages are still the whole list, and a pin can be taken off."""
    made = [ask(store, str(number))[1] for number in range(6)]
    store.pin(OWNER, made[1])
    store.pin(OWNER, made[3])
    expected = [made[3], made[1], made[5], made[4], made[2], made[0]]
    for size in (1, 2, 3, 6):
        ids: list[int] = []
        while page := store.conversations(OWNER, limit=size, before_id=ids[-1] if ids else None):
            ids += [head.id for head in page]
        assert ids == expected
    assert [head.is_pinned for head in store.conversations(OWNER)] == [True, True, False, False, False, False]
    head = store.conversation(OWNER, made[3])
    store.pin(OWNER, made[3], is_pinned=False)
    assert store.conversation(OWNER, made[3]) == replace(head, is_pinned=False)
    with pytest.raises(HistoryError, match=r"history\.not_found"):
        store.pin("b-browser", made[3])
