"""What torch says of itself and of the graphics cards, for `doctor`.

Knows torch's build and its devices. Does not know what would be loaded; and where torch cannot be imported, neither can
this.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A graphics card as torch sees it."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class TorchFacts:
    """Torch's version, the CUDA version it was built for (empty for a build without), and the cards it can use."""

    version: str
    cuda_build: str
    accelerators: tuple[Accelerator, ...]


def inspect_torch() -> TorchFacts:
    """Ask torch; a card that does not answer is left out."""
    return TorchFacts(str(torch.__version__), str(torch.version.cuda or ""), tuple(_accelerators()))


def _accelerators() -> Iterator[Accelerator]:
    try:
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            free, total = torch.cuda.mem_get_info(index)
            yield Accelerator(torch.cuda.get_device_name(index), total, free)
    except RuntimeError:  # a card that fell off its bus, or one whose memory is full to the last byte
        log.info("a graphics card does not answer", exc_info=True)
