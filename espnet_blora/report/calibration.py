"""The section on calibration: does a system know when it is wrong?

`<experiment>/confidence/<any>/<set>/calibration.json` (what `bin.calibrate` writes) is taken as it
is. A `confidence/<name>/<set>/words.jsonl` whose name is in none of them is scored here, as the set
was, all such files of an experiment and set together.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from espnet_blora.report.calibration_plots import (
    Panel,
    plot_reliability,
    plot_risk,
)
from espnet_blora.report.collect import Texts
from espnet_blora.report.estimates import Analysis
from espnet_blora.report.experiments import Experiment, System
from espnet_blora.report.page import (
    ABSENT,
    Block,
    Bullets,
    Cell,
    Folded,
    Picture,
    Prose,
    Table,
    percent,
    table,
    with_interval,
)
from espnet_blora.scoring.calibration.compare import (
    MEASURES,
    SHARE,
    Calibration,
    Difference,
    Estimate,
    Examined,
    examine,
)
from espnet_blora.scoring.calibration.measures import Bin, wilson
from espnet_blora.scoring.calibration.words import UNCERTAINTIES, label_tokens, read_confidences
from espnet_blora.scoring.retention import mean

HOW_TO_READ = (
    "A word is a token of the error rate; it is right where the alignment with the reference makes "
    "it a hit. **Deleted words have no confidence** and are not in these figures, but they count "
    "as errors in the risk-coverage curve. **ECE**: mean distance of confidence and share of right "
    "words over bins of confidence. **By chance**: the ECE that 97.5 % of perfectly calibrated "
    "systems with these confidences stay below; a larger one is real (the interval of an ECE lies "
    "high: drawing words again adds chance; a figure has none where a draw leaves it undefined, as "
    "without a wrong word). **Gap**: confidence less "
    "accuracy, above 0 is overconfident. **AUROC**: the probability that a wrong word has a lower "
    "confidence than a right one (50 % is guessing). **AUPR**: average precision of finding wrong "
    "words, the rarer they are the lower. **Risk-coverage area**: mean error rate of what is kept, "
    "over all shares kept, when utterances are kept in the order of their certainty; **rejection "
    "ratio**: 100 % for the best order there is, 0 % for guessing."
)
DIFFERENCES = (
    "Differences, in pairs over the same draws: the left system less the right one; coloured where "
    "the whole interval lies on one side of zero."
)
SHORT = {
    "mer": "error rate",
    "ece": "ECE",
    "gap": "gap",
    "brier": "Brier score",
    "nll": "NLL, nats",
    "auroc": "AUROC",
    "area_confidence": "risk-coverage area",
    "ratio_confidence": "rejection ratio",
}
"""Measure -> head of its column in the table of all systems."""
COMPARED = ("mer", "ece", "brier", "nll", "auroc", "area_confidence")
_KEPT = 80  # per cent of what was said, in the sentences


def short_title(key: str) -> str:
    """Return the head of a column: the measure and its unit."""
    title = SHORT.get(key, MEASURES[key].title)
    return f"{title}, %" if MEASURES[key].unit == SHARE else title


def written(key: str, estimate: Estimate | None, sign: bool = False) -> str:
    """Write a figure with its interval: per cent with one digit, other numbers with three."""
    if estimate is None:
        return ABSENT
    return with_interval(estimate.value, estimate.interval, partial(number, key, sign=sign))


def number(key: str, value: float, sign: bool = False) -> str:
    """Write a value of a measure in its unit; what rounds to zero has no minus."""
    text = f"{value:{'+' if sign else ''}.3f}"
    if MEASURES[key].unit == SHARE:
        text = percent(value, sign=sign)
    return text if text.strip("-0.") else text.replace("-", "+" if sign else "")


def full_table(examined: Examined) -> Table:
    """Return every figure that a system has, one column per system."""
    rows: list[list[str]] = [
        ["utterances", *(str(s.utterances) for s in examined.systems)],
        ["words recognised", *(str(s.words) for s in examined.systems)],
        ["of them wrong", *(str(s.wrong) for s in examined.systems)],
        ["deleted (no confidence)", *(str(s.deletions) for s in examined.systems)],
    ]
    for key, measure in MEASURES.items():
        if not any(key in s.estimates for s in examined.systems):
            continue
        name = f"{measure.title}, %" if measure.unit == SHARE else measure.title
        rows.append([name, *(written(key, s.estimates.get(key)) for s in examined.systems)])
        if key == "ece":
            chance = [percent(s.chance and s.chance[1]) for s in examined.systems]
            rows.append(["ECE by chance, at most, %", *chance])
    return table(("figure", *(s.name for s in examined.systems)), rows)


def difference_table(differences: Sequence[Difference]) -> Table:
    """Return the figures that matter of differences, a row a pair."""
    head = ("systems", *(short_title(key) for key in COMPARED))
    rows = [
        [f"{d.a} − {d.b}", *(difference_cell(key, d.estimates.get(key)) for key in COMPARED)]
        for d in differences
    ]
    return table(head, rows, DIFFERENCES)


def difference_cell(key: str, estimate: Estimate | None) -> Cell:
    """Return a difference as a cell, coloured where it is clear which side is better."""
    if estimate is None or estimate.value is None:
        return Cell(ABSENT)
    tone = _tone(estimate.sign * MEASURES[key].better)
    return Cell(written(key, estimate, sign=True), estimate.value, tone)


def examined_blocks(examined: Examined) -> list[Block]:
    """Return all that is said of systems on one set."""
    drawn = "utterances" if examined.resampled == "utterance" else "whole speakers"
    blocks: list[Block] = [
        Prose(
            f"{examined.unit.upper()}, normalisation {examined.normalisation}. In brackets: 95 % "
            f"intervals, {examined.samples} bootstrap draws of {drawn}."
        ),
        Bullets([sentence(s.name, [s]) for s in examined.systems]),
        full_table(examined),
    ]
    if examined.differences:
        blocks.append(difference_table(examined.differences))
    notes = [f"{s.name}: {s.note}" for s in examined.systems if s.note]
    notes += [
        f"{s.name}: normalisation left nothing of {s.removed} words; their confidences are not used"
        for s in examined.systems
        if s.removed
    ]
    return [*blocks, *([Bullets(notes)] if notes else []), Prose(HOW_TO_READ)]


def sentence(name: str, runs: Sequence[Calibration]) -> str:
    """Say in words what the figures come to; of several seeds, the means."""
    gap, right, ece = (
        mean([s.estimates[key].value for s in runs]) for key in ("gap", "accuracy", "ece")
    )
    chance = mean([s.chance and s.chance[1] for s in runs])
    if gap is None or right is None or ece is None or chance is None:
        return f"{name}: no word was recognised"
    if ece <= chance:
        judged = "as right as it says, as far as this set can tell"
    elif abs(gap) < 0.005:
        judged = f"right on average, but off by {percent(ece)} points from bin to bin"
    else:
        word = "overconfident" if gap > 0 else "underconfident"
        judged = f"{word} by {percent(abs(gap))} points"
    text = (
        f"**{name}**: mean confidence of its words {percent(right + gap)} %, "
        f"{percent(right)} % of them are right: {judged}"
    )
    risks = [mean([s.curves["confidence"][at] for s in runs]) for at in (_KEPT, -1)]
    if None in risks:
        return text
    return (
        f"{text}; keeping the surest {_KEPT} % of what was said takes the error rate from "
        f"{percent(risks[1])} to {percent(risks[0])} %"
    )


def seeds_cell(key: str, runs: Sequence[Calibration]) -> Cell:
    """Return a figure as a cell: of one run with its interval, of several seeds mean ± s.d."""
    values = [s.estimates[key].value for s in runs if key in s.estimates]
    known = [value for value in values if value is not None]
    if not known:
        return Cell(ABSENT)
    if len(runs) == 1:
        return Cell(written(key, runs[0].estimates[key]), known[0])
    centre = statistics.fmean(known)
    spread = number(key, statistics.stdev(known)) if len(known) > 1 else ABSENT
    return Cell(f"{number(key, centre)} ± {spread}", centre)


def seeds_difference(key: str, runs: Sequence[Difference]) -> Cell:
    """Return a difference as a cell; of several seeds mean, range and how many are clear."""
    estimates = [d.estimates[key] for d in runs if key in d.estimates]
    known = [(estimate, value) for estimate in estimates if (value := estimate.value) is not None]
    if len(known) < 2:
        return difference_cell(key, known[0][0] if known else None)
    values = [value for _, value in known]
    centre = statistics.fmean(values)
    ends = [number(key, end(values), sign=True) for end in (min, max)]
    sign = (centre > 0) - (centre < 0)
    clear = sum(estimate.sign == sign for estimate, _ in known) if sign else 0
    count = f"clear in {clear} of {len(known)}"
    text = f"{number(key, centre, sign=True)} ({' to '.join(ends)}; {count})"
    tone = _tone(sign * MEASURES[key].better) if clear == len(known) else ""
    return Cell(text, centre, tone)


def _orders(run: Calibration, kind: str) -> bool:
    """Tell whether an uncertainty tells utterances apart: else its area is the error rate."""
    area, rate = (run.estimates[key].value for key in (f"area_{kind}", "mer"))
    return area is not None and rate is not None and abs(area - rate) > 1e-12


def _tone(side: int) -> str:
    return {1: "good", -1: "bad"}.get(side, "")


def uncertainty_rows(
    systems: Mapping[str, Sequence[Calibration]],
) -> list[list[str | Cell]]:
    """Return, for systems whose draws disagree, how well each uncertainty orders utterances."""
    rows: list[list[str | Cell]] = []
    for name, runs in systems.items():
        kinds = [k for k in UNCERTAINTIES if all(f"area_{k}" in s.estimates for s in runs)]
        if "model" not in kinds or not any(_orders(s, "model") for s in runs):
            continue
        for kind in kinds:
            keys = [f"{what}_{kind}" for what in ("area", "excess", "ratio")]
            rows.append([name, kind, *(seeds_cell(key, runs) for key in keys)])
    return rows


FOLDER = "confidence"
_MOST_PANELS = 9


@dataclass
class Confident:
    """What is known of a system on a set.

    Attributes:
        kinds: The name of a way to be confident (`mean`, `samples8`) -> its runs, one per seed.
        differences: Pair of such names -> the difference in each seed.
    """

    system: System
    set: str
    kinds: dict[str, list[Calibration]] = field(default_factory=dict)
    differences: dict[tuple[str, str], list[Difference]] = field(default_factory=dict)


def collect_confidences(analysis: Analysis, texts: Texts) -> tuple[list[Confident], list[str]]:
    """Return what each system and set has, and notes of what could not be used."""
    confident: list[Confident] = []
    notes: list[str] = []
    for name in analysis.sets:
        for system in analysis.systems:
            entry = Confident(system, name)
            for run in system.runs:
                notes += _add(entry, run, analysis, texts)
            if entry.kinds:
                confident.append(entry)
    return confident, notes


def section(
    confident: Sequence[Confident], pictures: Sequence[Block], notes: Sequence[str] = ()
) -> list[Block]:
    """Return the blocks of the section; none where there is nothing to show."""
    blocks: list[Block] = []
    if confident:
        blocks.append(Bullets([_told(entry) for entry in confident]))
        blocks += pictures
        blocks.append(Folded("The figures", _tables(confident)))
        blocks.append(Folded("How to read these figures", [Prose(HOW_TO_READ)]))
    if notes:
        blocks.append(Bullets(notes))
    return blocks


def reliability(path: Path, confident: Sequence[Confident]) -> Picture | None:
    """Draw the reliability diagrams of the first systems and sets; None without any word."""
    panels = [
        Panel(_label(entry), {k: pooled(runs) for k, runs in entry.kinds.items()})
        for entry in confident[:_MOST_PANELS]
    ]
    return plot_reliability(path, panels)


def risk(path: Path, confident: Sequence[Confident]) -> Picture | None:
    """Draw the risk-coverage curves of the same; None where no curve is defined."""
    panels = [Panel(_label(entry), *risk_lines(entry.kinds)) for entry in confident[:_MOST_PANELS]]
    return plot_risk(path, panels)


def risk_lines(
    kinds: Mapping[str, Sequence[Calibration]],
) -> tuple[dict[str, list[float | None]], list[float | None]]:
    """Return the curves by confidence, and the oracle of the first."""
    lines = {kind: mean_curve(runs, "confidence") for kind, runs in kinds.items()}
    return lines, mean_curve(next(iter(kinds.values())), "oracle")


def mean_curve(runs: Sequence[Calibration], kind: str) -> list[float | None]:
    """Return the mean over seeds of a curve."""
    curves = [run.curves[kind] for run in runs]
    if any(None in curve for curve in curves):
        return [None] * len(curves[0])
    return [float(x) for x in np.mean(np.array(curves, dtype=np.float64), axis=0)]


def pooled(runs: Sequence[Calibration]) -> tuple[Bin, ...]:
    """Return bins that hold the words of all seeds; those of seeds with the first one's edges.

    Seeds are no further words: intervals are those of the mean number of words.
    """
    edges = [b.high for b in runs[0].bins]
    fitting = [run.bins for run in runs if [b.high for b in run.bins] == edges]
    merged = []
    for bins in zip(*fitting, strict=True):
        count = sum(b.count for b in bins)
        if not count:
            merged.append(bins[0])
            continue
        stated = sum(b.count * b.confidence for b in bins if b.count) / count
        right = sum(b.count * b.accuracy for b in bins if b.count)
        interval = wilson(right / len(bins), count / len(bins))
        merged.append(Bin(bins[0].low, bins[0].high, count, stated, right / count, interval))
    return tuple(merged)


def _tables(confident: Sequence[Confident]) -> list[Block]:
    rows, pairs, orders = [], [], []
    for entry in confident:
        label = entry.system.label
        for kind, runs in entry.kinds.items():
            chance = [run.chance[1] for run in runs if run.chance]
            by_chance = percent(statistics.fmean(chance) if chance else None)
            counts = [[run.words for run in runs], [run.deletions for run in runs]]
            means = [f"{statistics.fmean(count):.0f}" for count in counts]
            cells = [seeds_cell(key, runs) for key in SHORT]
            cells.insert(2, Cell(by_chance))
            rows.append([f"{label}, {kind}", entry.set, *means, *cells])
        for (a, b), differences in entry.differences.items():
            cells = [seeds_difference(key, differences) for key in COMPARED]
            pairs.append([f"{label}: {a} − {b}", entry.set, *cells])
        orders += [
            [f"{label}, {row[0]}", entry.set, *row[1:]] for row in uncertainty_rows(entry.kinds)
        ]
    titles = [short_title(key) for key in SHORT]
    head = ("system", "set", "words", "deleted", *titles[:2], "by chance, %", *titles[2:])
    several = any(len(runs) > 1 for entry in confident for runs in entry.kinds.values())
    drawn = "In brackets: 95 % bootstrap intervals over utterances."
    if several:
        drawn += " Of several seeds: means ± standard deviation over seeds."
    blocks: list[Block] = [table(head, rows, drawn)]
    if pairs:
        caption = DIFFERENCES
        if several:
            caption += (
                " Of several seeds: the mean, the range of the seeds' own differences, and in how "
                "many of them the interval is clear of zero; coloured where it is in all."
            )
        head = ("system", "set", *(short_title(key) for key in COMPARED))
        blocks.append(table(head, pairs, caption))
    if orders:
        head = ("system", "set", "order by", "risk-coverage area, %", "above the oracle's, %")
        caption = (
            "How well each uncertainty of an utterance puts the wrong ones last: the whole one, "
            "and its parts, what the sound leaves open (data) and where draws of the adapter "
            "disagree (model; nothing to go by where there are no draws)."
        )
        blocks.append(Folded(caption, [table((*head, "rejection ratio, %"), orders)]))
    return blocks


def _told(entry: Confident) -> str:
    """Say how far the first way to be confident can be believed, and which one has least NLL."""
    kind, runs = next(iter(entry.kinds.items()))
    text = sentence(f"{_label(entry)}, {kind}", runs)
    costs = {
        name: cost
        for name, others in entry.kinds.items()
        if (cost := mean([s.estimates["nll"].value for s in others])) is not None
    }
    best = min(costs, key=costs.__getitem__, default=kind)
    return text if best == kind else f"{text}. Of {len(costs)} ways **{best}** has the least NLL"


def _label(entry: Confident) -> str:
    return f"{entry.system.label}, {entry.set}"


def _add(entry: Confident, run: Experiment, analysis: Analysis, texts: Texts) -> list[str]:
    """Add what one experiment has of the set; return notes of what cannot be used.

    No name is taken twice.
    """
    notes: list[str] = []
    taken: set[str] = set()

    def take(examined: Examined) -> None:
        new = {calibration.name for calibration in examined.systems} - taken
        taken.update(new)
        for calibration in examined.systems:
            if calibration.name in new:
                entry.kinds.setdefault(calibration.name, []).append(calibration)
        for difference in examined.differences:
            if {difference.a, difference.b} <= new:
                entry.differences.setdefault((difference.a, difference.b), []).append(difference)

    # what was examined already
    folder = run.folder / FOLDER
    for path in sorted(folder.glob(f"*/{entry.set}/calibration.json")):
        try:
            take(Examined.load(path))
        except ValueError as error:
            notes.append(f"{run.label} (`{run.name}`): {error}")
    # files of confidences, against the set's references, treated as the set was
    found = {path.parents[1].name: path for path in folder.glob(f"*/{entry.set}/words.jsonl")}
    kinds = sorted(found.keys() - taken, key=lambda kind: (kind != "mean", len(kind), kind))
    if not kinds:
        return notes
    reference = texts.reference(entry.set)
    if not reference:
        text = "confidences, but no references to judge them by"
        return [*notes, f"{run.label}, {entry.set}: {text}"]
    treated = analysis.treated.get(entry.set)
    how = (treated.unit, treated.normalisation) if treated else ()
    try:
        marked = [
            (kind, label_tokens(reference, read_confidences(found[kind]), *how)) for kind in kinds
        ]
        take(examine(marked))
    except ValueError as error:
        notes.append(f"{run.label} (`{run.name}`), {entry.set}: confidences are not shown: {error}")
    return notes
