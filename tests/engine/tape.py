"""A CUDA graph's behaviour on a processor: a step's operations are noted once and run again on the very same tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST_READS = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "_assert_async"}


def _storages(value: Any) -> set[int]:
    return {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)}


class _Notes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result


class TapeRecorder:
    """A `Recorder` that replays operations and runs none of the step's Python again, as a captured graph does.

    A step that reads a number on the host is refused, as capturing it would be.
    """

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0
        self.names: set[str] = set()

    def record(self, body: Any) -> Any:
        with _Notes() as notes:
            out = body()
        self.recorded += 1
        self.names |= {func._schema.name.removeprefix("aten::") for func, _, _, _ in notes.operations}
        assert not self.names & HOST_READS, self.names & HOST_READS

        def replay() -> Any:
            self.replayed += 1
            with torch.inference_mode():
                for func, args, kwargs, result in notes.operations:
                    if func._schema.is_mutable:
                        func(*args, **kwargs)
                    elif not (_storages(result) & _storages((args, kwargs))):
                        again = func(*args, **kwargs)
                        for held, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                            if isinstance(held, torch.Tensor):
                                held.copy_(new)
            return out

        return replay
