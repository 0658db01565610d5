"""Held sequences: what runs counts, what is over rests elsewhere or leaves, and what comes back is what went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from qwen_vl_app.chat import Message
from qwen_vl_app.engine.local import engine
from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.prefixes import PrefixStore, Rest
from tests.engine.harness import Pair, ask

TOKEN_BYTES = 2 * 2 * 4
"""One layer, one head of two numbers, keys and values in fp32."""


def filled(tokens: int, first: float = 0.0) -> KVCache:
    """Return a cache of one layer whose keys and values count up from `first`."""
    cache = KVCache(1)
    numbers = first + torch.arange(tokens * 2, dtype=torch.float32).view(1, 1, tokens, 2)
    cache.update(numbers, -numbers, 0)
    cache.commit(tokens)
    return cache.fork(tokens)


class Carrier:
    """The ways between two memories, which here are one; it counts what it carries and spoils what stayed behind."""

    def __init__(self) -> None:
        self.away = 0
        self.back = 0

    @torch.inference_mode()
    def take_away(self, part: torch.Tensor) -> torch.Tensor:
        self.away += 1
        gone = part.clone()
        part.fill_(float("nan"))
        return gone

    def bring_back(self, part: torch.Tensor) -> torch.Tensor:
        self.back += 1
        return part.clone()

    def rest(self, budget_bytes: int) -> Rest:
        return Rest(budget_bytes, self.take_away, self.bring_back)


def test_what_runs_counts_within_the_budget() -> None:
    """A long answer under way pushes out what is held, though nothing was kept since."""
    store = PrefixStore(100 * TOKEN_BYTES)
    store.keep((1,) * 40, filled(40), "one")
    store.keep((2,) * 40, filled(40), "two")
    running = store.take((3, 4), None, layers=1)
    assert store.nbytes == 80 * TOKEN_BYTES
    store.make_room(running, 50 * TOKEN_BYTES)
    assert store.running_bytes == 50 * TOKEN_BYTES
    assert store.nbytes == 40 * TOKEN_BYTES
    assert store.take((2, 2, 9), None, layers=1).length == 2
    store.make_room(running, 100 * TOKEN_BYTES)
    assert store.nbytes == 0
    store.keep((3, 4), running, None)
    assert store.running_bytes == 2 * TOKEN_BYTES  # of the copy that was taken above


def test_a_sequence_over_the_budget_rests_and_comes_back_whole() -> None:
    """What leaves the device's memory for the host's is found again by its tokens and brought back, number for number."""
    carrier = Carrier()
    store = PrefixStore(50 * TOKEN_BYTES, rest=carrier.rest(10**6))
    units = tuple(range(40))
    store.keep(units, filled(40, first=7.0), "one")
    store.keep((99,) * 40, filled(40), "two")
    assert (store.nbytes, store.resting_bytes) == (40 * TOKEN_BYTES, 40 * TOKEN_BYTES)
    assert (carrier.away, carrier.back) == (2, 0)
    cache = store.take((*units, 1000), "one", layers=1)
    held = cache.read(0)
    expected = filled(40, first=7.0).read(0)
    assert held is not None and expected is not None
    assert cache.length == 40
    assert torch.equal(held[0], expected[0]) and torch.equal(held[1], expected[1])
    assert (carrier.back, store.resting_bytes) == (2, 0)


def test_only_what_is_shared_is_brought_back_for_another_conversation() -> None:
    """A copy of the shared part is made; the resting sequence stays where it is."""
    carrier = Carrier()
    store = PrefixStore(0, rest=carrier.rest(10**6))
    units = tuple(range(40))
    store.keep(units, filled(40), "one")
    store.keep((99,), filled(1), "two")
    cache = store.take((*units[:30], 500), "three", layers=1)
    assert cache.length == 30
    assert cache.nbytes == 30 * TOKEN_BYTES
    assert store.resting_bytes == 40 * TOKEN_BYTES


def test_the_hosts_memory_has_its_own_budget() -> None:
    """The one that rests longest leaves first; one that is too large for it never goes there."""
    store = PrefixStore(0, rest=Carrier().rest(60 * TOKEN_BYTES))
    for first in (1, 2, 3):
        store.keep((first,) * 25, filled(25), None)
    store.keep((4,) * 100, filled(100), None)
    store.keep((5,), filled(1), None)
    assert store.resting_bytes == 50 * TOKEN_BYTES
    assert store.take((1, 1, 0), None, layers=1).length == 0
    assert store.take((3, 3, 0), None, layers=1).length == 2
    assert store.take((4, 4, 0), None, layers=1).length == 0
    assert store.emptied().nbytes == store.emptied().resting_bytes == 0


def test_a_host_without_memory_costs_a_held_sequence_and_no_answer() -> None:
    """What cannot go to rest leaves: the answer that needs its room goes on, and one that has ended stands."""
    tried = []

    def fails(part: torch.Tensor) -> torch.Tensor:
        tried.append(part)
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    store = PrefixStore(50 * TOKEN_BYTES, rest=Rest(10**6, away=fails, back=torch.clone))
    store.keep((1,) * 40, filled(40), "one")
    running = store.take((2, 3), None, layers=1)
    store.make_room(running, 40 * TOKEN_BYTES)
    assert (len(tried), store.nbytes, store.resting_bytes) == (1, 0, 0)
    store.keep((2, 3) * 20, filled(40), "two")
    store.keep((4,) * 40, filled(40), "three")
    assert (len(tried), store.nbytes, store.resting_bytes) == (2, 40 * TOKEN_BYTES, 0)
    assert store.take((4, 4), None, layers=1).length == 1


@pytest.fixture
def resting(pair: Pair) -> Iterator[Carrier]:
    """The pair's engine with no room for idle sequences but in the host's memory."""
    parts = pair.engine._parts
    assert parts is not None
    carrier = Carrier()
    pair.engine._parts = replace(parts, prefixes=PrefixStore(1, rest=carrier.rest(10**9)))
    yield carrier
    pair.engine._parts = parts


def test_a_conversation_that_rested_goes_on_as_if_it_had_not(pair: Pair, resting: Carrier) -> None:
    """Two conversations in turns, each sent away while the other is asked: what is reused is right."""
    firsts = [Message("user", "What is it?", (pair.picture(30 + number, 4 + number, 3),)) for number in range(2)]
    saids = [ask(pair.engine, first, key=str(number)) for number, first in enumerate(firsts)]
    assert resting.away > 0
    parts = pair.engine._parts
    assert parts is not None
    for number, (first, said) in enumerate(zip(firsts, saids, strict=True)):
        again = (first, Message("assistant", said.text), Message("user", "More."))
        ids = list(pair.engine._prompt(parts, again, str(number)).token_ids)
        follow = ask(pair.engine, *again, key=str(number))
        assert follow.finish.usage.cached_tokens >= said.finish.usage.prompt_tokens
        assert follow.ids == pair.expected(*again, ids=ids)
    assert resting.back > 0


def test_a_running_answer_is_counted_while_it_grows(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is made before the prompt is read and again when the answer outgrows it."""
    monkeypatch.setattr(engine, "RESERVED_ANSWER_TOKENS", 8)
    parts = pair.engine._parts
    assert parts is not None
    store = PrefixStore(10**9)
    pair.engine._parts = replace(parts, prefixes=store)
    wanted: list[int] = []
    inner = store.make_room
    store.make_room = lambda cache, nbytes: (wanted.append(nbytes), inner(cache, nbytes))[1]  # type: ignore[func-returns-value,method-assign]
    ask(pair.engine, Message("user", "Tell me all."), max_new_tokens=20)
    pair.engine._parts = parts
    assert len(wanted) > 1
    assert wanted == sorted(set(wanted))
    assert store.running_bytes == 0
