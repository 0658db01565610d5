"""The second family's batched forward pass for training, over the library's own parameters.

Like `forward.py`, with what Qwen3-VL does otherwise: learned places and full attention in vision, normed queries and keys,
interleaved rotary positions, and features of earlier vision layers added to the first language layers (deepstack).
Its logits agree with the library's (see the tests). It knows tensors only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

from scripts.demo_model.forward import GUIDED, GUIDED_LAYER, Outputs, norm, rotate, vision_angles


@dataclass(frozen=True)
class Seen:
    """Visual tokens (P, cells, D), and what each deepstack layer adds at their places."""

    visual: Tensor
    deep: tuple[Tensor, ...]


@lru_cache(maxsize=8)
def _taps(lines: int, columns: int, side: int) -> tuple[Tensor, Tensor]:
    """Return the numbers (patches, 4) and weights of the learned places around each patch, patches in the processor's order."""
    grid = torch.tensor([[1, 2 * lines, 2 * columns]])
    numbers, weights = get_vision_interpolation_indices_and_weights(
        grid, side, mode="bilinear", align_corners=True, spatial_merge_size=2
    )
    return numbers, weights


def _layer_norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x.float(), layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def _merged(x: Tensor, merger: nn.Module, cells: int) -> Tensor:
    """Join the four patches of every cell: (P, 4*cells, width) to (P, cells, D)."""
    width = x.shape[-1]
    assert isinstance(merger.norm, nn.LayerNorm)
    if merger.norm.normalized_shape == (width,):
        x = _layer_norm(x, merger.norm).view(len(x), cells, 4 * width)
    else:
        x = _layer_norm(x.reshape(len(x), cells, 4 * width), merger.norm)
    joined: Tensor = merger.linear_fc2(F.gelu(merger.linear_fc1(x)))  # type: ignore[operator]
    return joined.float()


def vision(
    model: Qwen3VLForConditionalGeneration, patches: Tensor, *, lines: int, columns: int, is_deep: bool = True
) -> Seen:
    """Encode pictures. `patches` (P, 4*lines*columns, 3*16*16) in the processor's order; `is_deep` asks for deepstack as well."""
    tower = model.model.visual
    heads, cells = tower.config.num_heads, lines * columns
    count, length, _ = patches.shape
    projection = tower.patch_embed.proj
    numbers, shares = _taps(lines, columns, tower.num_grid_per_side)
    places = (F.embedding(numbers, tower.pos_embed.weight) * shares[..., None]).sum(1)
    x = F.linear(patches, projection.weight.sum(dim=2).flatten(1), projection.bias).float() + places
    cos, sin = vision_angles(lines, columns, x.shape[-1] // heads)
    deep = []
    for index, block in enumerate(tower.blocks):
        qkv = block.attn.qkv(_layer_norm(x, block.norm1)).view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = rotate(qkv[0], cos, sin), rotate(qkv[1], cos, sin), qkv[2]
        weights = ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1)
        x = x + block.attn.proj((weights.to(v.dtype) @ v).transpose(1, 2).reshape(count, length, -1))
        h = block.mlp.linear_fc1(_layer_norm(x, block.norm2))
        x = x + block.mlp.linear_fc2(F.gelu(h, approximate="tanh"))
        if is_deep and index in tower.deepstack_visual_indexes:
            merger = tower.deepstack_merger_list[tower.deepstack_visual_indexes.index(index)]
            deep.append(_merged(x, merger, cells))
    return Seen(_merged(x, tower.merger, cells), tuple(deep))


def text_angles(model: Qwen3VLForConditionalGeneration, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos and sin (B, 1, S, head_dim) for positions (3, B, S): width and height take every third frequency."""
    rotary = model.model.language_model.rotary_emb
    angles = positions[..., None].float() * rotary.inv_freq
    mixed = angles[0].clone()
    for axis in (1, 2):
        places = slice(axis, 3 * rotary.mrope_section[axis], 3)
        mixed[..., places] = angles[axis, ..., places]
    mixed = torch.cat((mixed, mixed), dim=-1)[:, None]
    return mixed.cos(), mixed.sin()


def text(
    model: Qwen3VLForConditionalGeneration,
    embedded: Tensor,
    positions: Tensor,
    allowed: Tensor,
    *,
    here: Tensor,
    deep: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Run the language layers, adding `deep` at the visual tokens `here` (B, S) behind the first of them.

    `embedded` (B, S, D), `allowed` (B, S, S) booleans: row may look at column. Returns the states after the last norm, those before
    the guided layer, those before the last layer, and the guided heads' attention logarithms (B, S, S).
    """
    language = model.model.language_model
    config = language.config
    heads, groups = config.num_attention_heads, config.num_attention_heads // config.num_key_value_heads
    width = config.head_dim
    batch, length, _ = embedded.shape
    cos, sin = text_angles(model, positions)
    mask = torch.where(allowed, 0.0, -1e4)[:, None]
    x = embedded.float()
    early = later = x
    guided: dict[str, Tensor] = {}
    count = len(language.layers)
    for index, layer in enumerate(language.layers):
        h = norm(x, layer.input_layernorm.weight, config.rms_norm_eps)
        attention = layer.self_attn
        q = attention.q_proj(h).view(batch, length, heads, width)
        k = attention.k_proj(h).view(batch, length, heads // groups, width)
        v = attention.v_proj(h).view(batch, length, heads // groups, width).transpose(1, 2)
        q = rotate(norm(q, attention.q_norm.weight, config.rms_norm_eps).to(v.dtype).transpose(1, 2), cos, sin)
        k = rotate(norm(k, attention.k_norm.weight, config.rms_norm_eps).to(v.dtype).transpose(1, 2), cos, sin)
        # Query heads that share keys are stacked along the length: no copy of keys and values is made.
        q = q.reshape(batch, heads // groups, groups * length, width)
        scores = ((q @ k.transpose(-1, -2)) * width**-0.5).view(batch, heads, length, length) + mask.to(v.dtype)
        for name, (layer_number, head) in GUIDED.items():
            if index == count + layer_number:
                guided[name] = scores[:, head].float().log_softmax(-1)
        weights = scores.softmax(-1).to(v.dtype).view(batch, heads // groups, groups * length, length)
        attended = (weights @ v).view(batch, heads, length, width).transpose(1, 2).reshape(batch, length, -1)
        x = x + attention.o_proj(attended)
        h = norm(x, layer.post_attention_layernorm.weight, config.rms_norm_eps)
        x = x + layer.mlp.down_proj(F.silu(layer.mlp.gate_proj(h)) * layer.mlp.up_proj(h))
        if index < len(deep):
            added = torch.zeros_like(x).masked_scatter(here[..., None], deep[index].reshape(-1, x.shape[-1]))
            x = x + added
        if index == count + GUIDED_LAYER - 1:
            early = x
        if index == count - 2:
            later = x
    return norm(x, language.norm.weight, config.rms_norm_eps), early, later, guided


def run(
    model: Qwen3VLForConditionalGeneration,
    *,
    tokens: Tensor,
    positions: Tensor,
    allowed: Tensor,
    patches: Tensor,
    lines: int,
    columns: int,
) -> Outputs:
    """Run pictures and tokens. `tokens` (B, S) with an image token at each place of a visual token, in order."""
    seen = vision(model, patches, lines=lines, columns=columns)
    embedded = F.embedding(tokens, model.model.language_model.embed_tokens.weight)
    here = tokens == model.config.image_token_id
    flat = seen.visual.reshape(-1, seen.visual.shape[-1]).to(embedded.dtype)
    embedded = embedded.masked_scatter(here[..., None], flat)
    states, early, later, guided = text(model, embedded, positions, allowed, here=here, deep=seen.deep)
    return Outputs(states, early, later, seen.visual, guided)
