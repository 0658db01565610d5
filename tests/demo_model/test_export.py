"""What is exported: the weights of a run, or the mean of several of one shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.demo_model.checkpoint import FIRST, WIDE, Shape, new_model
from scripts.demo_model.export import load_run


def run_of(folder: Path, seed: int, shape: Shape = FIRST) -> Path:
    path = folder / f"run-{seed}.pt"
    torch.save({"model": new_model(seed, shape).state_dict()}, path)
    return path


def test_a_run_is_exported_alone_or_as_the_mean_of_several(tmp_path: Path) -> None:
    """The mean lies in the middle, weight by weight; runs of two shapes have none."""
    one, two, other = run_of(tmp_path, 1), run_of(tmp_path, 2), run_of(tmp_path, 3, WIDE)
    alone, beside, mean = (
        load_run(path, mean_with=others).state_dict() for path, others in ((one, []), (two, []), (one, [two]))
    )
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(alone[name], beside[name])
    torch.testing.assert_close(mean[name], (alone[name] + beside[name]) / 2)
    with pytest.raises(ValueError, match="one shape"):
        load_run(one, mean_with=[other])
