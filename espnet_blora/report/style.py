"""Colours, markers and files of the plots.

Colours are Okabe and Ito's, told apart by colour-blind readers; in the scatter every system has its
own pair of colour and marker, and bars carry their name. A plot is written as PNG (for Markdown)
and as two SVGs (a wide and a narrow screen) whose ink, grid and paper follow the page's colours.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files only: no display is needed

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from espnet_blora.report.experiments import System
from espnet_blora.report.page import Picture

INK, MUTED, GRID, PAPER, BASE = "#1f2328", "#6e7681", "#e2e5e9", "#fefefe", "#57606b"
GREEN, PINK, ORANGE, SKY, VERMILLION, BLUE = (
    *("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#d55e00", "#0072b2"),
)
_OF_PAGE = {
    **{INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", BASE: "base", GREEN: "green"},
    **{PINK: "pink", ORANGE: "orange", SKY: "sky", VERMILLION: "vermillion", BLUE: "blue"},
}
_LOOKS = {"base": (BASE, "*"), "lora": (VERMILLION, "s"), "blora": (BLUE, "o")}
_OTHERS = (GREEN, PINK, ORANGE, SKY, VERMILLION, BLUE)
_OTHER_MARKERS = ("^", "D", "v", "P", "X", "<", ">")
_STYLE: Any = {
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # names are shown as they are
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "figure.dpi": 150,
    "savefig.bbox": "tight",
    "svg.fonttype": "none",  # text stays text
}
WIDE, NARROW = 9.0, 4.3  # inches; a phone's screen is about the latter at 90 pixels an inch


def styles(systems: Sequence[System]) -> dict[str, tuple[str, str]]:
    """Return the colour and marker of each system, by name."""
    others = zip(cycle(_OTHERS), cycle(_OTHER_MARKERS), strict=True)
    return {s.name: _LOOKS.get(s.role) or next(others) for s in systems}


def of_page(colour: str) -> str:
    """Return a colour as the page's own, which depends on its scheme (light or dark)."""
    return f"var(--{_OF_PAGE[colour]})"


def wrapped(text: str, width: int) -> str:
    """Break a name into lines, at its own joints where there are any."""
    lines: list[str] = []
    for word in re.findall(r"[^\s_\-]+[\s_\-]*|[\s_\-]+", text):
        if lines and len(lines[-1]) + len(word.rstrip()) <= width:
            lines[-1] += word
        else:
            lines += [word] if len(word.rstrip()) <= width else textwrap.wrap(word, width)
    return "\n".join(line.rstrip() for line in lines)


def draw(path: Path, alt: str, build: Callable[[float], Figure]) -> Picture:
    """Write a plot as PNG; return it with both SVGs. `build` draws at a width in inches."""
    with plt.rc_context(_STYLE):
        wide, narrow = build(WIDE), build(NARROW)
        wide.savefig(path, facecolor="white")
        vectors = _svg(wide, f"{path.stem}-wide", alt), _svg(narrow, f"{path.stem}-narrow", alt)
    plt.close(wide)
    plt.close(narrow)
    return Picture(path.name, alt, *vectors)


def _svg(canvas: Figure, name: str, alt: str) -> str:
    """Return a figure as an SVG element whose ids are its own and whose colours are the page's."""
    out = io.StringIO()
    with plt.rc_context({"svg.hashsalt": name}):
        canvas.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    for colour in _OF_PAGE:
        text = text.replace(colour, of_page(colour))
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)
