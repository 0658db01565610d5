"""How long a child may still work on a file: so much processor time of its own, with a wall clock behind it.

Knows numbers only. On a busy machine a good picture waits for its turn and is read; a file that computes without end, or
stands still, is given up on time.
"""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE = 4
"""Times the limit that a child may take by the wall clock where others keep the processor from it."""
_STANDSTILL = 0.02
"""Share of a processor below which a child is hanging, not waiting for its turn."""
_SHORTEST_WAIT_S = 0.05


@dataclass(slots=True)
class WorkClock:
    """The clock of one step. Up to `limit_s` by the wall clock nobody needs to look at it."""

    limit_s: float
    _looked_s: float = 0.0
    _used_s: float = 0.0

    def left_s(self, *, wall_s: float, cpu_s: float) -> float:
        """Return the seconds until somebody should look again, given both times since the step began; 0: time is up."""
        if wall_s < self.limit_s:
            return self.limit_s - wall_s
        since_s, gained_s = wall_s - self._looked_s, cpu_s - self._used_s
        self._looked_s, self._used_s = wall_s, cpu_s
        is_over = cpu_s >= self.limit_s or wall_s >= PATIENCE * self.limit_s
        if is_over or gained_s < _STANDSTILL * since_s:
            return 0.0
        return max(_SHORTEST_WAIT_S, min(self.limit_s - cpu_s, PATIENCE * self.limit_s - wall_s))
