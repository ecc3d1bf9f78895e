"""From collected experiments to the figures of the retention page, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from espnet_blora.report.collect import Experiment
from espnet_blora.scoring import Interval, SetScore, probability_better
from espnet_blora.scoring import retention as r
from espnet_blora.scoring.bootstrap import derived_interval

DEFAULT_KAPPA = 0.02


@dataclass(frozen=True)
class Figure:
    """A number with its 95 % interval, either of which may be undefined (None)."""

    value: float | None
    interval: Interval | None = None

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on one side of 0, else 0."""
        if self.value is None or self.interval is None:
            return 0
        return (self.interval.low > 0) - (self.interval.high < 0)


@dataclass
class Analysis:
    """What the page prints.

    Attributes:
        degradation: (experiment, retention set) -> backward degradation.
        mean_degradation, new_gain, gate: experiment -> figure over its role's sets.
        compared: name of a formula -> (set or "mean over sets") -> figure, BLoRA against LoRA.
        better: set -> probability that BLoRA makes fewer errors than LoRA.
        points: label -> points (scale by name) in the plane of new-domain and retention error.
    """

    test_sets: list[str]
    retention_sets: list[str]
    kappa: dict[str, float]
    degradation: dict[tuple[str, str], Figure] = field(default_factory=dict)
    mean_degradation: dict[str, Figure] = field(default_factory=dict)
    new_gain: dict[str, Figure] = field(default_factory=dict)
    gate: dict[str, float] = field(default_factory=dict)
    compared: dict[str, dict[str, Figure]] = field(default_factory=dict)
    better: dict[str, float] = field(default_factory=dict)
    points: dict[str, list[r.Point]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def analyse(
    experiments: Sequence[Experiment],
    test_sets: Sequence[str],
    retention_sets: Sequence[str],
    kappa: dict[str, float] | float = DEFAULT_KAPPA,
) -> Analysis:
    """Compute everything that the scores allow; what they do not is absent, and noted."""
    allowed = kappa if isinstance(kappa, dict) else dict.fromkeys(retention_sets, kappa)
    found = Analysis(list(test_sets), list(retention_sets), allowed)
    by_role = {e.role: e for e in experiments if e.role in ("base", "lora", "blora")}
    base, lora, blora = (by_role.get(role) for role in ("base", "lora", "blora"))
    for experiment in experiments:
        if experiment.adapted and base is not None:
            _against_base(found, base, experiment)
        _place(found, experiment, base)
    if lora is not None and blora is not None:
        _blora_against_lora(found, base, lora, blora)
    return found


def figure(
    formula: Callable[..., float | None],
    systems: Sequence[Experiment],
    name: str,
) -> Figure | None:
    """Apply a formula of rates to some systems on one set; None if a score or rate is missing."""
    return mean_figure(formula, systems, [name])


def mean_figure(
    formula: Callable[..., float | None], systems: Sequence[Experiment], sets: Sequence[str]
) -> Figure | None:
    """Apply a formula on each set and take the mean over sets, with a paired bootstrap interval."""
    if not sets or any(name not in s.scores for s in systems for name in sets):
        return None
    rates = [[s.scores[name].rate for s in systems] for name in sets]
    if any(rate is None for row in rates for rate in row):
        return None
    value = r.mean([formula(*row) for row in rates])
    if value is None:
        return Figure(None)
    arrays = [_paired([s.scores[name] for s in systems]) for name in sets]
    if any(pair is None for pair in arrays):
        return Figure(value)

    def over_draws(*blocks: np.ndarray) -> np.ndarray:
        values = [[_nan(formula(*block[:, n])) for n in range(block.shape[1])] for block in blocks]
        return np.mean(np.asarray(values), axis=0)

    return Figure(value, derived_interval(over_draws, arrays))


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _paired(scores: Sequence[SetScore]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return errors (systems, utterances) and tokens (utterances,), None unless scored alike."""
    first = scores[0]
    shape = [(u.id, u.tokens) for u in first.utterances]
    for other in scores[1:]:
        if [(u.id, u.tokens) for u in other.utterances] != shape:
            return None
    return (
        np.array([[u.errors for u in s.utterances] for s in scores]),
        np.array([tokens for _, tokens in shape]),
    )


def same_utterances(a: Experiment, b: Experiment, name: str) -> bool:
    """Tell whether two experiments scored the same references of a set."""
    return _paired([a.scores[name], b.scores[name]]) is not None


def _against_base(found: Analysis, base: Experiment, adapted: Experiment) -> None:
    pair = [base, adapted]
    for name in (*found.retention_sets, *found.test_sets):
        if name in base.scores and name in adapted.scores and not same_utterances(*pair, name):
            found.notes.append(
                f"{name}: {base.name} and {adapted.name} were scored on different references; "
                "their differences have no interval"
            )
    for name in found.retention_sets:
        if (one := figure(r.backward_degradation, pair, name)) is not None:
            found.degradation[adapted.name, name] = one
    mean = mean_figure(r.backward_degradation, pair, found.retention_sets)
    if mean is not None:
        found.mean_degradation[adapted.name] = mean
        rates = [[e.scores[n].rate for n in found.retention_sets] for e in pair]
        found.gate[adapted.name] = r.gate(*rates, [found.kappa[n] for n in found.retention_sets])
    if (gain := mean_figure(r.new_domain_gain, pair, found.test_sets)) is not None:
        found.new_gain[adapted.name] = gain


def _blora_against_lora(
    found: Analysis, base: Experiment | None, lora: Experiment, blora: Experiment
) -> None:
    rows = [
        ("backward gain", r.backward_gain, [lora, blora], found.retention_sets),
        ("new-domain change", r.new_domain_change, [lora, blora], found.test_sets),
    ]
    if base is not None:
        on_degradations = r.backward_gain_on_degradations
        trio = [base, lora, blora]
        rows.insert(
            1, ("backward gain on degradations", on_degradations, trio, found.retention_sets)
        )
    for title, formula, systems, sets in rows:
        figures = {name: figure(formula, systems, name) for name in sets}
        figures["mean over sets"] = mean_figure(formula, systems, sets)
        found.compared[title] = {k: v for k, v in figures.items() if v is not None}
    for name in (*found.test_sets, *found.retention_sets):
        if name in lora.scores and name in blora.scores:
            pair = _paired([blora.scores[name], lora.scores[name]])
            if pair is not None:
                share = probability_better(pair[0][0], pair[0][1])
                if share is not None:
                    found.better[name] = share


def _mean_rates(found: Analysis, rates: dict[str, float | None]) -> tuple[float, float] | None:
    new = r.mean([rates.get(name) for name in found.test_sets])
    kept = r.mean([rates.get(name) for name in found.retention_sets])
    return None if new is None or kept is None else (new, kept)


def _place(found: Analysis, experiment: Experiment, base: Experiment | None) -> None:
    """Put an experiment, and its scale turned down, into the plane."""
    points = {}
    for scale in sorted({row.scale for row in experiment.sweep}):
        rates = {row.set: row.rate for row in experiment.sweep if row.scale == scale}
        if (place := _mean_rates(found, rates)) is not None:
            points[scale] = r.Point(f"{scale:g}", *place)
    full = _mean_rates(found, {n: s.rate for n, s in experiment.scores.items()})
    # One curve, one way of decoding: the recipe's own decoding fills in only what the sweep lacks.
    if full is not None and 1.0 not in points:
        points[1.0] = r.Point("1" if experiment.adapted else "base", *full)
    turned_down = experiment.adapted and bool(experiment.sweep) and 0.0 not in points
    if turned_down and base is not None:
        start = _mean_rates(found, {n: s.rate for n, s in base.scores.items()})
        if start is not None:
            points[0.0] = r.Point("0", *start)  # scale 0 is the base, by construction
    if points:
        found.points[experiment.name] = [points[scale] for scale in sorted(points)]


def verdict(found: Analysis, lora: Experiment | None, blora: Experiment | None) -> list[str]:
    """Say in sentences what came out, whoever it flatters."""
    change, gain = (
        found.compared.get(title, {}).get("mean over sets")
        for title in ("new-domain change", "backward gain")
    )
    if lora is None or blora is None or change is None or gain is None:
        return ["There is no verdict: it needs scores of LoRA and BLoRA on all sets."]
    said = []
    for title, one in (("New domain", change), ("Retention sets", gain)):
        undefined = "LoRA makes no error on some set, so the formula is undefined"
        said.append(f"{title}: {undefined if one.value is None else _direction(one)}.")
    rival = _rival(found, lora, blora)
    if rival:
        said.append(rival[0])
        said += _curves(found, lora, blora)
    unflattering = []
    if gain.sign <= 0:
        unflattering.append("its gain on the retention sets is not clearly above zero")
    if rival and rival[1] is not True:
        unflattering.append("LoRA with its scale turned down does as well or better")
    if not rival:
        unflattering.append("it could not be compared with LoRA's scale turned down")
    if unflattering:
        said.append(
            f"**BLoRA's edge does not show in this run**: {' and '.join(unflattering)}. The paper "
            "(arXiv 2510.18723) trains far longer, on a large base, and adapts fewer layers; that "
            "may be why, but this run does not prove it."
        )
    else:
        said.append(
            "BLoRA's edge shows in this run: it forgets less than LoRA, also than LoRA with its "
            "scale turned down to the same error on the new domain."
        )
    return said


def _direction(one: Figure) -> str:
    if one.value == 0:
        return "BLoRA makes as many errors as LoRA"
    more = "fewer" if one.value > 0 else "more"
    share = f"{abs(100 * one.value):.1f} % {more} errors than LoRA"
    if one.interval is None:
        return f"BLoRA makes {share} (no interval)"
    ends = f"95 % interval {100 * one.interval.low:+.1f} to {100 * one.interval.high:+.1f} %"
    if one.sign == 0:
        return f"no clear difference; BLoRA makes {share}, but the {ends} holds zero"
    return f"BLoRA makes {share} ({ends}, + is fewer)"


def _curves(found: Analysis, lora: Experiment, blora: Experiment) -> list[str]:
    """Compare the two scale curves where both were decoded, scale 0 (the base) left out."""
    curve = found.points.get(lora.name, [])
    mine = [p for p in found.points.get(blora.name, []) if p.name not in ("0", "base")]
    pairs = [(p.kept, kept) for p in mine if (kept := r.kept_at(curve, p.new)) is not None]
    if len(mine) < 3 or not pairs:
        return []
    below = sum(have < kept - 1e-9 for have, kept in pairs)
    return [
        f"BLoRA with its own scale turned down too: at {below} of {len(pairs)} scales it keeps "
        "more than LoRA does at the same error on the new domain."
    ]


def _rival(found: Analysis, lora: Experiment, blora: Experiment) -> tuple[str, bool | None] | None:
    """Compare BLoRA as decoded with LoRA's scale curve; True where BLoRA keeps more."""
    curve, mine = found.points.get(lora.name, []), found.points.get(blora.name, [])
    point = next((p for p in mine if p.name == "1"), None)
    if len(curve) < 3 or point is None:
        return None
    kept = r.kept_at(curve, point.new)
    new, have = 100 * point.new, 100 * point.kept
    if kept is None:
        return (
            f"Rival: BLoRA's error on the new domain ({new:.1f} %) is lower than that of LoRA at "
            "any scale, so no scale of LoRA can be set against it there.",
            True,
        )
    rival = 100 * kept
    if rival < have - 1e-9:
        outcome, better = "keeps more than BLoRA", False
    elif rival > have + 1e-9:
        outcome, better = "keeps less than BLoRA", True
    else:
        outcome, better = "keeps as much as BLoRA", None
    return (
        f"Rival: at BLoRA's error on the new domain ({new:.1f} %), LoRA with its scale turned down "
        f"makes {rival:.1f} % errors on the retention sets (read off its curve, no interval), "
        f"BLoRA {have:.1f} %: LoRA turned down {outcome}.",
        better,
    )
