"""What the figures of one card say of another, by what their makers publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PEAKS = {"H200": (4800, 989), "H100": (3350, 989), "A100": (2039, 312), "RTX 4090": (1008, 165)}
"""GB/s of memory and dense TFLOP/s in bf16 that the makers publish; the 4090's with sums in fp32."""


def projected(report: Mapping[str, Any], device: str, *, onto: str = "RTX 4090") -> dict[str, Any]:
    """Return what the figures of one card say of another, with what is assumed for it."""
    here = next((name for name in PEAKS if name in device), None)
    if here is None:
        return {"left_out": f"the makers' figures of {device} are not known here"}
    bandwidth, compute = (there / ours for there, ours in zip(PEAKS[onto], PEAKS[here], strict=True))
    arms = {
        arm["name"]: {
            size: {
                "decode_tokens_per_s": figures["decode_tokens_per_s"] * bandwidth,
                "first_token_s": figures["first_token_s"] / compute,
            }
            for size, figures in arm["sizes"].items()
        }
        for arm in report["arms"]
    }
    return {
        "card": onto,
        "assumed": [
            f"decoding reaches the same share of the memory's speed: times {bandwidth:.3f} ({PEAKS[here][0]} to {PEAKS[onto][0]} GB/s)",
            f"the first token takes the same share of the products' speed: times {1 / compute:.2f} ({PEAKS[here][1]} to {PEAKS[onto][1]} TFLOP/s)",
            "launching kernels costs no more there than here, which arms without captured steps feel most",
            "the model and its pictures fit the smaller card: see the part that is capped at 24 GB",
        ],
        "arms": arms,
    }
