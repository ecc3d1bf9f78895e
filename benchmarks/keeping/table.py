"""The comparison: forgetting at a matched error on the new domain, against LoRA's lower envelope.

Every setting is a curve over its knob, seed means. LoRA's settings (rates, decays) are the rivals;
of each other method one setting is compared, the one that keeps most *on the validation sets*. The
test on the final sets is that of `espnet_blora.report.curves`. Which of LoRA's curves keeps most at
a margin is seen on the final sets themselves, which can only be to its favour.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_blora.report.curves import Axes, Curve, Matched, matched_test
from espnet_blora.report.gap import holm, read_off

from .runs import BASE, unpacked

MARGINS = (0.05, 0.10, 0.15, 0.20)
VALID, FINAL = "valid", "final"
LEVEL, ENOUGH = 0.025, 3


@dataclass
class System:
    """All seeds of one setting.

    Attributes:
        name: Of the setting.
        method: Of the plan.
        runs: Their JSON.
        axes: `VALID` or `FINAL` -> its sets.
        curves: The same -> the curve over the runs that have these sets.
    """

    name: str
    method: str
    runs: list[dict]
    axes: dict[str, Axes]
    curves: dict[str, Curve]

    @property
    def seeds(self) -> int:
        """The number of runs with final sets."""
        return len(self.curves[FINAL].errors[0])

    def at(self, kind: str, error: float) -> float:
        """Return the error on old sets where the new domain's is that; nan if never, or unknown."""
        if kind not in self.curves:
            return float("nan")
        curve = self.curves[kind]
        found = read_off(curve.new, curve.kept, error)
        return float("nan") if found.beyond else found.kept


def systems(results: Path) -> list[System]:
    """Read all runs of a folder.

    Raises:
        SystemExit: There is no base, or a run is of another base, token table or training.
    """
    files = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    if BASE not in files:
        raise SystemExit(f"{results}: {BASE}.json is not there; run retention.py run first")
    base = files.pop(BASE)
    grouped: dict[str, list[dict]] = {}
    for stem, run in files.items():
        if any(run[key] != base[key] for key in ("base", "tokens", "epochs")):
            raise SystemExit(f"{results}/{stem}.json is of another base, table or training")
        grouped.setdefault(stem.rpartition("-seed")[0], []).append(run)
    found = []
    for name, runs in grouped.items():
        if any(run["knobs"] != runs[0]["knobs"] for run in runs):
            raise SystemExit(f"{results}: the runs of {name} differ in the knob's values")
        axes, curves = {}, {}
        for kind, names in kinds(base["sets"]).items():
            having = [run for run in runs if names and set(names) <= run["sets"].keys()]
            if not having:
                continue
            entries = [base["sets"][n] for n in names]
            tokens = [unpacked(entry["tokens"]).astype(float) for entry in entries]
            axes[kind] = Axes([is_new(n) for n in names], tokens)
            errors = [
                np.array(
                    [[*unpacked(e["errors"]), *unpacked(r["sets"][n]["errors"])] for r in having]
                )
                for n, e in zip(names, entries, strict=True)
            ]
            curves[kind] = Curve(axes[kind], [0.0, *runs[0]["knobs"]], errors)
        found.append(System(name, runs[0]["setting"]["method"], runs, axes, curves))
    return found


def kinds(sets: Sequence[str]) -> dict[str, list[str]]:
    """Return the validation sets and the final sets."""
    valid = [name for name in sets if name.startswith("valid_")]
    return {VALID: valid, FINAL: [name for name in sets if name not in valid]}


def is_new(name: str) -> bool:
    """Whether a set is of the new domain: its name ends in no language."""
    return not name.endswith(("_en", "_zh"))


def marks(rivals: Sequence[System], kind: str) -> list[float]:
    """Return the errors on the new domain at which curves are read off."""
    least = min(float(rival.curves[kind].new.min()) for rival in rivals if kind in rival.curves)
    return [least * (1 + margin) for margin in MARGINS]


def chosen(candidates: Sequence[System], rivals: Sequence[System]) -> System:
    """Return the setting that keeps most on the validation sets, of those with the most seeds."""
    most = max(len(c.runs) for c in candidates)

    def rank(candidate: System) -> tuple[int, float]:
        values = np.array([candidate.at(VALID, mark) for mark in marks(rivals, VALID)])
        reached = np.isfinite(values)
        return int(reached.sum()), -float(values[reached].mean()) if reached.any() else 0.0

    return max((c for c in candidates if len(c.runs) == most), key=rank)


def by_method(found: Sequence[System], rival: str) -> tuple[list[System], list[list[System]]]:
    """Return the rival's systems, and those of each other method."""
    others: dict[str, list[System]] = {}
    for system in found:
        others.setdefault(system.method, []).append(system)
    return others.pop(rival, []), list(others.values())


def chosen_names(results: Path, rival: str = "lora") -> set[str]:
    """Return the settings that validation chooses: of LoRA its envelope, of each other method one.

    Raises:
        SystemExit: As of `systems`, or no run of the rival has validation sets.
    """
    rivals, others = by_method([s for s in systems(results) if VALID in s.curves], rival)
    if not rivals:
        raise SystemExit(f"{results}: no run of {rival} has validation sets: nothing to choose by")
    envelope = [min(rivals, key=lambda s: s.curves[VALID].new.min())]  # says where to read off
    for mark in marks(rivals, VALID):
        envelope.append(min(rivals, key=lambda s: np.nan_to_num(s.at(VALID, mark), nan=np.inf)))
    return {s.name for s in (*envelope, *(chosen(group, rivals) for group in others))}


def by_validation(system: System, rivals: Sequence[System]) -> str:
    """Return the knob that validation asks for at +10 %, and the final errors there."""
    if VALID not in system.curves:
        return "–"
    curve, mark = system.curves[VALID], marks(rivals, VALID)[1]
    reached = np.flatnonzero(curve.new <= mark)
    if not len(reached):
        return "–"
    best = reached[curve.kept[reached].argmin()]
    final = system.curves[FINAL]
    return f"{curve.fine[best]:.2f}: {100 * final.new[best]:.1f} / {100 * final.kept[best]:.2f}"


def choice(results: Path, rival: str = "lora") -> str:
    """Return what the choice of settings is made from as Markdown: all, on the validation sets.

    Raises:
        SystemExit: As of `systems`, or no run of the rival has validation sets.
    """
    rivals, others = by_method([s for s in systems(results) if VALID in s.curves], rival)
    if not rivals:
        raise SystemExit(f"{results}: no run of {rival} has validation sets, and it is the measure")
    lines = _head(rivals, VALID)
    for group in (rivals, *others):
        best = chosen(group, rivals).name if group is not rivals else ""
        for s in sorted(group, key=lambda s: s.name):
            cells = [_percent(s.at(VALID, mark)) for mark in marks(rivals, VALID)]
            lines.append(_row(s, VALID, f"**{s.name}**" if s.name == best else s.name, cells))
    return "\n".join(lines) + "\n"


def table(results: Path, rival: str = "lora") -> str:
    """Return the comparison as Markdown.

    Raises:
        SystemExit: As of `systems`, or no run of the rival has final sets.
    """
    rivals, others = by_method([s for s in systems(results) if FINAL in s.curves], rival)
    if not rivals:
        raise SystemExit(f"{results}: no run of {rival} has final sets, and it is the measure")
    places = marks(rivals, FINAL)
    lines = _head(rivals, FINAL, "knob by validation at +10 %: new / old")
    # every setting of the rival, the least of them, and the others' chosen settings
    for system in rivals:
        cells = [_percent(system.at(FINAL, t)) for t in places]
        lines.append(_row(system, FINAL, system.name, [*cells, by_validation(system, rivals)]))
    least = [_percent(np.nanmin([s.at(FINAL, t) for s in rivals])) for t in places]
    lines.append(f"| **lower envelope** | | | | | {' | '.join(least)} | |")
    picked = [chosen(group, rivals) for group in others]
    curves = [s.curves[FINAL] for s in rivals]
    axes = rivals[0].axes[FINAL]
    columns = []
    for margin in MARGINS:
        tests = [matched_test(axes, curves, s.curves[FINAL], margin) for s in picked]
        p = iter(holm([test.gap.p for test in tests if test]))
        columns.append(
            [
                _cell(test, next(p), min(system.seeds, rivals[test.rival].seeds))
                if test
                else "not reached"
                for test, system in zip(tests, picked, strict=True)
            ]
        )
    for number, (system, group) in enumerate(zip(picked, others, strict=True)):
        cells = [column[number] for column in columns]
        lines.append(_row(system, FINAL, system.name, [*cells, by_validation(system, rivals)]))
        for other in group:  # scored, not chosen: no test
            if other is not system:
                cells = [_percent(other.at(FINAL, t)) for t in places]
                lines.append(_row(other, FINAL, other.name, [*cells, by_validation(other, rivals)]))
    return "\n".join(lines) + "\n"


def plot(results: Path, output: Path, rival: str = "lora") -> None:
    """Draw old errors against new ones on the final sets, a curve of seed means per setting.

    Raises:
        SystemExit: As of `systems`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import colormaps, pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    found = [s for s in systems(results) if FINAL in s.curves]
    greys = itertools.cycle(["--", "-.", ":", (0, (1, 3))])
    colours = colormaps["tab20"].colors
    colours = itertools.cycle(colours[:14] + colours[16:])  # those between are grey
    for system in sorted(found, key=lambda s: (s.method != rival, s.name)):
        runs = [run for run in system.runs if len(run["sets"]) > len(system.axes)]
        curve = system.curves[FINAL]
        shown = [int(np.abs(curve.fine - knob).argmin()) for knob in runs[0]["knobs"]]
        name = f"{system.name}, {len(curve.errors[0])} seed(s)"
        style = {"color": "0.5", "linestyle": next(greys)}
        if system.method != rival:
            style = {"color": next(colours)}
        new, kept = 100 * curve.new[shown], 100 * curve.kept[shown]
        axes.plot(new, kept, marker="o", markersize=3, label=name, **style)
    axes.axhline(100 * found[0].curves[FINAL].kept[0], color="black", linewidth=0.8, label="base")
    axes.set(yscale="log", xlabel="errors on the new domain, %", ylabel="errors on old sets, %")
    axes.legend(fontsize=6)
    figure.savefig(output, dpi=110)


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}" if np.isfinite(rate) else "not reached"


def _head(rivals: Sequence[System], kind: str, *more: str) -> list[str]:
    """Return what stands above the rows."""
    base = rivals[0].curves[kind]
    places = zip(marks(rivals, kind), MARGINS, strict=True)
    heads = ["setting", "seeds", "old audio, min", "training, s", "as trained: new / old"]
    heads += [*(f"old at new {100 * t:.1f} (+{m:.0%})" for t, m in places), *more]
    return [
        f"Base: new {100 * base.new[0]:.1f}, old {100 * base.kept[0]:.2f}. In brackets 95 %; x: "
        "share of what LoRA forgets there.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]


def _row(system: System, kind: str, name: str, cells: Sequence[str]) -> str:
    curve = system.curves[kind]
    trained = int(np.abs(curve.fine - 1.0).argmin())
    words = [
        name,
        str(len(curve.errors[0])),
        f"{system.runs[0]['old_s'] / 60:.1f}",
        f"{np.mean([run['train_s'] for run in system.runs]):.0f}",
        f"{100 * curve.new[trained]:.1f} / {100 * curve.kept[trained]:.2f}",
    ]
    return f"| {' | '.join([*words, *cells])} |"


def _cell(test: Matched, p: float, seeds: int) -> str:
    """Return the old error, its gap to the rival's, the share of forgetting, and the verdict."""
    low, high = (100 * end for end in (test.gap.interval.low, test.gap.interval.high))
    text = (
        f"{100 * test.gap.candidate:.2f}: {-100 * test.gap.value:+.2f} [{-high:+.2f}, {-low:+.2f}]"
    )
    if test.share is not None:
        less, ends = test.share
        text += f"; x {1 - less:.2f} [{1 - ends.high:.2f}, {1 - ends.low:.2f}]"
    if low > 0:
        text += ", **shows**" if p <= LEVEL and seeds >= ENOUGH else ", suggested"
    return text
