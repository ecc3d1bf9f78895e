"""Estimates: formulas of rates over sets, units and seeds, with their uncertainty.

The intervals are the closed ones of `espnet_blora.scoring.intervals`: paired over units (speakers
where a set names five or more, else utterances), and over training seeds where a system has
several. The divisor of a relative figure is held fixed, so that its interval is on one side of zero
where that of the difference is: then its sign is *clear*. Of one seed the interval holds for that
one training.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

from espnet_blora.report import comparability
from espnet_blora.report.comparability import comparable
from espnet_blora.report.edge import Edge, corrected, measure
from espnet_blora.report.experiments import Experiment, System, find_system, repaired
from espnet_blora.report.matched import Match, match
from espnet_blora.report.page import ABSENT, MOST_SHOWN, Cell, percent, with_interval
from espnet_blora.scoring import Interval
from espnet_blora.scoring import retention as r
from espnet_blora.scoring.intervals import FEW_ERRORS, LEAST_ERRORS, Part, around, over, variance

WORST_SHARE = 1 / 3  # of the errors, above which 1 % of the utterances are warned of


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, either of which may be undefined (None).

    Attributes:
        seeds: The same formula for each combination of the systems' seeds; one for single runs.
        left_out: Sets too small for an interval, which this mean over sets leaves out.
    """

    value: float | None
    interval: Interval | None = None
    seeds: tuple[float, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on one side of 0, else 0."""
        if self.value is None or self.interval is None:
            return 0
        return (self.interval.low > 0) - (self.interval.high < 0)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1); None for one."""
        return statistics.stdev(self.seeds) if len(self.seeds) > 1 else None


def mean_estimate(
    formula: r.Formula, systems: Sequence[System], sets: Sequence[str]
) -> Estimate | None:
    """Apply a formula on each set and take the mean over sets; None if a rate is missing.

    A mean of comparisons is taken, with its interval, over the sets that allow an interval.
    """
    rates = [[s.rate(name) for s in systems] for name in sets]
    if not sets or any(rate is None for row in rates for rate in row):
        return None
    several = len(sets) > 1 and len(systems) > 1
    small = [n for n in sets if several and _too_small(systems, n)]
    if len(small) == len(sets):
        small = []
    used = [name for name in sets if name not in small]
    value = r.mean([formula(*(s.rate(name) or 0.0 for s in systems)) for name in used])
    if value is None:
        return Estimate(None)
    interval = _interval(value, formula, systems, used)
    return Estimate(value, interval, _seeds(formula, systems, used), tuple(small))


def _too_small(systems: Sequence[System], name: str) -> bool:
    """Tell whether a set has too few units, or the first system too few errors.

    The first system is the one whose errors a formula divides by. What depends on the outcome of
    a comparison is no reason to leave a set out.
    """
    if not comparable(systems, name):
        return False
    first = systems[0]
    errors = float(first.errors(name).sum(axis=1).mean())
    return not first.units(name).enough or errors < LEAST_ERRORS


def _interval(
    value: float, formula: r.Formula, systems: Sequence[System], sets: Sequence[str]
) -> Interval | None:
    """Return the interval over units and seeds; None where a set does not allow one."""
    if not all(comparable(systems, n) for n in sets):
        return None
    whole = [s.whole(sets) for s in systems]
    if not all(whole) or not all(systems[0].units(n).enough for n in sets):
        return None
    # too few errors: of a rate over all its sets, of a comparison in each
    errors = [systems[0].errors(n).sum(axis=1).mean() for n in sets]
    if (sum(errors) if len(systems) == 1 else min(errors)) < LEAST_ERRORS:
        return None
    # the formula as a weighted sum of counts, over the sets
    parts = []
    for name in sets:
        divisor = len(sets) * formula.divisor(*(s.rate(name) or 0.0 for s in systems))
        units = systems[0].units(name)
        tokens = units.sums([tokens for _, tokens in systems[0].shape(name) or ()])  # (G,)
        counts = [units.sums(s.errors(name, runs)) for s, runs in zip(systems, whole, strict=True)]
        sides = [w / divisor * c for w, c in zip(formula.above, counts, strict=True)]
        parts.append(Part(tokens, tuple(sides)))
    interval = around(value, variance(parts), rate=len(systems) == 1)
    return over(interval, [systems[0].units(n) for n in sets], sum(errors))


def _seeds(formula: r.Formula, systems: Sequence[System], sets: Sequence[str]) -> tuple[float, ...]:
    """Return the mean over sets for each combination of runs that have all sets."""
    values = []
    for runs in product(*(s.whole(sets) for s in systems)):
        rates = [[run.scores[name].rate or 0.0 for run in runs] for name in sets]
        value = r.mean([formula(*row) for row in rates])
        if value is not None:
            values.append(value)
    return tuple(values)


def estimate_text(estimate: Estimate | None) -> str:
    """Write a signed figure in per cent with its interval and the range of its seeds.

    It is "undefined" where its divisor is not > 0.
    """
    if estimate is None:
        return ABSENT
    if estimate.value is None:
        return "undefined"
    text = with_interval(estimate.value, estimate.interval, partial(percent, sign=True))
    if len(estimate.seeds) > 1:
        low, high = (percent(end(estimate.seeds), sign=True) for end in (min, max))
        ends = f"seeds {low} to {high}"
        text = f"{text[:-1]}; {ends})" if text.endswith(")") else f"{text} ({ends})"
    return text


def signed(estimate: Estimate | None, good: int) -> Cell:
    """Return a figure as a cell that is `good` or `bad` where its sign is clear.

    `good` is 1 where more is better, -1 where less is.
    """
    tone = ""
    if estimate is not None and estimate.value is not None and estimate.interval is not None:
        tone = {good: "good", -good: "bad"}.get(estimate.sign, "unclear")
    return Cell(estimate_text(estimate), None if estimate is None else estimate.value, tone)


def level(estimate: Estimate | None) -> Cell:
    """Return an error rate as a cell: `10.4 ± 0.3 (9.0 to 11.9; 200 utt.)`.

    The number after ± is the spread over seeds; in brackets the interval and its units.
    """
    if estimate is None or estimate.value is None:
        return Cell(ABSENT)
    text = with_interval(estimate.value, estimate.interval)
    if estimate.spread is not None:
        value, _, rest = text.partition(" ")
        text = f"{value} ± {percent(estimate.spread)} {rest}".rstrip()
    return Cell(text, estimate.value)


DEFAULT_KAPPA = 0.02
ALL_SETS = "mean over sets"


@dataclass
class Comparison:
    """System A against system B.

    Attributes:
        figures: Name of a formula -> (set or `ALL_SETS`) -> figure; > 0 favours A.
        edge: The test of A against B's whole curve, or why there is none.
    """

    a: System
    b: System
    figures: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    edge: Edge | str = "there is no retention set"


@dataclass
class Analysis:
    """What the page says; names of systems and sets are the keys.

    Attributes:
        treated: Set -> unit and normalisation of every figure shown of it.
        rates: (system, set) -> error rate, over seeds.
        new, kept: System -> mean error over the new-domain sets, over the retention sets.
        degradation: (system, set) -> backward degradation.
        mean_degradation, new_gain, gate: System -> figure over its role's sets.
        comparisons: The pairs compared.
        repaired: What repairs made of the systems; they are curves only.
        match: All curves against LoRA's at matched new-domain error, if there are such.
        points: System -> points (scale by name) in the plane of new-domain and retention error.
        seed_points: System -> its runs' own points, where there are several.
        warnings: What must be read before any figure; notes: what is missing.
        left_out: Retention set -> why it is not among `retention_sets`.
    """

    systems: list[System]
    test_sets: list[str]
    retention_sets: list[str]
    kappa: dict[str, float]
    treated: dict[str, comparability.Treatment] = field(default_factory=dict)
    rates: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    new: dict[str, Estimate] = field(default_factory=dict)
    kept: dict[str, Estimate] = field(default_factory=dict)
    degradation: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    mean_degradation: dict[str, Estimate] = field(default_factory=dict)
    new_gain: dict[str, Estimate] = field(default_factory=dict)
    gate: dict[str, float] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    repaired: list[System] = field(default_factory=list)
    match: Match | None = None
    points: dict[str, list[r.Point]] = field(default_factory=dict)
    seed_points: dict[str, list[r.Point]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def shown_sets(self) -> list[str]:
        """The sets that plots and examples show: of many those whose errors differ most."""
        span = {}
        for name in self.sets:
            rates = [e.value or 0.0 for (_, scored), e in self.rates.items() if scored == name]
            span[name] = max(rates, default=0.0) - min(rates, default=0.0)
        most = sorted(span, key=span.__getitem__, reverse=True)[:MOST_SHOWN]
        return [name for name in span if name in most]

    @property
    def too_small(self) -> list[str]:
        """The sets that a mean over sets leaves out, as they allow no interval."""
        figures = [*self.new_gain.values(), *self.mean_degradation.values()]
        figures += [
            f[ALL_SETS] for c in self.comparisons for f in c.figures.values() if ALL_SETS in f
        ]
        return [n for n in self.sets if any(n in figure.left_out for figure in figures)]

    @property
    def sets(self) -> list[str]:
        """All sets, the new domain first."""
        return [*self.test_sets, *self.retention_sets]

    @property
    def base(self) -> System | None:
        """The system that was not adapted."""
        return next((s for s in self.systems if not s.adapted), None)

    @property
    def adapted(self) -> list[System]:
        """The systems that were."""
        return [s for s in self.systems if s.adapted]

    @property
    def placed(self) -> list[System]:
        """The systems, and what repairs made of them, that have a place in the plane."""
        return [s for s in (*self.systems, *self.repaired) if self.points.get(s.name)]

    def kind(self, name: str) -> str:
        """Return what a set is for: `new` or `retention`."""
        return "new" if name in self.test_sets else "retention"

    def rise(self, system: System, name: str) -> float | None:
        """Return E_adapted - E_base on a set; None if either is missing."""
        before = self.base.rate(name) if self.base else None
        after = system.rate(name)
        return None if before is None or after is None else after - before

    def beyond(self, system: System) -> list[str]:
        """Return the retention sets that got worse by kappa or more."""
        rises = {name: self.rise(system, name) for name in self.retention_sets}
        return [n for n, rise in rises.items() if rise is not None and rise >= self.kappa[n]]


def analyse(
    systems: Sequence[System],
    test_sets: Sequence[str],
    retention_sets: Sequence[str],
    kappa: dict[str, float] | float = DEFAULT_KAPPA,
    compare: Sequence[str] = (),
) -> Analysis:
    """Compute everything that the scores allow; what they do not is absent, and noted.

    Scores of a set that were not treated alike are not compared: see `comparability`.

    Args:
        systems: All systems; scores that cannot be compared are taken out of them.
        test_sets: Sets of the new domain.
        retention_sets: Sets of what the base could do before.
        kappa: Degradation allowed by the gate, one or per retention set.
        compare: Pairs `"A:B"`; by default every adapted system against LoRA, BLoRA first, or
            against the first where there is no LoRA.

    Raises:
        ValueError: A pair that names no two systems.
    """
    allowed = kappa if isinstance(kappa, dict) else dict.fromkeys(retention_sets, kappa)
    analysis = Analysis(list(systems), list(test_sets), list(retention_sets), allowed)
    analysis.repaired = repaired(analysis.systems)
    every = [*analysis.systems, *analysis.repaired]
    analysis.treated = comparability.of_sets(analysis.systems, analysis.sets)
    analysis.warnings += comparability.set_aside(every, analysis.treated)
    analysis.warnings += comparability.unlike(analysis.treated)
    _leave_out(analysis)
    _measure(analysis)
    for system in analysis.systems:
        analysis.notes += _notes(analysis, system)
    for system in every:
        _place(analysis, system)
    kinds = (analysis.test_sets, analysis.retention_sets)
    analysis.match = match([*analysis.adapted, *analysis.repaired], analysis.base, *kinds)
    analysis.comparisons = [_compared(analysis, *pair) for pair in pairs(analysis, compare)]
    for pair, edge in zip(
        analysis.comparisons, corrected([c.edge for c in analysis.comparisons]), strict=True
    ):
        pair.edge = edge
    analysis.warnings += _bursts(analysis)
    return analysis


def _leave_out(analysis: Analysis) -> None:
    """Leave out the retention sets that nobody has scored; warn where none is left."""
    named = analysis.retention_sets
    if not any(s.rates(name) for s in analysis.systems for name in analysis.sets):
        return  # all is missing, not one set
    scored = [n for n in named if any(s.rates(n) for s in analysis.systems)]
    analysis.left_out = {n: "no experiment has a score of it" for n in named if n not in scored}
    analysis.retention_sets = scored
    analysis.kappa = {name: analysis.kappa[name] for name in scored}
    if not scored:
        why = f"none of {', '.join(named)} is scored" if named else "--retention_sets is empty"
        analysis.warnings.insert(
            0,
            f"Forgetting was not measured: {why}. Nothing here says what the adapted systems lost "
            "of what the base could do before. Decode and score a set of that kind (stages 12 and "
            "13), and name it in --retention_sets.",
        )


def pairs(analysis: Analysis, compare: Sequence[str]) -> list[tuple[System, System]]:
    """Return the pairs of systems to compare (see `analyse`)."""
    if compare:
        return [_pair(analysis.systems, text) for text in compare]
    scored = [s for s in analysis.adapted if any(s.rates(name) for name in analysis.sets)]
    rival = next((s for s in scored if s.role == "lora"), scored[0] if scored else None)
    others = sorted((s for s in scored if s is not rival), key=lambda s: s.role != "blora")
    return [(other, rival) for other in others if rival is not None]


def _pair(systems: Sequence[System], text: str) -> tuple[System, System]:
    words = text.split(":")
    if len(words) != 2:
        raise ValueError(f"--compare {text!r}: give pairs A:B, blanks between pairs")
    try:
        a, b = (find_system(systems, word) for word in words)
    except ValueError as error:
        raise ValueError(f"--compare {text!r}: {error}") from error
    if a is b:
        raise ValueError(f"--compare {text!r}: {a.label} cannot be compared with itself")
    return a, b


def _measure(analysis: Analysis) -> None:
    """Estimate error rates, by set and over sets, and what was gained and forgotten."""
    base, adapted = analysis.base, analysis.adapted
    new, kept = analysis.test_sets, analysis.retention_sets

    def error(system: System, sets: Sequence[str]) -> Estimate | None:
        return mean_estimate(r.error_rate, [system], sets)

    for s in analysis.systems:
        analysis.rates |= _defined({(s.name, n): error(s, [n]) for n in analysis.sets})
    analysis.new = _defined({s.name: error(s, new) for s in analysis.systems})
    analysis.kept = _defined({s.name: error(s, kept) for s in analysis.systems})
    if base is None:
        return

    def degradation(system: System, sets: Sequence[str]) -> Estimate | None:
        return mean_estimate(r.backward_degradation, [base, system], sets)

    for s in adapted:
        analysis.degradation |= _defined({(s.name, n): degradation(s, [n]) for n in kept})
        if (gain := mean_estimate(r.new_domain_gain, [base, s], new)) is not None:
            analysis.new_gain[s.name] = gain
        if (mean := degradation(s, kept)) is not None:
            analysis.mean_degradation[s.name] = mean
            before, after = ([system.rate(n) or 0.0 for n in kept] for system in (base, s))
            analysis.gate[s.name] = r.gate(before, after, [analysis.kappa[n] for n in kept])


def _defined[Key, Value](values: Mapping[Key, Value | None]) -> dict[Key, Value]:
    return {key: value for key, value in values.items() if value is not None}


def _notes(analysis: Analysis, system: System) -> Iterator[str]:
    """Yield what a system's seeds lack, and where it cannot be paired with the base."""
    for name in analysis.sets:
        missing = [r.name for r in system.runs if r.exists and name not in r.scores]
        if missing and len(missing) < len(system.runs):
            yield (
                f"{system.label}, {name}: {len(missing)} of {len(system.runs)} seeds have no "
                f"score ({', '.join(missing)}); the mean is over the others"
            )
        if system.rates(name) and system.shape(name) is None:
            yield (
                f"{system.label}, {name}: its seeds were scored on different references; their "
                "mean has no interval"
            )
    base = analysis.base
    if base is None or not system.adapted:
        return
    for name in analysis.sets:
        if base.rates(name) and system.rates(name) and not comparable([base, system], name):
            yield (
                f"{name}: {base.label} and {system.label} were scored on different references; "
                "their differences have no interval"
            )


def _compared(analysis: Analysis, a: System, b: System) -> Comparison:
    pair = Comparison(a, b)
    old = analysis.retention_sets
    rows: list[tuple[r.Formula, list[System], list[str]]] = [
        (r.backward_gain, [b, a], old),
        (r.new_domain_change, [b, a], analysis.test_sets),
    ]
    if analysis.base is not None:
        rows.insert(1, (r.backward_gain_on_degradations, [analysis.base, b, a], old))
    for formula, systems, sets in rows:
        figures = {name: mean_estimate(formula, systems, [name]) for name in sets}
        figures[ALL_SETS] = mean_estimate(formula, systems, sets)
        pair.figures[formula.name] = _defined(figures)
    if analysis.retention_sets:
        new, old = analysis.test_sets, analysis.retention_sets
        pair.edge = measure(a, b, analysis.base, new, old)
    return pair


def _bursts(analysis: Analysis) -> Iterator[str]:
    """Yield a warning where few utterances make most errors: no interval knows of such bursts."""
    for run in (run for system in analysis.systems for run in system.runs):
        for name, score in run.scores.items():
            share = score.worst_share or 0.0
            if share > WORST_SHARE and score.total.errors >= FEW_ERRORS:
                yield (
                    f"{run.label}, {name}: the worst 1 % of utterances make {100 * share:.0f} % of "
                    "the errors (loops of made-up words do that). An interval knows only of the "
                    "bursts that the sample has: look at these utterances before the rate."
                )


def _mean_rates(
    analysis: Analysis, rates: Mapping[str, float | None]
) -> tuple[float, float] | None:
    new = r.mean([rates.get(name) for name in analysis.test_sets])
    kept = r.mean([rates.get(name) for name in analysis.retention_sets])
    return None if new is None or kept is None else (new, kept)


def _place(analysis: Analysis, system: System) -> None:
    """Put a system, its seeds, and its scale turned down, into the plane."""
    runs = [_run_points(analysis, system, run) for run in system.runs]
    runs = [points for points in runs if points]
    if not runs:
        return
    shared = set.intersection(*(set(points) for points in runs))
    if shared:
        means = {s: [sum(p[s][k] for p in runs) / len(runs) for k in (0, 1)] for s in shared}
        base = [] if system.adapted else [r.Point("base", *means[1.0])]
        analysis.points[system.name] = base or [
            r.Point(system.at(scale), *means[scale]) for scale in sorted(means)
        ]
    if len(runs) > 1:
        analysis.seed_points[system.name] = [r.Point("1", *p[1.0]) for p in runs if 1.0 in p]


def _run_points(
    analysis: Analysis, system: System, run: Experiment
) -> dict[float, tuple[float, float]]:
    swept: dict[float, dict[str, float]] = {}
    for row in run.sweep:
        swept.setdefault(row.scale, {})[row.set] = row.rate
    points = _defined({scale: _mean_rates(analysis, rates) for scale, rates in swept.items()})
    # One curve, one way of decoding: the recipe's own decoding fills in only what the sweep lacks.
    ends = {1.0: {name: score.rate for name, score in run.scores.items()}}
    if points and system.adapted and analysis.base is not None:
        # scale 0 is the base, by construction
        ends[0.0] = {name: analysis.base.rate(name) for name in analysis.sets}
    return _defined({scale: _mean_rates(analysis, rates) for scale, rates in ends.items()}) | points
