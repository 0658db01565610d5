"""The choice of one token from its logits: greedy, or temperature, top-k and top-p in the order the library has them.

Knows one row of numbers. Does not know what the tokens mean. No repetition penalty, whatever a model's own settings say:
it corrupts tables and serial numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qwen_vl_app.chat import SamplingParams
from qwen_vl_app.engine.local.grammar import HeldForm

LEAST_TEMPERATURE = 1e-30
"""Below this the likeliest token is as good as certain, and a division by less goes beyond what a number can hold."""


@dataclass(frozen=True, slots=True)
class Likely:
    """A token that could have been chosen, and the logarithm of its probability."""

    token: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Choice:
    """A token and the logarithm of the probability that the model itself gave it.

    `allowed` is that of all tokens together that the answer's form left. After the token that `is_last` none may follow.
    """

    token: int
    logprob: float
    allowed: float = 0.0
    likely: tuple[Likely, ...] = ()
    is_last: bool = False


class Sampler:
    """Chooses the tokens of one answer. With a seed, the same numbers give the same tokens on the same device."""

    def __init__(self, params: SamplingParams, device: torch.device, *, form: HeldForm | None = None) -> None:
        self._params = params
        self._form = form
        self._generator: torch.Generator | None = None
        if params.temperature > 0:
            self._generator = torch.Generator(device)
            if params.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(params.seed)

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor) -> Choice | None:
        """Return the next token for `logits` of shape `(vocabulary,)`; None where the answer's form leaves none."""
        logits = logits.float()
        if self._form is None and self._params.top_logprobs == 0:
            if self._generator is None and logits.device.type == "cpu":
                # NumPy finds the largest of 152,000 numbers in 6 microseconds, torch in 80.
                token = torch.tensor(logits.numpy().argmax())
            else:
                token = logits.argmax() if self._generator is None else self._drawn(logits)
            # Not `logits[token]`, for which torch asks the card what number that is.
            logprob = logits.gather(0, token.view(1))[0] - logits.logsumexp(dim=-1)
            # Both numbers come from a graphics card at once: each waiting for it costs as much as a dozen of its kernels.
            chosen, likelihood = torch.stack((token.double(), logprob.double())).tolist()
            return Choice(int(chosen), likelihood)
        possible = logits if self._form is None else self._form.narrowed(logits)
        if possible is None:
            return None
        index = int((possible.argmax() if self._generator is None else self._drawn(possible)).item())
        all_of_it = logits.logsumexp(dim=-1)
        logprob_of_it = float(logits[index] - all_of_it)
        likely = self._likely(logits - all_of_it) if self._params.top_logprobs > 0 else ()
        if self._form is None or possible is logits:
            return Choice(index, logprob_of_it, likely=likely)
        self._form.accept(index)
        allowed = float(possible.logsumexp(dim=-1) - all_of_it)
        return Choice(index, logprob_of_it, allowed=min(allowed, 0.0), likely=likely, is_last=self._form.is_over)

    def _likely(self, logprobs: torch.Tensor) -> tuple[Likely, ...]:
        found = logprobs.topk(min(self._params.top_logprobs, logprobs.shape[-1]))
        return tuple(map(Likely, found.indices.tolist(), found.values.tolist()))

    def _drawn(self, logits: torch.Tensor) -> torch.Tensor:
        params = self._params
        scores = logits / max(params.temperature, LEAST_TEMPERATURE)
        if params.top_k > 0:
            least = scores.topk(min(params.top_k, scores.shape[-1])).values[-1]
            scores = scores.masked_fill(scores < least, -math.inf)
        if params.top_p < 1.0:
            ascending, order = scores.sort(descending=False)
            unlikely = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - params.top_p
            unlikely[-1] = False
            scores = scores.masked_fill(unlikely.scatter(0, order, unlikely), -math.inf)
        return torch.multinomial(scores.softmax(dim=-1), num_samples=1, generator=self._generator)[0]
