"""Comparability of scores: the same treatment of the text, and the same references.

What was scored in another unit or with another normalisation than the base (the first system that
has the set) is set aside, with a warning at the head of the page; it is not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espnet_blora.report.experiments import System
from espnet_blora.scoring import SetScore, describe_normalisation
from espnet_blora.scoring.sweep import SweepRow


@dataclass(frozen=True)
class Treatment:
    """What a token is and what was done to both sides before counting."""

    unit: str
    normalisation: str

    @classmethod
    def of(cls, scored: SetScore | SweepRow) -> Treatment:
        """Return how a score or a row of a sweep was treated."""
        return cls(scored.unit, scored.normalisation)

    def __str__(self) -> str:
        return f"{self.unit.upper()}, {self.normalisation}"

    def describe(self) -> str:
        """Say the unit, and what the normalisation does."""
        return f"{self.unit.upper()}, normalisation {describe_normalisation(self.normalisation)}"


def of_sets(systems: Sequence[System], sets: Sequence[str]) -> dict[str, Treatment]:
    """Return the treatment that counts for each set: that of the base, else of the first scored."""
    treated: dict[str, Treatment] = {}
    for run in (run for s in sorted(systems, key=lambda s: s.adapted) for run in s.runs):
        for name in sets:
            if name in run.scores:
                treated.setdefault(name, Treatment.of(run.scores[name]))
    return treated


def set_aside(systems: Sequence[System], treated: dict[str, Treatment]) -> list[str]:
    """Take scores and sweeps with another treatment out of the systems; return the warnings."""
    warnings = []
    for run in (run for system in systems for run in system.runs):
        for name, treatment in treated.items():
            score = run.scores.get(name)
            if score is not None and (has := Treatment.of(score)) != treatment:
                del run.scores[name]
                warnings.append(_warning(run.label, name, "its decoding", has, treatment))
            odd = {Treatment.of(row) for row in run.sweep if row.set == name} - {treatment}
            if odd:
                run.sweep = [row for row in run.sweep if row.set != name]
                warnings.append(
                    _warning(run.label, name, "its sweep", min(odd, key=str), treatment)
                )
    return warnings


def _warning(label: str, name: str, what: str, has: Treatment, others: Treatment) -> str:
    return (
        f"{label}, {name}: {what} was scored as {has}, the others as {others}. Different "
        "treatments cannot be compared, so it is left out here; score it again like the others "
        f"(--unit {others.unit} --normalisation {others.normalisation})."
    )


def unlike(treated: dict[str, Treatment]) -> list[str]:
    """Return a warning where the sets differ in treatment."""
    if len(set(treated.values())) < 2:
        return []
    treatments = "; ".join(f"{name}: {treatment}" for name, treatment in treated.items())
    return [
        f"The sets are not treated alike ({treatments}). Compare systems within a set, not one set "
        "with another; a mean over sets that differ mixes their treatments."
    ]


def comparable(systems: Sequence[System], name: str) -> bool:
    """Tell whether systems were scored on the same utterances and reference tokens of a set."""
    shapes = {s.shape(name) for s in systems}
    return len(shapes) == 1 and None not in shapes
