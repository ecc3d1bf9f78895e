"""ESPnet's table of results, from our counts."""

from __future__ import annotations

from collections.abc import Iterable

from espnet_blora.scoring.set_score import SetScore

ESPNET_HEAD = ("dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")
_UNDEFINED = "–"


def espnet_row(name: str, score: SetScore) -> list[str]:
    """Return the cells of one row: utterances, reference tokens, then per cent with one digit."""
    counts, number = score.total, len(score.utterances)
    cells = (counts.hits, counts.substitutions, counts.deletions, counts.insertions, counts.errors)
    shares = [_percent(cell, counts.tokens) for cell in cells]
    return [
        name,
        str(number),
        str(counts.tokens),
        *shares,
        _percent(score.wrong_utterances, number),
    ]


def espnet_table(scores: Iterable[tuple[str, SetScore]]) -> str:
    """Return the table, Markdown as ESPnet's RESULTS.md has it, of (name, score) pairs."""
    rows = [ESPNET_HEAD, ["---"] * len(ESPNET_HEAD), *(espnet_row(*pair) for pair in scores)]
    return "\n".join("|" + "|".join(c.replace("|", "\\|") for c in row) + "|" for row in rows)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else _UNDEFINED
