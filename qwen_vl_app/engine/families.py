"""The table of model families: what differs between Qwen2.5-VL and Qwen3-VL, and what their tokens cost.

Knows names, factors, coordinate spaces and sizes as arithmetic on a folder's `config.json`. Does not know torch, files,
or this machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen_vl_app.chat import CoordinateSpace, Size
from qwen_vl_app.errors import ImageShapeError

MAX_ASPECT_RATIO = 200
"""Longer pictures than this are refused by the published resize rule."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family of checkpoints.

    `renames` map the beginnings of tensor names in published files to those of the modules, tried in order.
    """

    model_type: str
    display_name: str
    architecture: str
    patch: int
    merge: int
    coordinates: CoordinateSpace
    default_system: str | None
    renames: tuple[tuple[str, str], ...]
    writes_times: bool = False
    """Whether the frames of a clip stand behind their times, written out; else time is in their positions alone."""

    @property
    def factor(self) -> int:
        """Pixels along one side of one picture token."""
        return self.patch * self.merge


FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            model_type="qwen2_5_vl",
            display_name="Qwen2.5-VL",
            architecture="Qwen2_5_VLForConditionalGeneration",
            patch=14,
            merge=2,
            coordinates=CoordinateSpace.SEEN_PIXELS,
            default_system="You are a helpful assistant.",
            renames=(
                ("model.visual.", "model.visual."),
                ("model.language_model.", "model.language_model."),
                ("visual.", "model.visual."),
                ("model.", "model.language_model."),
            ),
        ),
        Family(
            model_type="qwen3_vl",
            display_name="Qwen3-VL",
            architecture="Qwen3VLForConditionalGeneration",
            patch=16,
            merge=2,
            coordinates=CoordinateSpace.THOUSANDTHS,
            default_system=None,
            renames=(("model.visual.", "model.visual."), ("model.language_model.", "model.language_model.")),
            writes_times=True,
        ),
    )
}


def family_of(config: Mapping[str, Any]) -> Family | None:
    """Return the family that a `config.json` names, or None for one the app does not know."""
    return FAMILIES.get(str(config.get("model_type", "")))


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes in a `config.json` that decide what tokens cost. Published files keep them flat or under `text_config`."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    max_positions: int
    vision_hidden: int
    vision_depth: int
    merge: int
    deepstack_layers: int
    vision_intermediate: int
    vision_full_layers: int
    """Layers of the vision tower whose attention spans the whole picture; the others look through small windows."""

    def vision_work(self, tokens: int) -> float:
        """Multiplications of the vision tower for a picture of so many tokens."""
        patches = tokens * self.merge**2
        linear = self.vision_depth * (4 * self.vision_hidden**2 + 3 * self.vision_hidden * self.vision_intermediate)
        return patches * (linear + 2.0 * self.vision_full_layers * self.vision_hidden * patches)

    def text_work(self, tokens: int) -> float:
        """Multiplications of the decoder for a prompt of so many tokens."""
        heads = self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        linear = self.layers * self.hidden * (heads + 3 * self.intermediate)
        return tokens * (linear + 1.0 * self.layers * self.heads * self.head_dim * tokens)

    def kv_bytes_per_token(self, dtype_bytes: int) -> int:
        """Key and value of every layer: 57,344 bytes for a 7B in bf16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * dtype_bytes

    def feature_bytes_per_token(self, dtype_bytes: int) -> int:
        """An encoded picture token, with its deepstack copies: 7,168 bytes for a 7B in bf16."""
        return self.hidden * dtype_bytes * (1 + self.deepstack_layers)

    def vision_bytes_per_token(self, dtype_bytes: int) -> int:
        """The vision tower's peak per picture token: about twenty activations a patch, 205 KB measured for a 7B in bf16."""
        return 20 * self.merge**2 * self.vision_hidden * dtype_bytes

    def prefill_bytes_per_token(self, dtype_bytes: int) -> int:
        """The peak per token of a prefill chunk: three rows of the MLP and some of the residual, 131 KB for a 7B in bf16."""
        return int((3 * self.intermediate + 2.5 * self.hidden) * dtype_bytes)


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Return the sizes of a checkpoint. Raises KeyError, TypeError or ValueError where the config lacks one or lies."""
    text: Mapping[str, Any] = {**config, **(config.get("text_config") or {})}
    vision: Mapping[str, Any] = config["vision_config"]
    heads = int(text["num_attention_heads"])
    hidden = int(text["hidden_size"])
    shape = Shape(
        layers=int(text["num_hidden_layers"]),
        hidden=hidden,
        intermediate=int(text["intermediate_size"]),
        heads=heads,
        kv_heads=int(text.get("num_key_value_heads") or heads),
        head_dim=int(text.get("head_dim") or hidden // heads),
        vocabulary=int(text["vocab_size"]),
        max_positions=int(text.get("max_position_embeddings", 32768)),
        vision_hidden=int(vision.get("hidden_size", 1280)),
        vision_depth=int(vision.get("depth", 32)),
        merge=int(vision.get("spatial_merge_size", 2)),
        deepstack_layers=len(vision.get("deepstack_visual_indexes") or ()),
        vision_intermediate=int(vision.get("intermediate_size", 4 * int(vision.get("hidden_size", 1280)))),
        vision_full_layers=len(vision.get("fullatt_block_indexes") or range(int(vision.get("depth", 32)))),
    )
    if min(shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim, shape.vocabulary) < 1:
        raise ValueError("a size in the config is not positive")
    return shape


def smart_resize(size: Size, factor: int, *, min_pixels: int, max_pixels: int) -> Size:
    """Return the size a picture is shown to the model at, by the rule the models were trained with.

    Both sides become multiples of `factor`; over `max_pixels` it scales down and floors, under `min_pixels` it scales up
    and ceils. Rounding is Python's (half to even), as published. Raises ImageShapeError over an aspect ratio of 200.
    """
    width, height = size.width, size.height
    if min(width, height) < 1:
        raise ImageShapeError("engine.picture.empty", width=width, height=height)
    if max(width, height) / min(width, height) > MAX_ASPECT_RATIO:
        raise ImageShapeError("engine.picture.shape", width=width, height=height, limit=MAX_ASPECT_RATIO)
    seen_height = round(height / factor) * factor
    seen_width = round(width / factor) * factor
    if seen_height * seen_width > max_pixels:
        scale = math.sqrt((height * width) / max_pixels)
        seen_height = max(factor, math.floor(height / scale / factor) * factor)
        seen_width = max(factor, math.floor(width / scale / factor) * factor)
    elif seen_height * seen_width < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        seen_height = math.ceil(height * scale / factor) * factor
        seen_width = math.ceil(width * scale / factor) * factor
    return Size(seen_width, seen_height)
