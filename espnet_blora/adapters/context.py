"""What all adapter layers of one model share: the step, the seed and the switches.

Noise is a function of (seed, step, rank, layer index) and of nothing else, so that a resumed run
draws what the uninterrupted one would have drawn, and a recomputed forward (gradient
checkpointing) draws the same noise again.
"""

import hashlib
import struct
from dataclasses import dataclass

import torch


@dataclass
class Context:
    """Shared by the layers of one adapter; plain values, so that reading them never syncs a GPU.

    seed: of the training noise. step: micro-batches trained on. updates: steps of the optimiser,
    for methods that work after each. factor: scale put on the update at decoding. disabled: the
    update is left out. sample_seed: set inside `sampling()`.
    """

    seed: int = 0
    step: int = 0
    updates: int = 0
    factor: float = 1.0
    disabled: bool = False
    sample_seed: int | None = None


def rank_of_process() -> int:
    """Return this process's rank in torch.distributed, 0 without it."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return 0


def mix(*numbers: int) -> int:
    """Return a well-mixed 63-bit seed from whole numbers."""
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    digest = hashlib.blake2b(packed, digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def noise_generator(context: Context, index: int, device: torch.device) -> torch.Generator | None:
    """Return the generator of layer `index` for this step (None on the meta device).

    Inside `sampling()` it depends on that seed and the layer alone: every forward in there sees
    the same draw.
    """
    if device.type == "meta":
        return None
    if context.sample_seed is not None:
        seed = mix(context.sample_seed, index)
    else:
        seed = mix(context.seed, context.step, rank_of_process(), index)
    return torch.Generator(device=device).manual_seed(seed)
