"""Find the confidences of experiments, and make of them a section of the page.

`<experiment>/confidence/<any>/<set>/calibration.json` (what `bin.calibrate` writes) is taken as
it is. A `confidence/<name>/<set>/words.jsonl` whose name is in none of them is scored here, as
the set was, all such files of an experiment and set together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from espnet_blora.report.analysis import Analysis
from espnet_blora.report.blocks import Block, Bullets, Folded, Picture, Prose, Section
from espnet_blora.report.calibration import (
    COMPARED,
    DIFFERENCES,
    HOW_TO_READ,
    SHORT,
    mean_of,
    seeds_cell,
    seeds_difference,
    sentence,
    short_title,
    uncertainty_rows,
)
from espnet_blora.report.calibration_plots import (
    ReliabilityPanel,
    RiskPanel,
    plot_reliability,
    plot_risk,
)
from espnet_blora.report.collect import Experiment
from espnet_blora.report.systems import System
from espnet_blora.report.tables import ABSENT, Cell, percent, table
from espnet_blora.report.worst import Words
from espnet_blora.scoring.calibration.compare import Calibration, Difference, Examined, examine
from espnet_blora.scoring.calibration.measures import Bin, wilson
from espnet_blora.scoring.calibration.words import label_tokens, read_confidences

FILES = ("retention_reliability.png", "retention_risk_coverage.png")
FOLDER = "confidence"
_MOST_PANELS = 9


@dataclass
class Confident:
    """What is known of a system on a set.

    Attributes:
        kinds: the name of a way to be confident (`mean`, `samples8`) -> its runs, one a seed.
        differences: pair of such names -> the difference in each seed.
    """

    system: System
    set: str
    kinds: dict[str, list[Calibration]] = field(default_factory=dict)
    differences: dict[tuple[str, str], list[Difference]] = field(default_factory=dict)


def collect_confidences(found: Analysis, words: Words) -> tuple[list[Confident], list[str]]:
    """Return what each system and set has, and notes of what could not be used."""
    made: list[Confident] = []
    notes: list[str] = []
    for name in found.sets:
        for system in found.systems:
            one = Confident(system, name)
            for run in system.runs:
                for examined in _of_run(run, name, found, words, notes):
                    _add(one, examined)
            if one.kinds:
                made.append(one)
    return made, notes


def section(
    made: Sequence[Confident], pictures: Mapping[str, Picture], notes: Sequence[str] = ()
) -> Section:
    """Return the section; without blocks where there is nothing to show."""
    blocks: list[Block] = []
    if made:
        blocks.append(Bullets([_told(one) for one in made]))
        blocks += [pictures[name] for name in FILES if name in pictures]
        blocks += _tables(made)
        blocks.append(Folded("How to read these figures", [Prose(HOW_TO_READ)]))
    if notes:
        blocks.append(Bullets(notes))
    return Section("Does it know when it is wrong?", blocks)


def plot_confidences(folder: Path, made: Sequence[Confident]) -> list[Picture]:
    """Draw both plots of a page; files of an earlier run that cannot be drawn now are removed."""
    shown = made[:_MOST_PANELS]
    reliability = [
        ReliabilityPanel(_label(one), {k: pooled(runs) for k, runs in one.kinds.items()})
        for one in shown
    ]
    risk = [RiskPanel(_label(one), *risk_lines(one.kinds)) for one in shown]
    paths = [folder / name for name in FILES]
    drawn = [plot_reliability(paths[0], reliability), plot_risk(paths[1], risk)]
    for path, picture in zip(paths, drawn, strict=True):
        if picture is None:
            path.unlink(missing_ok=True)
    return [picture for picture in drawn if picture is not None]


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
    found = []
    for bins in zip(*fitting, strict=True):
        count = sum(b.count for b in bins)
        if not count:
            found.append(bins[0])
            continue
        stated = sum(b.count * b.confidence for b in bins if b.count) / count
        right = sum(b.count * b.accuracy for b in bins if b.count)
        interval = wilson(right / len(bins), count / len(bins))
        found.append(Bin(bins[0].low, bins[0].high, count, stated, right / count, interval))
    return tuple(found)


def _tables(made: Sequence[Confident]) -> list[Block]:
    rows, pairs, orders = [], [], []
    for one in made:
        label = one.system.label
        for kind, runs in one.kinds.items():
            chance = [run.chance[1] for run in runs if run.chance]
            cells = [seeds_cell(key, runs) for key in SHORT]
            by_chance = Cell(percent(float(np.mean(chance)))) if chance else Cell(ABSENT)
            deleted = sum(run.deletions for run in runs) / len(runs)
            rows.append(
                [
                    f"{label}, {kind}",
                    one.set,
                    f"{sum(run.words for run in runs) / len(runs):.0f}",
                    f"{deleted:.0f}",
                    *cells[:2],
                    by_chance,
                    *cells[2:],
                ]
            )
        for (a, b), runs in one.differences.items():
            cells = [seeds_difference(key, runs) for key in COMPARED]
            pairs.append([f"{label}: {a} − {b}", one.set, *cells])
        orders += [[f"{label}, {row[0]}", one.set, *row[1:]] for row in uncertainty_rows(one.kinds)]
    titles = [short_title(key) for key in SHORT]
    head = ("system", "set", "words", "deleted", *titles[:2], "by chance, %", *titles[2:])
    several = any(len(runs) > 1 for one in made for runs in one.kinds.values())
    drawn = "In brackets: 95 % bootstrap intervals over utterances."
    if several:
        drawn += " Of several seeds: means ± standard deviation over seeds."
    blocks: list[Block] = [table(head, rows, drawn)]
    if pairs:
        told = DIFFERENCES
        if several:
            told += (
                " Of several seeds: the mean, the range of the seeds' own differences, and in how "
                "many of them the interval is clear of zero; coloured where it is in all."
            )
        head = ("system", "set", *(short_title(key) for key in COMPARED))
        blocks.append(table(head, pairs, told))
    if orders:
        head = ("system", "set", "order by", "risk-coverage area, %", "above the oracle's, %")
        told = (
            "How well each uncertainty of an utterance puts the wrong ones last: the whole one, "
            "and its parts, what the sound leaves open (data) and where draws of the adapter "
            "disagree (model; nothing to go by where there are no draws)."
        )
        blocks.append(Folded(told, [table((*head, "rejection ratio, %"), orders)]))
    return blocks


def _told(one: Confident) -> str:
    """Say how far the first way to be confident can be believed, and which one has least NLL."""
    kind, runs = next(iter(one.kinds.items()))
    text = sentence(f"{_label(one)}, {kind}", runs)
    costs = {
        name: cost
        for name, others in one.kinds.items()
        if (cost := mean_of(others, lambda s: s.estimates["nll"].value)) is not None
    }
    best = min(costs, key=costs.__getitem__, default=kind)
    return text if best == kind else f"{text}. Of {len(costs)} ways **{best}** has the least NLL"


def _label(one: Confident) -> str:
    return f"{one.system.label}, {one.set}"


def _add(one: Confident, examined: Examined) -> None:
    for calibration in examined.systems:
        one.kinds.setdefault(calibration.name, []).append(calibration)
    for difference in examined.differences:
        one.differences.setdefault((difference.a, difference.b), []).append(difference)


def _of_run(
    run: Experiment, name: str, found: Analysis, words: Words, notes: list[str]
) -> Iterator[Examined]:
    """Yield what one experiment has of a set; no name comes twice."""
    taken: set[str] = set()
    folders = sorted((run.folder / FOLDER).glob(f"*/{name}"))
    for folder in folders:
        path = folder / "calibration.json"
        if not path.is_file():
            continue
        try:
            examined = Examined.load(path)
        except ValueError as error:
            notes.append(f"{run.label} (`{run.name}`): {error}")
            continue
        new = tuple(s for s in examined.systems if s.name not in taken)
        taken |= {s.name for s in new}
        if new:
            names = {s.name for s in new}
            pairs = tuple(d for d in examined.differences if {d.a, d.b} <= names)
            yield replace(examined, systems=new, differences=pairs)
    files = {f.parent.name: f / "words.jsonl" for f in folders}
    files = {k: path for k, path in files.items() if path.is_file() and k not in taken}
    if files and (examined := _scored(run, name, files, found, words, notes)) is not None:
        yield examined


def _scored(
    run: Experiment,
    name: str,
    files: Mapping[str, Path],
    found: Analysis,
    words: Words,
    notes: list[str],
) -> Examined | None:
    """Score files of confidences against the set's references, treated as the set was."""
    reference = words.reference(name)
    if reference is None:
        notes.append(f"{run.label}, {name}: confidences, but no references to judge them by")
        return None
    treated = found.treated.get(name)
    how = (treated.unit, treated.normalisation) if treated else ()
    try:
        marked = [
            (kind, label_tokens(reference, read_confidences(path), *how))
            for kind, path in files.items()
        ]
        return examine(sorted(marked, key=lambda pair: (pair[0] != "mean", len(pair[0]), pair[0])))
    except ValueError as error:
        notes.append(f"{run.label} (`{run.name}`), {name}: confidences are not shown: {error}")
        return None
