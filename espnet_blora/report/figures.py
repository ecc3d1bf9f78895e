"""Figures with their uncertainty: any formula of rates, over sets, utterances and seeds.

Utterances: every system is recomputed on the same 1,000 draws of a set's utterances (the draws of
different sets are independent), the formula is applied in each draw, and the 2.5 % and 97.5 %
points of the results are the interval. Seeds: in a draw a system's rate is the mean over its seeds
(`espnet_blora.report.systems`); the formula of every combination of seeds is kept beside it.
A figure's sign is *clear* only where the interval lies on one side of zero **and** every
combination of seeds does too.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from espnet_blora.report.systems import System
from espnet_blora.scoring import Interval, probability_better
from espnet_blora.scoring import retention as r
from espnet_blora.scoring.bootstrap import quantiles, resampled_rates

Formula = Callable[..., float | None]


@dataclass(frozen=True)
class Figure:
    """A number with its 95 % interval, either of which may be undefined (None).

    Attributes:
        seeds: the same formula for each combination of the systems' seeds; one for single runs.
    """

    value: float | None
    interval: Interval | None = None
    seeds: tuple[float, ...] = ()

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval and every seed lie on one side of 0, else 0."""
        if self.value is None or self.interval is None:
            return 0
        found = (self.interval.low > 0) - (self.interval.high < 0)
        return found if all(one * found > 0 for one in self.seeds) else 0

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1); None for one."""
        return statistics.stdev(self.seeds) if len(self.seeds) > 1 else None


@dataclass
class Draws:
    """Rates of systems over the same draws of each set's utterances, computed once."""

    sets: Sequence[str]
    _kept: dict[tuple[str, str, int], np.ndarray] = field(default_factory=dict)

    def rates(self, system: System, name: str, seed: int | None = None) -> np.ndarray:
        """Return the rates (1000,) of a system on a set; `seed` is that of the draws, by default
        one for each set."""
        seed = list(self.sets).index(name) if seed is None else seed
        key = (system.name, name, seed)
        if key not in self._kept:
            errors, seeds = system.errors(name)
            tokens = np.array([tokens for _, tokens in system.shape(name)])
            self._kept[key] = resampled_rates(errors, tokens, seed=seed)[0] / seeds
        return self._kept[key]


def mean_figure(
    draws: Draws, formula: Formula, systems: Sequence[System], sets: Sequence[str]
) -> Figure | None:
    """Apply a formula on each set and take the mean over sets; None if a rate is missing."""
    rates = [[s.rate(name) for s in systems] for name in sets]
    if not sets or any(rate is None for row in rates for rate in row):
        return None
    value = r.mean([formula(*row) for row in rates])
    if value is None:
        return Figure(None)
    return Figure(value, _interval(draws, formula, systems, sets), _seeds(formula, systems, sets))


def comparable(systems: Sequence[System], name: str) -> bool:
    """Tell whether systems were scored on the same utterances and reference tokens of a set."""
    shapes = {s.shape(name) for s in systems}
    return len(shapes) == 1 and None not in shapes


def _interval(
    draws: Draws, formula: Formula, systems: Sequence[System], sets: Sequence[str]
) -> Interval | None:
    alike = all(comparable(systems, n) and len(systems[0].shape(n)) > 1 for n in sets)
    if not alike:
        return None
    # one set on its own: the draws behind the interval that score.json and RESULTS.md have
    seed = 0 if len(sets) == 1 else None
    values = []
    for name in sets:
        columns = np.stack([draws.rates(s, name, seed) for s in systems], axis=1)
        values.append([_nan(formula(*row)) for row in columns.tolist()])
    return quantiles(np.mean(np.asarray(values), axis=0))


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _seeds(formula: Formula, systems: Sequence[System], sets: Sequence[str]) -> tuple[float, ...]:
    """Return the mean over sets for each combination of runs that have all sets."""
    whole = [[e for e in s.runs if all(e in s.with_score(n) for n in sets)] for s in systems]
    found = []
    for runs in product(*whole):
        rates = [[run.scores[name].rate for run in runs] for name in sets]
        value = r.mean([formula(*row) for row in rates])
        if value is not None:
            found.append(value)
    return tuple(found)


def better(a: System, b: System, name: str) -> float | None:
    """Return the share of draws of utterances in which A makes fewer errors than B, means over
    seeds; None unless they were scored on the same references."""
    if not comparable([a, b], name):
        return None
    (mine, n), (theirs, m) = a.errors(name), b.errors(name)
    return probability_better((mine * m).tolist(), (theirs * n).tolist())
