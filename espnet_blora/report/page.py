"""The building blocks of a page, and their rendering as Markdown and as HTML.

Prose is ours, in plain text with `**bold**` and ` `code` `; cells of tables and titles are
plain text, whoever wrote it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from espnet_blora.scoring import Counts, Interval

ABSENT = "–"
MOST_TOLD = 6
"""Names in a sentence; more are counted."""
MOST_SHOWN = 12
"""Sets in plots and examples."""
MOST_COLUMNS, MOST_ROWS = 16, 40
_SPECIAL = re.compile(r"[\\`*\[\]<>|~&$]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
HERE = Path(__file__).parent
_NUMBER = re.compile(r"^[+\-−]?\d[\d,]*\.?\d*")


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and what a page with colours may do with it.

    Attributes:
        text: Plain text, shown as it is.
        sort: What the column is sorted by, where that is not the number the text begins with.
        tone: `good`, `bad`, `unclear` or "".
        heat: Between -1 (much better) and 1 (much worse): a coloured ground.
        marks: The text cut into (piece, whether it is wrong), for recognised words.
        foreign: Somebody's words, in whatever script and direction.
    """

    text: str
    sort: float | None = None
    tone: str = ""
    heat: float | None = None
    marks: tuple[tuple[str, bool], ...] = ()
    foreign: bool = False


@dataclass
class Table:
    """A head and rows of as many cells.

    Raises:
        ValueError: A row of another length than the head.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(
                    f"a row of {len(row)} cells in a table of {len(self.head)}: "
                    f"{[cell.text for cell in row]}"
                )


def name_sets(sets: Sequence[str]) -> str:
    """Name sets, or count them where they are many."""
    return ", ".join(sets) if len(sets) <= MOST_TOLD else f"{len(sets)} sets"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Table:
    """Return a table of strings and cells; of many columns and few rows, these become columns."""
    cells = [[c if isinstance(c, Cell) else Cell(str(c)) for c in row] for row in rows]
    if len(head) > MOST_COLUMNS and 0 < len(cells) < len(head):
        first, *rest = zip(map(Cell, head), *cells, strict=True)
        head, cells = ["", *(cell.text for cell in first[1:])], [list(row) for row in rest]
    return Table(tuple(head), cells, caption)


def foldable(block: Block) -> Block:
    """Return a block as it is, but a long table as one that is shown on request."""
    if not isinstance(block, Table) or len(block.rows) <= MOST_ROWS:
        return block
    return Folded(f"A table of {len(block.rows)} rows", [block])


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """A plot: a PNG beside the page, and the same as SVG for a wide and for a narrow screen."""

    file: str
    alt: str
    wide: str
    narrow: str


@dataclass(frozen=True)
class Card:
    """A system at a glance: its facts by name, and whether it passes the gate."""

    title: str
    colour: str
    facts: Mapping[str, Cell]
    gate: Cell


@dataclass(frozen=True)
class Cards:
    """One card or more, with the same facts each."""

    cards: Sequence[Card]


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown on request."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Heard:
    """An utterance to listen to, and what was said and heard.

    Attributes:
        title: Which, and how it changed.
        audio: A `data:` address of the sound; "" where it is not at hand.
        lines: (Who, words).
    """

    title: str
    audio: str
    lines: Sequence[tuple[str, Cell]]


Block = Prose | Bullets | Picture | Cards | Folded | Heard | Table


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
    """A whole page: what must be read first, what came out, and everything behind it.

    Attributes:
        intro: What was compared, in one paragraph.
    """

    title: str
    warnings: Sequence[str] = ()
    headline: Sequence[str] = ()
    sections: Sequence[Section] = field(default_factory=list)
    intro: str = ""


def percent(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """Write a share in per cent; what is undefined as a dash.

    >>> percent(0.123), percent(0.0456, sign=True), percent(None)
    ('12.3', '+4.6', '–')
    """
    if value is None:
        return ABSENT
    return f"{100 * value:{'+' if sign else ''}.{digits}f}"


def in_points(difference: float) -> str:
    """Write a difference of rates in points, with its sign."""
    return percent(difference, 2, sign=True)


def p_value(p: float) -> str:
    """Write the p of a test."""
    return "below 0.0001" if p < 1e-4 else f"{p:.2g}"


def with_interval(
    value: float | None, interval: Interval | None, write: Callable[[float], str] = percent
) -> str:
    """Write a rate, or what `write` writes, with its interval: `12.3 (11.0 to 13.7; 200 utt.)`."""
    if value is None:
        return ABSENT
    if interval is None:
        return write(value)
    basis = f"; {interval.basis}" if interval.basis else ""
    return f"{write(value)} ({write(interval.low)} to {write(interval.high)}{basis})"


def size(number: int | None) -> str:
    """Write bytes as `3.2 MB` (10^6) or `12 kB`."""
    if number is None:
        return ABSENT
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def counts_rate(counts: Counts) -> str:
    """Write the rate of counts in per cent with the number of reference tokens."""
    return f"{percent(counts.rate)} of {counts.tokens}" if counts.tokens else ABSENT


def page_markdown(page: Page) -> str:
    """Return the text of a page."""
    parts = [f"# {page.title}"]
    parts += [f"> **Warning**: {_prose(text)}" for text in page.warnings]
    if page.intro:
        parts.append(_prose(page.intro))
    if page.headline:
        parts.append("\n".join(f"- {_prose(text)}" for text in page.headline))
    for section in page.sections:
        parts.append(f"## {literal(section.title)}")
        parts += blocks_markdown(section.blocks)
    return "\n\n".join(parts) + "\n"


def blocks_markdown(blocks: Iterable[Block]) -> Iterator[str]:
    """Yield the text of blocks, to be parted by empty lines."""
    for block in blocks:
        if isinstance(block, Prose):
            yield _prose(block.text)
        elif isinstance(block, Bullets):
            yield "\n".join(f"- {_prose(item)}" for item in block.items)
        elif isinstance(block, Picture):
            yield f"![{literal(block.alt)}]({block.file})"
        elif isinstance(block, Cards):
            head = ("system", *block.cards[0].facts, "gate")
            rows = [(card.title, *card.facts.values(), card.gate) for card in block.cards]
            yield table_markdown(head, rows)
        elif isinstance(block, Folded):
            yield f"<details><summary>{literal(block.title)}</summary>"
            yield from blocks_markdown(block.blocks)
            yield "</details>"
        elif isinstance(block, Heard):
            yield table_markdown((block.title, "words"), block.lines)
        else:
            if block.caption:
                yield _prose(block.caption)
            yield table_markdown(block.head, block.rows)


def _prose(text: str) -> str:
    """Keep `**` and backticks; escape what would start an HTML tag outside of code."""
    pieces = " ".join(text.split()).split("`")
    return "`".join(
        piece if n % 2 else re.sub(r"<(?=[A-Za-z/!?])", r"\\<", piece)
        for n, piece in enumerate(pieces)
    )


def table_markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; whatever a cell holds is shown as it is, on one line.

    Raises:
        ValueError: A row of another length than the head.
    """
    whole = table(head, rows)
    lines = [_row(whole.head), "|" + "---|" * len(whole.head)]
    return "\n".join([*lines, *(_row([cell.text for cell in row]) for row in whole.rows)])


def _row(cells: Sequence[str]) -> str:
    return "|" + "|".join(map(literal, cells)) + "|"


def literal(text: str) -> str:
    """Escape text so that Markdown shows it as it is, on one line."""
    flat = " ".join(plain(text).split())
    return _SPECIAL.sub(lambda m: _ENTITIES.get(m[0], f"\\{m[0]}"), flat)


def page_html(page: Page) -> str:
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
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment.get_template("page.html.jinja").render(
        page=page,
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
