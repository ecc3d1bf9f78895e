"""What `check_corpus` says of a corpus whose sets can simply be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from espnet_blora.data.corpora.asked import SetAbsentError
from espnet_blora.data.records import Expected, Item, Ledger, Utterance

Read = Callable[
    [Path, list[str], Ledger, Mapping[str, str]],
    dict[str, list[Utterance]],
]


def inspect_sets(
    read: Read, sets: Mapping[str, Expected], root: Path, options: Mapping[str, str]
) -> list[Item]:
    """Read each set by itself and give a line for each; a set that is not there is no fault.

    `ok` tells whether as many utterances can be used as were published, and is None where
    nothing was; it is False for a set that cannot be read, and for a copy without any set.
    """
    items, there = [], 0
    for name, size in sets.items():
        expected = "" if size.utterances is None else f"{size.utterances:,} utterances"
        if size.hours is not None:
            expected += f"{', ' if expected else ''}{size.hours:g} h"
        ledger = Ledger()
        try:
            utterances = read(root, [name], ledger, options)[name]
        except SetAbsentError as error:
            items.append(Item(name, str(error), expected, None))
        except (FileNotFoundError, ValueError) as error:
            items.append(Item(name, f"cannot be used: {error}", expected, False))
            there += 1
        else:
            there += 1
            items.append(_item(name, utterances, ledger, size.utterances, expected))
    if not there:
        items.append(Item("sets", "none", f"one of {', '.join(sets)}", False))
    return items


def _item(
    name: str, utterances: list[Utterance], ledger: Ledger, published: int | None, expected: str
) -> Item:
    for utterance in utterances:
        if not utterance.audio.is_file():
            ledger.skip(utterance.where, utterance.id, "no audio", str(utterance.audio))
    kept = len(utterances) - ledger.counts().get("no audio", 0)
    found = f"{kept:,} utterances"
    for what, counts in (("left out", ledger.counts()), ("noted", ledger.note_counts())):
        if counts:
            found += f"; {what}: " + ", ".join(f"{reason} {n}" for reason, n in counts.items())
    ok = None if published is None else kept == published
    return Item(name, found, expected, ok if kept else False)
