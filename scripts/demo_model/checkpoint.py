"""The demo model as a checkpoint: its configuration, and the folder that the transformers library opens without help.

It knows names and sizes of files and tensors. It knows nothing of pictures, lessons or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from scripts.demo_model import vocabulary

VISUAL_RMS = 0.3
"""Wanted root mean square of a visual token, so that it is not far larger than a word embedding."""


@dataclass(frozen=True)
class Shape:
    """How deep the model is: vision blocks, those of them that look at the whole picture, and language layers."""

    vision_depth: int = 3
    full_attention: tuple[int, ...] = (2,)
    layers: int = 4


FIRST = Shape()
WIDE = Shape(vision_depth=5, full_attention=(2, 4), layers=5)
"""The first model with two vision blocks at the end and one language layer before the guided one."""


def _token(name: str) -> int:
    number = vocabulary.load().token_to_id(name)
    assert number is not None, name
    return number


def _special_ids() -> dict[str, int]:
    return {
        "image_token_id": _token("<|image_pad|>"),
        "video_token_id": _token("<|video_pad|>"),
        "vision_start_token_id": _token("<|vision_start|>"),
        "vision_end_token_id": _token("<|vision_end|>"),
    }


def configuration(shape: Shape = FIRST) -> Qwen2_5_VLConfig:
    """Return the model's configuration: the stock architecture, small."""
    text = {
        "vocab_size": vocabulary.load().get_vocab_size(),
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "initializer_range": 0.04,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "bos_token_id": _token("<|endoftext|>"),
        "eos_token_id": _token("<|im_end|>"),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [1] * 32},
    }
    vision = {
        "depth": shape.vision_depth,
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_heads": 4,
        "out_hidden_size": 256,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": list(shape.full_attention),
        "initializer_range": 0.04,
    }
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_special_ids())


def relative_configuration() -> Qwen3VLConfig:
    """Return the configuration of the second family's model: the stock Qwen3-VL architecture, small.

    Its multimodal rotary positions are interleaved as published, so that time, height and width share all frequencies.
    """
    text = {
        "vocab_size": vocabulary.load().get_vocab_size(),
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 4096,
        "initializer_range": 0.04,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "bos_token_id": _token("<|endoftext|>"),
        "eos_token_id": _token("<|im_end|>"),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1000.0,
            "mrope_section": [12, 10, 10],
            "mrope_interleaved": True,
        },
    }
    vision = {
        "depth": 3,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_heads": 4,
        "out_hidden_size": 256,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 576,
        "deepstack_visual_indexes": [0, 1],
        "initializer_range": 0.04,
    }
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_special_ids())


def new_model(seed: int, shape: Shape = FIRST) -> Qwen2_5_VLForConditionalGeneration:
    """Make the model with random weights."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(configuration(shape))
    model.tie_weights()
    return model.float()


def new_relative_model(seed: int) -> Qwen3VLForConditionalGeneration:
    """Make the second family's model with random weights; what deepstack adds begins at nothing."""
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(relative_configuration())
    model.tie_weights()
    for merger in model.model.visual.deepstack_merger_list:
        torch.nn.init.zeros_(merger.linear_fc2.weight)
    return model.float()


def is_relative(state: Mapping[str, Tensor]) -> bool:
    """Say whether a state dictionary is the second family's."""
    return any("deepstack" in name for name in state)


def shape_of(state: Mapping[str, Tensor]) -> Shape:
    """Return the shape that a state dictionary has."""
    return next(s for s in (FIRST, WIDE) if _blocks(state, "visual.blocks.") == s.vision_depth)


def _blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.split(prefix)[1].split(".")[0] for name in state if prefix in name})


@torch.no_grad()
def grown(state: Mapping[str, Tensor], seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """Return a model of the wide shape that answers exactly as the first one does.

    New blocks begin with outputs of zero, so they pass on what they get until training gives them something to add. A model that
    has the wide shape already stays as it is.
    """
    model = new_model(seed, WIDE)
    if shape_of(state) == WIDE:
        model.load_state_dict(state)
        return model
    fresh = model.state_dict()
    moved = {0: 0, 1: 2, 2: 3, 3: 4}
    for name, value in state.items():
        parts = name.split("language_model.layers.")
        if len(parts) == 2:
            number, rest = parts[1].split(".", 1)
            name = f"{parts[0]}language_model.layers.{moved[int(number)]}.{rest}"
        fresh[name].copy_(value)
    for name, value in fresh.items():
        new_layer = "language_model.layers.1." in name and ("o_proj" in name or "down_proj" in name)
        new_block = any(f"visual.blocks.{i}." in name for i in (3, 4)) and ("attn.proj" in name or "down_proj" in name)
        if new_layer or new_block:
            value.zero_()
    model.load_state_dict(fresh)
    return model
