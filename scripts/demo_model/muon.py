"""Muon for many small matrices at once: Newton-Schulz steps run on stacks of equal shape, shared out over the processes.

It knows gradients and shapes only. The method is Keller Jordan's; stacking is what makes it quick on two cores.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(stack: Tensor, *, steps: int = 5) -> Tensor:
    """Return the nearest orthogonal matrices, roughly, for a stack (N, rows, columns) with rows <= columns."""
    x: torch.Tensor = stack.bfloat16()
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).bfloat16()
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    orthogonal: torch.Tensor = x.float()
    return orthogonal


class Muon:
    """Momentum, orthogonalised. Each process works on its share of the stacks and the results are exchanged."""

    def __init__(self, parameters: list[Tensor], *, momentum: float = 0.95) -> None:
        self.momentum = momentum
        self.groups: list[list[Tensor]] = []
        shapes: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for p in parameters:
            flat = p.shape[0], p[0].numel()
            shapes[min(flat), max(flat)].append(p)
        for shape in sorted(shapes):
            members = shapes[shape]
            # Halves of a stack are still stacks, and two processes then have equal shares.
            half = (len(members) + 1) // 2
            self.groups += [g for g in (members[:half], members[half:]) if g]
        self.buffers = [torch.zeros_like(p) for g in self.groups for p in g]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the parameters by `rate` along their orthogonalised momentum."""
        world = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if dist.is_initialized() else 0
        updates: list[Tensor] = []
        start = 0
        for number, members in enumerate(self.groups):
            shape = sorted((members[0].shape[0], members[0][0].numel()))
            stack = torch.zeros(len(members), *shape)
            for i, p in enumerate(members):
                buffer = self.buffers[start + i]
                assert p.grad is not None
                buffer.lerp_(p.grad, 1 - self.momentum)
                if number % world == rank:
                    matrix = torch.lerp(p.grad, buffer, self.momentum).flatten(1)
                    stack[i] = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
            if number % world == rank:
                stack = orthogonal(stack)
            updates.append(stack)
            start += len(members)
        if world > 1:
            everything = torch.cat([u.flatten() for u in updates])
            dist.all_reduce(everything)
            updates = [
                v.view_as(u)
                for v, u in zip(torch.split(everything, [u.numel() for u in updates]), updates, strict=True)
            ]
        for members, stack in zip(self.groups, updates, strict=True):
            for p, matrix in zip(members, stack, strict=True):
                rows, columns = p.shape[0], p[0].numel()
                turned = matrix if rows <= columns else matrix.T
                p.sub_(turned.reshape(p.shape), alpha=rate * max(1.0, rows / columns) ** 0.5)

    def state_dict(self) -> dict[str, Any]:
        """Return the momentum buffers."""
        return {"buffers": self.buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over momentum buffers that were kept."""
        for mine, kept in zip(self.buffers, state["buffers"], strict=True):
            mine.copy_(kept)
