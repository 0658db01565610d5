"""Answers go through JSON and come back equal, whatever they hold."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vl_app.chat import (
    Answer,
    Box,
    Confidence,
    FinishReason,
    ParsedAnswer,
    Region,
    SamplingParams,
    Table,
    Timing,
    Usage,
)
from qwen_vl_app.errors import Reason
from qwen_vl_app.history.answer_json import dump_answer, dump_sampling, load_answer, load_sampling

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.floats(allow_nan=False)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
FACT = st.none() | st.booleans() | st.integers() | NUMBER | TEXT
NOTES = st.lists(
    st.builds(lambda code, facts: Reason(code, **facts), TEXT, st.dictionaries(TEXT, FACT, max_size=3)), max_size=3
).map(tuple)
COUNT = st.integers(0, 10**9)
ANSWERS = st.builds(
    Answer,
    text=TEXT,
    finish_reason=st.sampled_from(FinishReason),
    parsed=st.builds(
        ParsedAnswer,
        data=DATA,
        has_data=st.booleans(),
        regions=st.lists(st.builds(Region, st.builds(Box, NUMBER, NUMBER, NUMBER, NUMBER), TEXT, COUNT)).map(tuple),
        tables=st.lists(
            st.builds(Table, st.lists(TEXT).map(tuple), st.lists(st.lists(TEXT).map(tuple)).map(tuple)), max_size=2
        ).map(tuple),
        notes=NOTES,
    ),
    usage=st.builds(Usage, COUNT, COUNT, COUNT, COUNT),
    timing=st.builds(Timing, NUMBER, st.none() | NUMBER, NUMBER),
    model=TEXT,
    notes=NOTES,
    error=st.none() | NOTES.filter(bool).map(lambda notes: notes[0]),
    confidence=st.none() | st.builds(Confidence, st.floats(0, 1), st.floats(0, 1)),
)


@settings(deadline=None, max_examples=60)
@given(ANSWERS)
def test_answers_come_back_equal(answer: Answer) -> None:
    """Every field, down to the last digit of a box and the type of a fact."""
    loaded = load_answer(dump_answer(answer), answer.text)
    assert loaded.confidence == answer.confidence
    assert loaded == answer
    assert repr(loaded) == repr(answer)


@settings(deadline=None, max_examples=30)
@given(
    st.builds(
        SamplingParams, COUNT, NUMBER, NUMBER, COUNT, st.none() | st.integers(), st.lists(TEXT, max_size=3).map(tuple)
    )
)
def test_sampling_comes_back_equal(sampling: SamplingParams) -> None:
    """Seeds and stop texts included."""
    assert load_sampling(dump_sampling(sampling)) == sampling
