"""Plots: gained against forgotten, error rates by set, sparsity of the update.

Colours are Okabe and Ito's, told apart by colour-blind readers; every series has its own marker or
hatch too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no display is needed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from espnet_blora.report.analysis import Analysis
from espnet_blora.report.collect import Experiment
from espnet_blora.scoring.retention import Point, frontier

_COLOURS = {"base": "#555555", "lora": "#D55E00", "blora": "#0072B2"}
_OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = {"base": "*", "lora": "s", "blora": "o"}
_OTHER_MARKERS = ("^", "D", "v", "P")
_HATCHES = {"base": "", "lora": "//", "blora": ""}
_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "axes.axisbelow": True,
    "figure.dpi": 150,
    "savefig.bbox": "tight",
}


def looks(experiments: Sequence[Experiment]) -> dict[str, tuple[str, str]]:
    """Return the colour and marker of each experiment, by name."""
    result, others = {}, 0
    for e in experiments:
        if e.role in _COLOURS:
            result[e.name] = (_COLOURS[e.role], _MARKERS[e.role])
        else:
            result[e.name] = (_OTHERS[others % 4], _OTHER_MARKERS[others % 4])
            others += 1
    return result


def plot_scatter(path: Path, experiments: Sequence[Experiment], found: Analysis) -> bool:
    """Draw new-domain error against retention error, with each adapter's scale turned down.

    Returns: False, and no file, if fewer than two systems have a place.
    """
    placed = [e for e in experiments if found.points.get(e.name)]
    if len(placed) < 2:
        return False
    look = looks(experiments)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 5.4))
        for e in placed:
            _curve(axes, e, found.points[e.name], *look[e.name])
        axes.set_xlabel(f"error on the new domain ({', '.join(found.test_sets)}), %")
        axes.set_ylabel(f"error on what it could do before\n({', '.join(found.retention_sets)}), %")
        axes.set_title("Gained against forgotten", loc="left", weight="bold")
        axes.margins(0.12)
        axes.set_ylim(bottom=0)
        axes.annotate(
            "better",
            xy=(0.015, 0.02),
            xytext=(0.11, 0.12),
            xycoords="axes fraction",
            color="#777777",
            ha="center",
            arrowprops={"arrowstyle": "->", "color": "#777777"},
        )
        _label_scales(axes, [(e, found.points[e.name], look[e.name][0]) for e in placed])
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        figure.savefig(path)
        plt.close(figure)
    return True


def _label_scales(axes: Axes, curves: Sequence[tuple[Experiment, list[Point], str]]) -> None:
    """Write the scale beside each point of a curve that is not too near to others' labels."""
    axes.figure.canvas.draw()  # fixes the limits
    unit = axes.figure.dpi / 72
    taken = []
    for _, points, _ in curves:  # the big markers first: no label may lie on them
        full = [p for p in points if p.name in ("1", "base")]
        taken += [axes.transData.transform((100 * p.new, 100 * p.kept)) for p in full]
    for e, points, colour in curves:
        for p in points:
            if p.name in ("0", "1", "base"):
                continue
            down = e.role == "blora"
            offset = np.array([-24.0, -13.0]) if down else np.array([5.0, 5.0])
            place = axes.transData.transform((100 * p.new, 100 * p.kept)) + offset * unit
            centre = place + np.array([10.0, 4.0]) * unit
            if any(
                abs(centre - t)[0] < 24 * unit and abs(centre - t)[1] < 12 * unit for t in taken
            ):
                continue
            taken.append(centre)
            axes.annotate(
                f"×{p.name}",
                (100 * p.new, 100 * p.kept),
                xytext=tuple(offset),
                textcoords="offset points",
                fontsize=8,
                color=colour,
            )


def _curve(axes: Axes, e: Experiment, points: list[Point], colour: str, marker: str) -> None:
    """One system: its point, and the line of its scales if they were decoded."""
    full = next((p for p in points if p.name in ("1", "base")), points[-1])
    rest = [p for p in points if p is not full and p.name != "0"]
    if len(points) > 1:
        x, y = [[100 * getattr(p, axis) for p in points] for axis in ("new", "kept")]
        axes.plot(x, y, color=colour, lw=1.2, alpha=0.6, zorder=2)
        axes.plot(
            [100 * p.new for p in rest],
            [100 * p.kept for p in rest],
            marker,
            ms=5,
            mfc="white",
            mec=colour,
            zorder=3,
            label=f"{e.label}, scale turned down",
        )
    size = 15 if marker == "*" else 9
    axes.plot(
        100 * full.new,
        100 * full.kept,
        marker,
        ms=size,
        color=colour,
        zorder=4,
        clip_on=False,  # a system without an error lies on the axis
        label=e.label,
    )


def plot_bars(path: Path, experiments: Sequence[Experiment], found: Analysis) -> bool:
    """Draw the error rate of every system on every set with its 95 % interval.

    Returns: False, and no file, if there is no score at all.
    """
    sets = [*found.test_sets, *found.retention_sets]
    scored = [e for e in experiments if any(n in e.scores for n in sets)]
    if not scored:
        return False
    look = looks(experiments)
    width = 0.8 / len(scored)
    top = 0.0
    with plt.rc_context({**_STYLE, "axes.grid.axis": "y"}):
        figure, axes = plt.subplots(figsize=(max(6.5, 1.1 * len(sets) * len(scored) + 1), 4.4))
        for n, e in enumerate(scored):
            for place, name in enumerate(sets):
                score = e.scores.get(name)
                if score is None or score.rate is None:
                    continue
                x, height = place + (n - (len(scored) - 1) / 2) * width, 100 * score.rate
                axes.bar(
                    x,
                    height,
                    width * 0.92,
                    color=look[e.name][0],
                    hatch=_HATCHES.get(e.role, ".."),
                    edgecolor="white",
                    label=e.label,
                )
                found_interval = score.interval()
                end = height
                if found_interval:
                    low, end = 100 * found_interval.low, 100 * found_interval.high
                    spread = [[max(0, height - low)], [max(0, end - height)]]
                    axes.errorbar(x, height, spread, color="black", capsize=3, lw=1)
                axes.annotate(
                    f"{height:.1f}",
                    (x, end),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                )
                top = max(top, end)
        kinds = ["new domain"] * len(found.test_sets) + ["retention"] * len(found.retention_sets)
        ticks = [f"{n}\n({kind})" for n, kind in zip(sets, kinds, strict=True)]
        axes.set_xticks(range(len(sets)), ticks)
        axes.set_ylim(0, top * 1.12 if top else 1)
        unit = next(s.unit for e in scored for s in e.scores.values()).upper()
        axes.set_ylabel(f"{unit}, %")
        axes.set_title("Errors by set, with 95 % intervals", loc="left", weight="bold")
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axes.legend(
            unique.values(), unique, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False
        )
        figure.savefig(path)
        plt.close(figure)
    return True


def plot_sparsity(path: Path, experiments: Sequence[Experiment]) -> bool:
    """Draw how concentrated each adapter's delta W is.

    Returns: False, and no file, if no experiment has factors.
    """
    shown = [e for e in experiments if e.sparsity]
    if not shown:
        return False
    look = looks(experiments)
    measures = (
        ("below", "share of |w| < 0.001"),
        ("top_energy", "energy in the\nlargest 1 %"),
        ("hoyer", "Hoyer index\n(times 100)"),
    )
    width = 0.7 / len(shown)
    with plt.rc_context({**_STYLE, "axes.grid.axis": "y"}):
        figure, axes = plt.subplots(figsize=(7, 4))
        for n, e in enumerate(shown):
            x = np.arange(len(measures)) + (n - (len(shown) - 1) / 2) * width
            heights = [100 * getattr(e.sparsity["delta W"], key) for key, _ in measures]
            bars = axes.bar(
                x,
                heights,
                width * 0.92,
                color=look[e.name][0],
                hatch=_HATCHES.get(e.role, ".."),
                edgecolor="white",
                label=e.label,
            )
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=9)
        axes.set_xticks(range(len(measures)), [title for _, title in measures])
        axes.set_ylim(0, 110)
        axes.set_yticks(range(0, 101, 20))
        axes.set_ylabel("%")
        axes.set_title("How concentrated the update ΔW is", loc="left", weight="bold")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        figure.savefig(path)
        plt.close(figure)
    return True


def frontier_names(points: Sequence[Point]) -> list[str]:
    """Return the names of the points no other one beats on both axes."""
    return [p.name for p in frontier(points)]
