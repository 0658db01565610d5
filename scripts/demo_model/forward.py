"""A batched forward pass over the library's own parameters, fast on two cores and made for training.

All pictures of a batch have the same grid, so that vision runs as one dense batch instead of one picture at a time; attention is plain
matrix products, whose bf16 backward is quick on a CPU. Its logits agree with the library's (see the tests).
It knows tensors only: no pictures, no words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

AnyModel: TypeAlias = Qwen2_5_VLForConditionalGeneration | Qwen3VLForConditionalGeneration
"""Either family's model: what they say is read out of both in the same way."""

GUIDED_LAYER = -3
"""The layer whose first head is asked to look at the place an answer is read from; layers count from the last."""
GUIDED = {"guides": (-3, 0), "matches": (-3, 1), "hops": (-2, 0), "late": (-1, 0), "tallies": (-2, 1)}
"""Layer and head that is guided by each kind of place: where an answer is read when no label was asked for; for an asked label,
from its letters to the same letters on the picture, from the answer back to the question's label, and from there to the value; before a number, at everything that is counted and once at nothing."""


@dataclass(frozen=True)
class Outputs:
    """What a pass gives: states after the last norm, those before the guided layer and those before the last one (B, S, D), visual
    tokens (P, cells, D), and the guided heads' attention in logarithms (B, S, S) by name."""

    states: Tensor
    early: Tensor
    later: Tensor
    visual: Tensor
    guided: dict[str, Tensor]


def unit(x: Tensor) -> Tensor:
    """Scale states to a root mean square of one."""
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """Scale states to a root mean square of one and weigh them, in full precision."""
    x = x.float()
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys by their positions' angles."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.to(x.dtype) + turned * sin.to(x.dtype)


def _places(lines: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the row and column of every patch in the processor's order, and the window that each is in."""
    cell_row = torch.arange(lines).repeat_interleave(columns * 4)
    cell_column = torch.arange(columns).repeat_interleave(4).repeat(lines)
    inner = torch.arange(4).repeat(lines * columns)
    window = (cell_row // 4) * 1000 + cell_column // 4
    return cell_row * 2 + inner // 2, cell_column * 2 + inner % 2, window


@lru_cache(maxsize=64)
def vision_angles(lines: int, columns: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Return cos and sin (patches, head_dim) of the rotary places in vision, patches in the processor's order."""
    row, column, _ = _places(lines, columns)
    spatial = head_dim // 2
    frequencies = 1.0 / (10000.0 ** (torch.arange(0, spatial, 2).float() / spatial))
    angles = torch.cat((row[:, None] * frequencies, column[:, None] * frequencies), dim=-1)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


@lru_cache(maxsize=64)
def _windows(lines: int, columns: int) -> Tensor:
    """Return the additive window mask (patches, patches)."""
    window = _places(lines, columns)[2]
    return torch.where(window[:, None] == window[None, :], 0.0, -1e4)


def vision(model: Qwen2_5_VLForConditionalGeneration, patches: Tensor, *, lines: int, columns: int) -> Tensor:
    """Encode pictures. `patches` (P, 4*lines*columns, 3*14*14) in the processor's order; returns (P, lines*columns, D)."""
    tower = model.model.visual
    heads = tower.config.num_heads
    count, length, _ = patches.shape
    weight = tower.patch_embed.proj.weight.sum(dim=2).flatten(1)
    x = patches @ weight.T if not torch.is_autocast_enabled(patches.device.type) else F.linear(patches, weight)
    cos, sin = vision_angles(lines, columns, x.shape[-1] // heads)
    windows = _windows(lines, columns)
    x = x.float()
    for index, block in enumerate(tower.blocks):
        qkv = block.attn.qkv(norm(x, block.norm1.weight)).view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = rotate(qkv[0], cos, sin), rotate(qkv[1], cos, sin), qkv[2]
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if index not in tower.fullatt_block_indexes:
            scores = scores + windows.to(scores.dtype)
        attended = (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(count, length, -1)
        x = x + block.attn.proj(attended)
        h = norm(x, block.norm2.weight)
        x = x + block.mlp.down_proj(F.silu(block.mlp.gate_proj(h)) * block.mlp.up_proj(h))
    merged = norm(x, tower.merger.ln_q.weight).view(count, lines * columns, -1)
    features: Tensor = tower.merger.mlp(merged).float()
    return features


def text_angles(model: Qwen2_5_VLForConditionalGeneration, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos and sin (B, 1, S, head_dim) for positions (3, B, S)."""
    rotary = model.model.language_model.rotary_emb
    angles = positions[..., None].float() * rotary.inv_freq
    axes = torch.repeat_interleave(torch.arange(len(rotary.mrope_section)) % 3, torch.tensor(rotary.mrope_section))
    mixed = torch.gather(angles.permute(1, 2, 3, 0), 3, axes.view(1, 1, -1, 1).expand(*angles.shape[1:3], -1, 1))[
        ..., 0
    ]
    mixed = torch.cat((mixed, mixed), dim=-1)[:, None]
    return mixed.cos(), mixed.sin()


def text(
    model: Qwen2_5_VLForConditionalGeneration, embedded: Tensor, positions: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Run the language layers. `embedded` (B, S, D), `allowed` (B, S, S) booleans: row may look at column.

    Returns the states after the last norm, those before the guided layer, those before the last layer, and the guided heads' attention
    logarithms (B, S, S).
    """
    language = model.model.language_model
    config = language.config
    heads, groups = config.num_attention_heads, config.num_attention_heads // config.num_key_value_heads
    width = config.hidden_size // heads
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
        q = rotate(attention.q_proj(h).view(batch, length, heads, width).transpose(1, 2), cos, sin)
        k = rotate(attention.k_proj(h).view(batch, length, heads // groups, width).transpose(1, 2), cos, sin)
        v = attention.v_proj(h).view(batch, length, heads // groups, width).transpose(1, 2)
        # Query heads that share keys are stacked along the length: no copy of keys and values is made.
        q = q.reshape(batch, heads // groups, groups * length, width)
        scores = ((q * width**-0.5) @ k.transpose(-1, -2)).view(batch, heads // groups, groups, length, length)
        scores = scores.view(batch, heads, length, length) + mask.to(scores.dtype)
        for name, (layer_number, head) in GUIDED.items():
            if index == count + layer_number:
                guided[name] = scores[:, head].float().log_softmax(-1)
        weights = scores.softmax(-1).to(v.dtype).view(batch, heads // groups, groups * length, length)
        attended = (weights @ v).view(batch, heads, length, width).transpose(1, 2).reshape(batch, length, -1)
        x = x + attention.o_proj(attended)
        h = norm(x, layer.post_attention_layernorm.weight, config.rms_norm_eps)
        x = x + layer.mlp.down_proj(F.silu(layer.mlp.gate_proj(h)) * layer.mlp.up_proj(h))
        if index == count + GUIDED_LAYER - 1:
            early = x
        if index == count - 2:
            later = x
    return norm(x, language.norm.weight, config.rms_norm_eps), early, later, guided


def words(model: AnyModel, states: Tensor) -> Tensor:
    """Return logits over the vocabulary, through the tied embedding."""
    return F.linear(states, model.model.language_model.embed_tokens.weight)


def visual_words(model: AnyModel, visual: Tensor) -> Tensor:
    """Return what each visual token says when it is read like a state of the language model."""
    language = model.model.language_model
    return words(model, norm(visual, language.norm.weight, language.config.rms_norm_eps))


def run(
    model: Qwen2_5_VLForConditionalGeneration,
    *,
    tokens: Tensor,
    positions: Tensor,
    allowed: Tensor,
    patches: Tensor,
    lines: int,
    columns: int,
) -> Outputs:
    """Run pictures and tokens. `tokens` (B, S) with an image token at each place of a visual token, in order."""
    visual = vision(model, patches, lines=lines, columns=columns)
    embedded = F.embedding(tokens, model.model.language_model.embed_tokens.weight)
    here = tokens == model.config.image_token_id
    embedded = embedded.masked_scatter(here[..., None], visual.reshape(-1, visual.shape[-1]).to(embedded.dtype))
    states, early, later, guided = text(model, embedded, positions, allowed)
    return Outputs(states, early, later, visual, guided)
