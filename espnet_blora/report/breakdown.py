"""Error rates by speaker and by language, where the scores have them: who paid for the gain.

The rate of a group is the mean over a system's seeds. Colours follow the change from the base in
points: full at `FULL` points.
"""

from __future__ import annotations

import statistics

from espnet_blora.report.analysis import Analysis
from espnet_blora.report.systems import System
from espnet_blora.report.tables import ABSENT, Cell, Table, percent, table

FULL = 0.10
MOST = 30
TITLES = {"by_language": "language", "by_speaker": "speaker"}


def rates(system: System, name: str, kind: str) -> dict[str, float]:
    """Return group -> mean rate over the seeds that have it."""
    found: dict[str, list[float]] = {}
    for run in system.with_score(name):
        for group, row in run.groups.get(name, {}).get(kind, {}).items():
            if row.get("rate") is not None:
                found.setdefault(group, []).append(row["rate"])
    return {group: statistics.fmean(values) for group, values in found.items()}


def tokens(system: System, name: str, kind: str) -> dict[str, int]:
    """Return group -> reference tokens."""
    for run in system.with_score(name):
        groups = run.groups.get(name, {}).get(kind, {})
        if groups:
            return {group: row.get("tokens", 0) for group, row in groups.items()}
    return {}


def heat(found: Analysis, kind: str) -> Table | None:
    """Return rates by set and group, a column a system; None where no set has two groups.

    Of more than `MOST` groups of a set, those whose rate differs most from the base's are kept,
    and the caption says how many were left out.
    """
    shown = [s for s in found.systems if any(s.rates(n) for n in found.sets)]
    body, left_out = [], 0
    for name in found.sets:
        by_system = {s.name: rates(s, name, kind) for s in shown}
        sizes = {g: n for s in reversed(shown) for g, n in tokens(s, name, kind).items()}
        if len(sizes) < 2:
            continue
        base = by_system.get(found.base.name, {}) if found.base else {}
        moved = {
            g: max(
                (abs(r[g] - base[g]) for r in by_system.values() if g in r and g in base), default=0
            )
            for g in sizes
        }
        kept = sorted(sizes, key=lambda g: (-moved[g], g))[:MOST]
        left_out += len(sizes) - len(kept)
        for group in sorted(kept):
            cells = [_cell(by_system[s.name].get(group), base.get(group), s.adapted) for s in shown]
            body.append([name, group, Cell(str(sizes[group]), sizes[group]), *cells])
    if not body:
        return None
    caption = (
        f"Error rate in per cent by {TITLES[kind]}; mean over seeds. Arrows: the change from the "
        "base by more than one point."
    )
    if left_out:
        caption += f" {left_out} groups that changed least are left out; score.json has them."
    return table(("set", TITLES[kind], "tokens", *(s.label for s in shown)), body, caption)


def _cell(rate: float | None, base: float | None, adapted: bool) -> Cell:
    if rate is None:
        return Cell(ABSENT)
    if not adapted or base is None:
        return Cell(percent(rate), rate)
    change = rate - base
    arrow = "" if abs(change) <= 0.01 else (" ↑" if change > 0 else " ↓")
    return Cell(percent(rate) + arrow, rate, heat=max(-1.0, min(1.0, change / FULL)))
