"""A picture's pixels to the features that stand for its tokens, each picture once.

Knows the image processor, the vision tower and a cache of features. Does not know prompts. Pictures come at the size they
are seen at; nothing is resized here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qwen_vl_app.chat import ImageInput
from qwen_vl_app.engine.families import Family
from qwen_vl_app.engine.local.loading import LoadedModel
from qwen_vl_app.errors import InferenceError


class Stopped(Exception):  # noqa: N818 - a signal within the engine, not an error
    """A person stopped the run while a pass through the model was under way."""


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """An encoded picture: `tokens` of shape (tokens, hidden), and the same for each deepstack layer (Qwen3-VL)."""

    tokens: torch.Tensor
    deepstack: tuple[torch.Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.tokens.nbytes + sum(layer.nbytes for layer in self.deepstack)


class FeatureCache:
    """Features by picture id, the least recently used leaving first."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._held: OrderedDict[str, PictureFeatures] = OrderedDict()

    def get(self, picture_id: str) -> PictureFeatures | None:
        """Return what is held of a picture."""
        found = self._held.get(picture_id)
        if found is not None:
            self._held.move_to_end(picture_id)
        return found

    def put(self, picture_id: str, features: PictureFeatures) -> None:
        """Hold features, unless they alone are over the budget."""
        if features.nbytes > self._budget_bytes:
            return
        self._held[picture_id] = features
        self._held.move_to_end(picture_id)
        while self.nbytes > self._budget_bytes:
            self._held.popitem(last=False)

    def emptied(self) -> FeatureCache:
        """Return a cache of the same budget that holds nothing."""
        return FeatureCache(self._budget_bytes)

    def clear(self) -> None:
        """Let everything go."""
        self._held.clear()

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(features.nbytes for features in self._held.values())


def processor_of(family: Family, settings: Mapping[str, Any]) -> Any:
    """Return the library's image processor that needs no torchvision, set not to resize."""
    given = {name: settings[name] for name in ("image_mean", "image_std", "rescale_factor") if name in settings}
    return Qwen2VLImageProcessorPil(patch_size=family.patch, merge_size=family.merge, do_resize=False, **given)


class PictureEncoder:
    """Encodes pictures for one model, asking before each layer of the tower whether to go on."""

    def __init__(self, model: LoadedModel, family: Family, settings: Mapping[str, Any]) -> None:
        self._model = model
        self._family = family
        self._processor = processor_of(family, settings)
        self._should_stop: Callable[[], bool] = lambda: False
        for block in model.visual.blocks:
            block.register_forward_pre_hook(self._check)

    def _check(self, module: Any, inputs: Any) -> None:
        if self._should_stop():
            raise Stopped

    def pixel_values(self, image: ImageInput) -> torch.Tensor:
        """Return (patches, channels * time * height * width) in fp32. Raises InferenceError on a size off the grid."""
        rgb = np.frombuffer(image.rgb, dtype=np.uint8).reshape(image.size.height, image.size.width, 3)
        done = self._processor(images=[rgb], input_data_format="channels_last", return_tensors="pt")
        grid = (1, image.size.height // self._family.patch, image.size.width // self._family.patch)
        if tuple(done["image_grid_thw"][0].tolist()) != grid:
            raise InferenceError(
                "engine.picture.wrong_size",
                width=image.size.width,
                height=image.size.height,
                factor=self._family.factor,
            )
        pixels: torch.Tensor = done["pixel_values"]
        return pixels

    @torch.inference_mode()
    def encode(self, image: ImageInput, *, should_stop: Callable[[], bool]) -> PictureFeatures:
        """Return the features of a picture. Raises Stopped within a layer of being told so."""
        pixels = self.pixel_values(image).to(self._model.device)
        grid = torch.tensor(
            [[1, image.size.height // self._family.patch, image.size.width // self._family.patch]],
            device=self._model.device,
        )
        self._should_stop = should_stop
        try:
            encoded = self._model.module.model.get_image_features(pixels, grid, return_dict=True)
        finally:
            self._should_stop = lambda: False
        deepstack = getattr(encoded, "deepstack_features", None) or ()
        return PictureFeatures(encoded.pooler_output[0], tuple(layer[0] for layer in deepstack))
