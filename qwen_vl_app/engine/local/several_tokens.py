"""Attention of several new tokens of one sequence over a long memory: two ways to the same numbers.

Knows a query, keys, values and a mask that is added. Does not know layers, or which way is faster on a device: that is
timed. As with one token, a kernel walks along the memory with few blocks of work while two products spread along it; but
the products write their scores down, which is too much for many tokens over many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.nn.functional import scaled_dot_product_attention

from qwen_vl_app.engine.local.one_token import Attend, exact_product


def by_kernel(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attend by torch's kernel. Query heads that share keys see them through a view, so that nothing is repeated."""
    grouped = _grouped(query, keys.shape[1])
    shared, group = grouped.shape[:2]
    seen = (shared, group, keys.shape[2], keys.shape[3])
    done = scaled_dot_product_attention(
        grouped, keys[0][:, None].expand(seen), values[0][:, None].expand(seen), attn_mask=mask[None, None]
    )
    return done.permute(2, 0, 1, 3).reshape(query.shape[0], -1)


def by_products(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attend with plain matrix products; scores and their softmax are in fp32."""
    grouped = _grouped(query, keys.shape[1])
    shared, group, count, size = grouped.shape
    scores = exact_product(grouped.reshape(shared, group * count, size), keys[0].transpose(1, 2))
    scores = scores.view(shared, group, count, -1).mul_(1 / math.sqrt(size)).add_(mask)
    shares = scores.softmax(dim=-1).to(values.dtype).view(shared, group * count, -1)
    done = torch.bmm(shares, values[0]).view(shared, group, count, size)
    return done.permute(2, 0, 1, 3).reshape(count, -1)


def scores_bytes(heads: int, count: int, length: int) -> int:
    """Return the memory of the scores that `by_products` writes down."""
    return heads * count * length * 4


def _grouped(query: torch.Tensor, shared: int) -> torch.Tensor:
    count, heads, size = query.shape
    return query.reshape(count, shared, heads // shared, size).permute(1, 2, 0, 3)


WAYS: Mapping[str, Attend] = {"kernel": by_kernel, "products": by_products}
"""Each takes query (tokens, heads, size), keys and values (1, kv_heads, length, size) and a mask of `added_mask`, and returns
(tokens, heads * size)."""
