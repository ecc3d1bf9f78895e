"""Forgetting at matched new-domain error: every system's curve against LoRA's, at set margins.

The errors at which curves are read off are LoRA's least error on the new domain, at any rate, decay
and scale that was decoded, and 5, 10, 15 and 20 % more. There each system's curve (its scales, or
the strengths of a repair) is compared with the envelope of all curves of plain LoRA. The test and
what may be said of it are those of `espnet_blora.report.edge`; Holm's correction is over the
systems at a margin, as each margin is a question of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from espnet_blora.report.curves import Axes, Curve, Matched, matched_test
from espnet_blora.report.edge import Edge, by_scale, corrected, of_curve, shared, step_at
from espnet_blora.report.experiments import Shape, System, shape
from espnet_blora.report.page import (
    ABSENT,
    Block,
    Bullets,
    Cell,
    Folded,
    Prose,
    in_points,
    p_value,
    percent,
    table,
)
from espnet_blora.scoring.intervals import Units, units_of

MARGINS = (0.05, 0.10, 0.15, 0.20)
_TONES = {"shows": "good", "less": "bad"}


@dataclass
class Match:
    """Systems compared with LoRA's curves.

    Attributes:
        axes: The sets that count.
        places: System -> the places of its knob that were decoded.
        curves: System -> its curve.
        rivals: The systems of plain LoRA that have a curve.
        systems: The others that have one.
        least: LoRA's least error on the new domain.
        found: (system, margin) -> what was measured; None where it is not reached.
        edges: (system, margin) -> what may be said of it.
        notes: What is left out, and why.
    """

    axes: Axes
    places: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    rivals: list[System] = field(default_factory=list)
    systems: list[System] = field(default_factory=list)
    least: float = 0.0
    found: dict[tuple[str, float], Matched | None] = field(default_factory=dict)
    edges: dict[tuple[str, float], Edge] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def match(
    systems: Sequence[System], base: System | None, new: Sequence[str], old: Sequence[str]
) -> Match | None:
    """Compare all adapted systems with the curves of those that are plain LoRA.

    Args:
        systems: All that were adapted, and what repairs made of them.
        base: The system that was not adapted.
        new: The sets of the new domain.
        old: The retention sets.

    Returns:
        None where there is no curve of LoRA, or no set of either kind with enough units.
    """
    # the sets: references and units
    known = systems if base is None else [base, *systems]
    references = {name: found for name in (*new, *old) if (found := _reference(known, name))}
    sets = {name: found for name, found in references.items() if found[1].enough}
    if not sets.keys() & {*new} or not sets.keys() & {*old}:
        return None
    shapes = {name: found for name, (found, _) in sets.items()}
    tokens = [u.sums([count for _, count in found]) for found, u in sets.values()]
    result = Match(Axes([name in new for name in sets], tokens))
    small = [n for n, (_, u) in sets.items() if n in old and u.kind == "utterances" and u.few]
    # every system's curve
    for system in systems:
        runs = [errors for run in system.runs if (errors := by_scale(run, base, shapes))]
        places = shared(runs)
        if len(places) < 2 or places[0] > 0:
            continue
        if system.plain_lora and (problem := of_curve(system, places)):
            result.notes.append(f"{system.label} is not among LoRA's curves: {problem}")
            continue
        (result.rivals if system.plain_lora else result.systems).append(system)
        tables = [
            u.sums([[run[place][name] for place in places] for run in runs])
            for name, (_, u) in sets.items()
        ]
        result.places[system.name] = places
        result.curves[system.name] = Curve(result.axes, places, tables)
    if not result.rivals:
        return None
    result.least = min(float(result.curves[s.name].new.min()) for s in result.rivals)
    # the tests, margin by margin
    numbers: Counter[str] = Counter()
    for _, u in sets.values():
        numbers[u.kind] += u.number
    basis = " + ".join(f"{number:,} {kind}" for kind, number in numbers.items())
    for margin in MARGINS:
        _test(result, margin, basis, small)
    return result


def _test(match: Match, margin: float, basis: str, small: Sequence[str]) -> None:
    """Test all systems at a margin."""
    rivals = [match.curves[system.name] for system in match.rivals]
    tested = []
    for system in match.systems:
        curve = match.curves[system.name]
        found = matched_test(match.axes, rivals, curve, margin)
        match.found[system.name, margin] = found
        if found is None:
            continue
        rival = match.rivals[found.rival]
        tested.append(
            Edge(
                a=system,
                b=rival,
                gap=found.gap,
                points={},
                tested=(),
                hull=None,
                reduction=found.share,
                seeds=(len(curve.errors[0]), len(rivals[found.rival].errors[0])),
                basis=basis,
                small=tuple(small),
                p=found.gap.p,
                step=step_at(match.places[rival.name], found.gap.scale),
            )
        )
    for edge in corrected(tested):
        assert isinstance(edge, Edge)
        match.edges[edge.a.name, margin] = edge


def _reference(systems: Sequence[System], name: str) -> tuple[Shape, Units] | None:
    """Return the references of a set, and its units; without a score these are utterances."""
    for system in systems:
        for run in system.with_score(name):
            return shape(run.scores[name]), run.scores[name].units
    for run in (run for system in systems for run in system.runs):
        for row in run.sweep:
            if row.set == name and row.detail is not None:
                return row.detail.shape, units_of([""] * len(row.detail.shape))
    return None


def section(match: Match | None) -> list[Block]:
    """Return the section of the page; none without a curve of LoRA and another system's."""
    if match is None or not match.systems:
        return []
    names = ", ".join(system.label for system in match.rivals)
    told = (
        f"Errors on the retention sets where a system makes so many errors on the new domain: "
        f"LoRA's least ({percent(match.least)} %, the least of {names} at any scale) and a margin "
        "more. LoRA is the envelope of all these curves. Share: what a system forgets of what "
        "LoRA forgets there (95 % interval, Fieller's): below 100 % it keeps more."
    )
    head = ["system", *(f"share at {_margin(margin)}" for margin in MARGINS)]
    rows = [
        [
            system.label,
            *(_share(match, system, margin) for margin in MARGINS),
            _minutes(system.old_audio),
            _minutes(system.training_seconds),
        ]
        for system in match.systems
    ]
    blocks: list[Block] = [Prose(told), table([*head, "old audio, min", "training, min"], rows)]
    details = [row for s in match.systems for m in MARGINS if (row := _detail(match, s, m))]
    if details:
        caption = (
            "Per cent. LoRA's place is the scale at which its envelope lies there. Gap: LoRA's "
            "errors minus the system's, in points. p: one-sided, with Holm's correction over the "
            'systems at this margin; "shows" has the conditions of the verdicts.'
        )
        columns = ("system", "margin", "new domain", "LoRA's place", "LoRA", "its own place")
        more = ("the system", "base", "gap (95 % interval)", "p", "outcome")
        blocks.append(Folded("Every margin", [table((*columns, *more), details, caption)]))
    return [*blocks, *([Bullets(match.notes)] if match.notes else [])]


def _minutes(seconds: float | None) -> str:
    return ABSENT if seconds is None else f"{seconds / 60:.1f}"


def _share(match: Match, system: System, margin: float) -> Cell:
    """Return what a system forgets of what LoRA forgets at a margin."""
    found, edge = match.found[system.name, margin], match.edges.get((system.name, margin))
    if found is None or edge is None:
        least = float(match.curves[system.name].new.min())
        return Cell(f"not reached (its least: {percent(least)} %)", tone="unclear")
    tone = _TONES.get(edge.outcome, "unclear")
    lora, own = found.gap.rival - found.base, found.gap.candidate - found.base
    if lora <= 0:
        return Cell(f"LoRA forgets nothing; {in_points(own)} points", tone=tone)
    text = f"{100 * own / lora:.0f} %"
    if own <= 0:
        text = f"forgets nothing ({in_points(own)} points)"
    if found.share is not None:
        low, high = (
            "no bound" if abs(end) == float("inf") else f"{100 * (1 - end):.0f}"
            for end in (found.share[1].high, found.share[1].low)
        )
        text += f" ({low} to {high} %)"
    return Cell(f"{text}, {_OUTCOMES[edge.outcome]}", own / lora, tone)


_OUTCOMES = {
    "shows": "shows",
    "suggested": "suggested",
    "open": "cannot be told",
    "less": "LoRA keeps more",
    "checkpoints": "of one training",
}


def _margin(margin: float) -> str:
    return f"+{100 * margin:.0f} %"


def _detail(match: Match, system: System, margin: float) -> list[object] | None:
    """Return all figures of a system at a margin; None where it does not reach it."""
    found, edge = match.found[system.name, margin], match.edges.get((system.name, margin))
    if found is None or edge is None:
        return None
    gap, ends = found.gap, found.gap.interval
    why = f" ({'; '.join(edge.lacks)})" if edge.outcome == "suggested" else ""
    return [
        system.label,
        _margin(margin),
        percent(gap.at),
        f"{edge.b.label} at {edge.b.at(round(gap.scale, 3))}",
        percent(gap.rival, 2),
        system.at(round(found.knob, 3)),
        percent(gap.candidate, 2),
        percent(found.base, 2),
        Cell(
            f"{in_points(gap.value)} ({in_points(ends.low)} to {in_points(ends.high)})",
            gap.value,
            _TONES.get(edge.outcome, "unclear"),
        ),
        p_value(edge.p),
        f"{_OUTCOMES[edge.outcome]}{why}",
    ]
