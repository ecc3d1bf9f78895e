r"""Formulas of gain and forgetting, as functions of error rates.

Errors E are rates (0.25 = 25 %). `base` is the model before adaptation. A quotient whose divisor
is not positive is None ("undefined"), never 0.

.. math::
    \text{backward degradation}  &= (E_\text{adapted} - E_\text{base}) / E_\text{base}
        \quad\text{per retention set}\\
    \text{backward gain}         &= (E_\text{LoRA} - E_\text{BLoRA}) / E_\text{LoRA}
        \quad\text{on retention sets}\\
    \text{backward gain on degradations} &= (G_\text{LoRA} - G_\text{BLoRA}) / G_\text{LoRA},
        \quad G = E - E_\text{base}\\
    \text{new-domain change}     &= (E_\text{LoRA} - E_\text{BLoRA}) / E_\text{LoRA}
        \quad\text{on new-domain sets}\\
    \text{gate}                  &= \operatorname{mean}_i \max(0, (\kappa_i - d_i) / \kappa_i),
        \quad d_i = \max(0, E_{\text{after},i} - E_{\text{before},i})

Signs: positive gains and changes are good for BLoRA; positive degradation is bad. The BLoRA paper
(arXiv 2510.18723) reports +54 % backward gain and -4 % new-domain change; it does not say
which of the two gains it means, so both are printed. The gate is that of "Damage Control During
Domain Adaptation" (arXiv 2210.03255).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FORMULAS = (
    ("backward degradation", "(E_adapted - E_base) / E_base, per retention set; > 0 is forgetting"),
    ("backward gain", "(E_LoRA - E_BLoRA) / E_LoRA, on retention sets; > 0 favours BLoRA"),
    (
        "backward gain on degradations",
        "(G_LoRA - G_BLoRA) / G_LoRA with G = E - E_base; > 0 favours BLoRA",
    ),
    (
        "new-domain change",
        "(E_LoRA - E_BLoRA) / E_LoRA, on new-domain sets; < 0 is what BLoRA pays",
    ),
    (
        "new-domain gain",
        "(E_base - E_adapted) / E_base, on new-domain sets; > 0 is what was learnt",
    ),
    (
        "gate",
        "mean over retention sets of max(0, (kappa - d) / kappa), d = max(0, E_adapted - E_base)",
    ),
)


def backward_degradation(base: float, adapted: float) -> float | None:
    """Return (E_adapted - E_base) / E_base; None if the base makes no error."""
    return _ratio(adapted - base, base)


def backward_gain(lora: float, blora: float) -> float | None:
    """Return (E_LoRA - E_BLoRA) / E_LoRA; None if LoRA makes no error."""
    return _ratio(lora - blora, lora)


def backward_gain_on_degradations(base: float, lora: float, blora: float) -> float | None:
    """Return (G_LoRA - G_BLoRA) / G_LoRA with G = E - E_base; None if LoRA forgot nothing."""
    return _ratio((lora - base) - (blora - base), lora - base)


def new_domain_change(lora: float, blora: float) -> float | None:
    """Return (E_LoRA - E_BLoRA) / E_LoRA on the new domain; negative where BLoRA is worse."""
    return _ratio(lora - blora, lora)


def new_domain_gain(base: float, adapted: float) -> float | None:
    """Return (E_base - E_adapted) / E_base; None if the base makes no error."""
    return _ratio(base - adapted, base)


def gate(before: Sequence[float], after: Sequence[float], kappa: Sequence[float]) -> float:
    """Return the mean over sets of max(0, (kappa_i - d_i) / kappa_i), between 0 and 1.

    A method passes where the gate is > 0; 1 means that no set got worse. `kappa` is the
    degradation allowed, as a difference of rates (0.02 = two points).

    Raises:
        ValueError: There are no sets, lengths differ, or a kappa is not positive.
    """
    if not before or not len(before) == len(after) == len(kappa):
        raise ValueError(
            f"the gate needs the same sets before, after and allowed, and at least one; found "
            f"{len(before)}, {len(after)}, {len(kappa)}"
        )
    if min(kappa) <= 0:
        raise ValueError(f"kappa, the degradation allowed, must be > 0, found {min(kappa)}")
    terms = [
        max(0.0, (k - max(0.0, a - b)) / k) for b, a, k in zip(before, after, kappa, strict=True)
    ]
    return sum(terms) / len(terms)


def mean(values: Sequence[float | None]) -> float | None:
    """Return the plain mean over sets; None if there is none or one of them is undefined."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined and len(defined) == len(values) else None


@dataclass(frozen=True)
class Point:
    """A system in the plane of the report: error on the new domain, error on the retention sets."""

    name: str
    new: float
    kept: float


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats on both axes (less is better), by new-domain error."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.new, p.kept)):
        if not best or point.kept < best[-1].kept:
            best.append(point)
    return best


def kept_at(points: Sequence[Point], new: float) -> float | None:
    """Return the retention error of the frontier of `points` at a given new-domain error.

    Between two points of the frontier the line is taken; None beyond its ends on the hard side (an
    error on the new domain lower than any point reaches); on the easy side the best retention
    counts.
    """
    line = frontier(points)
    if not line or new < line[0].new:
        return None
    for left, right in pairwise(line):
        if left.new <= new <= right.new:
            share = (new - left.new) / (right.new - left.new)
            return left.kept + share * (right.kept - left.kept)
    return line[-1].kept


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None
