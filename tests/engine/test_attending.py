"""Many new tokens of one sequence: every way to attend gives the plain sums, and a card is never asked for what it lacks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from qwen_vl_app.chat import Message
from qwen_vl_app.engine.local import attending
from qwen_vl_app.engine.local.attending import (
    CARD_WAYS,
    GROUPED,
    REPEATED,
    SHARED,
    ManyWay,
    SequenceAttending,
    choose_many,
)
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.kv import KVCache
from tests.engine.harness import Pair, ask

CPU, CARD = torch.device("cpu"), torch.device("cuda")
HEADS, KV_HEADS, SIZE = 14, 2, 16


def _plain(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Every token for itself, in doubles."""
    count, heads, size = query.shape
    past = keys.shape[2] - count
    out = torch.zeros(count, heads, size, dtype=torch.double)
    for token in range(count):
        for head in range(heads):
            seen = keys[0, head * keys.shape[1] // heads, : past + token + 1].double()
            shares = (seen @ query[token, head].double() / size**0.5).softmax(dim=0)
            out[token, head] = shares @ values[0, head * keys.shape[1] // heads, : past + token + 1].double()
    return out.flatten(1)


@pytest.mark.parametrize("way", [SHARED, *CARD_WAYS], ids=lambda way: way.name)
@pytest.mark.parametrize("chunks", [(9,), (40, 1, 7), (3, 30)])
@torch.inference_mode()
def test_every_way_to_read_gives_the_plain_sums(way: ManyWay, chunks: tuple[int, ...]) -> None:
    """From the very beginning and behind what is there, chunk by chunk, with heads that share keys."""
    generator = torch.Generator().manual_seed(3)
    total = sum(chunks)
    query = torch.randn(total, HEADS, SIZE, generator=generator)
    keys, values = torch.randn(2, 1, KV_HEADS, total, SIZE, generator=generator)
    cache, start, said = KVCache(1), 0, []
    for count in chunks:
        new = slice(start, start + count)
        attend = SequenceAttending(cache, count, CPU, way=way).attend
        said.append(attend(query[new], keys[0, :, new].transpose(0, 1), values[0, :, new].transpose(0, 1), 0))
        cache.commit(count)
        start += count
    assert (torch.cat(said) - _plain(query, keys, values)).abs().max() < 1e-5


@pytest.mark.parametrize("way", CARD_WAYS, ids=lambda way: way.name)
@torch.inference_mode()
def test_a_card_is_never_asked_for_a_mask_and_shared_heads_at_once(
    way: ManyWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kernel there takes both, and what torch does instead needs gigabytes for a long prompt's second piece."""
    asked: list[tuple[int, int, bool]] = []
    real = torch.nn.functional.scaled_dot_product_attention

    def noted(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, **rest: Any) -> torch.Tensor:
        asked.append((query.shape[1], keys.shape[1], bool(rest.get("enable_gqa"))))
        return real(query, keys, values, **rest)

    monkeypatch.setattr(attending, "scaled_dot_product_attention", noted)
    cache = KVCache(1)
    for count in (20, 30):
        query, keys, values = (torch.randn(count, heads, SIZE) for heads in (HEADS, KV_HEADS, KV_HEADS))
        SequenceAttending(cache, count, CPU, way=way).attend(query, keys, values, 0)
        cache.commit(count)
    assert len(asked) == 2
    assert all(heads == key_heads and not is_shared for heads, key_heads, is_shared in asked)


def test_a_way_that_fails_or_differs_is_left_for_the_next() -> None:
    """What a kernel makes of a chunk behind others is only seen on the card, so it is tried there, at loading."""

    def breaks(*given: Any) -> torch.Tensor:
        raise RuntimeError("no kernel image is available")

    def upper_left(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: Any) -> torch.Tensor:
        past = keys.shape[2] - query.shape[0]
        shifted = torch.arange(keys.shape[2]) <= torch.arange(query.shape[0])[:, None]
        return REPEATED.attend(query, keys, values, shifted if past else None)

    def nothing(query: torch.Tensor, *rest: Any) -> torch.Tensor:
        return torch.full((query.shape[0], query.shape[1] * query.shape[2]), float("nan"))

    bad = [ManyWay(attend.__name__, GROUPED.mask, attend) for attend in (breaks, upper_left, nothing)]

    def chosen(device: torch.device, dtype: torch.dtype, ways: Sequence[ManyWay] = CARD_WAYS) -> ManyWay:
        return choose_many(device, dtype, heads=HEADS, shared=KV_HEADS, size=SIZE, ways=ways)

    for dtype in (torch.float32, torch.bfloat16):
        assert chosen(CPU, dtype, (*bad, GROUPED, REPEATED)) is GROUPED
        assert chosen(CPU, dtype, (*bad, REPEATED)) is REPEATED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Here there is no card: its test fails, and the last way, which needs nothing special, is taken untried.
        assert chosen(CARD, torch.bfloat16) in CARD_WAYS
    assert chosen(CPU, torch.bfloat16) is SHARED


def test_a_loaded_engine_has_cudnn_attend_to_nothing(models_dir: Path) -> None:
    """Its kernels plan for every new length of a prompt, and on some cards give other words; torch's own take their place."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    engine = LocalEngine(models_dir, model="qwen3_vl", device="cpu", precision="fp32")
    engine.load()
    backends = torch.backends.cuda
    assert not backends.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    assert backends.flash_sdp_enabled() and backends.mem_efficient_sdp_enabled()  # type: ignore[no-untyped-call]
    engine.close()


@pytest.mark.parametrize("way", CARD_WAYS, ids=lambda way: way.name)
def test_a_prompt_in_many_pieces_is_answered_as_by_the_library(
    pair: Pair, way: ManyWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a picture across several pieces, and a follow-up behind what is held, read as on a card."""
    parts = pair.engine._parts
    assert parts is not None
    monkeypatch.setattr(parts.decoder, "_way", way)
    monkeypatch.setattr(parts.decoder, "_chunk_tokens", 7)
    first = Message("user", "What is in the picture?", (pair.picture(61),))
    said = ask(pair.engine, first, key=way.name)
    assert said.ids == pair.expected(first)
    turns = (first, Message("assistant", said.text), Message("user", "And the third gauge, which value has it?"))
    ids = list(pair.engine._prompt(parts, turns, way.name).token_ids)
    later = ask(pair.engine, *turns, key=way.name)
    assert later.finish.usage.cached_tokens > 0
    assert later.ids == pair.expected(*turns, ids=ids)
