"""Attention of the vision tower over many windows in one call, where the library would loop over them in Python.

Knows four ways to the same numbers, tests each against the plain one on odd shapes, and says which was taken and why.
Does not know pictures. The text model keeps the library's own attention.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from qwen_vl_app.errors import ModelError, Reason

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Windows:
    """How packed tokens fall into windows: their edges (int32, on the device), the longest, and the scores' scale."""

    edges: torch.Tensor
    longest: int
    scale: float


Packed: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Windows], torch.Tensor]
"""Takes q, k, v of shape (tokens, heads, head_dim) and the windows; returns the same shape."""
ODD_LENGTHS = (64, 64, 36, 64, 12, 4, 4, 132, 700)
"""Windows of a self-test: equal ones apart from each other, small ones, long ones."""
BLOCK_ROWS, BLOCKED_FROM = 512, 256
"""Rows of one block, and the shortest window that is worth them."""
WAYS = ("flash_attn", "varlen", "batched_windows")


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """The way that was taken. `implementation` is the name the library knows it by."""

    name: str
    implementation: str
    reason: Reason


def loop_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, windows: Windows) -> torch.Tensor:
    """The plain way: one call a window. The other ways are measured against it."""
    pieces = []
    edges = windows.edges.tolist()
    for start, end in itertools.pairwise(edges):
        one_q, one_k, one_v = (part[start:end].transpose(0, 1).unsqueeze(0) for part in (q, k, v))
        pieces.append(scaled_dot_product_attention(one_q, one_k, one_v, scale=windows.scale)[0].transpose(0, 1))
    return torch.cat(pieces)


def batched_windows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, windows: Windows) -> torch.Tensor:
    """All windows of one length as one batch."""
    edges = windows.edges.tolist()
    starts: dict[int, list[int]] = {}
    for start, end in itertools.pairwise(edges):
        starts.setdefault(end - start, []).append(start)
    out = torch.empty_like(q)
    for length, places in starts.items():
        if length == 0:
            continue
        first = torch.tensor(places, device=q.device)
        rows = (first[:, None] + torch.arange(length, device=q.device)).flatten()
        many_q, many_k, many_v = (
            part[rows].view(len(places), length, part.shape[1], part.shape[2]).transpose(1, 2) for part in (q, k, v)
        )
        if length >= BLOCKED_FROM and q.dtype == torch.bfloat16 and q.device.type == "cpu":
            done = _in_blocks(many_q, many_k, many_v, windows.scale)
        else:
            done = scaled_dot_product_attention(many_q, many_k, many_v, scale=windows.scale)
        out[rows] = done.transpose(1, 2).reshape(len(rows), q.shape[1], q.shape[2])
    return out


def _in_blocks(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """Attend with (windows, heads, tokens, head_dim), a head and some rows at a time, as plain matrix products.

    The CPU's own attention kernel multiplies bf16 without the processor's bf16 instructions where it lacks AMX; the matrix
    product uses them. A window of 4,096 patches took 187 ms instead of 330, one of 1,024 took 10 instead of 20.
    """
    out = torch.empty_like(q)
    for window, head in itertools.product(range(q.shape[0]), range(q.shape[1])):
        keys, values = k[window, head].T, v[window, head].contiguous()
        for start in range(0, q.shape[2], BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            scores = (q[window, head, rows] @ keys).float().mul_(scale)
            out[window, head, rows] = scores.softmax(dim=-1).to(v.dtype) @ values
    return out


def _torch_varlen() -> Packed:
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - CUDA builds only

    def packed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, windows: Windows) -> torch.Tensor:
        out = varlen_attn(
            q.contiguous(),
            k.contiguous(),
            v.contiguous(),
            windows.edges,
            windows.edges,
            windows.longest,
            windows.longest,
            scale=windows.scale,
        )
        return out if isinstance(out, torch.Tensor) else out[0]

    return packed


def _flash_attn() -> Packed:
    from flash_attn import flash_attn_varlen_func  # noqa: PLC0415 - an extra that most machines lack

    def packed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, windows: Windows) -> torch.Tensor:
        out: torch.Tensor = flash_attn_varlen_func(
            q,
            k,
            v,
            windows.edges,
            windows.edges,
            windows.longest,
            windows.longest,
            softmax_scale=windows.scale,
            causal=False,
        )
        return out

    return packed


_MAKERS: dict[str, Callable[[], Packed]] = {
    "flash_attn": _flash_attn,
    "varlen": _torch_varlen,
    "batched_windows": lambda: batched_windows,
}


def choose_attention(
    wanted: str, *, device: torch.device, dtype: torch.dtype, heads: int, head_dim: int
) -> AttentionChoice:
    """Return the first way that works here and agrees with the plain one, having registered it with the library.

    Raises ModelError where a way was asked for by name and does not work on this machine.
    """
    if wanted == "sdpa":
        return AttentionChoice("sdpa", "sdpa", Reason("engine.choice.attention.wanted", attention="sdpa"))
    for name in WAYS if wanted == "auto" else (wanted,):
        # The first two are CUDA kernels; on a CPU there is nothing to try.
        if name != "batched_windows" and device.type != "cuda":
            continue
        packed = _tested(name, device=device, dtype=dtype, heads=heads, head_dim=head_dim)
        if packed is not None:
            # Only a function with "flash" in its name is called once for all windows.
            implementation = f"flash_once_{name}"
            AttentionInterface.register(implementation, _as_library_function(packed))
            code = f"engine.choice.attention.{name}" if wanted == "auto" else "engine.choice.attention.wanted"
            return AttentionChoice(name, implementation, Reason(code, attention=name))
    if wanted != "auto":
        raise ModelError("engine.attention.not_here", attention=wanted)
    return AttentionChoice("sdpa", "sdpa", Reason("engine.choice.attention.sdpa"))


def _tested(name: str, *, device: torch.device, dtype: torch.dtype, heads: int, head_dim: int) -> Packed | None:
    try:
        packed = _MAKERS[name]()
        difference = self_test(packed, device=device, dtype=dtype, heads=heads, head_dim=head_dim)
    except Exception as error:  # noqa: BLE001 - kernels of others fail in many ways, and each of them only means: not this one
        log.info("attention %s does not work here: %s", name, type(error).__name__)
        return None
    allowed = 1e-4 if dtype == torch.float32 else 3e-2
    if not difference <= allowed:
        log.warning("attention %s differs from the plain one by %.3g and is not used", name, difference)
        return None
    return packed


@torch.inference_mode()
def self_test(packed: Packed, *, device: torch.device, dtype: torch.dtype, heads: int, head_dim: int) -> float:
    """Return the largest difference to the plain way on windows of odd lengths."""
    generator = torch.Generator().manual_seed(0)
    tokens = sum(ODD_LENGTHS)
    q, k, v = (
        torch.randn(tokens, heads, head_dim, generator=generator).to(device=device, dtype=dtype) for _ in range(3)
    )
    lengths = torch.tensor((0, *ODD_LENGTHS), dtype=torch.int32, device=device)
    windows = Windows(lengths.cumsum(0, dtype=torch.int32), max(ODD_LENGTHS), head_dim**-0.5)
    ours = packed(q, k, v, windows)
    plain = loop_attention(q, k, v, windows)
    return float((ours.float() - plain.float()).abs().max())


def _as_library_function(packed: Packed) -> Callable[..., tuple[torch.Tensor, None]]:
    def attend(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        cu_seq_lens_q: torch.Tensor,
        max_length_q: int,
        **unused: Any,
    ) -> tuple[torch.Tensor, None]:
        q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
        return packed(q, k, v, Windows(cu_seq_lens_q, int(max_length_q), scaling)).unsqueeze(0), None

    return attend


class LinearPatchEmbed(torch.nn.Module):
    """The patch embedding as the matrix product it is: a convolution whose kernel equals its stride.

    In half precision on a CPU the library's Conv3d took six times as long.
    """

    def __init__(self, convolution: torch.nn.Conv3d) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(convolution.weight.flatten(1), requires_grad=False)
        self.bias = None if convolution.bias is None else torch.nn.Parameter(convolution.bias, requires_grad=False)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return (patches, hidden) for pixel values of shape (patches, channels * time * height * width)."""
        flat = patches.reshape(-1, self.weight.shape[1]).to(self.weight.dtype)
        return torch.nn.functional.linear(flat, self.weight, self.bias)
