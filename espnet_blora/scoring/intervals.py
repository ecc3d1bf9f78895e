r"""Intervals of error rates and of figures made of them, in closed form.

What is tested or given an interval here is linear in the counts (or made linear by its gradient):
a weighted sum over sets j, over sides k (the systems compared) and over units u,

.. math:: D = \sum_j \sum_k \frac{1}{n_j} \sum_u \frac{1}{S_k} \sum_{i \le S_k} x_{jkiu},

x the weighted error counts of training seed i on unit u, n_j the reference tokens of the set. Units
are speakers where a set names five or more, as utterances of one speaker are not independent, else
utterances. Two things move D: other units, and training again. With
:math:`z_u = \sum_k \bar x_{ku} - n_u D_j`, G units and :math:`y_{ki}` the part of D that seed i of
side k makes,

.. math::
    V = \underbrace{\sum_j \frac{G_j}{G_j - 1} \frac{\sum_u z_u^2}{n_j^2}}_\text{units}
      + \underbrace{\sum_k \frac{s^2(y_k)}{S_k}}_\text{seeds},

and :math:`D \pm t_{.975} \sqrt V` is the 95 % interval, Student's t with the degrees of freedom of
Satterthwaite (Biometrics Bulletin 2, 1946; Welch, Biometrika 34, 1947). A side with one seed adds
no variance of seeds: the interval then holds for that one training. Rates get
:math:`r \exp(\pm t \sqrt V / r)`: never below 0, and right from 5 speakers or 20 utterances on
(`benchmarks/claims.py`), where percentiles of a bootstrap are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLE = ("auto", "speakers", "utterances")
_LEAST = {"speakers": 5, "utterances": 20}  # units: no interval below
_FEW = {"speakers": 20, "utterances": 50}
LEAST_ERRORS, FEW_ERRORS = 5, 10


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float

    @property
    def basis(self) -> str:
        """What the interval rests on, as it stands beside it; empty where that is said once."""
        return ""


@dataclass(frozen=True)
class RateInterval(Interval):
    """A 95 % interval over the units of one set or more.

    Attributes:
        speakers, utterances: Numbers of independent units.
        few: Whether a set has so few units (under 20 speakers, 50 utterances) or errors (under 10)
            that the interval is a rough one.
    """

    speakers: int = 0
    utterances: int = 0
    few: bool = False

    @property
    def basis(self) -> str:
        """What the interval rests on: `200 utt.`, `10 spk., few`."""
        numbers = [(self.speakers, "spk."), (self.utterances, "utt.")]
        parts = [f"{number} {name}" for number, name in numbers if number]
        return ", ".join([" + ".join(parts), *(["few"] if self.few else [])])


@dataclass(frozen=True)
class Units:
    """The independent units of a set.

    Attributes:
        kind: `speakers` or `utterances`.
        member: (U,) the number of each utterance's unit, from 0.
    """

    kind: str
    member: np.ndarray

    @property
    def number(self) -> int:
        """The number of units, G."""
        return int(self.member.max(initial=-1)) + 1

    @property
    def enough(self) -> bool:
        """Whether there are enough of them for an interval."""
        return self.number >= _LEAST[self.kind]

    @property
    def lacking(self) -> str:
        """Say how many there are of how many needed: `4 speakers, 5 are needed`; empty if enough.

        Utterances are offered where there are enough of them.
        """
        if self.enough:
            return ""
        kind = self.kind.removesuffix("s") if self.number == 1 else self.kind
        other = self.kind == "speakers" and len(self.member) >= _LEAST["utterances"]
        remedy = " (--resample utterances)" if other else ""
        return f"{self.number} {kind}, {_LEAST[self.kind]} are needed{remedy}"

    @property
    def few(self) -> bool:
        """Whether an interval over them is a rough one."""
        return self.number < _FEW[self.kind]

    def sums(self, counts: np.ndarray | Sequence) -> np.ndarray:
        """Return counts by utterance (..., U) summed by unit (..., G), as float64."""
        values = np.asarray(counts, dtype=np.float64)
        if self.kind == "utterances":
            return values
        sums = np.zeros((*values.shape[:-1], self.number))  # (..., G)
        np.add.at(sums.T, self.member, values.T)
        return sums


def units_of(speakers: Sequence[str], resample: str = "auto") -> Units:
    """Return the units of a set.

    Args:
        speakers: (U,) the speaker of each utterance, "" where it is unknown.
        resample: `speakers`, `utterances`, or `auto`: speakers where there are five or more.

    Raises:
        ValueError: `speakers` is wanted, and utterances have none.
    """
    known = bool(speakers) and all(speakers)
    if resample == "speakers" and not known:
        unknown = sum(not name for name in speakers)
        raise ValueError(
            f"--resample speakers: {unknown} of {len(speakers)} utterances have no speaker; give "
            "their utt2spk when scoring, or --resample utterances"
        )
    if known and resample != "utterances":
        names, member = np.unique(
            np.asarray(speakers, dtype=object).astype(str), return_inverse=True
        )
        if resample == "speakers" or len(names) >= _LEAST["speakers"]:
            return Units("speakers", member)
    return Units("utterances", np.arange(len(speakers)))


@dataclass(frozen=True)
class Part:
    """What one set contributes to a figure.

    Attributes:
        tokens: (G,) reference tokens by unit.
        sides: Per system compared (S, G): weighted errors by training seed and unit. All sets have
            the same sides.
    """

    tokens: np.ndarray
    sides: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Variance:
    """The variance of a figure, and its degrees of freedom.

    Attributes:
        units: That of other utterances or speakers.
        seeds: That of training again.
        weight: Sum of the squares of the parts of the variance, over their degrees of freedom.
    """

    units: float
    seeds: float
    weight: float

    @property
    def total(self) -> float:
        """The variance of the figure."""
        return self.units + self.seeds

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom."""
        return self.total**2 / self.weight if self.weight > 0 else math.inf

    @property
    def reach(self) -> float:
        """Half the width of the 95 % interval."""
        from scipy.special import stdtrit  # here: half a second that only intervals need

        return float(stdtrit(self.df, 0.975)) * math.sqrt(self.total)

    def p_above(self, value: float) -> float:
        """Return the one-sided p of a figure above 0: small where it is clearly above."""
        from scipy.special import stdtr

        if self.total == 0:
            return 0.5 if value == 0 else float(value < 0)
        return float(stdtr(self.df, -value / math.sqrt(self.total)))


def variance(parts: Sequence[Part], seeds: tuple[float, float] | None = None) -> Variance:
    """Return the variance of a figure that is the sum of its parts' sides.

    Args:
        parts: One per set, of two units or more.
        seeds: Variance of the seeds and its square over its degrees of freedom, where they are
            not those of the seeds seen.
    """
    # other units
    of_units = [_unit_variance(part) for part in parts]
    weight = sum(v**2 / (len(part.tokens) - 1) for v, part in zip(of_units, parts, strict=True))
    # training again
    if seeds is None:
        several = [side for side in by_seed(parts) if len(side) > 1]
        each = [(side.var(ddof=1) / len(side), len(side) - 1) for side in several]
        seeds = sum(v for v, _ in each), sum(v**2 / df for v, df in each)
    return Variance(float(sum(of_units)), float(seeds[0]), float(weight + seeds[1]))


def by_seed(parts: Sequence[Part]) -> list[np.ndarray]:
    """Return what each seed (S,) of each side adds to a figure, over all its sets."""
    sides = zip(*(part.sides for part in parts), strict=True)
    return [
        np.sum([x.sum(axis=1) / p.tokens.sum() for x, p in zip(s, parts, strict=True)], axis=0)
        for s in sides
    ]


def _unit_variance(part: Part) -> float:
    """Return the variance of one set's part over its units."""
    number, tokens = len(part.tokens), part.tokens.sum()
    z = np.sum([side.mean(axis=0) for side in part.sides], axis=0)  # (G,)
    z = z - part.tokens * (z.sum() / tokens)
    return number / (number - 1) * float((z**2).sum()) / tokens**2


def around(value: float, spread: Variance, *, rate: bool) -> Interval:
    """Return the interval of a figure; that of a rate above 0 lies above 0."""
    reach = spread.reach
    if rate:
        factor = math.exp(reach / value)
        return Interval(value / factor, value * factor)
    return Interval(value - reach, value + reach)


def over(interval: Interval, units: Sequence[Units], errors: float) -> RateInterval:
    """Say beside an interval what it rests on: the units of its sets, and so many errors."""
    numbers = {kind: sum(u.number for u in units if u.kind == kind) for kind in _LEAST}
    few = errors < FEW_ERRORS or any(u.few for u in units)
    return RateInterval(interval.low, interval.high, **numbers, few=few)


def rate_interval(
    errors: Sequence[int] | np.ndarray, tokens: Sequence[int] | np.ndarray, units: Units
) -> RateInterval | None:
    """Return the 95 % interval of sum(errors) / sum(tokens), `r exp(-+ t se / r)`.

    Args:
        errors: (U,).
        tokens: (U,) reference tokens.
        units: Of the set.

    Returns:
        None below 5 speakers or 20 utterances, below 5 errors, and without reference tokens.
    """
    total, below = int(np.sum(errors)), int(np.sum(tokens))
    if not units.enough or total < LEAST_ERRORS or not below:
        return None
    spread = variance([Part(units.sums(tokens), (units.sums(errors)[None],))])
    return over(around(total / below, spread, rate=True), [units], total)


def difference_interval(
    errors: Sequence[Sequence[int]], tokens: Sequence[int], units: Units
) -> tuple[RateInterval | None, float | None]:
    """Return the 95 % interval of the difference of two rates, and the chance that it is below 0.

    The systems are paired: what makes an utterance hard for both does not widen the interval.

    Args:
        errors: (2, U) of the system, and of the one whose rate is subtracted.
        tokens: (U,) reference tokens, the same for both.
        units: Of the set.

    Returns:
        None twice below 5 speakers or 20 utterances, and without reference tokens. The chance is
        the one-sided p of the opposite: 0.5 for equal rates.
    """
    below, total = int(np.sum(tokens)), int(np.sum(errors))
    if not units.enough or not below:
        return None, None
    ours, theirs = units.sums(errors)  # (G,) each
    spread = variance([Part(units.sums(tokens), (ours[None], -theirs[None]))])
    value = float(ours.sum() - theirs.sum()) / below
    interval = over(around(value, spread, rate=False), [units], total)
    return interval, spread.p_above(value)


def worst_share(errors: Sequence[int]) -> float | None:
    """Return the share of all errors that the worst 1 % of utterances make (at least one of them).

    No interval knows of bursts that are rare, such as loops of made-up words: it cannot see what
    is not in the sample. None without an error.
    """
    ordered = sorted(errors, reverse=True)
    total = sum(ordered)
    return sum(ordered[: math.ceil(len(ordered) / 100)]) / total if total else None
