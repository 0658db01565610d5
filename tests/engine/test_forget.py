"""Told to forget, an engine holds nothing of earlier prompts, and answers as before."""

from __future__ import annotations

from qwen_vl_app.chat import Message, SamplingParams
from qwen_vl_app.engine.base import GenerationRequest, TokenStep
from tests.engine.harness import Pair, ask, never


def held_bytes(pair: Pair) -> int:
    parts = pair.engine._parts
    assert parts is not None
    return parts.features.nbytes + parts.prefixes.nbytes


def test_pictures_and_sequences_are_let_go(pair: Pair) -> None:
    """Nothing is held afterwards, nothing is reused, and the same question gets the same tokens."""
    question = Message("user", "What does it read?", (pair.picture(1),))
    before = ask(pair.engine, question)
    assert held_bytes(pair) > 0
    pair.engine.forget()
    assert held_bytes(pair) == 0
    again = ask(pair.engine, question)
    assert again.ids == before.ids
    assert again.finish.usage.cached_tokens == 0


def test_a_run_that_is_under_way_leaves_nothing_behind(pair: Pair) -> None:
    """It goes on to its end, and what it read is not held for the next question."""
    question = Message("user", "What does it read?", (pair.picture(2),))
    expected = ask(pair.engine, question, max_new_tokens=6).ids
    pair.engine.forget()
    request = GenerationRequest((question,), SamplingParams(max_new_tokens=6), "a conversation")
    ids = []
    for step in pair.engine.generate(request, should_stop=never):
        if isinstance(step, TokenStep):
            ids.append(step.token_id)
            if len(ids) == 2:
                pair.engine.forget()
    assert ids == expected
    assert held_bytes(pair) == 0
    assert not pair.engine._answers._held


def test_forgetting_before_a_model_is_loaded_does_nothing(pair: Pair) -> None:
    """There is nothing to forget."""
    fresh = type(pair.engine)(pair.engine._models_dir)
    fresh.forget()
    assert fresh.status.state.value == "empty"
