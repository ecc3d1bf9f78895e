"""Completeness of a copy of a corpus: what it holds beside what is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from espnet_blora.data.corpora.common import inspect_sets
from espnet_blora.data.records import Corpus, Item
from espnet_blora.utils.mistakes import did_you_mean

_COLUMNS = ("", "what", "found", "expected")
_WIDEST = 50  # a longer cell must not push the others off the screen


def check(corpus: Corpus, path: str | Path, options: Mapping[str, str]) -> list[Item]:
    """Look at the names of a copy's files, its transcripts and, at most, headers of its audio.

    If the corpus is not there at all, the only item says what was looked for.

    Raises:
        ValueError: The corpus does not have one of the options.
    """
    check_options(corpus, options)
    try:
        folder = corpus.find(Path(path))
    except FileNotFoundError as error:
        return [Item(f"{corpus.name} in {path}", "not found", str(error), False)]
    inspect = corpus.inspect or partial(inspect_sets, corpus.read, corpus.sets)
    return [Item("folder", str(folder), "", True), *inspect(folder, options)]


def check_options(corpus: Corpus, options: Mapping[str, str]) -> None:
    """Refuse options that the corpus does not have.

    Raises:
        ValueError: There is such an option; names those that the corpus has.
    """
    if unknown := [key for key in options if key not in corpus.options]:
        known = "; ".join(f"{key}: {text}" for key, text in corpus.options.items()) or "none"
        near = did_you_mean(unknown[0], corpus.options) or ";"
        raise ValueError(f"{corpus.name} has no option {', '.join(unknown)}{near} it has {known}")


def complete(items: Sequence[Item]) -> bool:
    """Tell whether nothing that is needed is missing."""
    return all(item.ok is not False for item in items)


def table(corpus: Corpus, items: Sequence[Item]) -> str:
    """Return the report for a person: found beside expected, and where to get what is missing."""
    # Columns are as wide as their longest cell, up to a limit.
    marks = {True: "ok", False: "PROBLEM", None: ""}
    rows = [_COLUMNS] + [(marks[i.ok], i.what, i.found, i.expected) for i in items]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    widths = [min(width, _WIDEST) for width in widths]
    lines = [corpus.title, ""]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    # The last lines say whether the copy is complete, and what to do if it is not.
    lines.append("")
    if complete(items):
        lines.append(f"{corpus.name}: nothing that is needed is missing")
    else:
        lines.append(
            f"{corpus.name}: something is missing or differs. Where to get it: {corpus.obtain}"
        )
        lines.append(f"licence: {corpus.licence}")
    return "\n".join(lines)
