"""The engine's tokens are the library's own, for both families, whatever was asked before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qwen_vl_app.chat import FinishReason, Message, SamplingParams, Size
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, Stage, StageStep, TokenStep
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.prefixes import PrefixStore
from qwen_vl_app.engine.local.tokens import TextTokens
from qwen_vl_app.errors import InferenceError, ModelError, ModelNotLoadedError, OutOfMemoryError, PromptTooLongError
from tests.engine.harness import FAMILIES, Pair, ask, never, picture


def test_one_picture(pair: Pair) -> None:
    """A question about one picture gets the tokens of the library's generate()."""
    question = Message("user", "What does the gauge read?", (pair.picture(1),))
    assert ask(pair.engine, question).ids == pair.expected(question)


def test_pictures_of_several_shapes(pair: Pair) -> None:
    """Windows at the edges of odd grids do not change the tokens."""
    for across, down in ((2, 2), (7, 5), (1, 9), (8, 8)):
        question = Message("user", "Read it.", (pair.picture(2, across, down),))
        assert ask(pair.engine, question, max_new_tokens=8).ids == pair.expected(question, max_new_tokens=8)


def test_several_pictures(pair: Pair) -> None:
    """Several pictures of several sizes are numbered and answered as the library does."""
    question = Message("user", "Compare them.", (pair.picture(1), pair.picture(2, 5, 2), pair.picture(3, 2, 6)))
    assert ask(pair.engine, question).ids == pair.expected(question)


def test_text_only(pair: Pair) -> None:
    """A question without a picture works."""
    question = Message("user", "你好，请介绍一下你自己。 Hello?")
    assert ask(pair.engine, question).ids == pair.expected(question)


def test_long_answer(pair: Pair) -> None:
    """A long answer crosses the cache's growth and stays the library's."""
    question = Message("user", "Tell me all.", (pair.picture(4),))
    assert ask(pair.engine, question, max_new_tokens=300).ids == pair.expected(question, max_new_tokens=300)


def test_sampling_with_a_seed(pair: Pair) -> None:
    """With a seed, temperature, top-k and top-p choose what the library chooses."""
    question = Message("user", "Say something.", (pair.picture(5),))
    said = ask(pair.engine, question, temperature=0.8, top_p=0.9, top_k=20, seed=11)
    torch.manual_seed(11)
    options = {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 20}
    assert said.ids == pair.expected(question, **options)
    assert ask(pair.engine, question, temperature=0.8, top_p=0.9, top_k=20, seed=12).ids != said.ids


def test_follow_up_reuses_the_prefix(pair: Pair) -> None:
    """A follow-up reads only what is new and says what the library says to the whole conversation at once."""
    first = Message("user", "What is it?", (pair.picture(6),))
    said = ask(pair.engine, first, key="a")
    again = (first, Message("assistant", said.text), Message("user", "And the second?"))
    parts = pair.engine._parts
    assert parts is not None
    ids = list(pair.engine._prompt(parts, again, "a").token_ids)
    follow = ask(pair.engine, *again, key="a")
    assert follow.finish.usage.cached_tokens >= said.finish.usage.prompt_tokens + len(said.ids) - 1
    assert follow.ids == pair.expected(*again, ids=ids)


def test_a_new_picture_in_a_later_turn(pair: Pair) -> None:
    """A picture that comes in a later turn is encoded and placed as in a conversation read at once, and what was read before stays."""
    first = Message("user", "What is it?", (pair.picture(6),))
    said = ask(pair.engine, first, key="b")
    again = (first, Message("assistant", said.text), Message("user", "And this?", (pair.picture(7, 3, 5),)))
    parts = pair.engine._parts
    assert parts is not None
    ids = list(pair.engine._prompt(parts, again, "b").token_ids)
    follow = ask(pair.engine, *again, key="b")
    assert follow.ids == pair.expected(*again, ids=ids)
    assert follow.finish.usage.cached_tokens >= said.finish.usage.prompt_tokens + len(said.ids) - 1


def test_interleaved_conversations_do_not_meet(pair: Pair) -> None:
    """Two conversations about pictures of unlike shapes, asked in turns, are answered as if each were alone."""
    wide, tall = pair.picture(8, 8, 1), pair.picture(9, 1, 8)
    one, two = Message("user", "What is it?", (wide,)), Message("user", "What is it?", (tall,))
    said_one, said_two = ask(pair.engine, one, key="one"), ask(pair.engine, two, key="two")
    parts = pair.engine._parts
    assert parts is not None
    for first, said, key in ((one, said_one, "one"), (two, said_two, "two"), (one, said_one, "one")):
        again = (first, Message("assistant", said.text), Message("user", "More."))
        ids = list(pair.engine._prompt(parts, again, key).token_ids)
        follow = ask(pair.engine, *again, key=key)
        assert follow.finish.usage.cached_tokens > 0
        assert follow.ids == pair.expected(*again, ids=ids)


def test_positions_left_in_the_model_would_be_wrong(pair: Pair) -> None:
    """The model's own memory of positions differs between two pictures of one token count: nothing may rely on it."""
    square, line = pair.picture(10, 3, 3), pair.picture(11, 9, 1)
    asked = [Message("user", "What is it?", (image,)) for image in (square, line)]
    deltas = []
    for question in asked:
        pair.expected(question, max_new_tokens=1)
        deltas.append(int(pair.oracle.model.model.rope_deltas))
    assert deltas[0] != deltas[1]
    for question in asked:
        assert ask(pair.engine, question, key=None).ids == pair.expected(question)


def test_the_same_placeholders_with_another_picture_share_nothing_behind_them(pair: Pair) -> None:
    """Two pictures of one size have the same token ids; the second is still looked at."""
    one, two = (Message("user", "What is it?", (pair.picture(seed),)) for seed in (12, 13))
    ask(pair.engine, one)
    said = ask(pair.engine, two)
    assert said.ids == pair.expected(two)
    assert said.finish.usage.cached_tokens < said.finish.usage.prompt_tokens - said.finish.usage.picture_tokens


def test_another_question_on_a_picture_encodes_it_once(pair: Pair) -> None:
    """A picture goes through the tower once, and its part of the prompt is read once."""
    encoded: list[str] = []
    pair.engine._fault = lambda point: encoded.append(point) if point == "encode" else None
    image = pair.picture(14)
    ask(pair.engine, Message("user", "What is it?", (image,)))
    question = Message("user", "How many are there?", (image,))
    said = ask(pair.engine, question)
    assert encoded == ["encode"]
    assert said.finish.usage.cached_tokens > said.finish.usage.picture_tokens
    assert said.ids == pair.expected(question)


def test_a_picture_in_the_feature_cache_but_not_in_a_sequence(pair: Pair) -> None:
    """Features from the cache give the same tokens as features just made."""
    question = Message("user", "What is it?", (pair.picture(15),))
    first = ask(pair.engine, question)
    assert pair.engine._parts is not None
    pair.engine._parts.prefixes.clear()
    second = ask(pair.engine, question)
    assert second.finish.usage.cached_tokens == 0
    assert second.ids == first.ids


def test_steps_come_in_order(pair: Pair) -> None:
    """Encoding, then reading, then tokens, then one finished step with counts that add up."""
    question = Message("user", "What is it? " * 8, (pair.picture(16), pair.picture(17)))
    request = GenerationRequest((question,), SamplingParams(max_new_tokens=4))
    steps = list(pair.engine.generate(request, should_stop=never))
    stages = [step for step in steps if isinstance(step, StageStep)]
    reading = [step.done for step in stages if step.stage is Stage.READING]
    assert [step.done for step in stages if step.stage is Stage.ENCODING] == [0, 1, 2]
    assert reading == sorted(reading) and len(reading) > 2
    last = steps[-1]
    assert isinstance(last, FinishedStep)
    assert last.finish_reason is FinishReason.LENGTH
    assert last.usage.prompt_tokens == reading[-1]
    assert last.usage.picture_tokens == 24
    assert last.usage.completion_tokens == sum(isinstance(step, TokenStep) for step in steps) == 4


def test_log_probabilities_are_the_models_own(pair: Pair) -> None:
    """Each token comes with the logarithm of its probability before temperature and cuts."""
    question = Message("user", "Say it.")
    greedy = ask(pair.engine, question, max_new_tokens=1)
    ids = pair.oracle.token_ids((question,))
    logits = pair.oracle.model(input_ids=torch.tensor([ids])).logits[0, -1].detach().float()
    assert greedy.logprobs[0] == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-4)


@pytest.mark.parametrize("calls", [0, 1, 2, 4, 9])
def test_stop_acts_within_a_layer(pair: Pair, calls: int) -> None:
    """Stop while encoding or reading is asked before each layer, and the next question is right."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > calls

    question = Message("user", "What is it? " * 10, (pair.picture(18),))
    said = ask(pair.engine, question, should_stop=stop)
    assert said.finish.finish_reason is FinishReason.STOPPED
    assert said.ids == []
    assert asked == calls + 1
    assert ask(pair.engine, question).ids == pair.expected(question)


def test_stop_while_answering_acts_within_a_token(pair: Pair) -> None:
    """Once told to stop, no further token comes."""
    question = Message("user", "What is it?")
    seen: list[int] = []
    request = GenerationRequest((question,), SamplingParams(max_new_tokens=50))
    for step in pair.engine.generate(request, should_stop=lambda: len(seen) == 3):
        if isinstance(step, TokenStep):
            seen.append(step.token_id)
        if isinstance(step, FinishedStep):
            assert step.finish_reason is FinishReason.STOPPED
    assert len(seen) == 3


def test_a_run_that_is_closed_leaves_a_usable_engine(pair: Pair) -> None:
    """A caller may walk away at any step; what was read serves the next question."""
    question = Message("user", "What is it?", (pair.picture(19),))
    run = pair.engine.generate(GenerationRequest((question,)), should_stop=never)
    for _ in range(6):
        next(run)
    run.close()  # type: ignore[attr-defined]
    said = ask(pair.engine, question)
    assert said.finish.usage.cached_tokens > 0
    assert said.ids == pair.expected(question)


def test_stop_strings_end_the_answer_before_themselves(pair: Pair) -> None:
    """The text ends before the stop string, which may lie across tokens."""
    question = Message("user", "Tell me more.")
    whole = ask(pair.engine, question, max_new_tokens=40)
    cut = whole.text[len(whole.text) // 2 :][:3]
    said = ask(pair.engine, question, max_new_tokens=40, stop=(cut,))
    assert said.text == whole.text[: whole.text.index(cut)]
    assert said.finish.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("point", ["encode", "prefill", "decode"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 1"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_is_cleaned_up_and_told(pair: Pair, point: str, error: Exception) -> None:
    """Whatever was held is let go, the error is ours, and the next question works."""

    def fail(at: str) -> None:
        if at == point:
            raise error

    question = Message("user", "What is it?", (pair.picture(20),))
    pair.engine._fault = fail
    with pytest.raises(OutOfMemoryError) as caught:
        ask(pair.engine, question)
    assert caught.value.code == "engine.out_of_memory"
    assert caught.value.__context__ is None
    parts = pair.engine._parts
    assert parts is not None
    assert parts.features.nbytes == parts.prefixes.nbytes == 0
    pair.engine._fault = lambda at: None
    assert ask(pair.engine, question).ids == pair.expected(question)


def test_a_strangers_error_does_not_leave_the_engine(pair: Pair) -> None:
    """What a library raises is told as an error of ours."""

    def fail(at: str) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    pair.engine._fault = fail
    with pytest.raises(InferenceError, match=r"engine\.run_failed"):
        ask(pair.engine, Message("user", "Hello"))


def test_a_prompt_over_the_context_is_refused_with_its_size(pair: Pair) -> None:
    """The error says how many tokens there were and how many there may be."""
    question = Message("user", "very " * 6000, (pair.picture(21),))
    with pytest.raises(PromptTooLongError) as caught:
        ask(pair.engine, question)
    assert caught.value.facts["limit"] == 4096
    assert caught.value.facts["picture_tokens"] == 12


@pytest.mark.parametrize("words", ["very ", "a", " ", "中\u0301"])
def test_a_text_of_megabytes_is_refused_by_its_beginning(
    pair: Pair, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To encode all of it takes minutes and gigabytes, while everybody waits for the model."""
    read: list[int] = []
    encode = TextTokens.encode

    def counted(self: TextTokens, text: str) -> list[int]:
        read.append(len(text))
        return encode(self, text)

    monkeypatch.setattr(TextTokens, "encode", counted)
    with pytest.raises(PromptTooLongError) as caught:
        ask(pair.engine, Message("user", words * 4_000_000, (pair.picture(21),)))
    assert sum(read) < 400_000
    assert int(str(caught.value.facts["tokens"])) > 100_000
    assert caught.value.facts["picture_tokens"] == 12


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_near_full_precision(models_dir: Path, family: str) -> None:
    """In bf16 the last bits differ, so probabilities of the same token are compared and not the tokens."""
    said = []
    for precision in ("fp32", "bf16"):
        engine = LocalEngine(models_dir, model=family, device="cpu", precision=precision, threads=1)
        engine.load()
        assert engine.status.dtype == precision
        factor = engine.status.plan.factor if engine.status.plan else 0
        question = Message("user", "What is it?", (picture(1, width=4 * factor, height=3 * factor),))
        said.append(ask(engine, question, max_new_tokens=1))
        engine.close()
        with pytest.raises(ModelNotLoadedError):
            ask(engine, question)
    assert said[0].logprobs[0] == pytest.approx(said[1].logprobs[0], abs=0.25)


def test_a_model_that_was_tried_beside_it_leaves_its_threads_behind(
    pair: Pair, models_dir: Path, request: pytest.FixtureRequest
) -> None:
    """The process has one number of threads; after another model was refused, each answer has its own model's again."""

    def fail(at: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    request.addfinalizer(lambda: torch.set_num_threads(1))
    other = LocalEngine(models_dir, model=pair.family, device="cpu", precision="fp32", threads=2, fault=fail)
    other.prepare()
    with pytest.raises(ModelError):
        other.load()
    seen: list[int] = []
    pair.engine._fault = lambda at: seen.append(torch.get_num_threads())
    ask(pair.engine, Message("user", "Hello"), max_new_tokens=1)
    assert set(seen) == {1}


def test_before_loading_nothing_is_promised(models_dir: Path) -> None:
    """Without a plan there is no size, without a model no answer."""
    engine = LocalEngine(models_dir)
    with pytest.raises(ModelNotLoadedError):
        engine.seen_size(Size(100, 100))
    with pytest.raises(ModelNotLoadedError):
        engine.generate(GenerationRequest(()), should_stop=never)


def test_a_held_sequence_is_copied_for_another_conversation() -> None:
    """Sharing a beginning with another conversation does not cut that one short."""
    cache = KVCache(1)
    cache.update(torch.ones(1, 1, 4, 2), torch.ones(1, 1, 4, 2), 0)
    cache.commit(4)
    store = PrefixStore(10**9)
    store.keep((1, 2, 3, 4), cache, "one")
    other = store.take((1, 2, 9, 9), "two", layers=1)
    assert (other.length, cache.length) == (2, 4)
    other.update(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), 0)
    mine = store.take((1, 2, 3, 4, 5), "one", layers=1)
    assert mine is cache and mine.length == 4


def test_the_store_lets_the_oldest_go() -> None:
    """Over the budget, the sequence that was not used for longest leaves."""
    store = PrefixStore(0)
    for first in (1, 2):
        cache = KVCache(1)
        cache.update(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), 0)
        cache.commit(2)
        store.keep((first, 5), cache, None)
    assert store.take((1, 5, 6), None, layers=1).length == 0
    assert store.take((2, 5, 6), None, layers=1).length == 2
