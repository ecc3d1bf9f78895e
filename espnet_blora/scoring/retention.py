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


@dataclass(frozen=True)
class Formula:
    """A weighted sum of error rates, over another one where there is `below`.

    Attributes:
        name: What the report calls it.
        text: The formula, and what its sign means.
        above: Weight of each rate above the line.
        below: Weight of each rate below it; none: the divisor is 1.
    """

    name: str
    text: str
    above: tuple[int, ...]
    below: tuple[int, ...] = ()

    def divisor(self, *rates: float) -> float:
        """Return what stands below the line."""
        return sum(w * r for w, r in zip(self.below, rates, strict=True)) if self.below else 1.0

    def __call__(self, *rates: float) -> float | None:
        """Return the value; None if the divisor is not positive."""
        above, below = (
            sum(w * r for w, r in zip(self.above, rates, strict=True)),
            self.divisor(*rates),
        )
        return above / below if below > 0 else None


error_rate = Formula("error rate", "E", (1,))

backward_degradation = Formula(
    "backward degradation",
    "(E_adapted - E_base) / E_base, per retention set; > 0 is forgetting",
    (-1, 1),
    (1, 0),
)
"""Of `base, adapted`."""

backward_gain = Formula(
    "backward gain",
    "(E_LoRA - E_BLoRA) / E_LoRA, on retention sets; > 0 favours BLoRA",
    (1, -1),
    (1, 0),
)
"""Of `lora, blora`."""

backward_gain_on_degradations = Formula(
    "backward gain on degradations",
    "(G_LoRA - G_BLoRA) / G_LoRA with G = E - E_base; > 0 favours BLoRA",
    (0, 1, -1),
    (-1, 1, 0),
)
"""Of `base, lora, blora`."""

new_domain_change = Formula(
    "new-domain change",
    "(E_LoRA - E_BLoRA) / E_LoRA, on new-domain sets; < 0 is what BLoRA pays",
    (1, -1),
    (1, 0),
)
"""Of `lora, blora`."""

new_domain_gain = Formula(
    "new-domain gain",
    "(E_base - E_adapted) / E_base, on new-domain sets; > 0 is what was learnt",
    (1, -1),
    (1, 0),
)
"""Of `base, adapted`."""

FORMULAS = (
    *(
        (formula.name, formula.text)
        for formula in (
            backward_degradation,
            backward_gain,
            backward_gain_on_degradations,
            new_domain_change,
            new_domain_gain,
        )
    ),
    (
        "gate",
        "mean over retention sets of max(0, (kappa - d) / kappa), d = max(0, E_adapted - E_base)",
    ),
)


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
