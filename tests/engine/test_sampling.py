"""The choice of a token, as far as a graphics card has to be asked for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from qwen_vl_app.chat import SamplingParams
from qwen_vl_app.engine.local.sampling import Sampler


class _HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_the_host_reads_a_choice_once() -> None:
    """A number and its probability are fetched together; to ask in between would wait for the card a second time."""
    logits = torch.randn(200, generator=torch.Generator().manual_seed(1))
    sampler = Sampler(SamplingParams(temperature=0.8, seed=4), torch.device("cpu"))
    with _HostReads() as reads:
        chosen = sampler.choose(logits)
    assert "aten::multinomial" in reads.names
    assert not {"aten::item", "aten::_local_scalar_dense"} & set(reads.names)
    assert chosen is not None and abs(chosen.logprob - float(logits.log_softmax(dim=0)[chosen.token])) < 1e-5


@pytest.mark.parametrize("temperature", [1e-5, 1e-30, 1e-38, 1e-45, 5e-324])
@pytest.mark.parametrize("narrowed", [{}, {"top_p": 0.5}, {"top_k": 3}])
def test_next_to_no_temperature_is_the_likeliest_token(temperature: float, narrowed: dict[str, Any]) -> None:
    """What a program sends that wants no chance and may not send 0: a number too small to divide by."""
    logits = 30 * torch.randn(200, generator=torch.Generator().manual_seed(1))
    chosen = Sampler(SamplingParams(temperature=temperature, seed=4, **narrowed), torch.device("cpu")).choose(logits)
    assert chosen is not None and chosen.token == int(logits.argmax())
