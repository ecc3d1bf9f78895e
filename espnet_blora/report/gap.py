r"""The gap between a system and the whole scale curve of a rival, tested in closed form.

A rival that is decoded at several scales has a curve: errors on the new domain n(s), and on the
retention sets k(s). It is read off at the candidate's error on the new domain. That reading is a
weighted mean of two scales a and b, so the gap

.. math:: D = \lambda k_a + (1 - \lambda) k_b - k_C,
    \quad \lambda = \frac{n_b - n_C}{n_b - n_a},
    \quad w = -\frac{k_a - k_b}{n_a - n_b}

is linear in the counts of utterances: its variance over units and training seeds is that of
:math:`k + w n` of both sides (`espnet_blora.scoring.intervals`), as moving the candidate's n by one
moves the reading by -w. D > 0: the candidate keeps more than the rival turned down.

A chord of a curve that bends lies above it, which favours the candidate. So the counts of the
decoded scales are first joined by a natural cubic spline along the scale; a spline is linear in
what it joins, so the test stays as it is.

With one seed on a side nothing is known of training again. Then its relative standard deviation is
assumed to be 5 %, worth four degrees of freedom.

False claims under the null, and power: `tests/report/test_gap.py`, `benchmarks/claims.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from espnet_blora.scoring.intervals import Interval, Part, Variance, around, by_seed, variance

LEAST_SCALES = 4  # of a curve that is splined
_FINE = 41  # scales that a curve is read off at, beside those that were decoded
_ASSUMED, _ASSUMED_DF = 0.05, 4  # relative seed sd where it cannot be seen, and what it is worth
_WEIGHTS = np.r_[0, np.geomspace(0.01, 10, 40)]  # of the new domain's errors, for the hull
_RHO_END = 20.0  # beyond 2,000 % a reduction has no bound


@dataclass(frozen=True)
class SetCounts:
    """Errors of a set, by unit.

    Attributes:
        new: Whether the set is of the new domain; else it is a retention set.
        tokens: (G,) reference tokens.
        rival: (S, K, G) by training seed and scale, in the order of the scales.
        candidate: (S', M, G) by training seed and point.
    """

    new: bool
    tokens: np.ndarray
    rival: np.ndarray
    candidate: np.ndarray


@dataclass(frozen=True)
class Reading:
    """A curve read off at an error on the new domain.

    Attributes:
        kept: The error on the retention sets.
        a, b: The two scales, by number; `share` of a, the rest of b.
        slope: w, what the reading falls by where the error on the new domain rises by one.
        beyond: No scale makes so few errors on the new domain; a is the one that makes fewest.
    """

    kept: float
    a: int
    b: int
    share: float
    slope: float
    beyond: bool


@dataclass(frozen=True)
class Gap:
    """The outcome of the test.

    Attributes:
        value: D, a mean over the points; above 0 the candidate keeps more.
        spread: Its variance over units and seeds.
        at: The candidate's error on the new domain, a mean over the points.
        rival, candidate: Errors on the retention sets there.
        scale: The rival's scale there.
        beyond: How many points make fewer errors on the new domain than the rival at any scale.
        assumed: Whether the variance of seeds is an assumption.
    """

    value: float
    spread: Variance
    at: float
    rival: float
    candidate: float
    scale: float
    beyond: int
    assumed: bool

    @property
    def interval(self) -> Interval:
        """The 95 % interval of D."""
        return around(self.value, self.spread, rate=False)

    @property
    def p(self) -> float:
        """One-sided: small where a candidate that is no better seldom has such a gap."""
        return self.spread.p_above(self.value)


@dataclass(frozen=True)
class Hull:
    """The companion of the test that interpolates nothing: is the candidate off the hull?

    Attributes:
        value: The least of the rival's k + w n over its scales, minus the candidate's.
        weight: w, chosen without looking at the seeds.
        p: One-sided.
    """

    value: float
    weight: float
    p: float


@dataclass(frozen=True)
class _Rates:
    """Mean error rates over the sets of an axis, by seed."""

    rival: np.ndarray  # (S, K)
    candidate: np.ndarray  # (S', M)


def _axis(sets: Sequence[SetCounts], new: bool) -> _Rates:
    """Return the rates of one axis: the plain mean over its sets."""
    chosen = [s for s in sets if s.new is new]
    rival = [s.rival.sum(axis=-1) / s.tokens.sum() for s in chosen]
    candidate = [s.candidate.sum(axis=-1) / s.tokens.sum() for s in chosen]
    return _Rates(np.mean(rival, axis=0), np.mean(candidate, axis=0))


def read_off(new: np.ndarray, kept: np.ndarray, at: float) -> Reading:
    """Return the lower envelope of a curve at an error on the new domain.

    The curve is the line through its points in the order of the scales. Whoever allows more errors
    on the new domain than a point makes can have what that point keeps.

    Args:
        new: (K,) errors on the new domain.
        kept: (K,) errors on the retention sets.
        at: Where it is read off.
    """
    reached = new <= at
    if not reached.any():
        a = int(new.argmin())
        return Reading(float(kept[a]), a, a, 1.0, 0.0, True)
    # a point
    a = int(np.where(reached, kept, np.inf).argmin())
    best = Reading(float(kept[a]), a, a, 1.0, 0.0, False)
    # a place between two neighbours
    for i in np.flatnonzero((new[:-1] - at) * (new[1:] - at) < 0):
        share = (new[i + 1] - at) / (new[i + 1] - new[i])
        value = share * kept[i] + (1 - share) * kept[i + 1]
        if value < best.kept:
            slope = max(0.0, -(kept[i] - kept[i + 1]) / (new[i] - new[i + 1]))
            best = Reading(float(value), int(i), int(i) + 1, float(share), float(slope), False)
    return best


def splined(scales: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return scales (F,), the decoded ones among them, and the basis (K, F) of the spline.

    Two or three scales are joined by lines.
    """
    from scipy.interpolate import CubicSpline  # here: only reports with a sweep need it

    fine = np.union1d(scales, np.linspace(min(scales), max(scales), _FINE))
    if len(scales) < LEAST_SCALES:
        return fine, np.array([np.interp(fine, scales, row) for row in np.eye(len(scales))])
    spline = CubicSpline(scales, np.eye(len(scales)), bc_type="natural")
    return fine, spline(fine).T


def inside(sets: Sequence[SetCounts], scales: Sequence[float]) -> list[int]:
    """Return the candidate's points whose error on the new domain the rival's curve reaches."""
    _, basis = splined(scales)
    new = _axis(sets, True)
    lowest = (new.rival.mean(axis=0) @ basis).min()
    return [int(m) for m in np.flatnonzero(new.candidate.mean(axis=0) >= lowest)]


@dataclass(frozen=True)
class _Read:
    """The rival's curve, splined, and where the candidate's points read it off."""

    sets: list[SetCounts]
    fine: np.ndarray  # (F,)
    points: list[int]
    readings: list[Reading]
    at: np.ndarray  # (M,)
    base: float
    rival: float
    candidate: float


def _read(
    sets: Sequence[SetCounts], scales: Sequence[float], points: Sequence[int] | None
) -> _Read:
    """Join the rival's scales, and read the curve off at the candidate's points."""
    fine, basis = splined(scales)
    sets = [replace(s, rival=np.einsum("skg,kf->sfg", s.rival, basis)) for s in sets]
    points = list(range(sets[0].candidate.shape[1]) if points is None else points)
    new, kept = _axis(sets, True), _axis(sets, False)
    n, k = new.rival.mean(axis=0), kept.rival.mean(axis=0)  # (F,)
    at = new.candidate.mean(axis=0)[points]  # (M,)
    readings = [read_off(n, k, float(t)) for t in at]
    rival = float(np.mean([reading.kept for reading in readings]))
    candidate = float(kept.candidate.mean(axis=0)[points].mean())
    return _Read(sets, fine, points, readings, at, float(k[0]), rival, candidate)


def gap_test(
    sets: Sequence[SetCounts], scales: Sequence[float], points: Sequence[int] | None = None
) -> Gap:
    """Test the mean gap of a candidate's points to a rival's curve.

    Args:
        sets: Of both axes.
        scales: (K,) the rival's, rising from 0, which is the base.
        points: Those of the candidate, by number; by default all.
    """
    read = _read(sets, scales, points)
    parts = _parts(read.sets, read.readings, read.points)
    assumed = min(len(sets[0].rival), len(sets[0].candidate)) < 2
    seeds = None
    if assumed:
        slopes = [reading.slope for reading in read.readings]
        tilted = float(np.mean(slopes * read.at))
        seeds = assumed_spread(parts, (read.rival**2 + read.candidate**2) / 2 + tilted**2)
    places = [r.share * read.fine[r.a] + (1 - r.share) * read.fine[r.b] for r in read.readings]
    return Gap(
        read.rival - read.candidate,
        variance(parts, seeds),
        float(read.at.mean()),
        read.rival,
        read.candidate,
        float(np.mean(places)),
        sum(reading.beyond for reading in read.readings),
        assumed,
    )


def reduction(
    sets: Sequence[SetCounts], scales: Sequence[float], points: Sequence[int] | None = None
) -> tuple[float, Interval] | None:
    """Return by which share the candidate forgets less than the rival, with its interval.

    rho = D / (rival - base). Fieller's interval (Suppl. J. R. Statist. Soc. 7, 1940): a share is
    inside where the test of (1 - rho) rival + rho base - candidate, which is linear in the counts,
    does not reject. An end without bound is infinite.

    Returns:
        None where the rival forgets nothing there, and with one seed on a side.
    """
    read = _read(sets, scales, points)
    if min(len(sets[0].rival), len(sets[0].candidate)) < 2:
        return None
    return fieller(
        (read.rival, read.base, read.candidate),
        lambda rho: _parts(read.sets, read.readings, read.points, rho),
    )


def fieller(
    levels: tuple[float, float, float], parts: Callable[[float], Sequence[Part]]
) -> tuple[float, Interval] | None:
    """Return rho and its interval for errors (rival, base, candidate); None as of `reduction`."""
    rival, base, candidate = levels
    if rival <= base:
        return None

    def excess(rho: float) -> float:
        return abs((1 - rho) * rival + rho * base - candidate) - variance(parts(rho)).reach

    share = (rival - candidate) / (rival - base)
    return share, Interval(_end(excess, share, -1), _end(excess, share, 1))


def _parts(
    sets: Sequence[SetCounts],
    readings: Sequence[Reading],
    points: Sequence[int],
    rho: float = 0.0,
) -> list[Part]:
    """Return D as weighted counts, by set; with rho (1 - rho) g + rho k_base - k_C instead."""
    parts = []
    for s in sets:
        share = 1 / (sum(other.new is s.new for other in sets) * len(points))
        rival = np.zeros_like(s.rival[:, 0], dtype=float)  # (S, G)
        candidate = np.zeros_like(s.candidate[:, 0], dtype=float)  # (S', G)
        for reading, m in zip(readings, points, strict=True):
            weight = (1 - rho) * (reading.slope if s.new else 1.0)
            read = (
                reading.share * s.rival[:, reading.a] + (1 - reading.share) * s.rival[:, reading.b]
            )
            rival += share * weight * read
            candidate -= share * (weight if s.new else 1.0) * s.candidate[:, m]
            if not s.new:
                rival += share * rho * s.rival[:, 0]
        parts.append(Part(s.tokens, (rival, candidate)))
    return parts


def assumed_spread(parts: Sequence[Part], level: float) -> tuple[float, float]:
    """Return the variance of seeds, and its square over its degrees of freedom, where assumed.

    Args:
        parts: Of the gap.
        level: The square of what the relative standard deviation is one of.
    """
    sides = by_seed(parts)
    df = _ASSUMED_DF + sum(len(side) - 1 for side in sides)
    seen = sum(float(((side - side.mean()) ** 2).sum()) for side in sides)
    pooled = (_ASSUMED_DF * _ASSUMED**2 * level + seen) / df * sum(1 / len(s) for s in sides)
    return pooled, pooled**2 / df


def _end(excess: Callable[[float], float], inner: float, sign: int) -> float:
    """Return where an interval ends: the root of `excess`, which is below 0 at `inner`."""
    low, width = inner, 0.25
    while excess(inner + sign * width) < 0:
        low, width = inner + sign * width, 2 * width
        if width > _RHO_END:
            return sign * math.inf
    high = inner + sign * width
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return (low + high) / 2


def hull_test(sets: Sequence[SetCounts], point: int = 0) -> Hull | None:
    """Test whether a candidate lies below the line that touches the rival's curve; D is min - own.

    The weight is the one at which the test is expected to see most if seeds move rates by 5 %: the
    seeds' own variance would be small by luck at some weight.

    Returns:
        None with fewer than two seeds on a side.
    """
    new, kept = _axis(sets, True), _axis(sets, False)
    seeds = len(kept.rival), len(kept.candidate)
    if min(seeds) < 2:
        return None

    def tilted(weight: float) -> tuple[float, Variance]:
        along = (kept.rival + weight * new.rival).mean(axis=0)  # (K,)
        nearest = Reading(0.0, int(along.argmin()), int(along.argmin()), 1.0, weight, False)
        own = float((kept.candidate + weight * new.candidate)[:, point].mean())
        return float(along.min()) - own, variance(_parts(sets, [nearest], [point]))

    def promise(weight: float) -> float:
        value, spread = tilted(weight)
        own = kept.candidate[:, point].mean() ** 2 + (weight * new.candidate[:, point].mean()) ** 2
        assumed = _ASSUMED**2 * own * sum(1 / number for number in seeds)
        return value / math.sqrt(spread.units + assumed)

    weight = float(max(_WEIGHTS, key=promise))
    value, spread = tilted(weight)
    return Hull(value, weight, spread.p_above(value))


def holm(p: Sequence[float]) -> list[float]:
    """Return p values that allow for being several (Holm, Scand. J. Statist. 6, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return adjusted
