"""Bootstrap over utterances or speakers: intervals of error rates and of figures made of them.

Utterances are drawn with replacement, as many as there are; every system compared is recomputed on
the same draws (a paired bootstrap: Bisani and Ney, "Bootstrap estimates for confidence intervals in
ASR performance evaluation", ICASSP 2004). Utterances of one speaker are not independent; with
`groups` whole speakers (or any groups) are drawn instead, as that paper advises, and the interval
is as a rule wider. The draws depend on the seed and the number of things drawn only. Intervals say
how far the figure would move with other utterances (speakers) of the same kind; they know nothing
of seeds of training or recording conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 2_000_000  # random numbers held at a time


@dataclass(frozen=True)
class Interval:
    """A bootstrap percentile interval: `low` and `high` enclose 95 % of the draws."""

    low: float
    high: float


def draws(size: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks (b, size) of utterance indices; the blocks' b add up to `samples`."""
    generator = np.random.default_rng(seed)
    block = max(1, _CHUNK // size)
    for start in range(0, samples, block):
        yield generator.integers(0, size, (min(block, samples - start), size))


def resampled_rates(
    errors: np.ndarray, tokens: np.ndarray, samples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Return the error rates (systems, samples) of every draw.

    A draw without any reference token gives NaN.

    Args:
        errors: (systems, utterances).
        tokens: (utterances,) reference tokens.
        samples: Number of draws.
        seed: Of the draws.

    Raises:
        ValueError: Fewer than two utterances or shapes that do not fit.
    """
    errors = np.atleast_2d(np.asarray(errors, dtype=np.int64))
    tokens = np.asarray(tokens, dtype=np.int64)
    if tokens.ndim != 1 or errors.shape[1] != tokens.shape[0]:
        raise ValueError(f"errors {errors.shape} and tokens {tokens.shape} do not fit together")
    if tokens.shape[0] < 2:
        raise ValueError(f"a bootstrap needs at least 2 utterances, found {tokens.shape[0]}")
    blocks = []
    for index in draws(tokens.shape[0], samples, seed):
        below = tokens[index].sum(axis=1).astype(np.float64)
        below[below == 0] = np.nan
        blocks.append(errors[:, index].sum(axis=2) / below)
    return np.concatenate(blocks, axis=1)


def summed(values: np.ndarray | Sequence[int], groups: Sequence[str]) -> np.ndarray:
    """Return the sums (..., groups) by group, in the order of the groups' names.

    Args:
        values: (..., utterances).
        groups: (utterances,) names.

    Raises:
        ValueError: Sequences of different length.
    """
    numbers = np.asarray(values, dtype=np.int64)
    if numbers.shape[-1] != len(groups):
        raise ValueError(f"{numbers.shape[-1]} values, but {len(groups)} names of their groups")
    names, group = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    sums = np.zeros((*numbers.shape[:-1], len(names)), dtype=np.int64)  # (..., G)
    np.add.at(sums.T, group, numbers.T)
    return sums


def interval(
    errors: Sequence[int],
    tokens: Sequence[int],
    samples: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Interval | None:
    """Return the 95 % interval of sum(errors) / sum(tokens); None for fewer than two to draw from.

    Args:
        errors: (utterances,).
        tokens: (utterances,) reference tokens.
        samples: Number of draws.
        seed: Of the draws.
        groups: The group of each utterance; whole groups are drawn.
    """
    counts = np.asarray([errors, tokens], dtype=np.int64)  # (2, U)
    if groups is not None:
        counts = summed(counts, groups)  # (2, G)
    if counts.shape[1] < 2 or not counts[1].any():
        return None
    return quantiles(resampled_rates(counts[0], counts[1], samples, seed)[0])


def quantiles(values: np.ndarray) -> Interval | None:
    """Return the 2.5 % and 97.5 % points of draws; None if a draw is undefined (NaN, infinite)."""
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))


def probability_better(
    errors_a: Sequence[int] | np.ndarray,
    errors_b: Sequence[int] | np.ndarray,
    samples: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> float | None:
    """Return the share of draws in which A makes fewer errors than B, a tie counting one half.

    Both sequences are in the same order of utterances; `groups` as in `interval`. None for
    fewer than two to draw from.

    Raises:
        ValueError: Sequences of different length.
    """
    if len(errors_a) != len(errors_b):
        raise ValueError(
            "a paired comparison needs the same utterances, found "
            f"{len(errors_a)} and {len(errors_b)}"
        )
    difference = np.asarray(errors_a, dtype=np.int64) - np.asarray(errors_b, dtype=np.int64)
    if groups is not None:
        difference = summed(difference, groups)
    if len(difference) < 2:
        return None
    sums = np.concatenate(
        [difference[i].sum(axis=1) for i in draws(len(difference), samples, seed)]
    )
    return float(((sums < 0) + 0.5 * (sums == 0)).mean())
