"""Sequences whose keys and values are still held: finds the one that a new prompt begins with.

Knows tokens, pictures and bytes, of the sequences that answers are using as well as of those at rest. Does not know
conversations' texts or how a cache was filled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from qwen_vl_app.engine.local.hardware import is_out_of_memory
from qwen_vl_app.engine.local.kv import KVCache

log = logging.getLogger(__name__)

Unit = int | str
"""One position of a sequence: a token id, or for a picture's placeholder the picture's id. Two different pictures have the
same placeholder tokens, so tokens alone would take one picture for the other."""
FORK_SHARE = 0.25
"""A prompt that needs less of a held sequence than this gets a copy of the part, so that the long one is not cut."""


@dataclass(slots=True, eq=False)
class Held:
    """A sequence at rest. `is_away` where it lies in the host's memory and not in the device's."""

    units: tuple[Unit, ...]
    cache: KVCache
    key: str | None
    is_away: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """Where sequences may lie that nobody asks about: `budget_bytes` of the host's memory, and the ways there and back."""

    budget_bytes: int
    away: Callable[[torch.Tensor], torch.Tensor]
    back: Callable[[torch.Tensor], torch.Tensor]


def common_prefix(left: Sequence[Unit], right: Sequence[Unit]) -> int:
    """Return how many positions two sequences share from the start."""
    shared = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        shared += 1
    return shared


class PrefixStore:
    """Held sequences in the order of their use, which with the running ones stay within `budget_bytes`.

    What is over goes to rest in the host's memory where there is a `rest`, else it leaves, the oldest first.
    """

    def __init__(self, budget_bytes: int, *, rest: Rest | None = None) -> None:
        self._budget_bytes = budget_bytes
        self._rest = rest
        self._held: list[Held] = []
        self._running: dict[KVCache, int] = {}
        """Caches that were taken, and the bytes that each of them is going to need."""

    def take(self, units: Sequence[Unit], key: str | None, *, layers: int) -> KVCache:
        """Return a cache whose committed tokens are the longest known beginning of `units`, never all of them.

        At least one token is left to feed, because the next word comes from feeding it. The cache counts as running
        until it is given to `keep`.
        """
        cache = self._found(units, key) or KVCache(layers)
        self._running[cache] = cache.nbytes
        return cache

    def make_room(self, cache: KVCache, nbytes: int) -> None:
        """Tell that a running cache is going to need so many bytes; held sequences go where there is not room for all."""
        self._running[cache] = nbytes
        self._shrink(keep_last=0)

    def keep(self, units: Sequence[Unit], cache: KVCache, key: str | None) -> None:
        """Hold a sequence that is not running any more; the one kept last stays even where it is over the budget."""
        self._running.pop(cache, None)
        if not cache.length:
            return
        self._held = [held for held in self._held if key is None or held.key != key]
        self._held.append(Held(tuple(units[: cache.length]), cache, key))
        self._shrink(keep_last=1)

    def emptied(self) -> PrefixStore:
        """Return a store of the same budgets that holds nothing."""
        return PrefixStore(self._budget_bytes, rest=self._rest)

    def clear(self) -> None:
        """Let everything go that is not running."""
        self._held.clear()

    @property
    def nbytes(self) -> int:
        """Memory held on the device, the running sequences not counted."""
        return sum(held.cache.nbytes for held in self._held if not held.is_away)

    @property
    def running_bytes(self) -> int:
        """Memory that the running sequences have or are going to have."""
        return sum(max(cache.nbytes, wanted) for cache, wanted in self._running.items())

    @property
    def resting_bytes(self) -> int:
        """Memory held in the host's memory."""
        return sum(held.cache.nbytes for held in self._held if held.is_away)

    def _found(self, units: Sequence[Unit], key: str | None) -> KVCache | None:
        best: Held | None = None
        shared = 0
        for held in self._held:
            here = min(common_prefix(held.units, units), len(units) - 1)
            if here > shared:
                best, shared = held, here
        if best is None:
            return None
        self._held.remove(best)
        is_copied = best.key != key or shared < len(best.units) * FORK_SHARE
        if is_copied:
            self._held.append(best)
        if best.is_away and self._rest is not None:
            return best.cache.fork(shared, self._rest.back)
        if is_copied:
            return best.cache.fork(shared)
        best.cache.truncate(shared)
        return best.cache

    def _shrink(self, *, keep_last: int) -> None:
        here = [held for held in self._held[: len(self._held) - keep_last] if not held.is_away]
        for held in here:
            if self.nbytes + self.running_bytes <= self._budget_bytes:
                break
            self._send_away(held)
        if self._rest is not None:
            for held in [held for held in self._held if held.is_away]:
                if self.resting_bytes <= self._rest.budget_bytes:
                    break
                self._held.remove(held)

    def _send_away(self, held: Held) -> None:
        rest = self._rest
        if rest is None or held.cache.nbytes > rest.budget_bytes:
            self._held.remove(held)
            return
        try:
            held.cache = held.cache.fork(held.cache.length, rest.away)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # The host is short of memory as well. Whoever needs the room must not fail for that.
            log.info("a sequence was not kept: the host's memory is short")
            self._held.remove(held)
            return
        held.is_away = True
