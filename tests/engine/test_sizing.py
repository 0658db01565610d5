"""What weights take decides which model is loaded and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from qwen_vl_app.engine.families import FAMILIES, shape_of
from qwen_vl_app.engine.folders import ModelFolder, inspect_folder
from qwen_vl_app.engine.local import hardware, sizing
from qwen_vl_app.engine.local.bench_models import make_model
from qwen_vl_app.engine.local.card_products import CARD_KINDS
from qwen_vl_app.engine.local.loading import _is_product
from qwen_vl_app.engine.local.sizing import choose_fit, product_parameters, weight_bytes
from qwen_vl_app.errors import ModelError, ModelFolderError
from tests.engine.tiny_models import make_qwen2_5_vl

CPU = torch.device("cpu")
GB = 1_000_000_000
SEVEN_B = {
    "model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000,
    "vision_config": {"depth": 32, "hidden_size": 1280},
}  # fmt: skip
THREE_B = {
    **SEVEN_B,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
}


def folder(name: str, config: dict[str, object], parameters: int, *, is_demo: bool = False) -> ModelFolder:
    """Return a complete folder of a published shape, in bf16."""
    return ModelFolder(
        name, Path(name), family=FAMILIES["qwen2_5_vl"], shape=shape_of(config), parameters=parameters,
        weight_bytes=parameters * 2, dtype="bf16", is_demo=is_demo, config=config,
    )  # fmt: skip


SEVEN, THREE = folder("seven", SEVEN_B, 8_292_000_000), folder("three", THREE_B, 3_755_000_000)
DEMO = folder("demo", THREE_B, 3_600_000, is_demo=True)


def test_a_seven_b_takes_what_is_known_of_it() -> None:
    """15.45 GiB in bf16; with four bits about 6.7 GiB; eight bits between."""
    assert product_parameters(SEVEN.shape or shape_of(SEVEN_B)) == pytest.approx(6.525e9, rel=0.001)
    assert weight_bytes("bf16", SEVEN, is_cpu=False) / 2**30 == pytest.approx(15.45, rel=0.01)
    assert weight_bytes("nf4", SEVEN, is_cpu=False) / 2**30 == pytest.approx(6.7, rel=0.02)
    assert weight_bytes("fp8", SEVEN, is_cpu=False) / GB == pytest.approx(6.525 + 2 * 1.767, rel=0.01)
    assert weight_bytes("int8", SEVEN, is_cpu=True) > weight_bytes("int8", SEVEN, is_cpu=False)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_vision_tower_in_full_precision_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_bf16: bool
) -> None:
    """Beside weights of eight bits, on a processor that does not multiply bf16; counted from the files themselves."""
    make_qwen2_5_vl(tmp_path / "tiny")
    tiny = inspect_folder(tmp_path / "tiny")
    with safe_open(tmp_path / "tiny" / "model.safetensors", "pt") as file:
        sizes = {name: file.get_tensor(name).numel() for name in file.keys()}  # noqa: SIM118 - no mapping
    tower = sum(size for name, size in sizes.items() if "visual" in name)
    assert 0 < tiny.vision_parameters == tower < tiny.parameters == sum(sizes.values())
    monkeypatch.setattr(hardware, "has_fast_bf16_cpu", lambda: has_bf16)
    plain = weight_bytes("int8", replace(tiny, vision_parameters=0), is_cpu=True)
    assert weight_bytes("int8", tiny, is_cpu=True) == plain + (0 if has_bf16 else 2 * tower)
    assert weight_bytes("bf16", tiny, is_cpu=True) == 2 * tiny.parameters


@pytest.mark.parametrize(
    ("free", "model", "precision"),
    [(40, "seven", "bf16"), (12, "three", "bf16"), (8, "three", "int8"), (6, "three", "int8"), (3, "demo", "fp32")],
)
def test_on_a_processor_full_weights_come_first_and_small_ones_before_the_demo(
    monkeypatch: pytest.MonkeyPatch, free: float, model: str, precision: str
) -> None:
    """A model that fits as published is preferred to a larger one made small; a real one made small to the demo."""
    monkeypatch.setattr(hardware, "has_fast_bf16_cpu", lambda: True)
    monkeypatch.setattr(hardware, "int8_works", lambda: True)
    fit = choose_fit((SEVEN, THREE, DEMO), CPU, int(free * GB), model="", precision="auto")
    assert (fit.choice.folder.name, fit.precision.name) == (model, precision)
    assert fit.choice.folder in (SEVEN, THREE, DEMO), "the folder itself, not as it would stand in memory"
    assert fit.weight_bytes == weight_bytes(fit.precision.name, fit.choice.folder, is_cpu=True)


def test_a_small_card_takes_the_largest_that_fits_in_four_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 GB hold neither in bf16; in four bits the seven fits."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(hardware, "works", lambda kind, device: True)
    card = torch.device("cuda", 0)
    assert choose_fit((SEVEN, THREE, DEMO), card, 23 * GB, model="", precision="auto").precision.name == "bf16"
    twelve = choose_fit((SEVEN, THREE, DEMO), card, 11 * GB, model="", precision="auto")
    assert (twelve.choice.folder.name, twelve.precision.name) == ("three", "bf16")
    small = choose_fit((SEVEN, DEMO), card, int(8.5 * GB), model="", precision="auto")
    assert (small.choice.folder.name, small.precision.name) == ("seven", "nf4")
    wanted = choose_fit((SEVEN, THREE, DEMO), card, 12 * GB, model="seven", precision="auto")
    assert (wanted.choice.folder.name, wanted.precision.name) == ("seven", "fp8")


@pytest.mark.parametrize(
    ("free", "model", "precision", "reason"),
    [
        (40, "seven", "fp32", "gpu_old"),
        (23, "three", "fp32", "gpu_old"),  # the seven's fp32 takes 33
        (11, "seven", "nf4", "gpu_old_compact"),
        (4, "demo", "fp32", "gpu_old"),
    ],
)
def test_a_card_without_bf16_is_given_a_model_that_fits_in_fp32(
    monkeypatch: pytest.MonkeyPatch, free: int, model: str, precision: str, reason: str
) -> None:
    """It takes twice the bytes that lie on disk; a choice by those would fail in the middle of loading."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(hardware, "works", lambda kind, device: kind is CARD_KINDS["nf4"])
    card = torch.device("cuda", 0)
    fit = choose_fit((SEVEN, THREE, DEMO), card, free * GB, model="", precision="auto")
    assert (fit.choice.folder.name, fit.precision.name) == (model, precision)
    assert fit.precision.reason.code == f"engine.choice.dtype.{reason}"
    assert fit.weight_bytes <= free * GB
    assert fit.choice.folder in (SEVEN, THREE, DEMO), "the folder itself, not as it would stand in memory"


def test_an_old_card_that_does_nothing_smaller_says_that_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the size that it would need there; a model that is named is taken as ever."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(hardware, "works", lambda kind, device: False)
    card = torch.device("cuda", 0)
    with pytest.raises(ModelFolderError) as caught:
        choose_fit((SEVEN, THREE), card, 11 * GB, model="", precision="auto")
    assert caught.value.code == "engine.model.none_fits"
    assert int(str(caught.value.facts["needed"])) > 15 * GB
    named = choose_fit((SEVEN, THREE), card, 11 * GB, model="three", precision="auto")
    assert (named.choice.folder, named.precision.name) == (THREE, "fp32")
    asked = choose_fit((SEVEN, THREE), card, 11 * GB, model="", precision="bf16")
    assert (asked.choice.folder, asked.precision.name) == (THREE, "bf16")


def test_a_precision_that_is_asked_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 takes twice what lies on disk; where nothing fits, the sizes told are those."""
    with pytest.raises(ModelFolderError) as caught:
        choose_fit((SEVEN, THREE), CPU, 14 * GB, model="", precision="fp32")
    assert caught.value.code == "engine.model.none_fits"
    assert int(str(caught.value.facts["needed"])) > 15 * GB
    assert choose_fit((SEVEN, THREE), CPU, 14 * GB, model="", precision="bf16").choice.folder is THREE
    with pytest.raises(ModelError, match=r"engine\.precision\.not_here"):
        choose_fit((THREE,), CPU, 40 * GB, model="", precision="nf4")


def test_the_estimate_is_what_a_folder_has(tmp_path: Path) -> None:
    """Parameters counted from the shape are those of the decoder's products in a real folder."""
    make_model("tiny", tmp_path / "tiny")
    known = inspect_folder(tmp_path / "tiny")
    assert known.shape is not None
    counted = 0
    for file in known.weight_files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                counted += tensors.get_tensor(name).numel() if _is_product(name) else 0
    assert product_parameters(known.shape) == counted > 0
    assert sizing.weight_bytes("bf16", known, is_cpu=True) == known.weight_bytes
