"""Sequences whose keys and values are still held: finds the one that a new prompt begins with.

Knows tokens, pictures and bytes. Does not know conversations' texts or how a cache was filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen_vl_app.engine.local.kv import KVCache

Unit = int | str
"""One position of a sequence: a token id, or for a picture's placeholder the picture's id. Two different pictures have the
same placeholder tokens, so tokens alone would take one picture for the other."""
FORK_SHARE = 0.25
"""A prompt that needs less of a held sequence than this gets a copy of the part, so that the long one is not cut."""


@dataclass(frozen=True, slots=True)
class Held:
    """A sequence at rest."""

    units: tuple[Unit, ...]
    cache: KVCache
    key: str | None


def common_prefix(left: Sequence[Unit], right: Sequence[Unit]) -> int:
    """Return how many positions two sequences share from the start."""
    shared = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        shared += 1
    return shared


class PrefixStore:
    """Held sequences in the order of their use, within `budget_bytes`; the last one stays even where it is over."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._held: list[Held] = []

    def take(self, units: Sequence[Unit], key: str | None, *, layers: int) -> KVCache:
        """Return a cache whose committed tokens are the longest known beginning of `units`, never all of them.

        At least one token is left to feed, because the next word comes from feeding it.
        """
        best: Held | None = None
        shared = 0
        for held in self._held:
            here = min(common_prefix(held.units, units), len(units) - 1)
            if here > shared:
                best, shared = held, here
        if best is None:
            return KVCache(layers)
        if best.key != key or shared < len(best.units) * FORK_SHARE:
            self._held.remove(best)
            self._held.append(best)
            return best.cache.fork(shared)
        self._held.remove(best)
        best.cache.truncate(shared)
        return best.cache

    def keep(self, units: Sequence[Unit], cache: KVCache, key: str | None) -> None:
        """Hold a sequence for later prompts; older ones leave where the budget asks for it."""
        if not cache.length:
            return
        self._held = [held for held in self._held if key is None or held.key != key]
        self._held.append(Held(tuple(units[: cache.length]), cache, key))
        while len(self._held) > 1 and self.nbytes > self._budget_bytes:
            self._held.pop(0)

    def emptied(self) -> PrefixStore:
        """Return a store of the same budget that holds nothing."""
        return PrefixStore(self._budget_bytes)

    def clear(self) -> None:
        """Let everything go."""
        self._held.clear()

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(held.cache.nbytes for held in self._held)
