"""Captured steps against plain ones: each of them replayed once, with a row that ends where its length does.

Knows a slab's steps and a growing cache. Does not know who captured them, or what becomes of one that differs. A graph is
captured for each number of rows and each length, and what is wrong with one of them says nothing of the others: a kernel
that is chosen for long memories only, or a workspace that was given away since.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch

from qwen_vl_app.engine.local.kv import KVCache
from qwen_vl_app.engine.local.slab import StaticStepper
from qwen_vl_app.engine.local.steps import Seat, Stepper

log = logging.getLogger(__name__)

TILE_TOKENS = 8
"""So many tokens are made one by one, to have keys and values as a model makes them; longer memories repeat theirs."""
TOKEN = 5
"""Said behind every memory."""


@torch.inference_mode()
def off_at_lengths(static: StaticStepper, plain: Stepper, *, layers: int) -> float:
    """Return the largest difference of logits to the plain way's, as a part of the largest, over all steps of a slab.

    Of each step the last row stands behind as many tokens as its length allows, and the others behind a few. Nobody may
    have a seat yet.
    """
    memory = _filled(plain, static.lengths[-1], layers=layers)
    # The plain way writes its token behind each length, where the longer ones keep it: shortest first, and then nothing
    # more is written.
    ends = {bucket: _alone(plain, memory, _end(static, bucket)) for bucket in static.lengths}
    few = {length: _alone(plain, memory.fork(length), length) for length in range(1, TILE_TOKENS)}
    return worst_of([_off(static, memory, rows=rows, ends=ends, few=few) for rows in static.row_counts])


def worst_of(offs: Sequence[float]) -> float:
    """Return the largest, or what is not a number where one is not, which Python's `max` would lose."""
    return float(torch.tensor([0.0, *offs], dtype=torch.float64).max())


def _off(
    static: StaticStepper,
    memory: KVCache,
    *,
    rows: int,
    ends: Mapping[int, torch.Tensor],
    few: Mapping[int, torch.Tensor],
) -> float:
    offs: list[float] = []
    lengths = [1 + number % len(few) for number in range(rows - 1)]
    beside = [_seat(memory.fork(length), length) for length in lengths]
    for seat in beside:
        _enter(static, seat)
    for bucket, end in ends.items():
        _restore(memory, _end(static, bucket))
        seat = _seat(memory, memory.length)
        _enter(static, seat)
        heard = static.step([seat, *beside]).float()
        told = torch.stack([end, *(few[length] for length in lengths)])
        off = float(((heard - told).abs().amax(dim=1) / told.abs().amax(dim=1)).max())
        if not off <= 0.01:
            log.info("a captured step of %d rows of up to %d tokens is off by %.3g", rows, bucket, off)
        offs.append(off)
        static.leave(seat)
    for seat in reversed(beside):
        static.leave(seat)
    return worst_of(offs)


def _end(static: StaticStepper, bucket: int) -> int:
    """Return behind how many tokens a step of this length takes its last; the last place of a row is never used."""
    return bucket - 1 - (bucket == static.lengths[-1])


def _seat(cache: KVCache, length: int) -> Seat:
    return Seat(cache, position=length, length=length, token=TOKEN)


def _enter(static: StaticStepper, seat: Seat) -> None:
    if not static.enter(seat):
        raise RuntimeError("there is no row to test")


def _alone(plain: Stepper, cache: KVCache, length: int) -> torch.Tensor:
    _restore(cache, length)
    logits = plain.step([_seat(cache, length)])[0].float()
    cache.truncate(length)
    return logits


def _restore(cache: KVCache, length: int) -> None:
    # Nothing of what lies behind `length` was ever let go.
    cache.truncate(length)
    cache.commit(length - cache.length)


def _filled(plain: Stepper, tokens: int, *, layers: int) -> KVCache:
    cache = KVCache(layers)
    cache.reserve(tokens)
    for number in range(TILE_TOKENS):
        plain.step([Seat(cache, position=number, length=number, token=7 * number + 1)])
    for number in range(layers):
        held = cache.read(number)
        if held is None:
            raise RuntimeError("nothing was written")
        keys, values = held
        places = torch.arange(TILE_TOKENS, tokens, device=keys.device)
        # Greater towards the end: of the same tokens over and over, any part would have the mean of all.
        growth = (0.5 + places / tokens).to(values.dtype)[:, None]
        tile = places % TILE_TOKENS
        cache.update(keys[:, :, tile], values[:, :, tile] * growth, number)
    cache.commit(tokens - TILE_TOKENS)
    return cache
