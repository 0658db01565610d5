"""How many frames of a clip are seen and how large: the published rules of `qwen-vl-utils` within the plan of sizes.

Two frames a second, 4 to 768 of them and an even number; two frames together make between 128 and 768 tokens. Where the
plan has not that many, frames become fewer first and smaller only then. Knows arithmetic; does not know files or torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwen_vl_app.chat import Detail, SeenSize, Size, SizePlan
from qwen_vl_app.engine.families import smart_resize

FRAMES_A_SECOND = 2.0
LEAST_FRAMES, MOST_FRAMES = 4, 768
LEAST_PAIR_TOKENS, MOST_PAIR_TOKENS = 128, 768
CLIP_PICTURES = 4
"""A clip may cost as many tokens as so many pictures of its rung, and no more than half of the context."""


@dataclass(frozen=True, slots=True)
class SeenClip:
    """What the model will see of a clip: `count` frames, an even number, each at `seen.size`; `seen.tokens` is all of it."""

    seen: SeenSize
    count: int


def budget_tokens(plan: SizePlan, detail: Detail | None) -> int:
    """Return the most tokens that a clip may cost."""
    return max(2, min(CLIP_PICTURES * plan.rung(detail).max_tokens, plan.context_tokens // 2))


def seen_clip(plan: SizePlan, size: Size, *, seconds: float, frame_count: int, detail: Detail | None) -> SeenClip:
    """Return how a clip of that upright size, length and number of frames is seen.

    Raises ImageShapeError where its frames are too long and thin.
    """
    rung, budget = plan.rung(detail), budget_tokens(plan, detail)
    least_pairs = LEAST_FRAMES // 2
    wanted = min(max(seconds * FRAMES_A_SECOND, LEAST_FRAMES), MOST_FRAMES, max(frame_count, 2))
    # A small model sees little of a picture, and no more of a pair of frames.
    pairs = max(1, min(int(wanted) // 2, max(least_pairs, budget // min(LEAST_PAIR_TOKENS, rung.max_tokens))))
    most = min(MOST_PAIR_TOKENS, rung.max_tokens, max(1, budget // pairs))
    area = plan.factor**2
    frame = smart_resize(
        size, plan.factor, min_pixels=min(LEAST_PAIR_TOKENS, most) * area, max_pixels=max(most * area, plan.min_pixels)
    )
    if frame.pixels > most * area:  # scaled up to the least, and rounded up to more than there is
        frame = smart_resize(size, plan.factor, min_pixels=area, max_pixels=most * area)
    return SeenClip(SeenSize(frame, frame.pixels // area * pairs, rung.detail), 2 * pairs)


def pair_tokens(seen: SeenSize, count: int) -> list[int]:
    """Return the tokens of each pair of `count` frames: each goes through the vision tower by itself."""
    pairs = max(1, count // 2)
    return [seen.tokens // pairs] * pairs
