"""Weights of eight bits: near the plain product, small, refused where they cannot be, and good enough to read panels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qwen_vl_app.chat import Message
from qwen_vl_app.engine.local import hardware
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.products import DENSE, Int8Product, int8_works, merged
from qwen_vl_app.errors import ModelError
from tests.engine.harness import FAMILIES, ask, picture

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not int8_works(), reason="this build of torch has no eight-bit kernels here")


def test_a_loud_token_does_not_drown_the_others() -> None:
    """Every row keeps its own scale, however far apart the rows are."""
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(96, 128, generator=generator), torch.randn(96, generator=generator)
    rows = torch.randn(4, 128, generator=generator) * torch.tensor([[1e-3], [1.0], [50.0], [3e4]])
    product = Int8Product(weight, bias)
    plain = torch.nn.functional.linear(rows, weight, bias)
    off = (product(rows) - plain).abs().amax(dim=1) / (plain - bias).abs().amax(dim=1)
    assert (off < 0.02).all()
    assert product.nbytes == weight.numel()


def test_a_row_of_zeros_is_only_the_bias() -> None:
    """Nothing is divided by nothing."""
    bias = torch.arange(8.0)
    assert torch.equal(Int8Product(torch.ones(8, 16), bias)(torch.zeros(2, 16)), bias.expand(2, 8))


def test_merged_layers_are_the_layers_side_by_side() -> None:
    """One product gives what three gave, biases where there are any, and the layers let their weights go."""
    layers = [torch.nn.Linear(16, 8), torch.nn.Linear(16, 4, bias=False), torch.nn.Linear(16, 4)]
    rows = torch.randn(3, 16)
    with torch.inference_mode():
        expected = torch.cat([layer(rows) for layer in layers], dim=-1)
        product = merged(layers, DENSE, CPU)
        assert torch.allclose(product(rows), expected, atol=1e-6)
    assert all(layer.weight is None for layer in layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_near_full_precision(models_dir: Path, family: str) -> None:
    """The first token's probability is near that of fp32, and a conversation goes on from what is held."""
    said = []
    for precision in ("fp32", "int8"):
        engine = LocalEngine(models_dir, model=family, device="cpu", precision=precision, threads=1)
        engine.load()
        assert engine.status.dtype == precision
        plan = engine.status.plan
        assert plan is not None
        question = Message("user", "What is it?", (picture(1, width=4 * plan.factor, height=3 * plan.factor),))
        first = ask(engine, question, key="a", max_new_tokens=4)
        said.append(first)
        follow = ask(engine, question, Message("assistant", first.text), Message("user", "More."), key="a")
        assert follow.finish.usage.cached_tokens >= first.finish.usage.prompt_tokens
        engine.close()
    assert said[0].logprobs[0] == pytest.approx(said[1].logprobs[0], abs=0.5)


def test_candidates_are_decided_at_full_precision(models_dir: Path) -> None:
    """The logits of the likely tokens come from the head as it was published, not from its eight-bit copy."""
    engine = LocalEngine(models_dir, model="qwen3_vl", device="cpu", precision="int8", threads=1)
    engine.load()
    parts = engine._parts
    assert parts is not None
    text = parts.decoder._text
    with torch.inference_mode():
        hidden = torch.randn(64, generator=torch.Generator().manual_seed(3))
        normed = torch.nn.functional.rms_norm(hidden, (64,), text._norm, text._eps)
        exact = text._head.float() @ normed
        logits = text.logits(hidden[None])[0]
    best = exact.topk(32).indices
    assert torch.allclose(logits[best], exact[best], atol=1e-4)
    assert int(logits.argmax()) == int(exact.argmax())


def test_eight_bits_are_taken_where_nothing_else_fits() -> None:
    """By memory, with a reason that has the figures; four bits on a processor are refused in a sentence."""
    tight = hardware.choose_precision("auto", CPU, parameters=2_000_000_000, memory_bytes=3_900_000_000)
    assert (tight.name, tight.products.name, tight.reason.code) == ("int8", "int8", "engine.choice.dtype.cpu_int8")
    roomy = hardware.choose_precision("auto", CPU, parameters=2_000_000_000, memory_bytes=30_000_000_000)
    assert not roomy.products.is_compact
    with pytest.raises(ModelError, match=r"engine\.precision\.not_here"):
        hardware.choose_precision("nf4", CPU, parameters=1, memory_bytes=1)
