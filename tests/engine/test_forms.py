"""Answers in a form, by real models of both families with weights of chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from qwen_vl_app.chat import FinishReason, Message, SamplingParams
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, TokenStep
from qwen_vl_app.engine.local import grammar
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.errors import InferenceError
from tests.engine.harness import Pair, never

FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "serial": {"anyOf": [{"type": "string", "maxLength": 6}, {"type": "null"}]},
        "volts": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 999}, {"type": "null"}]},
        "state": {"enum": ["on", "off", None]},
        "rows": {"type": "array", "maxItems": 2, "items": {"type": "boolean"}},
    },
    "required": ["serial", "volts", "state", "rows"],
}


def say(
    engine: LocalEngine, *messages: Message, schema: Any = FORM, key: str | None = None, **sampling: Any
) -> tuple[str, list[TokenStep], FinishedStep]:
    """Ask in a form; return the text, the tokens and the end."""
    params = SamplingParams(**{"max_new_tokens": 200, **sampling})
    request = GenerationRequest(messages, params, key, None if schema is None else json.dumps(schema))
    *steps, finished = engine.generate(request, should_stop=never)
    tokens = [step for step in steps if isinstance(step, TokenStep)]
    assert isinstance(finished, FinishedStep)
    return "".join(step.text for step in tokens) + finished.text, tokens, finished


def test_weights_of_chance_fill_in_a_form(pair: Pair) -> None:
    """Greedy and drawn, about a picture and without one: always the form, and its tokens are the text."""
    for seed in range(4):
        question = Message("user", "Read it.", (pair.picture(seed),) if seed % 2 else ())
        text, tokens, finished = say(pair.engine, question, temperature=0.9 if seed else 0.0, seed=seed)
        assert finished.finish_reason is FinishReason.STOP
        Draft202012Validator(FORM).validate(json.loads(text))
        assert b"".join(step.raw for step in tokens).decode("utf-8", "replace") == text
        assert finished.notes == ()


def test_a_form_then_words_on_the_same_conversation(pair: Pair) -> None:
    """The held conversation goes on behind a form as if nothing had ruled its tokens, and a form behind words."""
    first = Message("user", "Read it.", (pair.picture(3),))
    form, _, _ = say(pair.engine, first, key="k")
    asked = (first, Message("assistant", form), Message("user", "And now?"))
    words, _, finished = say(pair.engine, *asked, schema=None, key="k", max_new_tokens=12)
    assert finished.usage.cached_tokens > 0
    again, _, second = say(
        pair.engine,
        *asked,
        Message("assistant", words),
        Message("user", "Once more."),
        key="k",
        temperature=0.7,
        seed=3,
    )
    assert second.usage.cached_tokens > finished.usage.cached_tokens
    Draft202012Validator(FORM).validate(json.loads(again))


def test_probabilities_are_the_models_own(pair: Pair) -> None:
    """What the form left is told beside them: a token is never likelier than all that were possible together."""
    _, tokens, _ = say(pair.engine, Message("user", "Read it."), top_logprobs=3)
    assert tokens
    for step in tokens:
        assert step.logprob is not None
        assert step.logprob <= step.allowed + 1e-4
        assert step.allowed <= 0
        assert len(step.likely) == 3
        assert [each.logprob for each in step.likely] == sorted((each.logprob for each in step.likely), reverse=True)
        assert step.likely[0].logprob >= step.logprob - 1e-4
    assert any(step.allowed < -0.1 for step in tokens)


def test_the_likeliest_tokens_are_told_without_a_form(pair: Pair) -> None:
    """Greedy, the first of them is the one that was chosen."""
    _, tokens, _ = say(pair.engine, Message("user", "Say."), schema=None, max_new_tokens=6, top_logprobs=2)
    for step in tokens:
        assert step.likely[0].raw == step.raw
        assert step.likely[0].logprob == pytest.approx(step.logprob)
        assert step.allowed == 0.0
    _, plain, _ = say(pair.engine, Message("user", "Say."), schema=None, max_new_tokens=6)
    assert [step.token_id for step in plain] == [step.token_id for step in tokens]
    assert all(step.likely == () for step in plain)


def test_a_cut_is_told_and_never_closed(pair: Pair) -> None:
    """Where the limit comes first, or a stop text, the text ends where it ends, and the note says so."""
    text, _, finished = say(pair.engine, Message("user", "Read it."), max_new_tokens=3)
    assert finished.finish_reason is FinishReason.LENGTH
    assert [note.code for note in finished.notes] == ["engine.form.cut"]
    with pytest.raises(ValueError):
        json.loads(text)
    for stop in ("volts", "}"):
        text, _, finished = say(pair.engine, Message("user", "Read it."), stop=(stop,))
        assert finished.finish_reason is FinishReason.STOP
        assert [note.code for note in finished.notes] == ["engine.form.cut"]


def test_a_loop_within_a_form_is_ended_and_told(pair: Pair) -> None:
    """A text without a limit may go round and round; the guard ends it as ever."""
    schema = {"type": "string", "pattern": "^Z{1500}$"}
    _, tokens, finished = say(pair.engine, Message("user", "List."), schema=schema, max_new_tokens=1500)
    assert finished.finish_reason is FinishReason.REPETITION
    assert len(tokens) < 1500
    assert [note.code for note in finished.notes] == ["engine.form.cut"]


def test_the_whole_needs_no_word_from_the_model(pair: Pair) -> None:
    """Once nothing but the end may follow, the answer ends, also at the very limit."""
    text, tokens, finished = say(pair.engine, Message("user", "?"), schema={"const": "yes"})
    assert text == '"yes"'
    limited, _, finished = say(pair.engine, Message("user", "?"), schema={"const": "yes"}, max_new_tokens=len(tokens))
    assert (limited, finished.finish_reason, finished.notes) == (text, FinishReason.STOP, ())


def test_what_is_left_out_is_disclosed(pair: Pair) -> None:
    """A rule that no grammar holds is named; the rest is enforced."""
    schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2, "uniqueItems": True}
    text, _, finished = say(pair.engine, Message("user", "?"), schema=schema)
    assert len(json.loads(text)) == 2
    assert [(note.code, note.facts["rules"]) for note in finished.notes] == [("engine.form.relaxed", "uniqueItems")]


def test_a_form_that_fails_costs_no_memory_and_no_held_sequence(pair: Pair) -> None:
    """Half a character in a schema, which the library cannot read: the error is told, and the conversation is still held."""
    parts = pair.engine._parts
    assert parts is not None
    question = Message("user", "What is it?", (pair.picture(3),))
    say(pair.engine, question, schema=None, key="a", max_new_tokens=2)
    held = parts.prefixes.nbytes
    with pytest.raises(InferenceError):
        say(pair.engine, question, schema={"enum": ["\ud83d"]}, key="a")
    assert (parts.prefixes.nbytes, parts.prefixes.running_bytes) == (held, 0)


def test_without_the_library_answers_are_written_freely(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional: the model loads and answers, and both the status and the answer say what is missing."""

    def broken(_: Any) -> bool:
        raise ImportError

    monkeypatch.setattr(grammar, "_works", broken)
    engine = LocalEngine(models_dir, model="qwen2_5_vl", device="cpu", precision="fp32", threads=1)
    engine.load()
    assert "engine.form.no_grammar" in {choice.code for choice in engine.status.choices}
    _, tokens, finished = say(engine, Message("user", "?"), max_new_tokens=5)
    free, _, _ = say(engine, Message("user", "?"), schema=None, max_new_tokens=5)
    assert "".join(step.text for step in tokens) + finished.text == free
    assert [note.code for note in finished.notes] == ["engine.form.no_grammar"]
    engine.close()


def test_the_status_says_that_forms_are_held_to(pair: Pair) -> None:
    """It is chosen automatically, so it is disclosed."""
    assert "engine.form.grammar" in {choice.code for choice in pair.engine.status.choices}
