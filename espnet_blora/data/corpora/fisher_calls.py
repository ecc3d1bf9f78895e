"""Fisher Spanish on disk: calls, their transcripts and recordings, and who speaks on which side.

Audio (LDC2010S01) and transcripts (LDC2010T04) are two packages side by side. Recipes want both
discs of the audio merged into `data/speech`; here they may also lie apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.corpora import fisher_tdf
from espnet_blora.data.corpora.files import by_stem
from espnet_blora.data.corpora.fisher_split import Line
from espnet_blora.data.corpora.letters import speaker_name
from espnet_blora.data.corpora.tables import lines
from espnet_blora.data.records import Ledger

_SPEECH = "[Ll][Dd][Cc]2010[Ss]01*"
_TEXT = "[Ll][Dd][Cc]2010[Tt]04*"
_DEPTHS = ("", "*/", "*/*/")  # the package itself, fisher_spa_tr or DISC1, a disc in a folder
_SIDES = "AB"


def _folders(root: Path, package: str, inside: str) -> list[Path]:
    return [
        path
        for depth in _DEPTHS
        for path in sorted(root.glob(f"{package}/{depth}{inside}"))
        if path.is_dir()
    ]


def find(root: Path) -> Path:
    """The folder that holds LDC2010S01 and LDC2010T04: `root`, or its parent if it is one.

    Raises: FileNotFoundError naming the folders that were looked for.
    """
    for folder in (root, root.resolve().parent):
        if _folders(folder, _SPEECH, "data/speech") and _folders(folder, _TEXT, "data/transcripts"):
            return folder
    raise FileNotFoundError(
        f"{root}: no Fisher Spanish there; looked for LDC2010S01/data/speech (or "
        "LDC2010S01/DISC1/data/speech and so on) and LDC2010T04/data/transcripts (or "
        "LDC2010T04/fisher_spa_tr/data/transcripts). Give the folder that holds both packages"
    )


class Joined(NamedTuple):
    """An utterance of a mapping file: its segments as one.

    The channel (from 0) is the first segment's, times run from the first one's start to the last
    one's end, whatever lies between; `sides` is how many channels the segments are of.
    """

    channel: int
    start: float
    end: float
    texts: tuple[str, ...]
    where: str
    sides: int


class Calls:
    """All calls of a copy, by their stem (`20990101_000000_999_fsp`)."""

    def __init__(self, root: Path, ledger: Ledger):
        self._folders = _folders(root, _SPEECH, "data/speech")
        self.transcripts = by_stem(_folders(root, _TEXT, "data/transcripts"), (".tdf",))
        self.speech = by_stem(self._folders, (".sph", ".wav", ".flac"))
        tables = [
            path
            for package in (_TEXT, _SPEECH)
            for folder in (*_folders(root, package, "doc"), *_folders(root, package, "docs"))
            for path in sorted(folder.glob("*call.tbl"))
        ]
        self._pins = _read_pins(tables, ledger)
        self._read: tuple[Path, list[fisher_tdf.Segment | None]] | None = None

    def audio(self, call: str) -> Path:
        """The recording of a call, or where it ought to be."""
        return self.speech.get(call) or self._folders[0] / f"{call}.sph"

    def speaker(self, call: str, channel: int) -> str:
        """The PIN of who speaks on a side, where the call table has it; else call and side."""
        number = _call_number(call)
        pin = self._pins.get((number, channel), "") if number is not None else ""
        side = _SIDES[channel] if channel < len(_SIDES) else str(channel)
        return speaker_name(pin) if pin else speaker_name(call, side)

    def join(self, line: Line) -> Joined | None:
        """Join the segments of a mapping line; None where the call has no transcript here.

        Raises: ValueError with file and line for a number the transcript does not have.
        """
        path = self.transcripts.get(line.call)
        if path is None:
            return None
        if self._read is None or self._read[0] != path:  # lines of a call stand together
            self._read = (path, fisher_tdf.read(path))
        data = self._read[1]
        segments = []
        for number in line.numbers:
            segment = data[number - 1] if number <= len(data) else None
            if segment is None:
                what = "is blank" if number <= len(data) else f"is not there; it has {len(data)}"
                raise ValueError(
                    f"{line.where}: data line {number} of {path} {what}; are the transcripts "
                    "those of LDC2010T04, unchanged?"
                )
            segments.append(segment)
        first, last = segments[0], segments[-1]
        return Joined(
            first.channel,
            first.start,
            last.end,
            tuple(segment.transcript for segment in segments),
            first.where,
            len({segment.channel for segment in segments}),
        )


def _call_number(call: str) -> int | None:
    """999 of `20990101_000000_999_fsp`."""
    parts = call.split("_")
    return int(parts[2]) if len(parts) > 2 and re.fullmatch(r"[0-9]{1,9}", parts[2]) else None


def _read_pins(tables: Iterable[Path], ledger: Ledger) -> dict[tuple[int, int], str]:
    """(call number, channel) -> PIN, from comma-separated lines below a header."""
    pins: dict[tuple[int, int], str] = {}
    for path in tables:
        for number, line in lines(path):
            fields = [field.strip() for field in line.split(",")]
            if number == 1 or not any(fields):
                continue
            if len(fields) < 9 or not re.fullmatch(r"[0-9]{1,9}", fields[0]):
                ledger.note(f"{path}:{number}", fields[0], "line of the call table not understood")
                continue
            for channel, field in enumerate((fields[2], fields[8])):
                if field:
                    pins[int(fields[0]), channel] = field
    return pins
