"""Where nobody speaks, and an alignment's path that does not lead through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PAUSE = 10
"""Quiet positions in a row, between words, that are a pause."""

MARGIN = 5
"""Positions of a pause, on each side, that the path may still lead through."""

NEAR = 15
"""Positions by which a word may be put later or earlier to begin behind a pause."""


QUIETEST = -70.0
"""dB below which nothing is taken for speech."""

STEADY, STEADY_FRAMES = 2.0, 25
"""dB within which noise or hum stays for so many frames or more, as speech does not: white noise
1.2, hum 1.0 at most; speech with white noise 5 dB louder than itself 4.8 in the median."""


def quiet_positions(loudness: np.ndarray) -> np.ndarray:
    """Where nobody speaks: (frames,) bool, one for each memory position.

    A pause is 0.2 s or more in which every 20 ms are quiet: 35 dB below the loud ones (their 90 %
    quantile); where there is noise, up to 15 dB below them and at most 6 dB above the quiet ones
    (their 10 % quantile).

    Args:
        loudness: (frames,) in dB, as `espnet_blora.data.audio.loudness` measures it.
    """
    found = np.zeros(len(loudness), dtype=bool)
    if not len(loudness):
        return found
    low, loud = np.quantile(loudness, [0.1, 0.9])
    begins, ends = runs(loudness < max(loud - 35, min(low + 6, loud - 15)))
    for begin, end in zip(begins, ends, strict=True):
        if begin == 0 or end == len(loudness) or end - begin >= PAUSE:
            found[begin:end] = True
    return found


def runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each run of True begins, and where it ends.

    >>> runs(np.array([True, True, False, True]))
    (array([0, 3]), array([2, 4]))
    """
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def is_silent(loudness: np.ndarray) -> bool:
    """Tell whether a stretch of sound is as good as silent."""
    return bool(np.quantile(loudness, 0.99) < QUIETEST)


def may_be_speech(loudness: np.ndarray) -> bool:
    """Tell whether a stretch of sound is neither as good as silent nor a steady noise or hum."""
    if is_silent(loudness):
        return False
    low, high = np.quantile(loudness, [0.1, 0.99])
    return len(loudness) < STEADY_FRAMES or bool(high - low >= STEADY)


@dataclass(frozen=True)
class SpeechMask:
    """Where one utterance's speech is, for the path of its alignment.

    Attributes:
        quiet: (positions,) bool, True where nobody speaks.
        path: The positions through which the path leads, rising.
        breaks: The places in `path` where a pause is, between words.
    """

    quiet: np.ndarray
    path: np.ndarray
    breaks: list[int]

    @classmethod
    def of(cls, quiet: np.ndarray | None, n_positions: int) -> SpeechMask:
        """Return an utterance's mask; all positions if none is known to be quiet, or all are."""
        mask = np.zeros(n_positions, dtype=bool)
        if quiet is not None:
            known = quiet[:n_positions]
            mask[: len(known)] = known
        if mask.all():
            mask[:] = False
        # the path also leads through what is near to speech
        speech = np.flatnonzero(~mask)
        near = np.convolve(~mask, np.ones(2 * MARGIN + 1))[MARGIN : MARGIN + n_positions]
        path = np.flatnonzero(near)
        # a break stands in the middle of a pause
        ends = np.flatnonzero(np.diff(speech) > 1)
        middles = (speech[ends] + speech[ends + 1] + 1) / 2
        return cls(mask, path, np.searchsorted(path, middles).tolist())

    def moment(self, at: float, end: bool) -> float:
        """Return the position at which a word ends or begins, given a place in `path`."""
        whole = min(int(at), len(self.path))
        if end:
            begin = self.path[whole - 1] + 1 if whole else self.path[0]
        else:
            begin = self.path[whole] if whole < len(self.path) else self.path[-1] + 1
        return float(begin + at - whole)

    def tight(self, start: float, end: float) -> tuple[float, float]:
        """Return a word's positions without the quiet at its ends; unchanged if all is quiet."""
        inside = np.arange(int(start), max(int(start), int(np.ceil(end))))
        speech = inside[~self.quiet[inside]]
        if not len(speech):
            return start, max(start, end)
        return max(start, float(speech[0])), min(end, float(speech[-1] + 1))

    def snap(self, begins: np.ndarray, words: Sequence[int]) -> np.ndarray:
        """Put the nearest beginning of a word at each pause that is near; see `NEAR`.

        Args:
            begins: Places in `path` at which tokens begin, rising.
            words: Tokens that begin a word.
        """
        begins = begins.copy()
        for at in self.breaks:
            token = min(words, key=lambda k: abs(begins[k] - at), default=None)
            if token is None or abs(begins[token] - at) > NEAR:
                continue
            begins[token:] = np.maximum(begins[token:], at)
            begins[: token + 1] = np.minimum(begins[: token + 1], at)
        return begins
