"""Bytes of a training step, counted by tensor: with fake tensors no memory is needed for it."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class StepMemory(NamedTuple):
    """Bytes that tensors take in a training step.

    Attributes:
        weights: The model, and what else was given.
        optimiser: What the first step leaves: the optimiser's state, bases.
        step: What comes on top at the peak of a step: activations, gradients, temporary tensors;
            what kernels allocate inside is not seen.
    """

    weights: int
    optimiser: int
    step: int

    @property
    def peak(self) -> int:
        """All of it."""
        return sum(self)


class Live(TorchDispatchMode):
    """Count the bytes of all storages alive, made inside this context or given to `add`."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, int] = {}
        self.now = self.peak = 0

    def add(self, values: Any) -> None:
        """Count the storages of all tensors in `values` until they are freed."""
        for value in tree_leaves(values):
            if not isinstance(value, Tensor):
                continue
            storage = value.untyped_storage()
            key = storage._cdata
            if key in self.known:
                continue
            self.known[key] = storage.nbytes()
            self.now += self.known[key]
            weakref.finalize(storage, self._drop, key)
        self.peak = max(self.peak, self.now)

    def _drop(self, key: int) -> None:
        self.now -= self.known.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operation and count what it made."""
        result = func(*args, **(kwargs or {}))
        self.add(result)
        return result


def step_memory(tensors: Iterable[Tensor], step: Callable[[], None]) -> StepMemory:
    """Run two training steps, on whatever device; the first makes the optimiser's state.

    Args:
        tensors: What is there before: parameters, buffers, the batch.
        step: Forward, backward and update.
    """
    with Live() as live:
        live.add(list(tensors))
        weights = live.now
        step()
        live.peak = kept = live.now
        step()
    return StepMemory(weights, kept - weights, live.peak - kept)
