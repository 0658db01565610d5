"""Attention of one new token a row over a long memory: two ways to the same numbers, and which is faster on this device.

Knows keys, values, a mask and a stopwatch. Does not know layers, texts or what the memory holds. A kernel made for many
queries has one block of work for each row and head of keys, four for an answer of the 7B model, and walks along the
memory with it while the rest of a card idles. Two matrix products spread along the memory instead, for some more
kernels. Which of them wins depends on card, rows and length, so it is timed, once, at loading.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from qwen_vl_app.engine.local.attending import added_mask, attend_one
from qwen_vl_app.engine.local.device_clock import wait_for

log = logging.getLogger(__name__)

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes a query, keys, values and a mask."""
AttendOne = Attend
"""Takes query (rows, heads, size), keys and values (rows, kv_heads, length, size) and a mask (rows, 1, 1, length) of
`added_mask`; returns (rows, heads * size)."""
Stopwatch = Callable[[Callable[[], object]], float]
"""Runs something and returns its seconds."""
Record = Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]
ChooseWay = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], int], str]
"""Takes the layers' keys and values and the number of query heads; returns the name of a way."""
TURNS = 5


def by_products(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attend with plain matrix products; scores and their softmax are in fp32. See `AttendOne` for the shapes."""
    rows, shared, length, size = keys.shape
    grouped = query.reshape(rows * shared, -1, size)
    # Rows and heads of a slab lie at one distance from each other: this is a view and copies nothing.
    scores = exact_product(grouped, keys.flatten(0, 1).transpose(1, 2)).view(rows, shared, -1, length)
    scores = scores.mul_(1 / math.sqrt(size)).add_(mask)
    shares = scores.softmax(dim=-1).to(values.dtype).view(rows * shared, -1, length)
    return torch.bmm(shares, values.flatten(0, 1)).reshape(rows, -1)


def exact_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the product of two batches in fp32, without a copy of either where the device can."""
    if left.dtype == torch.float32:
        return torch.bmm(left, right)
    if left.device.type == "cuda":
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left.float(), right.float())


WAYS: Mapping[str, AttendOne] = {"kernel": attend_one, "products": by_products}


def device_stopwatch(device: torch.device) -> Stopwatch:
    """Return a stopwatch that waits for the device before and behind, and tells the best of some turns."""

    def seconds(body: Callable[[], object]) -> float:
        turns = []
        for _ in range(TURNS):
            wait_for(device)
            began = time.perf_counter()
            body()
            wait_for(device)
            turns.append(time.perf_counter() - began)
        return min(turns)

    return seconds


@torch.inference_mode()
def timed(
    keys: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
    heads: int,
    *,
    record: Record,
    stopwatch: Stopwatch,
    ways: Mapping[str, AttendOne] = WAYS,
    failed: set[str] | None = None,
) -> Mapping[str, float]:
    """Return the seconds that each way takes over all layers' memories, (rows, kv_heads, length, size) each, fastest first.

    They should hold numbers of the size that keys have; all but the last tenth of each row is looked at. For `failed` see
    `timed_ways`.
    """
    rows, _, length, size = keys[0].shape
    query = random_query(rows, heads, size, like=keys[0])
    columns = torch.arange(length, device=query.device)
    last = torch.full((rows,), max(1, length * 9 // 10) - 1, device=query.device)
    mask = added_mask(last, columns, query.dtype)[:, None, None]
    return timed_ways(query, keys, values, mask, record=record, stopwatch=stopwatch, ways=ways, failed=failed)


def random_query(tokens: int, heads: int, size: int, *, like: torch.Tensor) -> torch.Tensor:
    """Return the same numbers each time, (tokens, heads, size), as another tensor has them."""
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.randn(tokens, heads, size, generator=generator, device=like.device).to(like.dtype)


@torch.inference_mode()
def timed_ways(
    query: torch.Tensor,
    keys: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
    mask: torch.Tensor,
    *,
    record: Record,
    stopwatch: Stopwatch,
    ways: Mapping[str, Attend],
    failed: set[str] | None = None,
) -> Mapping[str, float]:
    """Return the seconds that each way takes for the same query over all layers' memories, fastest first.

    The first way is the measure: one that cannot be recorded here or gives other numbers over these memories is left out.
    What cannot be recorded is added to `failed`, and what is in it is not tried: each capture that fails may leave memory of
    the card behind, and what one length's raised the next one's would as well.
    """
    allowed = 1e-4 if query.dtype == torch.float32 else 0.03
    found: dict[str, float] = {}
    plain: torch.Tensor | None = None
    for name, attend in ways.items():
        if failed is not None and name in failed:
            continue

        def body(attend: Attend = attend) -> torch.Tensor:
            said = attend(query, keys[0], values[0], mask)
            for number in range(1, len(keys)):
                said = attend(query, keys[number], values[number], mask)
            return said

        try:
            recorded = record(body)
            out = recorded().float()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if plain is None:
                raise
            log.info("attention by %s does not run here: %s: %s", name, type(error).__name__, error)
            if failed is not None:
                failed.add(name)
            continue
        plain = out.clone() if plain is None else plain
        off = float((out - plain).abs().max() / plain.abs().max().clamp(min=1e-6))
        if off <= allowed:
            found[name] = stopwatch(recorded)
        else:
            log.warning("attention by %s differs by %.3g and is not used", name, off)
    return dict(sorted(found.items(), key=lambda each: each[1]))
