"""What a model's weights take in each precision, and from that: which model fits, and in which precision.

Knows bytes and the order in which precisions are tried. Does not know how weights become smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from qwen_vl_app.engine.families import Shape
from qwen_vl_app.engine.folders import ModelChoice, ModelFolder, choose_model
from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.hardware import PrecisionChoice
from qwen_vl_app.errors import ModelFolderError

PRODUCT_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "fp8": 1.0, "nf4": 0.5 + 4 / 64}
"""A weight of the decoder's products; four bits come with a scale for every 64."""
REST_BYTES = {"fp32": 4}
"""Any other weight; as published, in two bytes, but in full precision."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The model that is to be loaded, and how."""

    choice: ModelChoice
    precision: PrecisionChoice
    weight_bytes: int


def product_parameters(shape: Shape) -> int:
    """Return how many of a model's weights are in the decoder's products, which alone become smaller."""
    attention = shape.hidden * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    return shape.layers * (attention + 3 * shape.hidden * shape.intermediate)


def weight_bytes(precision: str, folder: ModelFolder, *, is_cpu: bool) -> int:
    """Return what a folder's weights take in memory."""
    if folder.shape is None:
        return folder.weight_bytes
    products = min(product_parameters(folder.shape), folder.parameters)
    rest = (folder.parameters - products) * REST_BYTES.get(precision, 2)
    if precision == "int8" and is_cpu:
        # A processor holds the head a second time, in eight bits, to find who is in the running.
        rest += folder.shape.hidden * folder.shape.vocabulary
        if not hardware.has_fast_bf16_cpu():
            rest += 2 * folder.vision_parameters  # in full precision then, which such a processor computes sooner
    return int(products * PRODUCT_BYTES[precision]) + rest


def choose_fit(
    folders: Sequence[ModelFolder], device: torch.device, memory_bytes: int, *, model: str, precision: str
) -> Fit:
    """Return the model and the precision for a device with so much memory.

    The largest real model that fits with two bytes a weight, or with four on a card that cannot do with two; where none
    does, the largest that fits with fewer; the demo model only then. A precision that is asked for counts with what it
    takes. Raises ModelFolderError where nothing fits, ModelError where the precision does not work here.
    """
    is_cpu = device.type == "cpu"
    first = precision
    if precision == "auto":
        first = "fp32" if hardware.full_precision(device) == "fp32" else ""
    choice = _chosen(folders, memory_bytes, model, precision=first, is_cpu=is_cpu)
    if precision == "auto" and not model and (isinstance(choice, ModelFolderError) or _is_makeshift(choice)):
        # Only now, because finding out what works may take seconds.
        for smallest in hardware.compact_precisions(device)[-1:]:
            smaller = _chosen(folders, memory_bytes, model, precision=smallest, is_cpu=is_cpu)
            choice = choice if isinstance(smaller, ModelFolderError) else smaller
    if isinstance(choice, ModelFolderError):
        raise choice
    folder = next((folder for folder in folders if folder.path == choice.folder.path), choice.folder)
    chosen = hardware.choose_precision(
        precision,
        device,
        parameters=folder.parameters,
        memory_bytes=memory_bytes,
        needed_bytes=lambda name: _as_it_would_stand(folder, name, is_cpu=is_cpu).needed_bytes,
    )
    return Fit(replace(choice, folder=folder), chosen, weight_bytes(chosen.name, folder, is_cpu=is_cpu))


def _chosen(
    folders: Sequence[ModelFolder], memory_bytes: int, model: str, *, precision: str, is_cpu: bool
) -> ModelChoice | ModelFolderError:
    sized = [_as_it_would_stand(folder, precision, is_cpu=is_cpu) for folder in folders]
    try:
        return choose_model(sized, memory_bytes, wanted=model)
    except ModelFolderError as error:
        if error.code != "engine.model.none_fits":
            raise
        return error


def _is_makeshift(choice: ModelChoice) -> bool:
    return choice.reason.code == "engine.choice.model.demo_fits"


def _as_it_would_stand(folder: ModelFolder, precision: str, *, is_cpu: bool) -> ModelFolder:
    """Return the folder with the bytes its weights take in memory; as on disk where no precision is given."""
    if not precision or not folder.is_complete:
        return folder
    return replace(folder, weight_bytes=weight_bytes(precision, folder, is_cpu=is_cpu))
