"""The vision tower's attention and patch embedding give the plain way's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qwen_vl_app.engine.local import grids
from qwen_vl_app.engine.local.attention import (
    ODD_LENGTHS,
    LinearPatchEmbed,
    Windows,
    batched_windows,
    choose_attention,
    loop_attention,
    self_test,
)
from qwen_vl_app.errors import ModelError
from tests.engine.harness import Pair

CPU = torch.device("cpu")


def test_batched_windows_are_the_loop() -> None:
    """Windows of equal length in one call give the very numbers of one call each."""
    assert self_test(batched_windows, device=CPU, dtype=torch.float32, heads=4, head_dim=20) <= 1e-6
    assert self_test(batched_windows, device=CPU, dtype=torch.bfloat16, heads=2, head_dim=16) <= 1e-2


def test_a_way_that_is_wrong_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-test finds attention that mixes windows, and the plain way is taken with its reason."""

    def across(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, windows: Windows) -> torch.Tensor:
        edges = torch.tensor([0, len(q)], dtype=torch.int32)
        return loop_attention(q, k, v, Windows(edges, len(q), windows.scale))

    monkeypatch.setattr("qwen_vl_app.engine.local.attention._MAKERS", {"batched_windows": lambda: across})
    choice = choose_attention("auto", device=CPU, dtype=torch.float32, heads=2, head_dim=16)
    assert (choice.name, choice.reason.code) == ("sdpa", "engine.choice.attention.sdpa")
    with pytest.raises(ModelError, match=r"engine\.attention\.not_here"):
        choose_attention("batched_windows", device=CPU, dtype=torch.float32, heads=2, head_dim=16)


def test_kernels_of_a_card_are_not_for_a_processor() -> None:
    """Asked for by name on a CPU, they are refused in a sentence."""
    for name in ("flash_attn", "varlen"):
        with pytest.raises(ModelError, match=r"engine\.attention\.not_here"):
            choose_attention(name, device=CPU, dtype=torch.float32, heads=2, head_dim=16)


def test_the_linear_patch_embedding_is_the_convolution() -> None:
    """The same numbers, from the same flat patches."""
    convolution = torch.nn.Conv3d(3, 8, kernel_size=(2, 14, 14), stride=(2, 14, 14))
    patches = torch.randn(5, 3 * 2 * 14 * 14)
    expected = convolution(patches.view(5, 3, 2, 14, 14)).view(5, 8)
    assert torch.allclose(LinearPatchEmbed(convolution)(patches), expected, atol=1e-5)


def test_features_are_the_librarys(pair: Pair) -> None:
    """A picture's features and deepstack copies equal those of the stock model, on a grid with odd windows."""
    parts = pair.engine._parts
    assert parts is not None
    image = pair.picture(30, 7, 5)
    ours = parts.encoder.encode(image, should_stop=lambda: False)
    pixels = parts.encoder.pixel_values(image)
    grid = torch.tensor([[1, 10, 14]])
    with torch.inference_mode():
        stock = pair.oracle.model.model.get_image_features(pixels, grid, return_dict=True)
    assert torch.allclose(ours.tokens, stock.pooler_output[0], atol=1e-4)
    stock_deepstack = getattr(stock, "deepstack_features", None) or ()
    assert len(ours.deepstack) == len(stock_deepstack) == (2 if pair.family == "qwen3_vl" else 0)
    for mine, theirs in zip(ours.deepstack, stock_deepstack, strict=True):
        assert torch.allclose(mine, theirs[0], atol=1e-4)


def test_each_size_has_its_own_grid(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of a size is not another's with as many patches; only the last sizes are kept, and asked for anew they are the same."""
    parts = pair.engine._parts
    assert parts is not None
    monkeypatch.setattr(grids, "MOST_SIZES", 2)
    known = grids.Grids(parts.model.visual, CPU)
    images = [pair.picture(30, *size) for size in ((7, 5), (5, 7), (35, 1))]
    alone = [parts.encoder.encode(image, should_stop=lambda: False).tokens for image in images]
    monkeypatch.setattr(parts.encoder, "_grids", known)
    for image, tokens in [*zip(images, alone, strict=True)] * 2:
        assert torch.equal(parts.encoder.encode(image, should_stop=lambda: False).tokens, tokens)
        assert len(known._held) <= 2


def test_pixels_are_the_librarys(pair: Pair, models_dir: Path) -> None:
    """The folder's own processor, given the picture at its seen size, makes the same numbers and the same grid."""
    parts = pair.engine._parts
    assert parts is not None
    image = pair.picture(31, 5, 3)
    drawn = Image.frombytes("RGB", (image.size.width, image.size.height), image.rgb)
    stock = Qwen2VLImageProcessorPil.from_pretrained(models_dir / pair.family, local_files_only=True)
    expected = stock(images=[drawn], return_tensors="pt")
    assert torch.equal(parts.encoder.pixel_values(image), expected["pixel_values"])
    assert expected["image_grid_thw"].tolist() == [[1, 6, 10]]


def test_odd_lengths_are_odd() -> None:
    """The self-test's windows have repeats that are apart, so that grouping is really tried."""
    assert ODD_LENGTHS.count(64) == 3 and ODD_LENGTHS[2] != 64


@pytest.mark.parametrize("length", [256, 511, 513, 1100])
def test_long_windows_in_half_precision_go_in_blocks_and_agree(length: int) -> None:
    """On a CPU a long bf16 window is cut into blocks of rows; its numbers stay those of the plain way."""
    generator = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(length, 2, 16, generator=generator).bfloat16() for _ in range(3))
    windows = Windows(torch.tensor([0, length], dtype=torch.int32), length, 0.25)
    ours = batched_windows(q, k, v, windows)
    exact = loop_attention(q.float(), k.float(), v.float(), windows)
    assert (ours.float() - exact).abs().max() < 1e-2
    assert (ours.float() - exact).pow(2).mean().sqrt() < 1e-2 * exact.pow(2).mean().sqrt()
