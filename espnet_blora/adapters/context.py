"""The step, the seed and the switches that all adapter layers of one model share.

Noise is a function of (seed, step, rank, layer index) and of nothing else, so that a resumed run
draws what the uninterrupted one would have drawn, and a recomputed forward (gradient
checkpointing) draws the same noise again.
"""

import hashlib
import struct
from dataclasses import dataclass, field

import torch


@dataclass
class Draws:
    """Draws from the posterior that last as long as a `sampling()` context.

    Attributes:
        seeds: One per draw.
        spread: Factor on every sigma, 1 for the posterior itself.
        kept: What layers have drawn, so that no forward draws it again.
    """

    seeds: tuple[int, ...]
    spread: float = 1.0
    kept: dict = field(default_factory=dict)


@dataclass
class Context:
    """What the layers of one adapter share: plain values, so that reading them never syncs a GPU.

    Attributes:
        seed: Of the training noise.
        step: Micro-batches trained on.
        updates: Steps of the optimiser, for methods that work after each.
        factor: Scale put on the update at decoding.
        disabled: Whether the update is left out.
        draws: Set inside `sampling()` and `sampling_batch()`.
        called: Indices of the layers that were called in the first training step, while it runs.
    """

    seed: int = 0
    step: int = 0
    updates: int = 0
    factor: float = 1.0
    disabled: bool = False
    draws: Draws | None = None
    called: set[int] | None = None


def processes() -> tuple[int, int]:
    """Return this process's rank in torch.distributed and the number of ranks; (0, 1) without."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def mix(*numbers: int) -> int:
    """Return a well-mixed 63-bit seed from whole numbers."""
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    digest = hashlib.blake2b(packed, digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def sample_seeds(seed: int, samples: int) -> tuple[int, ...]:
    """Return the seeds of `samples` draws that one seed stands for; those of fewer come first."""
    return tuple(mix(seed, sample) for sample in range(samples))


def noise_generator(context: Context, index: int, device: torch.device) -> torch.Generator | None:
    """Return the generator of layer `index` for this step of training (None on meta)."""
    return seeded(device, context.seed, context.step, processes()[0], index)


def seeded(device: torch.device, *numbers: int) -> torch.Generator | None:
    """Return a generator on `device` with the seed `mix(*numbers)` (None on meta)."""
    if device.type == "meta":
        return None
    return torch.Generator(device=device).manual_seed(mix(*numbers))
