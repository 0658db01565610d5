"""The text model's layers as this app runs them: few calls a layer, and the cache's own keys and values.

Knows the decoder of both families, which differ by biases and by norms over the heads. Takes the weights out of the
library's layers, which cannot be called any more. Does not know prompts, positions of pictures or what is sampled.

A pass of one token is mostly memory traffic, and what it costs beside that is Python: about thirty calls a layer in the
library, about twenty here. Where keys and values go is not the layers' business: that is `Attending`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.functional import rms_norm

from qwen_vl_app.engine.local.products import DENSE, Product, ProductKind, merged

RERANKED = 64
"""Candidates of the eight-bit head whose logits are computed again at full precision."""


class Attending(Protocol):
    """Where keys and values go and what a query sees of them: one sequence, or one token of several."""

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, number: int) -> torch.Tensor:
        """Take (tokens, heads, size) of layer `number`, keep keys and values, return (tokens, heads * size)."""
        ...


@dataclass(frozen=True, slots=True)
class Heads:
    """How the rows of a projection fall into heads."""

    query: int
    shared: int
    size: int


class TextLayer:
    """One decoder layer over (tokens, hidden)."""

    def __init__(self, layer: Any, heads: Heads, *, eps: float, products: ProductKind) -> None:
        dtype = products.activations or layer.input_layernorm.weight.dtype
        device = layer.input_layernorm.weight.device
        attention, mlp = layer.self_attn, layer.mlp
        self._heads = heads
        self._eps = eps
        self._norm_before = layer.input_layernorm.weight.to(dtype)
        self._norm_between = layer.post_attention_layernorm.weight.to(dtype)
        self._norm_query = attention.q_norm.weight.to(dtype) if hasattr(attention, "q_norm") else None
        self._norm_key = attention.k_norm.weight.to(dtype) if hasattr(attention, "k_norm") else None
        self._query_key_value: Product = merged(
            (attention.q_proj, attention.k_proj, attention.v_proj), products, device
        )
        self._out: Product = merged((attention.o_proj,), products, device)
        self._gate_up: Product = merged((mlp.gate_proj, mlp.up_proj), products, device)
        self._down: Product = merged((mlp.down_proj,), products, device)
        self._act = mlp.act_fn

    @property
    def nbytes(self) -> int:
        """Memory of the products' weights."""
        return sum(product.nbytes for product in (self._query_key_value, self._out, self._gate_up, self._down))

    def __call__(
        self, hidden: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor], attending: Attending, number: int
    ) -> torch.Tensor:
        """Return the new hidden states; `attending` gets the keys and values of layer `number`."""
        normed = rms_norm(hidden, hidden.shape[-1:], self._norm_before, self._eps)
        query, key, value = self._projected(normed, rotary)
        hidden = hidden + self._out(attending.attend(query, key, value, number))
        normed = rms_norm(hidden, hidden.shape[-1:], self._norm_between, self._eps)
        gate, up = self._gate_up(normed).chunk(2, dim=-1)
        return hidden + self._down(self._act(gate).mul_(up))

    def _projected(
        self, normed: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        heads = self._heads
        rows = self._query_key_value(normed).view(normed.shape[0], heads.query + 2 * heads.shared, heads.size)
        query, key, value = torch.split(rows, [heads.query, heads.shared, heads.shared], dim=1)
        if self._norm_query is not None and self._norm_key is not None:
            query = rms_norm(query, (heads.size,), self._norm_query, self._eps)
            key = rms_norm(key, (heads.size,), self._norm_key, self._eps)
        return _rotated(query, rotary), _rotated(key, rotary), value


def _rotated(heads: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = rotary
    left, right = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat((-right, left), dim=-1) * sin


def _give_back(device: torch.device) -> None:
    # Two weights that became one leave places into which no later one fits: half a model's size in all, if torch keeps them.
    # A full card makes it let go on Linux; Windows lays the last layers into the host's memory instead, where they stay.
    if device.type == "cuda":
        torch.cuda.empty_cache()


class TextModel:
    """The layers in their order, the norm behind them, and the head that makes logits."""

    def __init__(self, module: Any, *, products: ProductKind = DENSE) -> None:
        text, config = module.model.language_model, module.config.text_config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.heads = Heads(int(config.num_attention_heads), int(config.num_key_value_heads), int(head_dim))
        self._eps = float(config.rms_norm_eps)
        self._rotary = text.rotary_emb
        self._embedding: torch.Tensor = text.embed_tokens.weight.detach()
        self._head: torch.Tensor = module.lm_head.weight.detach()
        self.dtype = products.activations or self._embedding.dtype
        self._norm = text.norm.weight.detach().to(self.dtype)
        self._quick_head = products.make(self._head, None, self._head.device) if products.has_quick_head else None
        self.layers: list[TextLayer] = []
        for layer in text.layers:
            self.layers.append(TextLayer(layer, self.heads, eps=self._eps, products=products))
            _give_back(self._norm.device)

    @property
    def token_bytes(self) -> int:
        """Bytes of weights that a pass of one token reads."""
        head = self._head.nbytes if self._quick_head is None else self._quick_head.nbytes
        return head + sum(layer.nbytes for layer in self.layers)

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Return (tokens, hidden) for (tokens,)."""
        return torch.nn.functional.embedding(token_ids, self._embedding).to(self.dtype)

    def rotary(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines, each (tokens, 1, head_dim), for positions (3, tokens)."""
        like = self._norm[:1]
        cos, sin = self._rotary(like, positions[:, None])
        return cos[0].unsqueeze(1), sin[0].unsqueeze(1)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return (tokens, vocabulary) for (tokens, hidden).

        With weights of eight bits, the head's own copy of eight bits only finds who is in the running: the best
        candidates' logits are then computed from the weights as they were published.
        """
        normed = rms_norm(hidden, hidden.shape[-1:], self._norm, self._eps)
        if self._quick_head is None:
            return torch.nn.functional.linear(normed, self._head)
        logits = self._quick_head(normed)
        best = logits.topk(min(RERANKED, logits.shape[1])).indices
        exact = self._head[best].to(self.dtype) @ normed.unsqueeze(-1)
        return logits.scatter_(1, best, exact.squeeze(-1))
