"""Two systems on the same utterances: which one is better, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from espnet_blora.scoring.bootstrap import (
    Interval,
    probability_better,
    quantiles,
    resampled_rates,
    summed,
)
from espnet_blora.scoring.set_score import SetScore


@dataclass(frozen=True)
class Comparison:
    """A system beside a baseline on the same references.

    Attributes:
        errors, baseline_errors: of the two systems.
        tokens: reference tokens, the same for both.
        difference: rate minus the baseline's; below 0 the system is better.
        interval: 95 % interval of the difference, both systems on the same draws.
        probability_better: share of draws in which the system makes fewer errors, ties half.
    """

    errors: int
    baseline_errors: int
    tokens: int
    difference: float | None
    interval: Interval | None
    probability_better: float | None

    def as_json(self) -> dict:
        """Return the comparison as a JSON object."""
        found = asdict(self)
        found["interval_95"] = found.pop("interval")
        return found


def compare(
    score: SetScore,
    baseline: SetScore,
    groups: Mapping[str, str] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two scores of the same references by a paired bootstrap (Bisani and Ney, 2004).

    Utterances are drawn; with `groups` (id -> name) whole groups.

    Raises: ValueError for other utterances, reference tokens, units or normalisations.
    """
    for name in ("unit", "normalisation"):
        if getattr(score, name) != getattr(baseline, name):
            raise ValueError(
                f"a paired comparison needs the same {name}, found {getattr(score, name)!r} and "
                f"{getattr(baseline, name)!r}"
            )
    shape = [(u.id, u.tokens) for u in score.utterances]
    if [(u.id, u.tokens) for u in baseline.utterances] != shape:
        raise ValueError("a paired comparison needs the same utterances and references")
    errors = np.array([[u.errors for u in s.utterances] for s in (score, baseline)])
    tokens = np.array([n for _, n in shape])
    if groups is not None:
        names = [groups[key] for key, _ in shape]
        errors, tokens = summed(errors, names), summed(tokens, names)
    found = None
    if len(tokens) > 1:
        ours, theirs = resampled_rates(errors, tokens, samples, seed)
        found = quantiles(ours - theirs)
    return Comparison(
        score.total.errors,
        baseline.total.errors,
        score.total.tokens,
        score.rate - baseline.rate if score.total.tokens else None,
        found,
        probability_better(errors[0], errors[1], samples, seed),
    )
