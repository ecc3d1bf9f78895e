"""Joining of a speaker's consecutive segments into training utterances as long as Whisper's window.

An utterance of 4 s costs a window of 30 s. A set `<set>_join<SECONDS>` is made of the segments of
`<set>`: neighbours in one recording, of one speaker, with at most SECONDS between them and nobody
else speaking there, become one utterance, cut from the recording as one piece.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.records import Utterance
from espnet_blora.text.tokens import unspaced

LONGEST = 28.0
"""Seconds of a joined utterance: the window of 30 s with something to spare."""
MOST_TOKENS = 440
"""Of its text: Whisper has 448 positions, of which the prompt and the end take 4."""
UNKNOWN = "unknown"
"""The speaker of utterances whose speaker nobody has named."""
MAP = "joined.tsv"
_NAME = re.compile(r"(.+)_join(\d+(?:\.\d+)?)")
_TRAINING = re.compile(r"(?:^|_)train(?:_|$)")


@dataclass(frozen=True)
class Joined:
    """A set of joined utterances.

    Attributes:
        utterances: Sorted by id; those that nothing could be joined to as they were.
        parts: Id of a joined utterance -> ids of the segments that it is made of, in their order.
    """

    utterances: list[Utterance]
    parts: dict[str, list[str]]

    def lines(self) -> str:
        """Return the map's lines: an id, a TAB, the ids of its segments."""
        return "".join(f"{id}\t{' '.join(ids)}\n" for id, ids in sorted(self.parts.items()))


class _Span(NamedTuple):
    start: float
    end: float
    utterance: Utterance


def parse_name(name: str) -> tuple[str, float | None]:
    """Part the name of a set into the corpus's set and the longest gap that is joined over.

    >>> parse_name("train_join0.5"), parse_name("train")
    (('train', 0.5), ('train', None))

    Raises:
        ValueError: It is not a training set that is to be joined.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return name, None
    if not _TRAINING.search(match[1]):
        raise ValueError(f"set {name}: only training sets are joined, and {match[1]} is not one")
    return match[1], float(match[2])


def join(
    name: str,
    utterances: Sequence[Utterance],
    others: Iterable[Utterance],
    gap: float,
    count_tokens: Callable[[str], int],
) -> Joined:
    """Join what can be joined, from left to right.

    Args:
        name: Of the set, for messages.
        utterances: Of the training set.
        others: Of the corpus's other sets: what they say is never inside a joined utterance.
        gap: Seconds that may lie between two segments.
        count_tokens: Number of Whisper's tokens of a text.

    Raises:
        ValueError: The corpus has no times, or names no speaker.
    """
    if not any(u.start is not None and u.speaker != UNKNOWN for u in utterances):
        raise ValueError(
            f"set {name}: nothing can be joined, for no utterance has both a speaker and its times "
            "in a recording (the corpus has whole files; your own need segments and utt2spk)"
        )
    own = {u.id for u in utterances}
    timelines: dict[tuple[Path, int | None], list[_Span]] = defaultdict(list)
    for u in (*utterances, *(other for other in others if other.id not in own)):
        if u.start is not None and u.end is not None:
            timelines[u.audio, u.channel].append(_Span(u.start, u.end, u))
    result = [u for u in utterances if u.start is None]
    parts: dict[str, list[str]] = {}
    for timeline in timelines.values():
        for run in _runs(timeline, own, gap, count_tokens):
            result.append(_as_one(run))
            if len(run) > 1:
                parts[result[-1].id] = [u.id for u in run]
    return Joined(sorted(result, key=lambda u: u.id), parts)


def _runs(
    timeline: list[_Span], own: set[str], gap: float, count_tokens: Callable[[str], int]
) -> list[list[Utterance]]:
    """Return the segments of one recording that belong to the set, in runs to be joined."""
    runs: list[list[_Span]] = []
    before: _Span | None = None
    heard = 0.0  # until when anybody else speaks
    for span in sorted(timeline, key=lambda span: (*span[:2], span.utterance.id)):
        u, run = span.utterance, runs[-1] if runs else []
        if (
            before is not None
            and run[-1:] == [before]
            and u.id in own
            and u.speaker == before.utterance.speaker != UNKNOWN
            and 0 <= span.start - before.end <= gap
            and heard <= before.end
            and span.end - run[0].start <= LONGEST
            and count_tokens(_text([*(one.utterance for one in run), u])) <= MOST_TOKENS
        ):
            run.append(span)
        else:
            heard = max([heard, *(one.end for one in run)])
            if u.id in own:
                runs.append([span])
            else:
                heard = max(heard, span.end)
        before = span
    return [[span.utterance for span in run] for run in runs]


def _text(run: Sequence[Utterance]) -> str:
    return unspaced(" ".join(u.text for u in run))


def _as_one(run: Sequence[Utterance]) -> Utterance:
    """Return a run as one utterance; its id says of how many segments it is."""
    if len(run) == 1:
        return run[0]
    (language, _), *_ = Counter(u.language for u in run).most_common()
    return replace(
        run[0], id=f"{run[0].id}-x{len(run)}", text=_text(run), end=run[-1].end, language=language
    )
