"""What is transcribed: audio that may be too long to hold, or a wave in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from whisper.audio import N_SAMPLES


class Source(Protocol):
    """Audio at 16 kHz, mono, float32, in blocks, as often as asked.

    samples: how many there are. head: the first 30 s of them. notes: what is odd about it.
    """

    samples: int
    head: np.ndarray
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield its blocks, (samples,) each."""


@dataclass(frozen=True, eq=False)
class Wave:
    """A wave in memory as a `Source`."""

    wave: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Tensor | np.ndarray) -> Wave:
        """Take samples at 16 kHz.

        Raises:
            ValueError: not (samples,), none, no floats, or NaN or infinite ones.
        """
        wave = torch.as_tensor(given)
        if wave.dim() != 1 or not len(wave) or not wave.is_floating_point():
            raise ValueError(
                f"a wave of shape {tuple(wave.shape)} and {wave.dtype}; allowed: (samples,), one "
                "or more, in floats"
            )
        if not torch.isfinite(wave).all():
            raise ValueError("NaN or infinite samples")
        return cls(wave.detach().float().cpu().numpy())

    @property
    def samples(self) -> int:
        """How many."""
        return len(self.wave)

    @property
    def head(self) -> np.ndarray:
        """The first 30 s."""
        return self.wave[:N_SAMPLES]

    def __iter__(self) -> Iterator[np.ndarray]:
        yield self.wave
