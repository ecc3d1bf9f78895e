"""Chunking of long audio at quiet places, and the joining of the chunks' texts."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from whisper.audio import N_SAMPLES

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "THAI", "LAO", "KHMER", "MYANMAR")
"""How the names of characters begin between which no space is written."""


class Source(Protocol):
    """Audio at 16 kHz, mono, float32, in blocks, as often as asked."""

    @property
    def samples(self) -> int:
        """How many there are."""

    @property
    def head(self) -> np.ndarray:
        """The first 30 s of them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about it."""

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


def cut(wave: Tensor, limit: int = N_SAMPLES, frame: int = 320) -> list[Tensor]:
    """Cut a wave (S,) into the fewest pieces of at most `limit` samples, at quiet places.

    Each cut is put at the quietest frame within a tenth of a piece around the even division.
    """
    return [piece for _, piece in cut_stream([wave], len(wave), limit, frame)]


def cut_stream(
    blocks: Iterable[Tensor], samples: int, limit: int = N_SAMPLES, frame: int = 320
) -> Iterator[tuple[int, Tensor]]:
    """Cut a wave that comes in blocks as `cut` does, holding about a piece of it at a time.

    Args:
        blocks: what the wave consists of, (S_i,) each.
        samples: how many they are together.
        limit: samples of a piece at most; at least 25 frames.
        frame: samples over which loudness is taken.

    Yields:
        the sample where a piece begins, and the piece.

    Raises:
        ValueError: blocks that are not `samples` together.
    """
    source, held, begin, read = iter(blocks), [], 0, 0

    def fetch(end: int) -> Tensor:
        """Return what is held, after reading on until sample `end` is there."""
        nonlocal read
        while read < end:
            block = next(source, None)
            if block is None:
                raise ValueError(f"{samples} samples were expected, the blocks hold {read}")
            read += len(block)
            held.append(block)
        held[:] = [held[0] if len(held) == 1 else torch.cat(held)]
        return held[0]

    for low, high in _windows(samples, limit):
        wave = fetch(high)
        energy = wave[low - begin : high - begin].float().unfold(0, frame, frame).pow(2).sum(1)
        end = low + int(energy.argmin()) * frame + frame // 2
        yield begin, wave[: end - begin]
        held[:] = [wave[end - begin :]]
        begin = end
    rest = fetch(samples) if samples else torch.zeros(0)
    more = read - samples + sum(map(len, source))
    if more:
        raise ValueError(f"{samples} samples were expected, the blocks hold {samples + more}")
    yield begin, rest


def n_pieces(samples: int, limit: int = N_SAMPLES) -> int:
    """Into how many pieces a wave is cut."""
    return len(_windows(samples, limit)) + 1


def _windows(samples: int, limit: int) -> list[tuple[int, int]]:
    """Where each cut of a wave may lie: (first sample, last sample + 1), in order."""
    if samples <= limit:
        return []
    n = math.ceil(samples / (limit * 0.8))  # leaves a tenth of a piece of play on each side
    size = samples / n
    return [(int(k * size - size / 10), int(k * size + size / 10)) for k in range(1, n)]


def joined(texts: Sequence[str]) -> str:
    """Texts of neighbouring pieces as one: a space between, none between Han, Kana or Thai.

    Blanks of any kind become one space; empty texts leave no trace.
    """
    texts = [stripped for text in texts if (stripped := " ".join(text.split()))]
    whole = texts[:1]
    for before, text in itertools.pairwise(texts):
        whole.append(text if _unspaced(before[-1]) and _unspaced(text[0]) else f" {text}")
    return "".join(whole)


def _unspaced(char: str) -> bool:
    """Whether a character's script is written without spaces; so is its full-width punctuation."""
    full_width = unicodedata.east_asian_width(char) in "WF" and not char.isalpha()
    return full_width or unicodedata.name(char, "").startswith(_UNSPACED)
