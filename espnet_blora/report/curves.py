r"""Whole curves compared at one error on the new domain, in closed form.

Every system has a knob: its scale, or the strength of a repair. Along it runs a curve of errors on
the new domain n and on the retention sets k, from the base on. Curves are read off, as in
`espnet_blora.report.gap`, at an error that is set beforehand: a margin above the least that any
rival makes at any place, t = (1 + margin) min n. The rival there is the envelope of all rivals'
curves. The gap

.. math:: D = k_R(t) - k_C(t), \quad
    \delta D = \delta k_R + w_R \delta n_R - \delta k_C - w_C \delta n_C
    + (1 + \text{margin}) (w_C - w_R) \delta \min n

is linear in the counts again, so its variance over units and seeds is that of
`espnet_blora.scoring.intervals`. A system that was made of the rival's trainings (a repair) is
taken as independent of them, which widens the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_blora.report.gap import Gap, Reading, assumed_spread, fieller, read_off, splined
from espnet_blora.scoring.intervals import Interval, Part, variance


@dataclass(frozen=True)
class Axes:
    """What sets share that all curves were decoded on.

    Attributes:
        new: Per set, whether it is of the new domain.
        tokens: Per set (G,), reference tokens by unit.
    """

    new: Sequence[bool]
    tokens: Sequence[np.ndarray]

    def rates(self, errors: Sequence[np.ndarray], new: bool) -> np.ndarray:
        """Return the mean rate (...) over an axis's sets of errors (..., G)."""
        chosen = zip(self.new, errors, self.tokens, strict=True)
        return np.mean([e.sum(axis=-1) / t.sum() for of, e, t in chosen if of is new], axis=0)


class Curve:
    """One system along its knob, from 0, which is the base, to 1, as it was trained.

    Attributes:
        fine: (F,) places of the knob.
        errors: Per set (S, F, G), joined by a spline.
        new, kept: (F,) means over seeds and sets.
    """

    def __init__(self, axes: Axes, knobs: Sequence[float], errors: Sequence[np.ndarray]) -> None:
        """Join decoded places `knobs` (K,), rising from 0; errors are (S, K, G) per set."""
        self.fine, basis = splined(knobs)
        self.errors = [np.einsum("skg,kf->sfg", each, basis) for each in errors]
        self.new, self.kept = (axes.rates(self.errors, new).mean(axis=0) for new in (True, False))

    @property
    def lowest(self) -> int:
        """The place with the least error on the new domain."""
        return int(self.new.argmin())

    def knob(self, reading: Reading) -> float:
        """Return where a reading lies."""
        ends = self.fine[reading.a], self.fine[reading.b]
        return float(reading.share * ends[0] + (1 - reading.share) * ends[1])

    def band(self, axes: Axes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return n and k (F,) as far as n falls, and half the width of k's 95 % interval at n."""
        last = self.lowest + 1
        new, kept = self.new[:last], self.kept[:last]
        reach = np.zeros(last)
        for f in range(last):
            a, b = (0, min(1, last - 1)) if f == 0 else (f - 1, f)  # where the slope is taken
            fall = new[a] - new[b]
            slope = max(0.0, float((kept[b] - kept[a]) / fall)) if fall > 0 else 0.0
            term = Term(self, _place(f), 1.0, slope)
            reach[f] = variance(_parts(axes, [term])).reach
        return new, kept, reach


@dataclass(frozen=True)
class Term:
    """A reading of a curve, and what its k and n weigh in a figure."""

    curve: Curve
    reading: Reading
    kept: float
    new: float


@dataclass(frozen=True)
class Matched:
    """A candidate's curve and the rivals' envelope at one error on the new domain.

    Attributes:
        gap: The test; its `scale` is the rival's.
        rival: Which of the rivals keeps most there, by number.
        knob: The candidate's.
        base: The base's error on the retention sets.
        share: By which share the candidate forgets less, with Fieller's interval; None where the
            rival forgets nothing, and with one seed on a side.
    """

    gap: Gap
    rival: int
    knob: float
    base: float
    share: tuple[float, Interval] | None


def matched_test(
    axes: Axes, rivals: Sequence[Curve], candidate: Curve, margin: float
) -> Matched | None:
    """Test a candidate against rivals at `margin` above their least error on the new domain.

    Returns:
        None where the candidate does not reach that error.
    """
    # the error, and both curves there
    setter = min(rivals, key=lambda rival: float(rival.new.min()))
    at = (1 + margin) * float(setter.new[setter.lowest])
    readings = [read_off(rival.new, rival.kept, at) for rival in rivals]
    number = min(range(len(rivals)), key=lambda i: (readings[i].beyond, readings[i].kept))
    rival, reading = rivals[number], readings[number]
    own = read_off(candidate.new, candidate.kept, at)
    if own.beyond:
        return None

    def parts(rho: float = 0.0) -> list[Part]:
        """Return (1 - rho) rival + rho base - candidate as weighted counts."""
        rest = 1 - rho
        moved = (1 + margin) * (own.slope - rest * reading.slope)
        terms = [
            Term(rival, reading, rest, rest * reading.slope),
            Term(rival, _place(0), rho, 0.0),
            Term(setter, _place(setter.lowest), 0.0, moved),
            Term(candidate, own, -1.0, -own.slope),
        ]
        return _parts(axes, terms)

    # the test; of one seed on a side, with what training again is assumed to do
    spread = None
    if min(len(rival.errors[0]), len(candidate.errors[0])) < 2:
        level = [r.kept**2 + (r.slope * at) ** 2 for r in (reading, own)]
        spread = assumed_spread(parts(), sum(level) / 2)
    gap = Gap(
        reading.kept - own.kept,
        variance(parts(), spread),
        at,
        reading.kept,
        own.kept,
        rival.knob(reading),
        0,
        spread is not None,
    )
    base = float(rival.kept[0])
    share = None if spread else fieller((reading.kept, base, own.kept), parts)
    return Matched(gap, number, candidate.knob(own), base, share)


def _place(number: int) -> Reading:
    """Return the reading of one place of a curve."""
    return Reading(0.0, number, number, 1.0, 0.0, False)


def _parts(axes: Axes, terms: Sequence[Term]) -> list[Part]:
    """Return the sum of terms as parts by set; the terms of one curve are one side."""
    parts = []
    for j, (new, tokens) in enumerate(zip(axes.new, axes.tokens, strict=True)):
        share = 1 / sum(other is new for other in axes.new)
        sides: dict[int, np.ndarray] = {}
        for term in terms:
            errors, at = term.curve.errors[j], term.reading
            read = at.share * errors[:, at.a] + (1 - at.share) * errors[:, at.b]  # (S, G)
            counted = share * (term.new if new else term.kept) * read
            sides[id(term.curve)] = sides.get(id(term.curve), 0.0) + counted
        parts.append(Part(tokens, tuple(sides.values())))
    return parts
