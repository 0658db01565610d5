"""The end of a prompt read in one step over a slab: the answers are the library's own, whatever fills the step up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch

from qwen_vl_app.chat import FinishReason, Message, SamplingParams
from qwen_vl_app.engine.base import FinishedStep, GenerationRequest, TokenStep
from qwen_vl_app.engine.local import slab
from qwen_vl_app.engine.local.attending import added_mask
from qwen_vl_app.engine.local.chunks import SlabChunks, lengths_of
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.several_tokens import by_kernel, by_products
from qwen_vl_app.engine.local.slab import EagerRecorder, SlabSize, StaticStepper
from qwen_vl_app.engine.local.steps import GrowingStepper, Rounds, Seat
from qwen_vl_app.errors import OutOfMemoryError
from tests.engine.harness import Pair, Said, ask, never
from tests.engine.tape import TapeRecorder

CPU = torch.device("cpu")
WIDTHS = (4, 8, 16, 32, 64)
RECORDERS = ("run", "recorded")


class Watched(SlabChunks):
    """Notes how many tokens it read; raises `error` instead where there is one."""

    counts: list[int]
    error: BaseException | None = None

    def read(self, row: int, length: int, token_ids: Sequence[int], positions: torch.Tensor) -> torch.Tensor:
        self.counts.append(len(token_ids))
        if self.error is not None:
            raise self.error
        return super().read(row, length, token_ids, positions)


@dataclass
class Reading:
    """An engine that reads so, and what to look at."""

    pair: Pair
    chunks: Watched
    stepper: StaticStepper
    rounds: Rounds
    recorder: TapeRecorder = field(default_factory=TapeRecorder)

    def follow(self, first: Message, said: Said, text: str, key: str, **options: int) -> tuple[Said, list[int]]:
        """Ask on in a conversation; return what was said and what the library says to all of it at once."""
        again = (first, Message("assistant", said.text), Message("user", text))
        parts = self.pair.engine._parts
        assert parts is not None
        ids = list(self.pair.engine._prompt(parts, again, key).token_ids)
        expected = self.pair.expected(*again, ids=ids, **options)
        return ask(self.pair.engine, *again, key=key, **options), expected  # type: ignore[arg-type]


def reading(pair: Pair, way: str = "run", *, rows: int = 1, tokens: int = 600) -> Reading:
    """Let the pair's engine read so."""
    parts = pair.engine._parts
    assert parts is not None
    text, recorder = parts.decoder.text, TapeRecorder()
    chosen = recorder if way == "recorded" else EagerRecorder()
    stepper = StaticStepper(text, CPU, SlabSize(rows, tokens), recorder=chosen)
    chunks = Watched(text, *stepper.memory, recorder=chosen, widths=WIDTHS)
    chunks.counts = []
    rounds = Rounds((stepper, GrowingStepper(text, CPU)), chunks=chunks)
    pair.engine._parts = replace(parts, rounds=rounds)
    return Reading(pair, chunks, stepper, rounds, recorder)


@pytest.fixture
def short(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """The pair, put back afterwards, with lengths short enough to be crossed."""
    monkeypatch.setattr(slab, "SHORTEST_BUCKET", 32)
    parts = pair.engine._parts
    assert parts is not None
    yield pair
    pair.engine._parts = parts


@pytest.mark.parametrize("way", RECORDERS)
def test_follow_ups_of_any_length_are_the_librarys(short: Pair, way: str) -> None:
    """Each about one picture, from a few new tokens to more than any width, which are read in the plain way."""
    read = reading(short, way)
    first = Message("user", "What is it?", (short.picture(120, 5, 3),))
    said = ask(short.engine, first, key="a")
    assert said.ids == short.expected(first)
    for words in (1, 2, 9, 14, 40, 90):
        follow, expected = read.follow(first, said, "the " * words, "a", max_new_tokens=6)
        assert follow.ids == expected
        assert follow.finish.usage.cached_tokens >= said.finish.usage.prompt_tokens
    used = {read.chunks._width(count) for count in read.chunks.counts}
    assert {16, 32, 64} <= used and len(set(read.chunks.counts)) >= 5
    if way == "recorded":
        assert read.recorder.replayed > 20


def test_what_was_read_so_serves_what_comes_after(short: Pair) -> None:
    """A conversation of several turns: each finds the keys and values of those before, wherever they were computed."""
    read = reading(short, "recorded")
    messages: list[Message] = [Message("user", "What is it?", (short.picture(121),))]
    said = ask(short.engine, *messages, key="b")
    parts = short.engine._parts
    assert parts is not None
    for text in ("And the second?", "Read the value of the third gauge. " * 3, "读取图片中的文字", "More."):
        before = said.finish.usage.prompt_tokens
        messages += [Message("assistant", said.text), Message("user", text)]
        ids = list(short.engine._prompt(parts, tuple(messages), "b").token_ids)
        expected = short.expected(*messages, ids=ids)
        said = ask(short.engine, *messages, key="b")
        assert said.ids == expected
        assert said.finish.usage.cached_tokens >= before
    assert len(read.chunks.counts) >= 3


@pytest.mark.parametrize("row", [0, 1])
def test_at_the_edges_of_every_length(short: Pair, row: int) -> None:
    """Logits and those behind them are the plain way's, right before, at and behind each edge, in whichever row."""
    read = reading(short, rows=2, tokens=200)
    parts = short.engine._parts
    assert parts is not None
    decoder = parts.decoder
    if row:
        read.rounds.join(KVCache(decoder.layers), 0)
    ids = [(11 * number) % 390 + 1 for number in range(200)]
    positions = torch.arange(200).expand(3, -1)
    seen = set()
    for width, bucket, aside in itertools.product((4, 32), read.chunks.lengths, (-1, 0, 1)):
        count, length = width - 1, bucket - width + aside
        if length < 0 or length + width >= 200:
            assert length < 0 or not read.chunks.takes(length, count)
            continue
        cache = KVCache(decoder.layers)
        if length:
            decoder.read_text(ids[:length], positions[:, :length], cache)
        plain = cache.fork(length)
        end = length + count
        seat = read.rounds.read(cache, ids[length:end], positions[:, length:end])
        assert seat is not None and (seat.row, seat.length, seat.position) == (row, end, end)
        told = [read.rounds.hear(seat)]
        read.rounds.say(seat, 7)
        told.append(read.rounds.hear(seat))
        expected = [decoder.read_text(ids[length:end], positions[:, length:end], plain)]
        expected.append(decoder.read_text([7], positions[:, end : end + 1], plain))
        torch.testing.assert_close(torch.stack(told), torch.stack(expected), rtol=1e-4, atol=1e-4)
        read.rounds.leave(seat)
        assert cache.length == plain.length == end + 1
        for number in range(decoder.layers):
            for kept, right in zip(cache.read(number) or (), plain.read(number) or (), strict=True):
                torch.testing.assert_close(kept, right, rtol=1e-4, atol=1e-4)
        seen.add(bucket)
    assert seen == set(read.chunks.lengths)


def test_positions_of_a_picture_reach_into_the_step(short: Pair) -> None:
    """A picture takes fewer positions than tokens, so the step's positions are not its places in the row."""
    read = reading(short)
    wide = Message("user", "What is it? " * 4, (short.picture(122, 8, 4),))
    said = ask(short.engine, wide)
    assert said.ids == short.expected(wide)
    assert read.chunks.counts and said.finish.usage.picture_tokens == 32
    parts = short.engine._parts
    assert parts is not None
    prompt = short.engine._prompt(parts, (wide,), None)
    assert int(parts.decoder.positions(prompt)[:, -1].max()) + 1 < len(prompt.token_ids)


def test_a_picture_that_is_still_to_be_read_is_read_in_the_plain_way(short: Pair) -> None:
    """With its deepstack; the text behind it is read in one step."""
    read = reading(short)
    first = Message("user", "What is it?", (short.picture(123),))
    said = ask(short.engine, first, key="c")
    again = (first, Message("assistant", said.text), Message("user", "And this? " * 5, (short.picture(124, 3, 5),)))
    parts = short.engine._parts
    assert parts is not None
    prompt = short.engine._prompt(parts, again, "c")
    read.chunks.counts.clear()
    follow = ask(short.engine, *again, key="c")
    assert follow.ids == short.expected(*again, ids=list(prompt.token_ids))
    behind = len(prompt.token_ids) - prompt.pictures[-1].end
    assert len(read.chunks.counts) == 1 and read.chunks.counts[0] <= behind


def test_the_same_question_again_is_a_decode_step(short: Pair) -> None:
    """One token is left of it, for which no step is filled up."""
    read = reading(short)
    question = Message("user", "What is it?", (short.picture(125),))
    said = ask(short.engine, question, key="d")
    read.chunks.counts.clear()
    again = ask(short.engine, question, key="d")
    assert again.ids == said.ids == short.expected(question)
    assert again.finish.usage.cached_tokens == said.finish.usage.prompt_tokens - 1
    assert not read.chunks.counts


@pytest.mark.parametrize("rows", [2, 3])
def test_answers_in_turns_read_beside_each_other(short: Pair, rows: int) -> None:
    """Several come while others speak, also one more than there are rows; each says what it would alone."""
    read = reading(short, "recorded", rows=rows)
    questions = [
        Message("user", "What is it? " * (4 + number), (short.picture(130 + number, 1 + number, 3),))
        for number in range(3)
    ]
    runs = [
        short.engine.generate(GenerationRequest((each,), SamplingParams(max_new_tokens=15)), should_stop=never)
        for each in questions
    ]
    said: list[list[int]] = [[] for _ in runs]
    going = [0]
    for turn in range(400):
        if turn in {9, 14}:
            going.append(len(going))
        for place in tuple(going):
            step = next(runs[place], None)
            if isinstance(step, TokenStep):
                said[place].append(step.token_id)
    assert said == [short.expected(each, max_new_tokens=15) for each in questions]
    assert len(read.chunks.counts) == rows and not read.rounds._seated


def test_a_stop_before_the_step_reads_nothing_and_holds_no_row(short: Pair) -> None:
    """And the next question finds what was read before it."""
    read = reading(short)
    question = Message("user", "What is it?", (short.picture(126),))
    parts = short.engine._parts
    assert parts is not None
    place = short.engine._prompt(parts, (question,), None).pictures[0].end
    reading_began = False

    def should_stop() -> bool:
        return reading_began

    run = short.engine.generate(GenerationRequest((question,)), should_stop=should_stop)
    for step in run:
        # The picture is in; what is left of the prompt is its end.
        reading_began = reading_began or getattr(step, "done", 0) >= place
        if isinstance(step, FinishedStep):
            assert step.finish_reason is FinishReason.STOPPED
    assert reading_began and not read.chunks.counts and not read.rounds._seated
    again = ask(short.engine, question)
    assert again.finish.usage.cached_tokens >= place
    assert again.ids == short.expected(question)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()])
def test_a_step_that_fails_leaves_the_sequence_as_it_was(short: Pair, error: BaseException) -> None:
    """Its row is free again, and the next question is answered."""
    read = reading(short)
    question = Message("user", "What is it?", (short.picture(127),))

    read.chunks.error = error
    with pytest.raises((OutOfMemoryError, KeyboardInterrupt)):
        ask(short.engine, question)
    assert not read.rounds._seated and not read.stepper._seats
    read.chunks.error = None
    assert ask(short.engine, question).ids == short.expected(question)


def test_a_sequence_that_fills_the_slab_goes_on_in_the_plain_way(short: Pair) -> None:
    """Read at its very end, answered beyond it."""
    parts = short.engine._parts
    assert parts is not None
    question = Message("user", "Tell me all. " * 4)
    tokens = len(short.engine._prompt(parts, (question,), None).token_ids)
    for spare in (1, 12):
        read = reading(short, tokens=tokens + spare)
        parts.prefixes.clear()
        assert ask(short.engine, question, max_new_tokens=20).ids == short.expected(question, max_new_tokens=20)
        read.chunks.keep(())
        assert not read.chunks.takes(0, 3)


def test_everything_is_recorded_ahead(short: Pair) -> None:
    """Every width at every length, each as it was told to attend; widths that are let go hold nothing."""
    read = reading(short, "recorded")
    asked: list[tuple[int, int]] = []

    def choose(keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor], heads: int, width: int) -> str:
        assert keys[0].abs().sum() > 0 and values[0].abs().sum() > 0 and heads == 4
        asked.append((width, keys[0].shape[2]))
        return "products" if width % 8 == 0 else "kernel"

    recorder = TapeRecorder()
    chunks = Watched(read.chunks._text, *read.stepper.memory, recorder=recorder, widths=WIDTHS, choose_way=choose)
    chunks.counts = []
    chunks.prepare()
    ahead = recorder.recorded
    # The widest does not fit into the shortest length.
    assert ahead == len(asked) == len(WIDTHS) * len(chunks.lengths) - 1
    rounds = Rounds((read.stepper, GrowingStepper(read.chunks._text, CPU)), chunks=chunks)
    assert short.engine._parts is not None
    short.engine._parts = replace(short.engine._parts, rounds=rounds)
    for number in range(3):
        question = Message("user", "What is it? " * (4 + number), (short.picture(140 + number),))
        assert ask(short.engine, question).ids == short.expected(question)
    assert recorder.recorded == ahead and len(chunks.counts) == 3
    chunks.keep((16, 64))
    assert chunks.widths == (16, 64) and {width for width, _ in chunks._steps} == {16, 64}
    # A width keeps its own numbers of tokens, whichever of the others are there.
    assert chunks.takes(40, 9) and not chunks.takes(40, 17) and chunks.takes(40, 33)
    assert [chunks.shortest(width) for width in WIDTHS] == [2, 5, 9, 17, 33]


@pytest.mark.parametrize("tokens", [40, 256, 257, 400, 1000, 8192])
def test_lengths_reach_the_end_without_large_steps(tokens: int) -> None:
    """Each at most twice the one before, the last the whole."""
    lengths = lengths_of(tokens)
    assert lengths[-1] == tokens and list(lengths) == sorted(set(lengths))
    assert all(after <= before * 2 for before, after in itertools.pairwise(lengths))


@pytest.mark.parametrize(("count", "heads", "length"), [(5, 14, 300), (16, 4, 64), (32, 2, 33)])
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_both_ways_to_attend_give_the_same(
    count: int, heads: int, length: int, dtype: torch.dtype, allowed: float
) -> None:
    """As the library's attention over the same keys, repeated for the heads that share them, behind a causal mask."""
    generator = torch.Generator().manual_seed(5)
    query = torch.randn(count, heads, 16, generator=generator).to(dtype)
    keys, values = torch.randn(2, 1, 2, length + 9, 16, generator=generator).to(dtype)[:, :, :, :length]
    places, columns = torch.arange(length - count, length), torch.arange(length)
    all_keys, all_values = (part.float().repeat_interleave(heads // 2, dim=1) for part in (keys, values))
    plain = torch.nn.functional.scaled_dot_product_attention(
        query.transpose(0, 1)[None].float(), all_keys, all_values, attn_mask=columns <= places[:, None]
    )
    expected = plain[0].transpose(0, 1).reshape(count, -1)
    mask = added_mask(places, columns, dtype)
    for way in (by_kernel, by_products):
        assert (way(query, keys, values, mask).float() - expected).abs().max() <= allowed * expected.abs().max()


def test_a_seat_is_only_taken_where_it_is_read(short: Pair) -> None:
    """Without such a way, for too many tokens or with every row taken, nothing is changed."""
    read = reading(short, tokens=100)
    layers = len(read.chunks._text.layers)
    positions = torch.arange(90).expand(3, -1)
    assert read.rounds.read(KVCache(layers), list(range(65)), positions[:, :65]) is None
    seat = read.rounds.read(KVCache(layers), list(range(40)), positions[:, :40])
    assert isinstance(seat, Seat)
    assert read.rounds.read(KVCache(layers), [1, 2, 3], positions[:, :3]) is None
    assert list(read.rounds._seated) == [seat]
    plain = Rounds((GrowingStepper(read.chunks._text, CPU),))
    assert plain.read(KVCache(layers), [1, 2, 3], positions[:, :3]) is None
