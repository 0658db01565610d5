"""Pictures that arrived and wait for their question: bounded in bytes, apart by owner, gone after a while.

Knows staged pictures and clocks. Does not know how they are made, or what will be asked about them. Nothing here is on
the disk: what was never asked is never kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from qwen_vl_app.chat import StagedPicture
from qwen_vl_app.errors import UsageError

BYTES_PER_OWNER = 512 * 2**20
BYTES_IN_ALL = 2 * 2**30
LIFETIME_S = 2 * 3600.0


@dataclass(slots=True)
class _Waiting:
    picture: StagedPicture
    byte_count: int
    touched_at: float
    arrived_at: datetime


class StagingArea:
    """Holds pictures by owner and `staged_id`. Any thread; what nobody touched for `lifetime_s` is let go."""

    def __init__(
        self,
        *,
        bytes_per_owner: int = BYTES_PER_OWNER,
        bytes_in_all: int = BYTES_IN_ALL,
        lifetime_s: float = LIFETIME_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bytes_per_owner = bytes_per_owner
        self._bytes_in_all = bytes_in_all
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: OrderedDict[tuple[str, str], _Waiting] = OrderedDict()
        """By owner and id, the longest untouched first."""

    def put(self, owner: str, picture: StagedPicture) -> None:
        """Hold a picture. An owner's own longest untouched ones make room; raises UsageError where that is not enough."""
        count = bytes_of(picture)
        with self._lock:
            self._sweep()
            if count > min(self._bytes_per_owner, self._bytes_in_all):
                raise UsageError("staging.too_much", limit=self._bytes_per_owner)
            own = [key for key in self._waiting if key[0] == owner]
            held, everybody = sum(self._waiting[key].byte_count for key in own), self._total()
            while own and (held + count > self._bytes_per_owner or everybody + count > self._bytes_in_all):
                freed = self._waiting.pop(own.pop(0)).byte_count
                held, everybody = held - freed, everybody - freed
            if everybody + count > self._bytes_in_all:
                raise UsageError("staging.too_much", limit=self._bytes_in_all)
            self._waiting[owner, picture.staged_id] = _Waiting(picture, count, self._clock(), datetime.now(UTC))

    def get(self, owner: str, staged_id: str) -> StagedPicture:
        """Return a picture and count it as touched. Raises UsageError where it is gone, or another owner's."""
        with self._lock:
            self._sweep()
            waiting = self._waiting.get((owner, staged_id))
            if waiting is None:
                raise UsageError("staging.gone")
            waiting.touched_at = self._clock()
            self._waiting.move_to_end((owner, staged_id))
            return waiting.picture

    def discard(self, owner: str, staged_ids: Iterable[str]) -> None:
        """Let pictures go; those that are gone already are no mistake."""
        with self._lock:
            for staged_id in staged_ids:
                self._waiting.pop((owner, staged_id), None)

    def discard_all(self, owner: str) -> None:
        """Let go of everything that waits for one owner."""
        with self._lock:
            for key in [key for key in self._waiting if key[0] == owner]:
                del self._waiting[key]

    def discard_period(self, owner: str, since: datetime, until: datetime) -> None:
        """Let go of what waits for one owner and arrived from `since` on and before `until`."""
        with self._lock:
            for key, waiting in list(self._waiting.items()):
                if key[0] == owner and since <= waiting.arrived_at < until:
                    del self._waiting[key]

    def clear(self) -> None:
        """Let everything go."""
        with self._lock:
            self._waiting.clear()

    def _sweep(self) -> None:
        too_old = self._clock() - self._lifetime_s
        while self._waiting:
            key, waiting = next(iter(self._waiting.items()))
            if waiting.touched_at > too_old:
                return
            del self._waiting[key]

    def _total(self) -> int:
        return sum(waiting.byte_count for waiting in self._waiting.values())


def bytes_of(picture: StagedPicture) -> int:
    """Return how much memory a staged picture takes."""
    return len(picture.upload) + len(picture.view) + len(picture.thumbnail) + len(picture.seen_png)
