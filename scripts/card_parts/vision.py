"""The part that times the vision tower of the published 7B in every way of attending there is."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from qwen_vl_app.engine.local.attention import WAYS, choose_attention
from qwen_vl_app.engine.local.bench_models import config_of
from qwen_vl_app.engine.local.device_clock import wait_for
from qwen_vl_app.errors import ModelError
from scripts.card_parts.job import Job


def vision(job: Job) -> dict[str, Any]:
    """Time the tower of the published 7B, which has windows, for a picture of 1 Mpx in every way there is."""
    job.begin()
    dtype = torch.float32 if job.is_dry else torch.bfloat16
    tower_config = config_of("tiny" if job.is_dry else "7b").vision_config
    tower_config._attn_implementation = "sdpa"
    with torch.device(job.device):
        tower = Qwen2_5_VisionTransformerPretrainedModel(tower_config).to(dtype).eval()
    side = 112 if job.is_dry else 1036
    down = side // 14
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(down * down, 1176, generator=generator).to(job.device, dtype)
    grid = torch.tensor([[1, down, down]], device=job.device)
    found: dict[str, Any] = {"patches": down * down}
    plain: torch.Tensor | None = None
    for way in ("sdpa", *WAYS):
        try:
            choice = choose_attention(
                way,
                device=torch.device(job.device),
                dtype=dtype,
                heads=tower_config.num_heads,
                head_dim=tower_config.hidden_size // tower_config.num_heads,
            )
        except ModelError as error:
            found[way] = {"left_out": error.code}
            continue
        tower.config._attn_implementation = choice.implementation
        times = []
        with torch.inference_mode():
            for _ in range(2 if job.is_dry else 6):
                wait_for(job.device)
                began = time.perf_counter()
                out = tower(pixels, grid).pooler_output
                wait_for(job.device)
                times.append(time.perf_counter() - began)
        plain = out if plain is None else plain
        off = float((out.float() - plain.float()).abs().max() / plain.float().abs().max())
        found[way] = {"s": min(times), "off": off}
    for way in WAYS:
        if "s" in found[way]:
            found[way]["sooner_than_sdpa"] = found["sdpa"]["s"] / found[way]["s"]
    return found
