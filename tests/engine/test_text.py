"""The text model's weights as they are taken out of the library's layers."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from qwen_vl_app.engine.folders import inspect_folder
from qwen_vl_app.engine.local import text
from qwen_vl_app.engine.local.loading import load_model
from qwen_vl_app.engine.local.text import TextModel


def test_what_weights_leave_when_they_become_one_is_given_back_layer_by_layer(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept to the end they would take half a model more of a card; and they are gone by then, or nothing would be given back."""
    model = load_model(inspect_folder(models_dir / "qwen2_5_vl"), device=torch.device("cpu"), dtype=torch.float32)
    layers: list[Any] = list(model.text.layers)
    parts = [
        [weakref.ref(part.weight) for part in (layer.self_attn.q_proj, layer.mlp.gate_proj, layer.mlp.up_proj)]
        for layer in layers
    ]
    left: list[int] = []

    def given_back(device: torch.device) -> None:
        left.append(sum(part() is not None for layer in parts for part in layer))

    monkeypatch.setattr(text, "_give_back", given_back)
    TextModel(model.module)
    assert left == [3 * (len(layers) - 1 - number) for number in range(len(layers))]
