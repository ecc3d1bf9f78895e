"""What a page is made of; `markdown` and `html` render the same blocks.

Prose is ours, in plain text with `**bold**` and ` `code` `; cells of tables and titles are
plain text, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from espnet_blora.report.tables import Table


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str
    kind: str = "prose"


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]
    kind: str = "bullets"


@dataclass(frozen=True)
class Picture:
    """A plot: a PNG beside the page, and the same as SVG for a wide and for a narrow screen."""

    file: str
    alt: str
    wide: str
    narrow: str
    kind: str = "picture"


@dataclass(frozen=True)
class Fact:
    """A line of a card."""

    name: str
    value: str
    tone: str = ""


@dataclass(frozen=True)
class Card:
    """A system at a glance."""

    title: str
    colour: str
    facts: Sequence[Fact]
    verdict: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Cards:
    """Cards with the same facts each."""

    cards: Sequence[Card]
    kind: str = "cards"


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown on request."""

    title: str
    blocks: Sequence[Block]
    kind: str = "folded"


Block = Prose | Bullets | Picture | Cards | Folded | Table


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The heading as the target of a link."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


@dataclass(frozen=True)
class Page:
    """A whole page: what must be read first, what came out, and everything behind it."""

    title: str
    warnings: Sequence[str] = ()
    headline: Sequence[str] = ()
    sections: Sequence[Section] = field(default_factory=list)
