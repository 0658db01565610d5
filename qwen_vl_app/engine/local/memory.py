"""The plan of sizes: how large pictures and conversations may be, from memory measured once.

Knows arithmetic. Does not know torch: free bytes and the folder's limits come in, a `SizePlan` goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qwen_vl_app.chat import Detail, Rung, SizePlan
from qwen_vl_app.engine.families import Family, Shape
from qwen_vl_app.engine.folders import read_json
from qwen_vl_app.errors import ModelFolderError, Reason

RUNG_TOKENS = {Detail.FAST: 768, Detail.BALANCED: 1280, Detail.DETAIL: 2560, Detail.DOCUMENT: 5120}
LOW_MEMORY_PIXELS = 768 * 576
"""A photo of 4 to 3 whose longest side is 768 pixels."""
LEAST_PICTURE_TOKENS = 256
MOST_PICTURE_TOKENS = 16384
MOST_CONTEXT_TOKENS = 65536
LEAST_CONTEXT_TOKENS = 2048
KV_SHARE = 0.5
"""The part of the free memory that conversations may take; the vision tower's peak gets the rest."""
SPARE_SHARE = 0.5
"""The part of what nobody else was promised that several answers of a run may take."""
CHUNK_SHARE, LEAST_CHUNK_TOKENS = 0.2, 128
"""Part of the usable memory for reading a piece of a prompt, and the least worth reading at a time."""
SLAB_SHARE = 0.15
LEAST_SLAB_TOKENS, MOST_SLAB_TOKENS, SLAB_STEP = 1024, 8192, 256
"""Fixed memory for decode steps: a share of the usable memory, and tokens of one answer."""
CHUNK_WIDTHS = (16, 32, 64, 128)
"""Tokens that a captured step reads at a prompt's end; fewer are filled up to the next of these."""
SCORES_BYTES = 32 * 2**20
"""The most that attention's scores of such a step may take where they are written down."""
CHUNK_GRAPH_SHARE = 0.05
"""Part of the usable memory that captured reading may take."""
FIRST_TOKEN_LIMIT_S = 20.0
"""How long a person on a processor waits for the first word about an everyday picture."""
SMALL_ON_CPU, LARGE_ON_CPU = 200_000_000, 4_000_000_000
"""Parameters: below the first a CPU manages balanced pictures, above the second only small ones."""


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """The areas that a folder's processor was set to, and those of its own rungs where it names some."""

    min_pixels: int
    max_pixels: int
    rungs: Mapping[Detail, int] = field(default_factory=dict)
    """Ascending, in pixels. They may go beyond `max_pixels`, which is what other programs see a picture with."""

    @property
    def top_pixels(self) -> int:
        """The largest area that the folder offers."""
        return max(self.max_pixels, *self.rungs.values()) if self.rungs else self.max_pixels


@dataclass(frozen=True, slots=True)
class Budget:
    """What a model may use, in bytes. `free_bytes` is what is left once the weights are in."""

    free_bytes: int
    reserve_bytes: int
    dtype_bytes: int
    chunk_tokens: int
    is_cpu: bool
    parameters: int
    answers: int = 1
    """How many answers may be under way at once: each can have a whole context."""

    @property
    def usable_bytes(self) -> int:
        """Free memory without the reserve."""
        return max(0, self.free_bytes - self.reserve_bytes)


def read_image_settings(folder: Path) -> Mapping[str, Any]:
    """Return the image processor's settings, from either of the two files that libraries write."""
    file = folder / "preprocessor_config.json"
    if file.is_file():
        return read_json(file, model=folder.name)
    file = folder / "processor_config.json"
    settings = read_json(file, model=folder.name).get("image_processor")
    if not isinstance(settings, dict):
        raise ModelFolderError("engine.folder.bad_file", model=folder.name, file=file.name)
    return settings


def read_limits(settings: Mapping[str, Any], family: Family, *, model: str) -> PixelLimits:
    """Return the limits among image settings, written either as `min_pixels` or as `size.shortest_edge` (both areas).

    A folder may name its own sizes under `rungs`, areas by the names of `Detail`: a model that was trained on few sizes does.
    """
    size = settings.get("size") or {}
    area = family.factor**2
    try:
        least = int(settings.get("min_pixels") or size.get("shortest_edge") or size.get("min_pixels") or 4 * area)
        most = int(settings.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels") or 16384 * area)
        named = dict(settings.get("rungs") or {})
        rungs = {detail: int(named.pop(detail.value)) for detail in Detail if detail.value in named}
        has_own_grid = (
            int(settings.get("patch_size", family.patch)) == family.patch
            and int(settings.get("merge_size", family.merge)) == family.merge
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelFolderError("engine.folder.bad_file", model=model, file="preprocessor_config.json") from error
    areas = list(rungs.values())
    ascend = not named and areas == sorted(set(areas)) and all(area >= least for area in areas)
    if not 0 < least <= most or not has_own_grid or not ascend:
        raise ModelFolderError("engine.folder.bad_file", model=model, file="preprocessor_config.json")
    return PixelLimits(least, most, rungs)


def make_plan(family: Family, shape: Shape, limits: PixelLimits, budget: Budget, *, wanted: str = "auto") -> SizePlan:
    """Return the plan for a model on this machine; `wanted` is a detail's name or `auto`."""
    area = family.factor**2
    reasons: list[Reason] = []
    usable = budget.usable_bytes
    kv_bytes = shape.kv_bytes_per_token(budget.dtype_bytes)
    context = min(int(usable * KV_SHARE / kv_bytes / budget.answers), shape.max_positions, MOST_CONTEXT_TOKENS)
    context = max(context, min(LEAST_CONTEXT_TOKENS, shape.max_positions))
    reasons.append(Reason("engine.plan.context", tokens=context, bytes=context * kv_bytes))

    prefill = shape.prefill_bytes_per_token(budget.dtype_bytes) * budget.chunk_tokens
    for_picture = usable - min(context * kv_bytes, int(usable * KV_SHARE)) - prefill
    by_memory = for_picture // shape.vision_bytes_per_token(budget.dtype_bytes)
    # A picture also has to leave room for words in the context.
    most = max(1, min(max(by_memory, LEAST_PICTURE_TOKENS), MOST_PICTURE_TOKENS, context * 3 // 4))
    if by_memory < LEAST_PICTURE_TOKENS:
        reasons.append(Reason("engine.plan.tight", free=usable))
    elif by_memory < max(RUNG_TOKENS.values()):
        reasons.append(Reason("engine.plan.memory", tokens=most, free=usable))

    wishes: Mapping[Detail, int] = {
        Detail.LOW_MEMORY: LOW_MEMORY_PIXELS,
        **{name: tokens * area for name, tokens in RUNG_TOKENS.items()},
    }
    if limits.top_pixels < wishes[Detail.DOCUMENT]:
        reasons.append(Reason("engine.plan.folder_limit", pixels=limits.top_pixels))
    top = max(min(limits.top_pixels, most * area), limits.min_pixels)
    wishes = limits.rungs or wishes
    pixels = {name: max(limits.min_pixels, min(wish, top)) for name, wish in wishes.items()}
    default, why = _default(budget, wanted)
    reasons.append(why)
    rungs = _merged(pixels, default, area)
    promised = budget.answers * context * kv_bytes + prefill
    promised += rungs[-1].max_tokens * shape.vision_bytes_per_token(budget.dtype_bytes)
    spare = int(max(0, usable - promised) * SPARE_SHARE) // kv_bytes
    plan = SizePlan(family.factor, limits.min_pixels, rungs, rungs[0].detail, context, tuple(reasons), spare)
    return replace(plan, default=plan.rung(default).detail)


def _default(budget: Budget, wanted: str) -> tuple[Detail, Reason]:
    if wanted != "auto":
        return Detail(wanted), Reason("engine.plan.default_wanted", detail=wanted)
    if not budget.is_cpu or budget.parameters < SMALL_ON_CPU:
        return Detail.BALANCED, Reason("engine.plan.default_balanced")
    if budget.parameters < LARGE_ON_CPU:
        return Detail.FAST, Reason("engine.plan.default_cpu", detail=Detail.FAST.value)
    return Detail.LOW_MEMORY, Reason("engine.plan.default_cpu", detail=Detail.LOW_MEMORY.value)


def chunk_tokens(shape: Shape, dtype_bytes: int, usable_bytes: int, *, most: int) -> int:
    """Return how many tokens of a prompt are read at a time: as many as pay, but no more than a share of memory allows."""
    allowed = int(usable_bytes * CHUNK_SHARE) // shape.prefill_bytes_per_token(dtype_bytes)
    return max(min(LEAST_CHUNK_TOKENS, most), min(most, allowed // LEAST_CHUNK_TOKENS * LEAST_CHUNK_TOKENS))


def slab_tokens(shape: Shape, budget: Budget, plan: SizePlan) -> int | None:
    """Return the tokens of each answer that decode in fixed memory; None where there is too little for it.

    Longer answers go on in memory that grows. The slab comes out of what conversations may take.
    """
    affordable = budget.usable_bytes * SLAB_SHARE / shape.kv_bytes_per_token(budget.dtype_bytes) / budget.answers
    tokens = min(int(affordable), plan.context_tokens, MOST_SLAB_TOKENS) // SLAB_STEP * SLAB_STEP
    return tokens if tokens >= LEAST_SLAB_TOKENS else None


def chunk_graph_bytes(shape: Shape, budget: Budget, slab_tokens: int) -> int | None:
    """Return what captured steps of up to 128 tokens hold over a slab's rows; None where that is too much.

    Their activations, the scores of one layer (twice in fp32, once as factors), the mask, and what each of them gives. All
    of them share one pool. What a driver keeps of a graph is not in it.
    """
    widest = CHUNK_WIDTHS[-1]
    nbytes = widest * shape.prefill_bytes_per_token(budget.dtype_bytes) + SCORES_BYTES * 5 // 2
    nbytes += widest * slab_tokens * budget.dtype_bytes + len(CHUNK_WIDTHS) * 8 * shape.vocabulary * budget.dtype_bytes
    return nbytes if nbytes <= budget.usable_bytes * CHUNK_GRAPH_SHARE else None


def predict_bytes(shape: Shape, budget: Budget, pictures: Sequence[int], *, text_tokens: int) -> int:
    """Return the memory that a question takes beside the weights, with pictures of so many tokens each.

    Pictures are encoded one at a time, so only the largest one's pass counts; its features and the sequence's keys and
    values stay.
    """
    tokens = sum(pictures) + text_tokens
    encode = max(pictures, default=0) * shape.vision_bytes_per_token(budget.dtype_bytes)
    prefill = min(tokens, budget.chunk_tokens) * shape.prefill_bytes_per_token(budget.dtype_bytes)
    kept = sum(pictures) * shape.feature_bytes_per_token(budget.dtype_bytes)
    return max(encode, prefill) + kept + tokens * shape.kv_bytes_per_token(budget.dtype_bytes)


def with_default_by_time(plan: SizePlan, first_token_s: Callable[[int], float]) -> SizePlan:
    """Return the plan with the largest everyday size whose first word comes soon enough, by measured speed.

    `first_token_s` gives the seconds until the first word for a picture of so many tokens.
    """
    order = list(Detail)
    everyday = [rung for rung in plan.rungs if order.index(rung.detail) <= order.index(Detail.BALANCED)] or [
        plan.rungs[0]
    ]
    soon = [rung for rung in everyday if first_token_s(rung.max_tokens) <= FIRST_TOKEN_LIMIT_S]
    chosen = soon[-1] if soon else everyday[0]
    seconds = first_token_s(chosen.max_tokens)
    code = "engine.plan.default_by_time" if soon else "engine.plan.default_slow"
    why = Reason(code, detail=chosen.detail.value, seconds=seconds, limit=FIRST_TOKEN_LIMIT_S)
    reasons = tuple(reason for reason in plan.reasons if reason.code not in _DEFAULT_GUESSES)
    return replace(plan, default=chosen.detail, reasons=(*reasons, why))


_DEFAULT_GUESSES = frozenset({"engine.plan.default_balanced", "engine.plan.default_cpu"})


def _merged(pixels: Mapping[Detail, int], default: Detail, area: int) -> tuple[Rung, ...]:
    order = list(Detail)
    rungs: list[Rung] = []
    for detail in (each for each in order if each in pixels):
        rung = Rung(detail, pixels[detail], pixels[detail] // area)
        if rungs and rungs[-1].max_pixels == rung.max_pixels:
            # Equal rungs become one. The lowest one takes the name nearest to the default, so that a model with only
            # one size does not claim to be short of memory.
            if len(rungs) == 1 and order.index(detail) <= order.index(default):
                rungs[0] = rung
            continue
        rungs.append(rung)
    return tuple(rungs)
