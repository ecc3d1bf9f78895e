"""Plots: gained against forgotten, error rates by set, sparsity of the update."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import ScalarFormatter

from espnet_blora.report.estimates import Analysis, Estimate
from espnet_blora.report.experiments import System
from espnet_blora.report.page import Picture
from espnet_blora.report.style import GRID, INK, MUTED, NARROW, PAPER, draw, styles, wrapped
from espnet_blora.scoring import Interval
from espnet_blora.scoring.retention import Point, frontier

_FAR = 5  # times the median: a point so far off would squash all others
_MOST_LABELLED = 3  # curves whose scales are written beside their points


def scatter(path: Path, analysis: Analysis) -> Picture | None:
    """Draw new-domain error against retention error.

    Drawn are every seed and mean, each adapter's scale turned down (or weights interpolated, or
    the strength of a repair) with its band, and the frontier of all points.

    Returns:
        None, and no file, if fewer than two systems have a place.
    """
    placed = analysis.placed
    if len(placed) < 2:
        return None
    look = styles([*analysis.systems, *analysis.repaired])

    def build(width: float) -> Figure:
        narrow = width <= NARROW
        canvas, axes = plt.subplots(figsize=(width, 4.6 if narrow else 5.6))
        _frontier(axes, analysis)
        for system in placed:
            _curve(axes, analysis, system, *look[system.name])
        axes.set_xlabel(_axis("error on the new domain, %", analysis.test_sets, narrow))
        axes.set_ylabel(
            _axis("error on what it could do before, %", analysis.retention_sets, narrow)
        )
        axes.set_title("Gained against forgotten", loc="left", weight="bold")
        axes.margins(0.09)
        _stretch(axes, [point for s in placed for point in analysis.points[s.name]])
        if axes.get_ylim()[0] < 0:
            axes.set_ylim(bottom=0)
        _bands(axes, analysis, look)
        # beside the title where there is room, else inside the upper right corner
        axes.annotate("better: down and left", (1, 1), (0, -12 if narrow else 6), "axes fraction",
                      "offset points", ha="right", color=MUTED, fontsize=9)  # fmt: skip
        curves = [(s, analysis.points[s.name], look[s.name][0]) for s in placed]
        swept = [c for c in curves if len(c[1]) > 1]
        if len(swept) <= _MOST_LABELLED:
            _label_scales(axes, curves)
        handles = _legend(analysis, placed, look, 30 if narrow else 24)
        anchor = (-0.1, -0.2) if narrow else (1.01, 1.0)  # below the axes, or beside them
        axes.legend(handles=handles, frameon=False, labelspacing=0.7, loc="upper left",
                    bbox_to_anchor=anchor)  # fmt: skip
        return canvas

    alt = f"gained against forgotten, {len(placed)} systems"
    return draw(path, alt, build)


def _stretch(axes: Axes, points: Sequence[Point]) -> None:
    """Give an axis a logarithmic scale where a collapsed system would squash all others."""
    sides = (
        (axes.xaxis, axes.set_xscale, [100 * point.new for point in points]),
        (axes.yaxis, axes.set_yscale, [100 * point.kept for point in points]),
    )
    for axis, set_scale, values in sides:
        if min(values) > 0 and max(values) > _FAR * statistics.median(values):
            set_scale("log")
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(
                lambda value, _: f"{value:g}" if f"{value:g}"[0] in "235" else ""
            )
            axis.set_label_text(f"{axis.get_label_text()}, logarithmic")


def _axis(what: str, sets: Sequence[str], narrow: bool) -> str:
    names = sets[0] if len(sets) == 1 else f"mean over {', '.join(sets)}"
    if len(names) > (34 if narrow else 50):
        names = f"mean over {len(sets)} sets"
    return f"{what}\n({names})"


def _frontier(axes: Axes, analysis: Analysis) -> None:
    """Draw the line through the points that no other one beats on both axes."""
    best = frontier([p for points in analysis.points.values() for p in points])
    if len(best) > 1:
        axes.plot(*_places(best), color=INK, lw=6, alpha=0.13, solid_capstyle="round", zorder=1)


def _curve(axes: Axes, analysis: Analysis, system: System, colour: str, marker: str) -> None:
    """Draw one system: the line of its scales, its seeds, and its mean with intervals."""
    points = analysis.points[system.name]
    full = next((p for p in points if p.name in ("1", "base")), points[-1])
    rest = [p for p in points if p is not full and p.name != "0"]
    if len(points) > 1:
        dashes = "--" if system.full else "-"
        axes.plot(*_places(points), dashes, color=colour, lw=1.3, alpha=0.6, zorder=2)
        axes.plot(*_places(rest), marker, ms=5, mfc=PAPER, mec=colour, zorder=3)
    if system.knob == "mu":
        return  # both ends are others' marks
    seeds = analysis.seed_points.get(system.name, [])
    axes.plot(*_places(seeds), marker, ms=5, mfc=colour, mec="none", alpha=0.45, zorder=3)
    new, kept = (rates.get(system.name, Estimate(None)) for rates in (analysis.new, analysis.kept))
    # intervals where the point is that of the recipe's decoding: lines, as caps would hide points
    away = abs((new.value or 0) - full.new) + abs((kept.value or 0) - full.kept)
    if new.interval and kept.interval and away < 2e-3:
        line: dict[str, Any] = {"color": colour, "lw": 0.9, "alpha": 0.4, "zorder": 2}
        axes.plot(_ends(new.interval), [100 * full.kept] * 2, **line)
        axes.plot([100 * full.new] * 2, _ends(kept.interval), **line)
    # not clipped: a system without an error lies on the axis
    axes.plot(*_places([full]), marker, ms=15 if marker == "*" else 9, color=colour, mec=PAPER,
              mew=0.8, zorder=4, clip_on=False)  # fmt: skip


def _bands(axes: Axes, analysis: Analysis, look: dict) -> None:
    """Draw the 95 % bands of the curves inside the axes as they are: steep ends have no bounds."""
    if analysis.match is None:
        return
    limits = axes.get_xlim(), axes.get_ylim()
    for name, curve in analysis.match.curves.items():
        along, middle, reach = curve.band(analysis.match.axes)
        low, high = np.maximum(1e-9, middle - reach), middle + reach
        band = {"color": look[name][0], "alpha": 0.1, "lw": 0, "zorder": 0.5}
        axes.fill_between(100 * along, 100 * low, 100 * high, **band)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [100 * p.new for p in points], [100 * p.kept for p in points]


def _ends(interval: Interval) -> list[float]:
    return [100 * interval.low, 100 * interval.high]


def _legend(analysis: Analysis, placed: Sequence[System], look: dict, width: int) -> list[Line2D]:
    handles = []
    for s in placed:
        colour, marker = look[s.name]
        size = 12 if marker == "*" else 8
        label = wrapped(s.label, width)
        if len(s.runs) > 1:
            label += f"\n(mean of {len(s.runs)} seeds)"
        handles.append(Line2D([], [], color=colour, marker=marker, ls="", ms=size, label=label))
    grey: dict[str, Any] = {"color": MUTED, "marker": "o", "ms": 5}
    swept = [s for s in placed if len(analysis.points[s.name]) > 1]
    if analysis.match is not None:
        handles.append(Line2D([], [], color=MUTED, lw=8, alpha=0.25, label="95 % of a curve"))
    if any(not s.full for s in swept):
        handles.append(Line2D([], [], mfc=PAPER, **grey, label="scale turned down (×)"))
    if any(s.full for s in swept):
        label = "weights interpolated\nbase–adapted (×)"
        handles.append(Line2D([], [], ls="--", mfc=PAPER, **grey, label=label))
    if any(analysis.seed_points.values()):
        handles.append(Line2D([], [], ls="", mec="none", alpha=0.5, **grey, label="one seed"))
    handles.append(
        Line2D([], [], color=INK, lw=6, alpha=0.13, label="frontier: none is\nbetter on both")
    )
    return handles


def _label_scales(axes: Axes, curves: Sequence[tuple[System, list[Point], str]]) -> None:
    """Write the scale beside each point of a curve that is not too near to others' labels."""
    axes.figure.canvas.draw()  # fixes the limits
    unit = axes.figure.dpi / 72
    taken = []
    for _, points, _ in curves:  # the big markers first: no label may lie on them
        full = [p for p in points if p.name in ("1", "base")]
        taken += [axes.transData.transform((100 * p.new, 100 * p.kept)) for p in full]
    for number, (_, points, colour) in enumerate(curves):
        for p in points:
            if p.name in ("0", "1", "base"):
                continue
            offset = np.array([-24.0, -13.0]) if number % 2 else np.array([5.0, 5.0])
            place = axes.transData.transform((100 * p.new, 100 * p.kept)) + offset * unit
            centre = place + np.array([10.0, 4.0]) * unit
            if any(
                abs(centre - t)[0] < 24 * unit and abs(centre - t)[1] < 12 * unit for t in taken
            ):
                continue
            taken.append(centre)
            axes.annotate(f"×{p.name}", (100 * p.new, 100 * p.kept), xytext=tuple(offset),
                          textcoords="offset points", fontsize=8, color=colour)  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """A title and, by system, a figure in per cent; `line` is drawn across (the base)."""

    title: str
    figures: dict[str, Estimate]
    line: float | None = None


def bars(path: Path, analysis: Analysis) -> Picture | None:
    """Draw the error rate of every system on every set with its 95 % interval.

    Returns:
        None, and no file, if there is no score at all.
    """
    panels = []
    for name in analysis.shown_sets:
        figures = {system: e for (system, scored), e in analysis.rates.items() if scored == name}
        if figures:
            role = "new domain" if name in analysis.test_sets else "retention"
            base = figures.get(analysis.base.name) if analysis.base else None
            title = f"{name} ({role})\n{analysis.treated[name].unit.upper()}, %"
            panels.append(Panel(title, figures, base.value if base else None))
    many = f": the {len(panels)} of {len(analysis.sets)} sets whose errors differ most"
    return _panels(
        path,
        "errors by set, with 95 % intervals (dotted: base; circles: seeds)"
        + (many if len(panels) < len(analysis.sets) else ""),
        analysis.systems,
        panels,
    )


def sparsity(path: Path, analysis: Analysis) -> Picture | None:
    """Draw how concentrated each adapter's delta W is.

    Returns:
        None, and no file, if no system has factors.
    """
    measures = (
        ("below", "share of\n|w| < 0.001, %"),
        ("top_energy", "energy in the\nlargest 1 %, %"),
        ("hoyer", "Hoyer index\n(times 100)"),
    )
    shown = [s for s in analysis.systems if any(run.sparsity for run in s.runs)]
    panels = []
    for key, title in measures:
        figures = {}
        for s in shown:
            seeds = [getattr(r.sparsity["delta W"], key) for r in s.runs if r.sparsity]
            figures[s.name] = Estimate(statistics.fmean(seeds), None, tuple(seeds))
        panels.append(Panel(title, figures))
    return _panels(path, "how concentrated the update ΔW is", shown, panels)


def _panels(
    path: Path, title: str, systems: Sequence[System], panels: Sequence[Panel]
) -> Picture | None:
    """Draw horizontal bars: one row per system, so that many names stay readable."""
    shown = [s for s in systems if any(s.name in p.figures for p in panels)]
    if not shown:
        return None
    look = styles(systems)

    def build(width: float) -> Figure:
        columns = 1 if width <= NARROW else min(3, len(panels))
        rows = -(-len(panels) // columns)
        labels = [wrapped(s.label, 22 if columns > 1 else 18) for s in shown]
        lines = sum(max(1.5, 1.15 * (label.count("\n") + 1)) for label in labels)
        height = 0.5 + rows * (0.85 + 0.24 * lines)
        canvas, grid = plt.subplots(
            rows, columns, figsize=(width, height), sharey=True, squeeze=False
        )
        # not strict: the grid may have a place more than there are panels, hidden below
        for axes, panel in zip(grid.flat, panels, strict=False):
            _bars(axes, panel, shown, labels, look)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        canvas.tight_layout()
        head = wrapped(title[0].upper() + title[1:], 40 if width <= NARROW else 90)
        canvas.suptitle(head, x=0.01, y=1.0, ha="left", va="bottom", weight="bold")
        return canvas

    return draw(path, title, build)


def _bars(
    axes: Axes, panel: Panel, shown: Sequence[System], labels: Sequence[str], look: dict
) -> None:
    """Draw the bars of one panel with intervals, seeds and figures."""
    ends = []
    for place, system in enumerate(shown):
        estimate = panel.figures.get(system.name)
        if estimate is None or estimate.value is None:
            axes.annotate("not there", (0, place), color=MUTED, va="center", fontsize=9)
            continue
        length = end = 100 * estimate.value
        axes.barh(place, length, 0.62, color=look[system.name][0], alpha=0.85)
        if estimate.interval:
            low, end = _ends(estimate.interval)
            spread = [[max(0, length - low)], [max(0, end - length)]]
            axes.errorbar(length, place, xerr=spread, color=INK, capsize=3, lw=1)
        if len(estimate.seeds) > 1:
            axes.plot([100 * x for x in estimate.seeds], [place] * len(estimate.seeds), "o",
                      ms=3.5, mfc=PAPER, mec=INK, mew=0.7, zorder=5)  # fmt: skip
        end = max([end, *(100 * x for x in estimate.seeds)])
        ends.append(end)
        axes.annotate(f"{length:.1f}", (end, place), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=9)  # fmt: skip
    # the base's figure as a line, and the axes
    if panel.line is not None:
        axes.axvline(100 * panel.line, color=MUTED, lw=1, ls=":", zorder=0.5)
    axes.set_yticks(range(len(shown)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, max(ends, default=1) * 1.22 or 1)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID)
    axes.set_title(panel.title, loc="left", fontsize=10)
