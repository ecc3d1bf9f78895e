"""Markdown tables and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from espnet_blora.report.analysis import Figure
from espnet_blora.scoring import Counts, Interval, SetScore

ESPNET_HEAD = ("dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")
ABSENT = "–"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a vertical bar inside a cell is escaped.

    Raises: ValueError for a row of another length than the head.
    """
    lines = [_row(head), "|" + "---|" * len(head)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(head)}: {row}")
        lines.append(_row(row))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "|" + "|".join(str(cell).replace("|", "\\|") for cell in cells) + "|"


def percent(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """Write 0.123 as ``12.3``; what is undefined as a dash."""
    if value is None:
        return ABSENT
    return f"{100 * value:{'+' if sign else ''}.{digits}f}"


def with_interval(value: float | None, found: Interval | None, sign: bool = False) -> str:
    """Write a rate with its 95 % interval: ``12.3 (11.0 to 13.7)``."""
    text = percent(value, sign=sign)
    if value is None or found is None:
        return text
    return f"{text} ({percent(found.low, sign=sign)} to {percent(found.high, sign=sign)})"


def figure(one: Figure | None) -> str:
    """Write a signed figure in per cent with its interval; "undefined" where its divisor is not >
    0."""
    if one is None:
        return ABSENT
    return "undefined" if one.value is None else with_interval(one.value, one.interval, sign=True)


def rate(score: SetScore | None) -> str:
    """Write a score's rate with its interval."""
    return ABSENT if score is None else with_interval(score.rate, score.interval())


def espnet_row(name: str, score: SetScore) -> list[str]:
    """Return a row of ESPnet's results table from our counts (per cent, one digit)."""
    counts, number = score.total, len(score.utterances)
    cells = [counts.hits, counts.substitutions, counts.deletions, counts.insertions, counts.errors]
    shares = [percent(c / counts.tokens) if counts.tokens else ABSENT for c in cells]
    wrong = percent(score.wrong_utterances / number) if number else ABSENT
    return [name, str(number), str(counts.tokens), *shares, wrong]


def size(number: int | None) -> str:
    """Write bytes as ``3.2 MB`` (10^6) or ``12 kB``."""
    if number is None:
        return ABSENT
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def counts_rate(counts: Counts) -> str:
    """Write the rate of counts in per cent with the number of reference tokens."""
    return f"{percent(counts.rate)} of {counts.tokens}" if counts.tokens else ABSENT
