"""The very same question gets its answer from the history, and no other question does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qwen_vl_app.chat import (
    Answer,
    FinishReason,
    ImageInput,
    Message,
    Question,
    SamplingParams,
    Size,
    Timing,
    TurnState,
)
from qwen_vl_app.errors import HistoryError
from qwen_vl_app.history import HistoryStore, answer_key

OWNER = "a-browser"
ANSWER = Answer("forty-two", FinishReason.STOP, timing=Timing(total_s=1.5))
MESSAGES = (
    Message("user", "what is this", (ImageInput("p1", Size(28, 28), b""), ImageInput("p2", Size(28, 28), b""))),
)


def key(owner: str = OWNER, text: str = "q", **sampling: float) -> str | None:
    """The key of a one-line question."""
    return answer_key(
        owner,
        [Message("user", text)],
        sampling=SamplingParams(**sampling),  # type: ignore[arg-type]
        fingerprint="w1",
    )


def answered(
    store: HistoryStore, answer: Answer = ANSWER, *, state: TurnState = TurnState.DONE, owner: str = OWNER
) -> int:
    """Keep a finished turn; return its id."""
    turn = store.begin_turn(owner, Question("q"), title="t")
    return store.finish_turn(turn.id, answer, state=state).id


def test_everything_that_decides_an_answer_is_in_its_key() -> None:
    """Another owner, picture, order, word, earlier turn, weight or limit is another question; the same one is the same."""
    base = answer_key(OWNER, MESSAGES, sampling=SamplingParams(), fingerprint="w1")
    (only,) = MESSAGES
    first, second = only.images
    others = [
        answer_key("b", MESSAGES, sampling=SamplingParams(), fingerprint="w1"),
        answer_key(OWNER, MESSAGES, sampling=SamplingParams(), fingerprint="w2"),
        answer_key(OWNER, MESSAGES, sampling=SamplingParams(max_new_tokens=9), fingerprint="w1"),
        answer_key(OWNER, MESSAGES, sampling=SamplingParams(stop=("x",)), fingerprint="w1"),
        answer_key(OWNER, MESSAGES, sampling=SamplingParams(), fingerprint="w1", schema="{}"),
        answer_key(OWNER, MESSAGES, sampling=SamplingParams(), fingerprint="w1", schema='{"type":"object"}'),
        answer_key(OWNER, (Message("user", "a"), *MESSAGES), sampling=SamplingParams(), fingerprint="w1"),
        *(
            answer_key(OWNER, (changed,), sampling=SamplingParams(), fingerprint="w1")
            for changed in (
                replace(only, text="what is this?"),
                replace(only, role="system"),
                replace(only, images=(second, first)),
                replace(only, images=(first,)),
                replace(only, images=()),
            )
        ),
    ]
    assert base is not None
    assert len({base, *others}) == 1 + len(others)
    assert base == answer_key(OWNER, MESSAGES, sampling=SamplingParams(seed=7), fingerprint="w1")
    assert base == answer_key(OWNER, MESSAGES, sampling=SamplingParams(top_logprobs=3), fingerprint="w1")
    # The same at every start of the app, and on every machine.
    assert key() == "d341ac618fc69c06341ffc0dbbf0ed92dc06c5fd5fb3e93a934665d323828582"


def test_chance_has_no_key() -> None:
    """What is drawn is drawn again, and an unknown model promises nothing."""
    assert key(temperature=0.7) is None
    assert answer_key(OWNER, MESSAGES, sampling=SamplingParams(), fingerprint="") is None


def test_a_repeated_question_is_answered_from_the_history(
    store: HistoryStore, open_store: Callable[[], HistoryStore]
) -> None:
    """The answer comes back whole, with when it was kept; also after a restart. The figures count it."""
    cache = store.answer_cache
    assert cache.find(OWNER, key()) is None
    turn = answered(store)
    assert cache.keep(OWNER, key(), turn)
    stored = cache.find(OWNER, key())
    assert stored is not None
    assert (stored.answer, stored.turn_id) == (ANSWER, turn)
    assert datetime.now(UTC) - stored.kept_at < timedelta(minutes=1)
    figures = cache.figures()
    assert (figures.entries, figures.hits, figures.misses, figures.saved_s) == (1, 1, 1, 1.5)
    assert figures.answer_bytes > len("forty-two")
    assert cache.find(OWNER, None) is None
    assert cache.figures().misses == 1
    store.close()
    again = open_store().answer_cache.find(OWNER, key())
    assert again == stored


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (replace(ANSWER, finish_reason=FinishReason.LENGTH), TurnState.DONE),
        (replace(ANSWER, finish_reason=FinishReason.REPETITION), TurnState.DONE),
        (replace(ANSWER, finish_reason=FinishReason.STOPPED), TurnState.STOPPED),
        (replace(ANSWER, finish_reason=FinishReason.FAILED), TurnState.FAILED),
        (replace(ANSWER, text=""), TurnState.DONE),
    ],
)
def test_only_finished_answers_are_given_again(store: HistoryStore, answer: Answer, state: TurnState) -> None:
    """What was cut, stopped, failed or empty is asked again; so is what is still open."""
    assert not store.answer_cache.keep(OWNER, key(), answered(store, answer, state=state))
    assert not store.answer_cache.keep(OWNER, key(), store.begin_turn(OWNER, Question("q"), title="t").id)
    assert not store.answer_cache.keep(OWNER, None, answered(store))
    assert store.answer_cache.find(OWNER, key()) is None
    assert store.answer_cache.figures().entries == 0


def test_owners_share_no_answers(store: HistoryStore) -> None:
    """Not even with the other's key, which nobody can make."""
    turn = answered(store)
    store.answer_cache.keep(OWNER, key(), turn)
    assert store.answer_cache.find("b", key("b")) is None
    assert store.answer_cache.find("b", key()) is None
    with pytest.raises(HistoryError, match=r"history\.not_found"):
        store.answer_cache.keep("b", key("b"), turn)


def test_answers_age(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its time to live an answer is not given again, nor is one that the clock says will be given tomorrow."""
    store.answer_cache.keep(OWNER, key(), answered(store))
    now = datetime.now(UTC)

    def at(moment: datetime) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return moment

        monkeypatch.setattr("qwen_vl_app.history.answer_cache.datetime", Clock)

    hour = timedelta(hours=1)
    at(now + 2 * hour)
    assert store.answer_cache.find(OWNER, key(), max_age=hour) is None
    assert store.answer_cache.find(OWNER, key(), max_age=3 * hour) is not None
    assert store.answer_cache.find(OWNER, key()) is not None
    at(now - timedelta(days=365))
    assert store.answer_cache.find(OWNER, key()) is None


def test_what_was_used_longest_ago_makes_room(folder: Path) -> None:
    """The bytes of the answers stay within the limit, and an answer over all of it is not kept at all."""
    store = HistoryStore(folder, cache_bytes=3500)
    store.open()
    cache = store.answer_cache
    for text in "abc":
        cache.keep(OWNER, key(text=text), answered(store, replace(ANSWER, text=text * 700)))
    assert cache.find(OWNER, key(text="a")) is not None
    cache.keep(OWNER, key(text="d"), answered(store, replace(ANSWER, text="d" * 700)))
    assert [text for text in "abcd" if cache.find(OWNER, key(text=text))] == ["a", "c", "d"]
    assert cache.figures().answer_bytes <= 3500
    assert not cache.keep(OWNER, key(text="e"), answered(store, replace(ANSWER, text="e" * 5000)))
    assert cache.figures().entries == 3
    store.close()


def test_erased_answers_are_not_given_again(store: HistoryStore) -> None:
    """With the turn goes its entry, and the receipt counts it; forgetting keeps the turns."""
    turn = answered(store)
    store.answer_cache.keep(OWNER, key(), turn)
    assert store.erase_turn(OWNER, turn).cached_answers == 1
    assert store.answer_cache.find(OWNER, key()) is None
    kept, others = answered(store), answered(store, owner="b")
    store.answer_cache.keep(OWNER, key(), kept)
    store.answer_cache.keep("b", key("b"), others)
    assert store.answer_cache.forget(OWNER) == 1
    assert store.answer_cache.find(OWNER, key()) is None
    assert store.answer_cache.find("b", key("b")) is not None
    assert store.turn(OWNER, kept).answer == ANSWER
