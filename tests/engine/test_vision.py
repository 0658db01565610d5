"""Pictures become patches on the model's device, number for number as the library's processor makes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qwen_vl_app.chat import ImageInput, Size
from qwen_vl_app.engine.families import FAMILIES
from qwen_vl_app.engine.local.memory import read_image_settings
from qwen_vl_app.engine.local.vision import processor_of
from qwen_vl_app.errors import InferenceError
from tests.engine.harness import Pair


@pytest.mark.parametrize(("across", "down"), [(1, 1), (4, 3), (1, 9), (13, 2), (8, 8)])
def test_patches_are_the_librarys_to_the_last_bit(pair: Pair, across: int, down: int) -> None:
    """Scaling, normalising and cutting give the processor's own numbers for both families' means and grids."""
    parts = pair.engine._parts
    assert parts is not None
    image = pair.picture(90 + across, across, down)
    processor = processor_of(FAMILIES[pair.family], read_image_settings(parts.folder.path))
    rgb = np.frombuffer(image.rgb, dtype=np.uint8).reshape(image.size.height, image.size.width, 3)
    published = processor(images=[rgb], input_data_format="channels_last", return_tensors="pt")
    ours = parts.encoder.pixel_values(image)
    assert torch.equal(ours, published["pixel_values"])
    grid = [[1, image.size.height // pair.oracle.patch, image.size.width // pair.oracle.patch]]
    assert published["image_grid_thw"].tolist() == grid


@pytest.mark.parametrize(("width", "height", "short"), [(57, 56, 0), (56, 30, 0), (64, 64, 1)])
def test_a_size_off_the_grid_is_refused(pair: Pair, width: int, height: int, short: int) -> None:
    """A picture that was not sized for this model, or whose bytes are cut short, is an error in a sentence."""
    parts = pair.engine._parts
    assert parts is not None
    if short:
        width = height = 2 * pair.factor
    image = ImageInput("x", Size(width, height), bytes(width * height * 3 - short))
    with pytest.raises(InferenceError, match=r"engine\.picture\.wrong_size"):
        parts.encoder.pixel_values(image)
