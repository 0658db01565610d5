"""A picture's pixels to the features that stand for its tokens, each picture once.

Knows the image processor, the vision tower and a cache of features. Does not know prompts. Pictures come at the size they
are seen at; nothing is resized here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qwen_vl_app.chat import ImageInput
from qwen_vl_app.engine.families import Family
from qwen_vl_app.engine.local.grids import Grids
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

    @staticmethod
    def joined(parts: Sequence[PictureFeatures]) -> PictureFeatures:
        """Return the features of a clip from those of its pairs of frames, in their order."""
        if len(parts) == 1:
            return parts[0]
        layers = zip(*(part.deepstack for part in parts), strict=True)
        return PictureFeatures(torch.cat([part.tokens for part in parts]), tuple(torch.cat(layer) for layer in layers))


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
        processor = processor_of(family, settings)
        self._scale = float(processor.rescale_factor)
        self._moments = int(processor.temporal_patch_size)
        self._mean = torch.tensor(processor.image_mean, dtype=torch.float32, device=model.device)
        self._deviation = torch.tensor(processor.image_std, dtype=torch.float32, device=model.device)
        self._grids = Grids(model.visual, model.device)
        self._should_stop: Callable[[], bool] = lambda: False
        for block in model.visual.blocks:
            block.register_forward_pre_hook(self._check)

    def _check(self, module: Any, inputs: Any) -> None:
        if self._should_stop():
            raise Stopped

    @torch.inference_mode()
    def pixel_values(self, image: ImageInput, *, pair: int | None = None) -> torch.Tensor:
        """Return (patches, channels * time * height * width) in fp32 on the model's device, as the library's processors do.

        Of a clip all pairs of frames one behind the other, or the one of that number. Only the bytes go to the device; they
        are scaled and cut there. Raises InferenceError on a size off the grid.
        """
        width, height, family = image.size.width, image.size.height, self._family
        if width % family.factor or height % family.factor or len(image.rgb) != image.byte_count:
            raise InferenceError("engine.picture.wrong_size", width=width, height=height, factor=family.factor)
        rgb = image.rgb
        if image.clip is not None and pair is not None:
            each = len(rgb) // image.clip.pairs
            rgb = rgb[each * pair : each * (pair + 1)]
        raw = torch.frombuffer(bytearray(rgb), dtype=torch.uint8).to(self._model.device)
        # In doubles first: the library multiplies so, and its last bit is kept.
        scaled = (raw.view(-1, height, width, 3).double() * self._scale).float()
        normal = ((scaled - self._mean) / self._deviation).permute(0, 3, 1, 2)
        if image.clip is None:  # a still picture is two equal moments
            normal = normal.expand(self._moments, -1, -1, -1)
        down, across = height // family.factor, width // family.factor
        cut = normal.reshape(-1, self._moments, 3, down, family.merge, family.patch, across, family.merge, family.patch)
        # Patches that become one token stand together.
        cut = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
        return cut.reshape(cut.shape[0] * down * across * family.merge**2, -1)

    @torch.inference_mode()
    def encode(self, image: ImageInput, *, pair: int | None = None, should_stop: Callable[[], bool]) -> PictureFeatures:
        """Return the features of a picture, or of one pair of a clip's frames, which do not look at the others.

        Raises Stopped within a layer of being told so.
        """
        pixels = self.pixel_values(image, pair=pair)
        height, width = image.size.height // self._family.patch, image.size.width // self._family.patch
        # The grid stays on the host: the tower computes nothing from it any more.
        grid, facts = torch.tensor([[1, height, width]]), self._grids.of(height, width)
        self._should_stop = should_stop
        try:
            encoded = self._model.module.model.get_image_features(pixels, grid, return_dict=True, **facts)
        finally:
            self._should_stop = lambda: False
        deepstack = getattr(encoded, "deepstack_features", None) or ()
        return PictureFeatures(encoded.pooler_output[0], tuple(layer[0] for layer in deepstack))
