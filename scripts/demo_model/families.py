"""What differs between the two families a demo model can belong to: patches, colours, the opening turn and the space of boxes.

The pictures are drawn once for both, in cells of 28 pixels; a family says at how many pixels it sees such a cell.
It knows no tensors and no questions.
"""

from __future__ import annotations

from dataclasses import dataclass

from scripts.demo_model import vocabulary


@dataclass(frozen=True)
class Family:
    """One architecture. `in_thousandths` tells boxes in 0..1000 of the picture from boxes in pixels of the seen picture."""

    name: str
    model_type: str
    patch: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    system_prompt: str | None
    in_thousandths: bool

    @property
    def cell(self) -> int:
        """Side in seen pixels of the square that becomes one visual token."""
        return 2 * self.patch


PIXELS = Family(
    name="qwen2.5-vl",
    model_type="qwen2_5_vl",
    patch=14,
    mean=(0.48145466, 0.4578275, 0.40821073),
    deviation=(0.26862954, 0.26130258, 0.27577711),
    system_prompt=vocabulary.SYSTEM_PROMPT,
    in_thousandths=False,
)
RELATIVE = Family(
    name="qwen3-vl",
    model_type="qwen3_vl",
    patch=16,
    mean=(0.5, 0.5, 0.5),
    deviation=(0.5, 0.5, 0.5),
    system_prompt=None,
    in_thousandths=True,
)
FAMILIES = {family.name: family for family in (PIXELS, RELATIVE)}


def of_model_type(model_type: str) -> Family:
    """Return the family that a `config.json` names."""
    return next(family for family in FAMILIES.values() if family.model_type == model_type)
