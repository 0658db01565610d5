"""Linear layers for a graphics card with weights of eight or four bits, through torch's own kernels and bitsandbytes.

Knows three ways to hold one weight and tests each against the plain product on the device at hand. Does not know where in
a model the weight stands: the head, the vision tower, keys and values are kept as they were published by whoever asks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch

from qwen_vl_app.engine.local.products import ProductKind

log = logging.getLogger(__name__)

LEAST_ROWS = 32
"""The integer kernels of cuBLAS take more than sixteen rows; fewer are filled up with zeros, which cost no reading."""
PIECE_ROWS = 512
"""So many rows are turned to eight bits and multiplied at a time: the sums of a prompt's piece of two thousand would take a
gigabyte beside a 7B model, and every number would stand there four times."""
FP8_LARGEST = 448.0
TESTED = {"fp8": 0.08, "int8": 0.03, "nf4": 0.25}
"""The difference to the plain product that a self-test allows, as a part of the largest result, for random numbers."""


def _filled(rows: torch.Tensor) -> torch.Tensor:
    missing = -rows.shape[0] % 16 if rows.shape[0] >= LEAST_ROWS else LEAST_ROWS - rows.shape[0]
    return torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def _in_pieces(multiply: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, outputs: int) -> torch.Tensor:
    if rows.shape[0] <= PIECE_ROWS:
        return multiply(rows)
    done = rows.new_empty((rows.shape[0], outputs))
    for start in range(0, rows.shape[0], PIECE_ROWS):
        done[start : start + PIECE_ROWS] = multiply(rows[start : start + PIECE_ROWS])
    return done


class CardInt8Product:
    """Weights of eight bits with a scale for each output, activations with one for each token."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, device: torch.device) -> None:
        whole = weight.to(device).float()
        scales = whole.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        self._whole = (whole / scales).round_().clamp_(-127, 127).to(torch.int8)
        self._scales = scales.T.contiguous()
        self._bias = None if bias is None else bias.to(device)
        self.nbytes = int(self._whole.nbytes)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return _in_pieces(self._multiply, rows, self._whole.shape[0])

    def _multiply(self, rows: torch.Tensor) -> torch.Tensor:
        count = rows.shape[0]
        wide = rows.float()
        loudest = wide.abs().amax(dim=-1, keepdim=True).clamp_min(1e-12) / 127
        whole = (wide / loudest).round_().to(torch.int8)
        product = torch._int_mm(_filled(whole), self._whole.T)[:count]
        done = product.float().mul_(loudest).mul_(self._scales).to(rows.dtype)
        return done if self._bias is None else done + self._bias


class Fp8Product:
    """Weights as eight-bit floats with a scale for each output, activations with one for each token."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, device: torch.device) -> None:
        whole = weight.to(device).float()
        scales = whole.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / FP8_LARGEST
        self._small = (whole / scales).to(torch.float8_e4m3fn)
        self._scales = scales.T.contiguous()
        self._bias = None if bias is None else bias.to(device)
        self.nbytes = int(self._small.nbytes)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply. Gives bf16 from the kernel and the rows' own format in the end."""
        return _in_pieces(self._multiply, rows, self._small.shape[0])

    def _multiply(self, rows: torch.Tensor) -> torch.Tensor:
        count = rows.shape[0]
        wide = _filled(rows).float()
        loudest = wide.abs().amax(dim=-1, keepdim=True).clamp_min(1e-12) / FP8_LARGEST
        small = (wide / loudest).to(torch.float8_e4m3fn)
        product = torch._scaled_mm(
            small, self._small.T, scale_a=loudest, scale_b=self._scales, out_dtype=torch.bfloat16
        )
        done = product[:count].to(rows.dtype)
        return done if self._bias is None else done + self._bias


class Nf4Product:
    """Weights of four bits in blocks of 64, by bitsandbytes; activations as they are."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, device: torch.device) -> None:
        import bitsandbytes  # noqa: PLC0415 - an extra that machines without a card lack, and slow to import

        self._library: Any = bitsandbytes
        self._small, self._state = bitsandbytes.functional.quantize_4bit(
            weight.to(device).contiguous(), quant_type="nf4", blocksize=64, compress_statistics=False
        )
        self._bias = None if bias is None else bias.to(device)
        self.nbytes = int(self._small.nbytes + self._state.absmax.nbytes)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        # A few rows are multiplied without unpacking, all of them with one reading of the weights.
        done: torch.Tensor = self._library.matmul_4bit(rows, self._small.t(), quant_state=self._state)
        return done if self._bias is None else done + self._bias


CARD_KINDS: Mapping[str, ProductKind] = {
    "fp8": ProductKind("fp8", Fp8Product, is_on_card=True),
    "int8": ProductKind("int8", CardInt8Product, is_on_card=True),
    "nf4": ProductKind("nf4", Nf4Product, is_on_card=True),
}
"""In the order of their quality."""


@torch.inference_mode()
def works(kind: ProductKind, device: torch.device) -> bool:
    """Return whether a kind's kernels run on this device and agree with the plain product, for one token and for many."""
    try:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(192, 256, generator=generator).to(device, torch.bfloat16)
        bias = torch.randn(192, generator=generator).to(device, torch.bfloat16)
        product = kind.make(weight, bias, device)
        for count in (1, 3, 40):
            rows = torch.randn(count, 256, generator=generator).to(device, torch.bfloat16)
            plain = torch.nn.functional.linear(rows, weight, bias).float()
            off = (product(rows).float() - plain).abs().amax() / plain.abs().amax()
            if not float(off) <= TESTED[kind.name]:
                log.warning("%s products differ from the plain ones by %.3g and are not used", kind.name, float(off))
                return False
    except Exception as error:  # noqa: BLE001 - a missing package, an old card, another driver: each only means: not here
        log.info("%s products do not work here: %s", kind.name, type(error).__name__)
        return False
    return True
