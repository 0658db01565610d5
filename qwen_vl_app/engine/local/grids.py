"""What the vision tower has to know of a picture's size alone: computed on the host, once for each of the last sizes.

Knows grids and the library's own functions for them. Does not know pixels. Left to itself the library works all this out
on the device for every picture: some dozens of tiny kernels, and several times it waits for one of them to read a number.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from transformers.vision_utils import (
    get_vision_attention_seqlens,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

MOST_SIZES = 16
"""Sizes that are kept. One takes some hundred kilobytes."""


class Grids:
    """The facts about sizes for one vision tower, under the names by which the library takes what was computed before."""

    def __init__(self, visual: Any, device: torch.device) -> None:
        self._visual = visual
        self._device = device
        self._held: OrderedDict[tuple[int, int], dict[str, torch.Tensor | int]] = OrderedDict()

    @torch.inference_mode()
    def of(self, height: int, width: int) -> dict[str, torch.Tensor | int]:
        """Return the facts about a grid of so many patches, to be given to the tower beside it."""
        facts = self._held.get((height, width))
        if facts is None:
            facts = self._held[height, width] = {
                name: fact.to(self._device) if isinstance(fact, torch.Tensor) else fact
                for name, fact in self._facts(torch.tensor([[1, height, width]])).items()
            }
            if len(self._held) > MOST_SIZES:
                self._held.popitem(last=False)
        self._held.move_to_end((height, width))
        return dict(facts)

    def _facts(self, grid: torch.Tensor) -> dict[str, torch.Tensor | int]:
        visual = self._visual
        edges, _ = get_vision_attention_seqlens(grid, visual.config)
        facts: dict[str, torch.Tensor | int] = {
            "position_ids": get_vision_position_ids(grid, visual.spatial_merge_size),
            "cu_seqlens": edges,
            "max_seqlen": _longest(edges),
        }
        if hasattr(visual, "window_size"):
            places, edges = get_vision_window_index(
                grid,
                spatial_merge_size=visual.spatial_merge_size,
                window_size=visual.window_size,
                patch_size=visual.patch_size,
            )
            facts |= {"window_index": places, "cu_window_seqlens": edges, "max_window_seqlen": _longest(edges)}
        else:
            indices, weights = get_vision_interpolation_indices_and_weights(
                grid,
                num_grid_per_side=visual.num_grid_per_side,
                mode=visual.interpolation_mode,
                align_corners=visual.interpolation_align_corners,
                spatial_merge_size=visual.config.spatial_merge_size,
            )
            facts |= {"interp_indices": indices, "interp_weights": weights}
        return facts


def _longest(edges: torch.Tensor) -> int:
    return int(edges.diff().max())
