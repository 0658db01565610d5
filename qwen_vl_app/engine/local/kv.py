"""One sequence's keys and values: written layer by layer, committed token by token, cut back to any length.

Knows tensors and a length. Does not know which tokens they belong to; `prefixes` does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

GROWTH_TOKENS = 256
"""Room is added in steps of this many tokens, so that decoding does not copy the whole cache for each token."""


class KVCache:
    """Keys and values of every layer, each `(1, kv_heads, capacity, head_dim)`, of which `length` tokens are valid.

    Speaks the one method the decoder layers call, `update`. What they write becomes part of the sequence only by
    `commit`, after all layers ran: a pass that was stopped half-way leaves the sequence as it was.
    """

    def __init__(self, layers: int) -> None:
        self._keys: list[torch.Tensor | None] = [None] * layers
        self._values: list[torch.Tensor | None] = [None] * layers
        self._reserved = 0
        self.length = 0

    def reserve(self, tokens: int) -> None:
        """Make the next growth large enough for `tokens` in all."""
        self._reserved = max(self._reserved, tokens)

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values `(1, kv_heads, n, head_dim)` behind the committed ones; return all of them, as views."""
        end = self.length + keys.shape[2]
        all_keys = self._keys[layer] = self._grown(self._keys[layer], keys, end)
        all_values = self._values[layer] = self._grown(self._values[layer], values, end)
        all_keys[:, :, self.length : end] = keys
        all_values[:, :, self.length : end] = values
        return all_keys[:, :, :end], all_values[:, :, :end]

    def read(self, layer: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the committed keys and values of a layer, as views; None where nothing was written yet."""
        keys, values = self._keys[layer], self._values[layer]
        if keys is None or values is None:
            return None
        return keys[:, :, : self.length], values[:, :, : self.length]

    def commit(self, tokens: int) -> None:
        """Count the last `tokens` written by every layer as part of the sequence."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        self.length = min(self.length, length)

    def fork(self, length: int, moved: Callable[[torch.Tensor], torch.Tensor] = torch.clone) -> KVCache:
        """Return a copy of the first `length` tokens; `moved` copies a tensor, perhaps to another device."""
        copy = KVCache(len(self._keys))
        copy.length = min(self.length, length)
        copy._keys = [None if part is None else moved(part[:, :, : copy.length]) for part in self._keys]
        copy._values = [None if part is None else moved(part[:, :, : copy.length]) for part in self._values]
        return copy

    @property
    def nbytes(self) -> int:
        """Memory held, with the room for growth."""
        return sum(part.nbytes for part in (*self._keys, *self._values) if part is not None)

    def _grown(self, held: torch.Tensor | None, new: torch.Tensor, end: int) -> torch.Tensor:
        if held is not None and held.shape[2] >= end:
            return held
        capacity = -(-max(end, self._reserved) // GROWTH_TOKENS) * GROWTH_TOKENS
        grown = new.new_empty((new.shape[0], new.shape[1], capacity, new.shape[3]))
        if held is not None:
            grown[:, :, : self.length] = held[:, :, : self.length]
        return grown
