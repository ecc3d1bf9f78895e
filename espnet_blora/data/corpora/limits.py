"""Limits that a user puts on a corpus: the length of an utterance, the hours of a set."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from espnet_blora.data import audio
from espnet_blora.data.records import Ledger, Utterance

log = logging.getLogger(__name__)


def positive(options: Mapping[str, str], name: str) -> float | None:
    """The value of an option that is a number above 0, None where it was not given.

    Raises: ValueError for anything else.
    """
    if name not in options:
        return None
    try:
        value = float(options[name])
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"option {name}={options[name]!r}; expected a number above 0, as 0.5")
    return value


def order(name: str) -> bytes:
    """A place in a fixed order that looks random, by the SHA-256 of a file's name."""
    return hashlib.sha256(name.encode()).digest()


def header_seconds(path: Path) -> float | None:
    """How long a recording lasts by its header, None where that cannot be read."""
    try:
        return audio.duration(path)
    except (FileNotFoundError, ValueError):
        return None  # whoever cuts the audio will say what is wrong with it


def drop_long(
    utterances: Sequence[Utterance],
    longest: float | None,
    ledger: Ledger,
    seconds_of: Callable[[Path], float | None] = header_seconds,
) -> list[Utterance]:
    """Return the utterances that last at most `longest` seconds; the others are listed.

    Those whose length nobody can tell are kept.
    """
    if longest is None:
        return list(utterances)
    kept = []
    for utterance in utterances:
        seconds = seconds_of(utterance.audio)
        if seconds is not None and seconds > longest:
            reason = f"longer than {longest:g} s"
            ledger.skip(utterance.where, utterance.id, reason, f"{seconds:.2f} s")
        else:
            kept.append(utterance)
    return kept


def draw_hours(
    utterances: Sequence[Utterance], hours: float | None, where: str, ledger: Ledger
) -> list[Utterance]:
    """Return utterances of about `hours` hours, in the order of `order` of their files.

    The first one that exceeds the limit is still taken; a smaller part is the beginning of a larger
    one. All are returned, as they are, where there are no more. Those not drawn are counted
    in one note: they are not lost but not asked for.
    """
    if hours is None:
        return list(utterances)
    drawn, total = [], 0.0
    for utterance in sorted(utterances, key=lambda u: order(u.audio.name)):
        if total > hours * 3600:
            break
        total += header_seconds(utterance.audio) or 0.0
        drawn.append(utterance)
    if len(drawn) == len(utterances):
        return list(utterances)
    what = f"{len(drawn)} of {len(utterances)} utterances were drawn for {hours:g} h"
    log.info(f"{where}: {what}, by the SHA-256 of their files' names")
    ledger.note(where, "", "a part was drawn", what)
    return drawn
