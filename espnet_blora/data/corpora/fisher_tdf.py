"""LDC's TDF transcripts: one segment a line, fields with TABs between them.

The first line declares the fields, lines that hold `;;MM` are comments. What other corpora point
at is the number of a *data* line: from 1, when the declaration and every comment are taken out and
nothing else is. So no line is ever dropped or moved here, not even an empty one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.corpora.tables import lines

FIELDS = (
    "file channel start end speaker speakerType speakerDialect transcript section turn segment "
    "sectionType suType"
).split()
LEAST = 11  # the last two are mostly empty, and some tools strip them
_DECLARES = "file;unicode"
_COMMENT = ";;MM"


class Segment(NamedTuple):
    """One data line: times in seconds, the channel counted from 0, the transcript as it is."""

    file: str
    channel: int
    start: float
    end: float
    speaker: str
    transcript: str
    where: str


def is_data(line: str) -> bool:
    """Whether a line counts: it is no comment and not the declaration of the fields."""
    return _COMMENT not in line and _DECLARES not in line


def parse(line: str, where: str) -> Segment:
    """Read one data line.

    Raises: ValueError beginning with `where` for too few or too many fields, a channel that is
    not 0, 1, ..., or times that are no numbers or below 0. An end before the start is no error.
    """
    fields = line.split("\t")
    if not LEAST <= len(fields) <= len(FIELDS):
        raise ValueError(
            f"{where}: {len(fields)} fields, expected {len(FIELDS)} ({', '.join(FIELDS)}), or "
            f"{LEAST} where empty ones at the end were stripped; is the file damaged?"
        )
    file, channel, start, end, speaker, _, _, transcript = (field.strip() for field in fields[:8])
    if not (channel.isascii() and channel.isdigit() and len(channel) < 4):
        raise ValueError(f"{where}: channel {channel!r}; expected 0 or 1")
    return Segment(
        file, int(channel), _seconds(start, where), _seconds(end, where), speaker, transcript, where
    )


def _seconds(field: str, where: str) -> float:
    try:
        value = float(field)
    except ValueError as error:
        raise ValueError(f"{where}: time {field!r}; expected seconds") from error
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{where}: time {field!r}; expected seconds from 0")
    return value


def read(path: Path) -> list[Segment | None]:
    """Read a transcript: data line `n` is at index `n - 1`, None where it is blank.

    Raises: FileNotFoundError; ValueError naming file and line.
    """
    return [
        parse(line, f"{path}:{number}") if line.strip() else None
        for number, line in lines(path)
        if is_data(line)
    ]


def join(segments: Iterable[Segment]) -> str:
    """The transcripts of an utterance's segments as one, marks and all."""
    return " ".join(segment.transcript for segment in segments)
