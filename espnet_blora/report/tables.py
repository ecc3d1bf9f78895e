"""Tables and how numbers are written in them; what is shown, not how it is rendered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from espnet_blora.report.figures import Figure
from espnet_blora.scoring import Counts, Interval, SetScore

ABSENT = "–"
_SPECIAL = re.compile(r"[\\`*\[\]<>|~&$]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and what a page with colours may do with it.

    Attributes:
        text: plain text, shown as it is.
        sort: what the column is sorted by, where that is not the number the text begins with.
        tone: `good`, `bad`, `unclear` or "".
        heat: between -1 (much better) and 1 (much worse): a coloured ground.
        marks: the text cut into (piece, whether it is wrong), for recognised words.
        foreign: somebody's words, in whatever script and direction.
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

    Raises: ValueError for a row of another length than the head.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)
    caption: str = ""
    kind: str = "table"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(
                    f"a row of {len(row)} cells in a table of {len(self.head)}: "
                    f"{[cell.text for cell in row]}"
                )


def table(head: Sequence[str], rows: Iterable[Sequence[str | Cell]], caption: str = "") -> Table:
    """Return a table of strings and cells."""
    cells = [[c if isinstance(c, Cell) else Cell(str(c)) for c in row] for row in rows]
    return Table(tuple(head), cells, caption)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> str:
    """Return a Markdown table; whatever a cell holds is shown as it is, on one line.

    Raises: ValueError for a row of another length than the head.
    """
    made = table(head, rows)
    lines = [_row(made.head), "|" + "---|" * len(made.head)]
    return "\n".join([*lines, *(_row([cell.text for cell in row]) for row in made.rows)])


def _row(cells: Sequence[str]) -> str:
    return "|" + "|".join(map(literal, cells)) + "|"


def literal(text: str) -> str:
    """Escape text so that Markdown shows it as it is, on one line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return _SPECIAL.sub(lambda m: _ENTITIES.get(m[0], f"\\{m[0]}"), flat)


def percent(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """Write 0.123 as `12.3`; what is undefined as a dash."""
    if value is None:
        return ABSENT
    return f"{100 * value:{'+' if sign else ''}.{digits}f}"


def with_interval(value: float | None, found: Interval | None, sign: bool = False) -> str:
    """Write a rate with its 95 % interval: `12.3 (11.0 to 13.7)`."""
    text = percent(value, sign=sign)
    if value is None or found is None:
        return text
    return f"{text} ({percent(found.low, sign=sign)} to {percent(found.high, sign=sign)})"


def figure(one: Figure | None) -> str:
    """Write a signed figure in per cent with its interval and its seeds' range; "undefined" where
    its divisor is not > 0."""
    if one is None:
        return ABSENT
    if one.value is None:
        return "undefined"
    text = with_interval(one.value, one.interval, sign=True)
    if len(one.seeds) > 1:
        ends = f"seeds {percent(min(one.seeds), sign=True)} to {percent(max(one.seeds), sign=True)}"
        text = f"{text[:-1]}; {ends})" if text.endswith(")") else f"{text} ({ends})"
    return text


def signed(one: Figure | None, good: int) -> Cell:
    """Return a figure as a cell that is `good` or `bad` where its sign is clear.

    `good` is 1 where more is better, -1 where less is.
    """
    tone = ""
    if one is not None and one.value is not None and one.interval is not None:
        tone = {good: "good", -good: "bad"}.get(one.sign, "unclear")
    return Cell(figure(one), None if one is None else one.value, tone)


def level(one: Figure | None) -> str:
    """Write an error rate: `10.4 ± 0.3 (9.0 to 11.9)`, ± over seeds, the interval over
    utterances."""
    if one is None or one.value is None:
        return ABSENT
    text = with_interval(one.value, one.interval)
    if one.spread is None:
        return text
    value, _, rest = text.partition(" ")
    return f"{value} ± {percent(one.spread)} {rest}".rstrip()


def rate(score: SetScore | None) -> str:
    """Write a score's rate with its interval."""
    return ABSENT if score is None else with_interval(score.rate, score.interval())


def size(number: int | None) -> str:
    """Write bytes as `3.2 MB` (10^6) or `12 kB`."""
    if number is None:
        return ABSENT
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def counts_rate(counts: Counts) -> str:
    """Write the rate of counts in per cent with the number of reference tokens."""
    return f"{percent(counts.rate)} of {counts.tokens}" if counts.tokens else ABSENT
