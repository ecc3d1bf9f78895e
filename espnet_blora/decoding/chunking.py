"""Chunking of audio at pauses, what is quiet left out, and the joining of the chunks' texts."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from whisper.audio import N_SAMPLES

from espnet_blora.data.audio import FRAME, loudness
from espnet_blora.decoding.silence import may_be_speech, quiet_positions, runs

BESIDE = 12
"""Frames of 20 ms of a pause that stay beside speech, on each side."""

SMOOTHED = 7
"""Frames over which the quietest place is sought where there is no pause."""

SHORTEST = 25
"""Frames that stay on each side of such a place."""

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "THAI", "LAO", "KHMER", "MYANMAR")
"""How the names of characters begin between which no space is written."""


class Source(Protocol):
    """Audio at 16 kHz, mono, float32, in blocks, as often as asked."""

    @property
    def samples(self) -> int:
        """How many there are."""

    @property
    def loudness(self) -> np.ndarray:
        """That of each frame of 20 ms, (frames,) dB."""

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
    def loudness(self) -> np.ndarray:
        """That of each frame of 20 ms, (frames,) dB."""
        return loudness(self.wave)

    def __iter__(self) -> Iterator[np.ndarray]:
        yield self.wave


def cut(wave: Tensor, limit: int = N_SAMPLES) -> list[Tensor]:
    """Cut a wave (S,) at pauses into pieces of at most `limit` samples, which hold all of it."""
    found = spans(loudness(wave.numpy()), len(wave), limit, limit, drop_quiet=False)
    return [wave[begin:end] for begin, end in found]


def spans(
    levels: np.ndarray, samples: int, limit: int, merge: int, drop_quiet: bool = True
) -> list[tuple[int, int]]:
    """Find the pieces of a recording: from pause to pause, what is quiet left out.

    What is longer than `limit` between two pauses is cut where it is quietest. Neighbours are put
    together where they, and the pause between them, are not longer than `merge`.

    Args:
        levels: (frames,) dB, as `espnet_blora.data.audio.loudness` measures them.
        samples: How many there are.
        limit: Samples of a piece at most, 25 frames or more.
        merge: Samples of pieces that are put together at most, not above `limit`.
        drop_quiet: Leave out pauses, but for `BESIDE` frames beside speech, and what is nothing but
            silence, hum or steady noise. Without it the pieces hold every sample.

    Returns:
        The first sample and the last one + 1 of each piece, in order.
    """
    from scipy.ndimage import uniform_filter1d  # here: a fifth of a second that training saves

    smooth = uniform_filter1d(levels, SMOOTHED, mode="nearest")
    parts = [
        part
        for stretch in _stretches(quiet_positions(levels), BESIDE if drop_quiet else len(levels))
        for part in _divided(*stretch, smooth, limit // FRAME)
        if not drop_quiet or may_be_speech(levels[slice(*part)])
    ]
    merged: list[tuple[int, int]] = []
    for begin, end in parts:
        if merged and end - merged[-1][0] <= merge // FRAME:
            begin = merged.pop()[0]
        merged.append((begin, end))
    return [(begin * FRAME, min(end * FRAME, samples)) for begin, end in merged]


def _stretches(quiet: np.ndarray, beside: int) -> list[tuple[int, int]]:
    """Return where speech is, with `beside` frames before and behind it: the half of a pause."""
    begins, ends = runs(~quiet)
    if not len(begins):
        return [(0, len(quiet))]
    middles = (ends[:-1] + begins[1:]) // 2
    firsts = np.maximum(begins - beside, np.append(0, middles))
    lasts = np.minimum(ends + beside, np.append(middles, len(quiet)))
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _divided(begin: int, end: int, smooth: np.ndarray, limit: int) -> list[tuple[int, int]]:
    """Cut frames where they are quietest until no part is longer than `limit`."""
    done, waiting = [], [(begin, end)]
    while waiting:
        begin, end = waiting.pop()
        if end - begin <= limit:
            done.append((begin, end))
            continue
        least = min(SHORTEST, (end - begin) // 3)
        at = begin + least + int(smooth[begin + least : end - least].argmin())
        waiting += [(at, end), (begin, at)]
    return done


def slices(
    blocks: Iterable[Tensor], samples: int, pieces: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, Tensor]]:
    """Take pieces out of a wave that comes in blocks, holding about a piece of it at a time.

    Args:
        blocks: What the wave consists of, (S_i,) each.
        samples: How many they are together.
        pieces: The first sample and the last one + 1 of each, in order.

    Yields:
        The sample where a piece begins, and the piece.

    Raises:
        ValueError: Blocks that are not `samples` together.
    """
    source, held, first, read = iter(blocks), torch.zeros(0), 0, 0
    for begin, end in pieces:
        waiting = [held]
        while read < end:
            block = next(source, None)
            if block is None:
                raise _changed(samples, read)
            read += len(block)
            waiting.append(block)
            if read <= begin:  # nothing of it is in a piece
                waiting, first = [block[:0]], read
        held = torch.cat(waiting)[begin - first :]
        yield begin, held[: end - begin]
        held, first = held[end - begin :], end
    read += sum(map(len, source))
    if read != samples:
        raise _changed(samples, read)


def _changed(samples: int, read: int) -> ValueError:
    return ValueError(
        f"{samples} samples were expected, {read} are there: the audio has changed while it was "
        "read; transcribe it again"
    )


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
