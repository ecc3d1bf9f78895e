"""Blocks as one HTML file that needs nothing else: no network, no second file.

Everything but the SVGs of our own plots is escaped by Jinja; the page holds no script but the one
that sorts its tables, and says so in its Content-Security-Policy.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from espnet_blora.report.blocks import Page
from espnet_blora.report.tables import Cell

HERE = Path(__file__).parent
_NUMBER = re.compile(r"^[+\-−]?\d[\d,]*\.?\d*")


def page(made: Page) -> str:
    """Return the page as HTML."""
    style, script = ((HERE / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"prose": prose, "plain": plain, "sort": sort_key, "ground": ground}
    return environment.get_template("page.html.jinja").render(
        page=made,
        style=Markup(style),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        svg=Markup,  # of pictures only: they are ours
    )


def prose(text: str) -> Markup:
    """Escape our prose; show its `**bold**` and ` `code` `."""
    parts = str(escape(text.replace(" %", "\u00a0%"))).split("`")
    for n, part in enumerate(parts):
        bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", part)
        parts[n] = f"<code>{part}</code>" if n % 2 else bold
    return Markup("".join(parts))


def plain(text: str) -> str:
    """Return text without control characters, which a browser must not get."""
    return "".join(c if c.isprintable() else " " for c in text)


def sort_key(cell: Cell) -> str:
    """Return what a column is sorted by: a number, or "" for text."""
    if cell.sort is not None:
        return f"{cell.sort:.9g}"
    number = _NUMBER.match(cell.text)
    return number[0].replace(",", "").replace("−", "-") if number else ""


def ground(heat: float) -> str:
    """Return the class of a cell's ground: `worse-1` to `worse-5`, `better-1` ..., or ""."""
    level = min(5, round(5 * abs(heat)))
    return f"{'worse' if heat > 0 else 'better'}-{level}" if level else ""
