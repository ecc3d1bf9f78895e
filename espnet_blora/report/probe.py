"""Results of linear probes by depth: a table, a plot, and the figures as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from espnet_blora.report.style import BLUE, MUTED, NARROW, PAPER, VERMILLION, draw, wrapped

_LOOKS = {"decoder": (BLUE, "o"), "encoder": (VERMILLION, "s")}


@dataclass(frozen=True)
class Depth:
    """A layer (1 is the first), and the accuracy of its probe for each seed, between 0 and 1."""

    side: str
    layer: int
    accuracy: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return fmean(self.accuracy)

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds (n - 1); None with a single one."""
        return stdev(self.accuracy) if len(self.accuracy) > 1 else None

    def row(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {"side": self.side, "layer": self.layer, "accuracy": list(self.accuracy)}
        return {**values, "mean": self.mean, "standard_deviation": self.spread}


def table(depths: Sequence[Depth], chance: float) -> str:
    """Return the accuracies as lines of text, in per cent."""
    lines = [
        f"{'side':<8} {'layer':>5} {'accuracy %':>11} {'s.d.':>6} {'lowest':>7} {'highest':>8}"
    ]
    for depth in depths:
        spread = "-" if depth.spread is None else f"{100 * depth.spread:.1f}"
        low, high = (100 * end(depth.accuracy) for end in (min, max))
        lines.append(
            f"{depth.side:<8} {depth.layer:>5} {100 * depth.mean:>11.1f} {spread:>6} "
            f"{low:>7.1f} {high:>8.1f}"
        )
    lines.append(f"always the commonest language: {100 * chance:.1f} %")
    return "\n".join(lines) + "\n"


def plot(path: Path, depths: Sequence[Depth], chance: float, title: str) -> None:
    """Draw accuracy against depth: means, the range over seeds, and what guessing would give."""
    sides = list(dict.fromkeys(depth.side for depth in depths))

    def build(width: float) -> Figure:
        canvas, axes = plt.subplots(figsize=(width, 3.6 if width > NARROW else 3.2))
        for side in sides:
            own = [depth for depth in depths if depth.side == side]
            colour, marker = _LOOKS[side]
            x = [depth.layer for depth in own]
            low, high = ([100 * end(d.accuracy) for d in own] for end in (min, max))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            axes.plot(x, [100 * d.mean for d in own], color=colour, lw=1.5, zorder=2)
            axes.plot(x, [100 * d.mean for d in own], marker, color=colour, ms=6, mec=PAPER,
                      zorder=3, clip_on=False, label=side)  # fmt: skip
        axes.axhline(100 * chance, color=MUTED, lw=1, ls=":", zorder=1)
        axes.annotate("commonest language", (1, 100 * chance), xycoords=("axes fraction", "data"),
                      xytext=(0, 3), textcoords="offset points", ha="right", color=MUTED,
                      fontsize=9)  # fmt: skip
        axes.set_xlabel(f"layer of the {sides[0]}" if len(sides) == 1 else "layer")
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(min(0.95 * 100 * chance, *(100 * min(d.accuracy) for d in depths)) - 1, 100.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.04)
        if len(sides) > 1:
            axes.legend(frameon=False, loc="best")
        seeds = len(depths[0].accuracy)
        note = f" (mean and range of {seeds} seeds)" if seeds > 1 else ""
        axes.set_title(
            wrapped(title + note, 44 if width <= NARROW else 90), loc="left", fontsize=11
        )
        canvas.tight_layout()
        return canvas

    draw(path, title, build)
