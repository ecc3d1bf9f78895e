"""Reliability diagrams and risk-coverage curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from espnet_blora.report.page import Picture
from espnet_blora.report.style import (
    BASE,
    BLUE,
    GREEN,
    INK,
    MUTED,
    NARROW,
    ORANGE,
    PAPER,
    PINK,
    SKY,
    VERMILLION,
    draw,
    wrapped,
)
from espnet_blora.scoring.calibration.measures import Bin

_LINES = tuple(
    zip(
        (BLUE, VERMILLION, GREEN, ORANGE, PINK, SKY, BASE),
        ("o", "s", "^", "D", "v", "P", "X"),
        strict=True,
    )
)
_COLUMNS = 3
_FEW = 3  # lines of a panel whose bins have their intervals drawn


@dataclass(frozen=True)
class Panel:
    """A diagram of one set.

    Attributes:
        lines: The name of a line -> its bins, all of equal width (reliability), or its risks at
            evenly spaced coverages from 0 to 1.
        oracle: The risks below which no order comes.
    """

    title: str
    lines: Mapping[str, Sequence[Any]]
    oracle: Sequence[float | None] = ()


def plot_reliability(path: Path, panels: Sequence[Panel]) -> Picture | None:
    """Draw the share of right words over their confidence, and below how many words there are.

    Returns:
        None, and no file, without any word.
    """
    kept = [p for p in panels if any(b.count for bins in p.lines.values() for b in bins)]
    look = _looks(kept)

    def draw_panel(part: SubFigure, panel: Panel) -> None:
        upper, lower = part.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1], "hspace": 0.08}
        )
        upper.plot([0, 100], [0, 100], ":", color=MUTED, lw=1, zorder=1)
        for name, bins in panel.lines.items():
            _bins(upper, lower, bins, *look[name], intervals=len(panel.lines) <= _FEW)
        upper.set_ylim(-3, 103)
        upper.set_xlim(-3, 103)
        upper.set_ylabel("right, %")
        upper.set_title(wrapped(panel.title, 36), loc="left", fontsize=10)
        lower.set_ylabel("words, %", fontsize=8)
        lower.set_ylim(bottom=0)
        lower.tick_params(axis="y", labelsize=8)
        lower.set_xlabel("confidence, %")
        lower.set_xticks(range(0, 101, 20))

    title = "Said to be right, and right"
    grey = Line2D([], [], ls=":", color=MUTED, label="calibrated; below it: overconfident")
    return _grid(path, title, kept, look, draw_panel, grey, 3.6)


def plot_risk(path: Path, panels: Sequence[Panel]) -> Picture | None:
    """Draw the error rate of what is kept against how much is kept; of equal curves the first.

    Returns:
        None, and no file, where no curve is defined.
    """
    look = _looks(panels)  # before any is left out: colours are those of the other plot
    kept = [panel for p in panels if (panel := replace(p, lines=_distinct(p.lines))).lines]
    names = {name for p in kept for name in p.lines}
    look = {name: (colour, "") for name, (colour, _) in look.items() if name in names}

    def draw_panel(part: SubFigure, panel: Panel) -> None:
        axes = part.subplots()
        for name, risks in panel.lines.items():
            _curve(axes, risks, color=look[name][0], lw=1.5)
        if panel.oracle and None not in panel.oracle:
            _curve(axes, panel.oracle, color=MUTED, lw=1, ls=":")
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("kept, % of the words said")
        axes.set_ylabel("error rate of the kept, %")
        axes.set_title(wrapped(panel.title, 36), loc="left", fontsize=10)

    title = "What errors remain when the least certain utterances are set aside"
    grey = Line2D([], [], ls=":", color=MUTED, label="oracle: sorted by their own errors")
    return _grid(path, title, kept, look, draw_panel, grey, 3.0)


def _distinct(
    lines: Mapping[str, Sequence[float | None]],
) -> dict[str, Sequence[float | None]]:
    """Return the curves that are defined, and of equal ones the first."""
    distinct: dict[str, Sequence[float | None]] = {}
    for name, risks in lines.items():
        if None not in risks and risks not in distinct.values():
            distinct[name] = risks
    return distinct


def _looks(panels: Sequence[Panel]) -> dict[str, tuple[str, str]]:
    names = dict.fromkeys(name for p in panels for name in p.lines)
    return {name: _LINES[n % len(_LINES)] for n, name in enumerate(names)}


def _bins(
    upper: Axes, lower: Axes, bins: Sequence[Bin], colour: str, marker: str, *, intervals: bool
) -> None:
    """Draw bins as points over their confidence, and below the share of words in each."""
    filled = [b for b in bins if b.count]
    whole = sum(b.count for b in filled) or 1
    x = [100 * (b.confidence or 0.0) for b in filled]
    y = [100 * (b.accuracy or 0.0) for b in filled]
    for at, b in zip(x, filled, strict=True):
        if intervals and b.interval is not None:
            ends = [100 * b.interval.low, 100 * b.interval.high]
            upper.plot([at, at], ends, color=colour, lw=1, alpha=0.45, zorder=2)
    upper.plot(x, y, color=colour, lw=1, alpha=0.5, zorder=2)
    # not clipped: most words lie at the upper end
    upper.scatter(x, y, [14 + 100 * b.count / whole for b in filled], color=colour, marker=marker,
                  edgecolor=PAPER, lw=0.7, zorder=3, clip_on=False)  # fmt: skip
    shares = [100 * b.count / whole for b in bins]
    lower.stairs(shares, [0.0, *(100 * b.high for b in bins)], color=colour, lw=1.2)


def _curve(axes: Axes, risks: Sequence[float | None], **how: Any) -> None:
    axes.plot(np.linspace(0, 100, len(risks)), 100 * np.array(risks, dtype=float), **how)


def _grid(
    path: Path,
    title: str,
    panels: Sequence[Panel],
    look: dict[str, tuple[str, str]],
    draw_panel: Callable[[SubFigure, Panel], None],
    grey: Line2D,
    height: float,
) -> Picture | None:
    """Draw panels side by side (on a narrow screen below each other) under one legend."""
    if not panels:
        return None

    def build(width: float) -> Figure:
        narrow = width <= NARROW
        columns = 1 if narrow else 2 if len(panels) == 4 else min(_COLUMNS, len(panels))
        rows = -(-len(panels) // columns)
        handles = [
            Line2D([], [], color=colour, marker=marker, ms=6, label=wrapped(name, 34))
            for name, (colour, marker) in look.items()
        ]
        across = 1 if narrow else 3
        lines = -(-(len(handles) + 1) // across)
        head = 0.4 + 0.24 * lines + (0.2 if narrow or len(panels) == 1 else 0)
        share = 0.62 if not narrow and len(panels) == 1 else 1.0
        canvas = plt.figure(figsize=(width * share, rows * height + head))
        parts = canvas.subfigures(
            rows + 1, 1, height_ratios=[head, *[height] * rows], squeeze=False
        ).ravel()
        # the head: title and legend
        parts[0].suptitle(wrapped(title, 40 if narrow or len(panels) == 1 else 90), x=0.01, y=0.98,
                          ha="left", color=INK, weight="bold")  # fmt: skip
        parts[0].legend(handles=[*handles, grey], loc="lower left", bbox_to_anchor=(0.0, 0.0),
                        ncols=across, frameon=False, fontsize=9)  # fmt: skip
        # the panels, row by row
        for row, part in enumerate(parts[1:]):
            places = part.subfigures(1, columns, squeeze=False).ravel()
            # not strict: the last row may have places without a panel
            for place, panel in zip(places, panels[row * columns :], strict=False):
                place.subplots_adjust(left=0.2, right=0.97, top=0.88, bottom=0.18)
                draw_panel(place, panel)
        return canvas

    return draw(path, title, build)
