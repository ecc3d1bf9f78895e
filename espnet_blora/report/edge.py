"""Whether one system's edge over another shows: what is tested, and what may be said of it.

The verdict on A against B is fixed beforehand: it is the test of the gap between A and B's whole
scale curve (`espnet_blora.report.gap`). Where A was decoded at several scales, too, it is the mean
gap of all its points that B's curve reaches, never that of the best one. What may be said:

* *shows*: three training seeds or more of both, an interval above zero, a p that passes Holm's
  correction over all comparisons of the page, no retention set under 50 utterances (or 5
  speakers), and B decoded at scales not over 0.3 apart where its curve is read off: over wider
  steps false claims are more than twice as many (`benchmarks/claims.py`);
* *is suggested*: an interval above zero, but not all of that;
* *cannot be told from B turned down*: the interval holds zero;
* *B turned down keeps more*: the interval lies below zero.

Of one training seed on a side there is no verdict: figures are of these checkpoints, with an
interval that assumes what training again does. The test on the hull is a second opinion; no
verdict comes from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from espnet_blora.report.comparability import comparable
from espnet_blora.report.experiments import Experiment, Shape, System, shape
from espnet_blora.report.gap import (
    LEAST_SCALES,
    Gap,
    Hull,
    SetCounts,
    gap_test,
    holm,
    hull_test,
    inside,
    reduction,
)
from espnet_blora.scoring import Interval

ENOUGH_SEEDS = 3
_MOST_APART = 0.5  # between scales of the rival, for a curve
_CLOSE = 0.3  # between its scales where the curve is read off, for "shows"
LEVEL = 0.025  # one-sided


@dataclass(frozen=True)
class Edge:
    """The outcome of A against B turned down.

    Attributes:
        a, b: The candidate and the rival.
        gap: The test that is the verdict.
        points: A's scales -> the test of that one alone.
        tested: The scales whose mean gap is tested.
        hull: The second opinion; None with one seed on a side.
        reduction: By which share A forgets less than B there, with an interval, or None.
        seeds: Numbers of training seeds of A and of B.
        basis: What the intervals rest on beside seeds: `600 utterances`.
        small: Retention sets that are too small for "shows".
        p: One-sided, with Holm's correction over the page.
        compared: Number of comparisons of the page.
        left_out: Sets with too few units to be tested.
        step: The widest step between two decoded scales of B, where its curve was read off.
    """

    a: System
    b: System
    gap: Gap
    points: dict[float, Gap]
    tested: tuple[float, ...]
    hull: Hull | None
    reduction: tuple[float, Interval] | None
    seeds: tuple[int, int]
    basis: str
    small: tuple[str, ...]
    p: float
    compared: int = 1
    left_out: tuple[str, ...] = ()
    step: float = 0.0

    @property
    def outcome(self) -> str:
        """`shows`, `suggested`, `open`, `less`, or `checkpoints` with one seed on a side."""
        if min(self.seeds) < 2:
            return "checkpoints"
        if self.gap.interval.low <= 0:
            return "open" if self.gap.interval.high >= 0 else "less"
        return "suggested" if self.lacks else "shows"

    @property
    def lacks(self) -> list[str]:
        """What a gap above zero lacks to be said to show."""
        few = [
            f"{system.label} has {number} training seeds, {ENOUGH_SEEDS} are needed"
            for system, number in zip((self.a, self.b), self.seeds, strict=True)
            if number < ENOUGH_SEEDS
        ]
        small = [f"{name} has fewer than 50 utterances" for name in self.small]
        if self.step > _CLOSE:
            small.append(
                f"the scales of {self.b.label} are {self.step:.2g} apart where its curve is read "
                f"off, {_CLOSE} or less are needed"
            )
        if self.p > LEVEL:
            small.append(f"p is {self.p:.3f} over the {self.compared} comparisons of this page")
        return [*few, *small]


def measure(
    a: System, b: System, base: System | None, new: Sequence[str], old: Sequence[str]
) -> Edge | str:
    """Test A against B's curve; a sentence that says what is missing where that cannot be done.

    Args:
        a: The candidate.
        b: The rival, decoded at several scales.
        base: The system that was not adapted: every curve's scale 0.
        new: The sets of the new domain.
        old: The retention sets.
    """
    # the sets
    others = [a, b] if base is None else [a, b, base]
    if without := [name for name in (*new, *old) if not all(s.rates(name) for s in others)]:
        names = ", ".join(s.label for s in others)
        return f"it needs scores of {names} on all sets; {', '.join(without)} has not all of them"
    if unlike := [name for name in (*new, *old) if not comparable(others, name)]:
        return f"{', '.join(unlike)}: scored on different references"
    sets = [name for name in (*new, *old) if a.units(name).enough]
    if not set(sets) & {*new} or not set(sets) & {*old}:
        return (
            "it needs a set of the new domain and a retention set of 20 utterances or 5 speakers "
            "or more"
        )
    # errors by scale, of the runs that have all sets
    shapes = {name: a.shape(name) or () for name in sets}
    mine, theirs = (
        [scaled for run in s.whole(sets) if (scaled := by_scale(run, base, shapes))] for s in (a, b)
    )
    scales = shared(theirs)
    if problem := of_curve(b, scales):
        return problem
    points = [scale for scale in shared(mine) if scale]
    if not points:
        return f"{a.label} has no run with all sets"
    counts = []
    for name in sets:
        units = a.units(name)
        tokens = units.sums([tokens for _, tokens in a.shape(name) or ()])
        tables = [
            units.sums([[run[scale][name] for scale in kind] for run in runs])
            for runs, kind in ((theirs, scales), (mine, points))
        ]
        counts.append(SetCounts(name in new, tokens, *tables))
    edge = _tested(a, b, sets, old, counts, scales, points)
    return replace(edge, left_out=tuple(n for n in (*new, *old) if n not in sets))


def shared(runs: Sequence[Mapping[float, object]]) -> list[float]:
    """Return the scales that all runs have, rising."""
    return sorted(set.intersection(*map(set, runs))) if runs else []


def of_curve(b: System, scales: Sequence[float]) -> str:
    """Say why a rival's scales are no curve; nothing where they are one."""
    if not any(run.sweep for run in b.runs):
        return (
            f"{b.label} was not decoded at other scales, which is the rival that costs nothing; "
            "run espnet-blora sweep"
        )
    if any(row.detail is None for run in b.runs for row in run.sweep):
        return (
            f"the sweep of {b.label} is of an older release, without counts by utterance; run "
            "espnet-blora sweep again"
        )
    if any(
        row.set in run.scores and row.detail.shape != shape(run.scores[row.set])
        for run in b.runs
        for row in run.sweep
        if row.detail is not None
    ):
        return f"the sweep and the scores of {b.label} are of different references; decode it anew"
    apart = max(np.diff(scales), default=1.0)
    if len(scales) < LEAST_SCALES or apart > _MOST_APART or scales[0] > 0:
        return (
            f"{b.label} was decoded, with all its seeds, at the scales "
            f"{' '.join(f'{s:g}' for s in scales)}; a curve needs {LEAST_SCALES} or more, from 0 "
            f"on, at most {_MOST_APART} apart; run espnet-blora sweep with more --scales"
        )
    return ""


def by_scale(
    run: Experiment, base: System | None, shapes: Mapping[str, Shape]
) -> dict[float, dict[str, np.ndarray]]:
    """Return scale -> set -> errors (U,) of a run, at the scales that have all sets.

    One curve, one way of decoding: the recipe's own decoding fills in only what the sweep lacks.

    Args:
        run: With a sweep.
        base: The system that was not adapted, which is scale 0.
        shapes: Set -> the references that count.
    """
    swept: dict[float, dict[str, np.ndarray]] = {}
    for row in run.sweep:
        if row.detail is not None and row.detail.shape == shapes.get(row.set):
            swept.setdefault(row.scale, {})[row.set] = row.detail.errors
    ends = {1.0: run}
    if swept and run.adapted and base is not None:
        ends[0.0] = base.runs[0]  # by construction
    for scale, end in ends.items():
        if not shapes.keys() <= swept.get(scale, {}).keys():
            swept[scale] = {
                name: np.array([u.errors for u in end.scores[name].utterances])
                for name in shapes
                if name in end.scores and shape(end.scores[name]) == shapes[name]
            }
    return {scale: found for scale, found in swept.items() if shapes.keys() <= found.keys()}


def _tested(
    a: System,
    b: System,
    sets: Sequence[str],
    old: Sequence[str],
    counts: Sequence[SetCounts],
    scales: Sequence[float],
    points: Sequence[float],
) -> Edge:
    """Test all points of A, each alone, and the hull."""
    full = points.index(1.0) if 1.0 in points else len(points) - 1
    chosen = inside(counts, scales) or [full]
    gap = gap_test(counts, scales, chosen)
    each = [gap_test(counts, scales, [m]) for m in range(len(points))]
    units = {name: a.units(name) for name in sets}
    small = [n for n, u in units.items() if n in old and u.kind == "utterances" and u.few]
    numbers: Counter[str] = Counter()
    for u in units.values():
        numbers[u.kind] += u.number
    return Edge(
        a,
        b,
        gap,
        dict(zip(points, each, strict=True)),
        tuple(points[m] for m in chosen),
        hull_test(counts, full),
        reduction(counts, scales, chosen),
        (len(counts[0].candidate), len(counts[0].rival)),
        " + ".join(f"{number:,} {kind}" for kind, number in numbers.items()),
        tuple(small),
        gap.p,
        step=max(step_at(scales, each[m].scale) for m in chosen),
    )


def step_at(scales: Sequence[float], place: float) -> float:
    """Return how far the decoded scales round a place of a curve are apart."""
    after = int(np.searchsorted(scales, np.clip(place, scales[0] + 1e-9, scales[-1])))
    return round(float(scales[after] - scales[after - 1]), 9)


def corrected(edges: Sequence[Edge | str]) -> list[Edge | str]:
    """Return edges with p values that allow for all comparisons of the page."""
    tested = [edge for edge in edges if isinstance(edge, Edge)]
    passed = iter(holm([edge.gap.p for edge in tested]))
    return [
        replace(edge, p=next(passed), compared=len(tested)) if isinstance(edge, Edge) else edge
        for edge in edges
    ]
