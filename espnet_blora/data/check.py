"""Is a copy of a corpus complete: what there is beside what there should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_blora.data.records import Corpus, Item

_COLUMNS = ("", "what", "found", "expected")
_WIDEST = 50  # a longer cell must not push the others off the screen


def check(corpus: Corpus, path: str | Path, options: Mapping[str, str]) -> list[Item]:
    """Look at a copy of a corpus; its files' names and transcripts, and headers at most.

    Where the corpus is not found at all, the one line says what was looked for.

    Raises: ValueError for an option the corpus does not have.
    """
    check_options(corpus, options)
    try:
        found = corpus.find(Path(path))
    except FileNotFoundError as error:
        return [Item(f"{corpus.name} in {path}", "not found", str(error), False)]
    return [Item("folder", str(found), "", True), *corpus.inspect(found, options)]


def check_options(corpus: Corpus, options: Mapping[str, str]) -> None:
    """Raise ValueError for an option the corpus does not have."""
    if unknown := [key for key in options if key not in corpus.options]:
        there = "; ".join(f"{key}: {text}" for key, text in corpus.options.items()) or "none"
        raise ValueError(f"{corpus.name} has no option {', '.join(unknown)}; it has {there}")


def parse_options(given: Sequence[str]) -> dict[str, str]:
    """Turn `KEY=VALUE` strings into a dictionary.

    Raises: ValueError for a string without `=` or a key given twice.
    """
    options: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"option {text!r}; write KEY=VALUE")
        if key in options:
            raise ValueError(f"option {key!r} is given twice")
        options[key] = value
    return options


def complete(items: Sequence[Item]) -> bool:
    """Whether nothing that is needed is missing."""
    return all(item.ok is not False for item in items)


def table(corpus: Corpus, items: Sequence[Item]) -> str:
    """The report for a person: found beside expected, and where to get what is missing."""
    marks = {True: "ok", False: "PROBLEM", None: ""}
    rows = [_COLUMNS] + [(marks[i.ok], i.what, i.found, i.expected) for i in items]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    widths = [min(width, _WIDEST) for width in widths]
    lines = [corpus.title, ""]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.append("")
    if complete(items):
        lines.append(f"{corpus.name}: nothing that is needed is missing")
    else:
        lines.append(
            f"{corpus.name}: something is missing or differs. Where to get it: {corpus.obtain}"
        )
        lines.append(f"licence: {corpus.licence}")
    return "\n".join(lines)
