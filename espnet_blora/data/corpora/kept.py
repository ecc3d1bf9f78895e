"""Which utterances a corpus's reader may keep."""

from __future__ import annotations

from espnet_blora.data.records import Ledger, Utterance


def keep(utterance: Utterance, ledger: Ledger) -> list[Utterance]:
    """Return the utterance alone, or nothing if it has no text or no time, which is listed.

    Whether its audio is there and can be read is found out, and reported, when it is cut.
    """
    start, end = utterance.start or 0.0, utterance.end
    if not utterance.text:
        ledger.skip(utterance.where, utterance.id, "empty text")
    elif end is not None and end <= start:
        ledger.skip(utterance.where, utterance.id, "no time", f"{start:g} to {end:g} s")
    else:
        return [utterance]
    return []
