"""Attention over growing caches: many tokens of one sequence, or one token of each of several.

Knows shapes, masks and `KVCache`. Does not know layers. Keys are never repeated for the query heads that share them: for
one token those stand as rows of one head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

from qwen_vl_app.engine.local.kv import KVCache


class SequenceAttending:
    """The next tokens of one sequence, of which `cache` holds the beginning."""

    def __init__(self, cache: KVCache, count: int, device: torch.device) -> None:
        self._cache = cache
        self._mask = _causal_mask(cache.length, count, device)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, number: int) -> torch.Tensor:
        """See `Attending`."""
        count = query.shape[0]
        keys, values = self._cache.update(key.transpose(0, 1)[None], value.transpose(0, 1)[None], number)
        if count == 1:
            return attend_one(query, keys, values)
        done = scaled_dot_product_attention(
            query.transpose(0, 1)[None],
            keys,
            values,
            attn_mask=self._mask,
            is_causal=self._mask is None,
            enable_gqa=query.shape[1] > key.shape[1],
        )
        return done[0].transpose(0, 1).reshape(count, -1)


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


def _causal_mask(past: int, count: int, device: torch.device) -> torch.Tensor | None:
    # Without a mask the kernels take their own causal path, which is right only from the very beginning or for one token.
    if past == 0 or count == 1:
        return None
    columns = torch.arange(past + count, device=device)
    rows = torch.arange(past, past + count, device=device)
    return columns <= rows[:, None]
