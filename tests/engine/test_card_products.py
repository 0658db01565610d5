"""Weights of eight and four bits by the kernels a graphics card uses: near the plain product, and in a whole model.

These run on a processor, by the same calls. How fast they are on a card, this cannot tell.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from qwen_vl_app.chat import Message
from qwen_vl_app.engine.local import assembling, hardware
from qwen_vl_app.engine.local.assembling import Options, assemble, prepare
from qwen_vl_app.engine.local.card_products import CARD_KINDS, LEAST_ROWS, PIECE_ROWS, works
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.local.slab import SlabSize, StaticStepper
from qwen_vl_app.engine.local.steps import GrowingStepper, Rounds
from qwen_vl_app.errors import ModelError
from tests.engine.harness import FAMILIES, ask, picture
from tests.engine.tape import TapeRecorder

CPU = torch.device("cpu")
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
KINDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(name == "nf4" and not HAS_BITSANDBYTES, reason="bitsandbytes is not there")
    )
    for name in CARD_KINDS
]


@pytest.mark.parametrize("name", KINDS)
def test_a_product_is_near_the_plain_one_for_any_number_of_rows(name: str) -> None:
    """Rows are filled up for the kernels and cut off again; loud rows do not drown quiet ones; biases are added."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(96, 128, generator=generator, dtype=torch.bfloat16)
    bias = torch.randn(96, generator=generator, dtype=torch.bfloat16)
    product = CARD_KINDS[name].make(weight, bias, CPU)
    assert product.nbytes <= weight.numel() * (1 if name != "nf4" else 0.6)
    with torch.inference_mode():
        for count in (1, 2, 4, 5, 16, LEAST_ROWS, LEAST_ROWS + 1, 70):
            loudness = torch.logspace(-2, 2, count)[:, None]
            rows = (torch.randn(count, 128, generator=generator) * loudness).to(torch.bfloat16)
            plain = torch.nn.functional.linear(rows, weight).float()
            found = product(rows)
            assert (found.shape, found.dtype) == (plain.shape, torch.bfloat16)
            off = (found.float() - bias.float() - plain).abs().amax(dim=1) / (plain.abs().amax(dim=1) + 0.1)
            assert (off < {"fp8": 0.1, "int8": 0.05, "nf4": 0.3}[name]).all(), (count, off)


@pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not there")
def test_several_answers_read_four_bit_weights_once() -> None:
    """The pinned library takes some rows at once as it takes one; row by row, each would read all weights again."""
    generator = torch.Generator().manual_seed(6)
    product: Any = CARD_KINDS["nf4"].make(torch.randn(64, 128, generator=generator, dtype=torch.bfloat16), None, CPU)
    real, calls = product._library, []

    class Counting:
        @staticmethod
        def matmul_4bit(rows: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
            calls.append(rows.shape[0])
            return cast(torch.Tensor, real.matmul_4bit(rows, *rest, **named))

    product._library = Counting
    with torch.inference_mode():
        for count in (1, 2, 4, 8):
            product(torch.randn(count, 128, generator=generator).to(torch.bfloat16))
    assert calls == [1, 2, 4, 8]


@pytest.mark.parametrize(("name", "kernel"), [("int8", "_int_mm"), ("fp8", "_scaled_mm")])
def test_many_rows_are_multiplied_in_pieces(name: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt's piece at once would need many times its own memory for sums; every row has its own scale, so nothing else changes."""
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(64, 32, generator=generator, dtype=torch.bfloat16)
    product = CARD_KINDS[name].make(weight, torch.ones(64, dtype=torch.bfloat16), CPU)
    rows = torch.randn(2 * PIECE_ROWS + 7, 32, generator=generator).to(torch.bfloat16)
    real, at_once = getattr(torch, kernel), []

    def noted(left: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        at_once.append(left.shape[0])
        return cast(torch.Tensor, real(left, *rest, **named))

    monkeypatch.setattr(torch, kernel, noted)
    with torch.inference_mode():
        found = product(rows)
        alone = torch.cat([product(row) for row in torch.split(rows, 100)])
    assert max(at_once) <= PIECE_ROWS
    assert found.shape == (len(rows), 64) and (found.float() - alone.float()).abs().max() < 0.1


@pytest.mark.parametrize("name", KINDS)
def test_the_self_test_takes_what_works_and_nothing_else(name: str) -> None:
    """A kind whose kernel fails, or gives other numbers, is not offered."""
    kind = CARD_KINDS[name]
    assert works(kind, CPU)

    def fails(weight: torch.Tensor, bias: torch.Tensor | None, device: torch.device) -> object:
        raise RuntimeError("no kernel image is available for execution on the device")

    assert not works(replace(kind, make=fails), CPU)  # type: ignore[arg-type]
    twice = replace(kind, make=lambda weight, bias, device: kind.make(2 * weight, bias, device))
    assert not works(twice, CPU)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_such_weights_answers_near_full_precision(
    models_dir: Path, family: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the decoder's products are small; head, vision tower, keys and values stay; recorded steps say the same."""
    # On a card the tower is never widened; on this processor it would be where bf16 is slow.
    monkeypatch.setattr(hardware, "has_fast_bf16_cpu", lambda: True)
    engine = LocalEngine(models_dir, model=family, device="cpu", precision="bf16", threads=1)
    engine.load()
    plan = engine.status.plan
    assert plan is not None
    question = Message("user", "What is it?", (picture(1, width=4 * plan.factor, height=3 * plan.factor),))
    full = ask(engine, question, max_new_tokens=1)

    options = Options(model=family, device="cpu", precision="bf16", threads=1)
    prepared = prepare(models_dir, options)
    small = replace(prepared, precision=replace(prepared.precision, products=CARD_KINDS[name]))
    engine._parts = parts = assemble(small, options).parts
    text = parts.decoder.text
    assert text._head.dtype == text.dtype == torch.bfloat16
    assert text._quick_head is None
    assert next(parts.model.visual.parameters()).dtype == torch.bfloat16
    said = ask(engine, question, max_new_tokens=6)
    assert said.logprobs[0] == pytest.approx(full.logprobs[0], abs=2.5 if name == "nf4" else 0.6)
    if (
        name != "nf4"
    ):  # the library's own operation looks at its state on the host, which this recorder cannot tell apart
        recorder = TapeRecorder()
        stepper = StaticStepper(text, CPU, SlabSize(1, 300), recorder=recorder)
        engine._parts = replace(parts, rounds=Rounds((stepper, GrowingStepper(text, CPU))))
        parts.prefixes.clear()
        assert ask(engine, question, max_new_tokens=6).ids == said.ids
        assert recorder.replayed > 0
    engine.close()


def test_on_a_card_the_precision_follows_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits in bf16 is kept in it; else the best that fits, with the figures; what is asked for is tested first."""
    card = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(hardware, "works", lambda kind, device: kind.name != "fp8")
    needed = {"bf16": 16_000, "fp8": 9_000, "int8": 9_000, "nf4": 6_000}.__getitem__

    def choose(wanted: str, memory: int) -> hardware.PrecisionChoice:
        return hardware.choose_precision(wanted, card, parameters=1, memory_bytes=memory, needed_bytes=needed)

    assert choose("auto", 20_000).name == "bf16"
    tight = choose("auto", 12_000)
    assert (tight.name, tight.reason.code, tight.activation_bytes) == ("int8", "engine.choice.dtype.gpu_compact", 2)
    assert dict(tight.reason.facts) == {"dtype": "int8", "needed": 16_000, "free": 12_000}
    assert choose("auto", 7_000).name == "nf4"
    assert choose("auto", 1_000).name == "bf16", "nothing fits: what was published is tried"
    assert choose("nf4", 99_000).products is CARD_KINDS["nf4"]
    with pytest.raises(ModelError, match=r"engine\.precision\.not_here"):
        choose("fp8", 99_000)
    assert assembling.CHUNK_TOKENS.keys() == {"cpu", "cuda"}
