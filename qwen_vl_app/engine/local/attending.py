"""Attention over growing caches: many tokens of one sequence, or one token of each of several.

Knows shapes, masks and `KVCache`. Does not know layers. Keys are never repeated for the query heads that share them where
a kernel can do without: for one token those stand as rows of one head.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from qwen_vl_app.engine.local.kv import KVCache

log = logging.getLogger(__name__)

TESTED_SHAPES = ((0, 40), (70, 33), (300, 17))
"""Tokens that a cache holds and new ones, of a self-test."""


@dataclass(frozen=True, slots=True)
class ManyWay:
    """How many tokens of one sequence look at all of it.

    `mask` makes what `attend` gets as its last argument, from the tokens before, the new ones and a device. `attend` takes
    query (tokens, heads, size), keys and values (1, kv_heads, length, size) and returns (tokens, heads * size).
    """

    name: str
    mask: Callable[[int, int, torch.device], torch.Tensor | None]
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class SequenceAttending:
    """The next tokens of one sequence, of which `cache` holds the beginning."""

    def __init__(self, cache: KVCache, count: int, device: torch.device, *, way: ManyWay) -> None:
        self._cache = cache
        self._way = way
        # Without a mask the kernels take their own causal path, which is right only from the very beginning or for one token.
        self._mask = None if cache.length == 0 or count == 1 else way.mask(cache.length, count, device)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, number: int) -> torch.Tensor:
        """See `Attending`."""
        keys, values = self._cache.update(key.transpose(0, 1)[None], value.transpose(0, 1)[None], number)
        if query.shape[0] == 1:
            return attend_one(query, keys, values)
        return self._way.attend(query, keys, values, self._mask)


class RowsAttending:
    """The next token of each of several sequences: row n belongs to cache n."""

    def __init__(self, caches: Sequence[KVCache]) -> None:
        self._caches = caches

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, number: int) -> torch.Tensor:
        """See `Attending`."""
        rows = []
        for row, cache in enumerate(self._caches):
            keys, values = cache.update(key[row][None, :, None], value[row][None, :, None], number)
            rows.append(attend_one(query[row : row + 1], keys, values))
        return rows[0] if len(rows) == 1 else torch.cat(rows)


def attend_one(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return (rows, heads * size) for one token a row: query (rows, heads, size), keys (rows, kv_heads, length, size)."""
    rows, shared = keys.shape[:2]
    grouped = query.view(rows, shared, query.shape[1] // shared, query.shape[2])
    return scaled_dot_product_attention(grouped, keys, values, attn_mask=mask).reshape(rows, -1)


def added_mask(places: torch.Tensor, columns: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return (tokens, length): nothing where the token that stands at `places` may look, minus infinity behind it.

    Made once for all layers: of a mask of booleans every layer's kernel would first make this one.
    """
    hidden = columns > places[:, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=places.device).masked_fill_(hidden, -math.inf)


def _causal_mask(past: int, count: int, device: torch.device) -> torch.Tensor:
    columns = torch.arange(past + count, device=device)
    rows = torch.arange(past, past + count, device=device)
    return columns <= rows[:, None]


def _lower_right(past: int, count: int, device: torch.device) -> torch.Tensor:
    # Not a matrix: the kernels for cards know this form of mask and need none.
    mask: torch.Tensor = causal_lower_right(count, past + count)
    return mask


def _shared(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return _joined(
        scaled_dot_product_attention(
            query.transpose(0, 1)[None],
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=query.shape[1] > keys.shape[1],
        )
    )


def _grouped(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    heads = query.shape[1]
    _, shared, length, size = keys.shape
    # Each head of keys is a batch of its own, whose query heads see it through a view: a kernel with shared heads is not asked for.
    seen = (shared, heads // shared, length, size)
    done = scaled_dot_product_attention(
        query.transpose(0, 1).reshape(*seen[:2], -1, size),
        keys[0][:, None].expand(seen),
        values[0][:, None].expand(seen),
        attn_mask=mask,
        is_causal=mask is None,
    )
    return _joined(done.flatten(0, 1)[None])


def _repeated(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    times = query.shape[1] // keys.shape[1]
    return _shared(query, keys.repeat_interleave(times, dim=1), values.repeat_interleave(times, dim=1), mask)


def _joined(done: torch.Tensor) -> torch.Tensor:
    return done[0].transpose(0, 1).flatten(1)


SHARED = ManyWay("shared", _causal_mask, _shared)
GROUPED = ManyWay("grouped", _lower_right, _grouped)
REPEATED = ManyWay("repeated", _causal_mask, _repeated)
CARD_WAYS = (GROUPED, REPEATED)
"""On a graphics card no kernel of torch 2.13 takes a mask and shared heads together: it would write down the scores of all
heads in fp32, which for two thousand tokens behind sixteen thousand of a 7B model are four gigabytes, and some copies."""


def leave_cudnn_out() -> None:
    """Let this process attend with torch's own kernels alone.

    On an H100 or H200 torch 2.13 would take cuDNN's first, which make a plan for every length they have not seen, for some
    tenths of a second: each prompt has a new length, and each token that is not captured. On a B200 they give wrong words to
    models with fewer than eight heads of keys, which the 7B has (pytorch issue 193893).
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def choose_many(
    device: torch.device, dtype: torch.dtype, *, heads: int, shared: int, size: int, ways: Sequence[ManyWay] = CARD_WAYS
) -> ManyWay:
    """Return the first way that works on this card and agrees with the plain sums, the last one untried; on a processor `SHARED`."""
    if device.type == "cpu" and ways is CARD_WAYS:
        return SHARED
    for way in ways[:-1]:
        try:
            off = _difference(way, device, dtype, heads=heads, shared=shared, size=size)
        except Exception as error:  # noqa: BLE001 - kernels of others fail in many ways, and each of them only means: not this one
            log.info("reading by %s does not work here: %s: %s", way.name, type(error).__name__, error)
            continue
        if off <= (1e-4 if dtype == torch.float32 else 3e-2):
            return way
        log.warning("reading by %s differs from the plain sums by %.3g and is not used", way.name, off)
    return ways[-1]


@torch.inference_mode()
def _difference(way: ManyWay, device: torch.device, dtype: torch.dtype, *, heads: int, shared: int, size: int) -> float:
    generator = torch.Generator().manual_seed(0)
    worst = torch.zeros((), device=device)
    for past, count in TESTED_SHAPES:
        query = torch.randn(count, heads, size, generator=generator).to(device, dtype)
        keys, values = torch.randn(2, 1, shared, past + count, size, generator=generator).to(device, dtype)
        done = way.attend(query, keys, values, way.mask(past, count, device) if past else None).float()
        all_keys, all_values = (part[0].float().repeat_interleave(heads // shared, dim=0) for part in (keys, values))
        scores = query.float().transpose(0, 1) @ all_keys.transpose(1, 2) / math.sqrt(size)
        plain = scores.masked_fill(~_causal_mask(past, count, device), -math.inf).softmax(dim=-1) @ all_values
        # Not the largest of single numbers on the host, which would lose what is not a number.
        worst = torch.maximum(worst, (done - plain.transpose(0, 1).flatten(1)).abs().max())
    return float(worst)
