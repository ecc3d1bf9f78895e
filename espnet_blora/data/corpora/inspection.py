"""What ``check_corpus`` says of a corpus whose sets can simply be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from espnet_blora.data.records import Expected, Item, Ledger, Utterance

Read = Callable[
    [Path, list[str], Ledger, Mapping[str, str]],
    dict[str, list[Utterance]],
]


def inspect_sets(
    read: Read, root: Path, sets: Mapping[str, Expected], options: Mapping[str, str]
) -> list[Item]:
    """Read each set by itself and give a line for each; a set that is not there is no fault.

    ``ok`` tells whether as many utterances can be used as were published, and is None where
    nothing was; it is False for a set that cannot be read, and for a copy without any set.
    """
    items, there = [], 0
    for name, size in sets.items():
        expected = "" if size.utterances is None else f"{size.utterances:,} utterances"
        if size.hours is not None:
            expected += f"{', ' if expected else ''}{size.hours:g} h"
        ledger = Ledger()
        try:
            kept = len(read(root, [name], ledger, options)[name])
        except FileNotFoundError as error:
            items.append(Item(name, f"not there ({error})", expected, None))
        except ValueError as error:
            items.append(Item(name, f"cannot be used: {error}", expected, False))
            there += 1
        else:
            there += 1
            ok = None if size.utterances is None else kept == size.utterances
            items.append(Item(name, _found(kept, ledger), expected, ok if kept else False))
    if not there:
        items.append(Item("sets", "none", f"one of {', '.join(sets)}", False))
    return items


def _found(kept: int, ledger: Ledger) -> str:
    found = f"{kept:,} utterances"
    for what, counts in (("left out", ledger.counts()), ("noted", ledger.note_counts())):
        if counts:
            found += f"; {what}: " + ", ".join(f"{reason} {n}" for reason, n in counts.items())
    return found
