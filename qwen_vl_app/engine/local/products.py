"""A linear layer as one matrix product: as it is, or with weights of eight bits.

Knows one weight and its bias. Does not know where in a model it stands, or whether eight bits are good enough there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

BLOCK_ROWS = 4096


class Product(Protocol):
    """Takes (tokens, inputs) and returns (tokens, outputs)."""

    nbytes: int
    """Memory that the weights take, all of which is read in each call."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        ...


class DenseProduct:
    """The library's own product in the weights' number format."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.nbytes = int(weight.nbytes)
        self._weight = weight
        self._bias = bias

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return torch.nn.functional.linear(rows, self._weight, self._bias)


class Int8Product:
    """Weights of eight bits with a scale for each output; activations are brought to eight bits for each token.

    The kernels are those behind `quantize_dynamic` (FBGEMM on x86). They take one scale for all tokens of a call, so that
    one loud token would leave few bits to the others: here every row is brought to a largest value of one before, and
    scaled back behind. Takes and returns fp32. A decode step reads a quarter of the bytes of fp32.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        whole = torch.empty(weight.shape, dtype=torch.int8)
        scales = torch.empty(weight.shape[0])
        for start in range(0, weight.shape[0], BLOCK_ROWS):
            # In blocks, because a head of 152,000 rows in fp32, twice, would be the peak of the whole loading.
            rows = slice(start, start + BLOCK_ROWS)
            block = weight[rows].float()
            scales[rows] = block.abs().amax(dim=1).clamp_min(1e-12) / 127
            whole[rows] = (block / scales[rows, None]).round_().clamp_(-127, 127).to(torch.int8)
        zeros = torch.zeros(weight.shape[0], dtype=torch.long)
        with warnings.catch_warnings():
            # The kernels stay; the tensor type that carries weights to them is announced to go in a later torch.
            warnings.simplefilter("ignore", UserWarning)
            quantized = torch._make_per_channel_quantized_tensor(whole, scales.double(), zeros, 0)
        self.nbytes = int(whole.nbytes)
        self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        self._bias = None if bias is None else bias.float()
        self._reduced = not torch.cpu._is_vnni_supported()
        # Without VNNI pairs of products are summed in 16 bits, which overflows unless one bit of the activations is given up.

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        loudest = rows.abs().amax(dim=-1, keepdim=True).clamp_min(1e-20)
        product: torch.Tensor = torch.ops.quantized.linear_dynamic(rows / loudest, self._packed, self._reduced)
        product.mul_(loudest)
        return product if self._bias is None else product.add_(self._bias)


def int8_works() -> bool:
    """Return whether this build of torch can multiply with eight bits here, and agrees with the plain product."""
    try:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(48, 64, generator=generator)
        rows = torch.randn(3, 64, generator=generator) * torch.tensor([[1.0], [100.0], [0.01]])
        plain = torch.nn.functional.linear(rows, weight)
        off = (Int8Product(weight, None)(rows) - plain).abs().amax(dim=1) / plain.abs().amax(dim=1)
    except Exception:  # noqa: BLE001 - a build without these kernels says so in several ways, and each only means: not here
        return False
    return bool((off < 0.03).all())


@dataclass(frozen=True, slots=True)
class ProductKind:
    """A way to hold the text model's weights. `make` takes a weight, a bias, and the device that the product is for.

    `activations` is None where they are of the weights' own format. `is_on_card` where the weights are turned on a
    graphics card, piece by piece, so that they never lie there as they were published. With `has_quick_head` the head is
    held a second time in this way.
    """

    name: str
    make: Callable[[torch.Tensor, torch.Tensor | None, torch.device], Product]
    activations: torch.dtype | None = None
    is_on_card: bool = False
    has_quick_head: bool = False

    @property
    def is_compact(self) -> bool:
        """Whether weights take less than they were published with."""
        return self.name != "dense"


DENSE = ProductKind("dense", lambda weight, bias, device: DenseProduct(weight, bias))
CPU_INT8 = ProductKind(
    "int8", lambda weight, bias, device: Int8Product(weight, bias), activations=torch.float32, has_quick_head=True
)


def merged(layers: Sequence[Any], kind: ProductKind, device: torch.device) -> Product:
    """Return one product for linear layers that take the same input, outputs in their order; the layers lose their weights.

    One large product is read at full speed of memory, three small ones are not.
    """
    weights = [layer.weight.detach() for layer in layers]
    biases = [None if layer.bias is None else layer.bias.detach() for layer in layers]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    bias = None
    if any(part is not None for part in biases):
        bias = torch.cat(
            [
                rows.new_zeros(rows.shape[0]) if part is None else part
                for rows, part in zip(weights, biases, strict=True)
            ]
        )
    product = kind.make(weight, bias, device)
    for layer in layers:
        layer.weight = None
        layer.bias = None
    return product
