"""Records of this room: utterances, the ledger of what was left out, and corpora.

A corpus module reads transcripts into `Utterance` records; of audio it opens headers at most.
`espnet_blora.data.prepare` cuts the audio and writes Kaldi directories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from espnet_blora.utils import atomic


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance of a corpus, before its audio has been looked at.

    Attributes:
        id: Unique in its set; ASCII without blanks or parentheses; starts with `speaker-`, so
            that sorting by id sorts by speaker, as Kaldi needs it.
        speaker: Who speaks.
        language: Whisper's code for the prompt (`"zh"`).
        text: The reference, cleaned of the corpus's marks, as Whisper writes it.
        audio: The source recording.
        start: Seconds in the recording; None, as `end`, means all of it.
        end: As `start`.
        channel: From 0; None means the mean over channels.
        where: `"file:line"` of the transcript.
    """

    id: str
    speaker: str
    language: str
    text: str
    audio: Path
    start: float | None = None
    end: float | None = None
    channel: int | None = None
    where: str = ""


class Entry(NamedTuple):
    """One line of a ledger."""

    where: str
    id: str
    kind: str  # "skip" or "note"
    reason: str
    detail: str


class Ledger:
    """What was left out (`skips`) or kept although odd (`notes`); nothing goes without a trace."""

    def __init__(self) -> None:
        self.skips: list[Entry] = []
        self.notes: list[Entry] = []
        self.missing: Counter[str] = Counter()  # set -> utterances without audio that are not read

    def skip(self, where: str, id: str, reason: str, detail: str = "") -> None:
        """Record that something was left out; `reason` is a short fixed phrase ("no audio")."""
        self.skips.append(Entry(where, id, "skip", reason, detail))

    def note(self, where: str, id: str, what: str, detail: str = "") -> None:
        """Record something odd that was kept ("malformed bracket repaired")."""
        self.notes.append(Entry(where, id, "note", what, detail))

    def counts(self) -> dict[str, int]:
        """Return how often each reason of a skip occurred, by reason."""
        return dict(sorted(Counter(entry.reason for entry in self.skips).items()))

    def note_counts(self) -> dict[str, int]:
        """Return how often each kind of note occurred."""
        return dict(sorted(Counter(entry.reason for entry in self.notes).items()))

    def write(self, path: str | Path) -> None:
        """Write skips and notes, as `write_entries` does."""
        write_entries(path, self.skips + self.notes)


def write_entries(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write sorted lines `where, id, kind, reason, detail` with TABs between them.

    TABs, line breaks and control characters inside a field become blanks; lone surrogates are
    written with `backslashreplace`.
    """
    lines = sorted(
        "\t".join(" ".join("".join(map(_visible, f)).split()) for f in entry) for entry in entries
    )
    text = "".join(f"{line}\n" for line in lines)
    atomic.write(path, text.encode("utf-8", "backslashreplace"))


def _visible(char: str) -> str:
    return " " if ord(char) < 32 or ord(char) == 127 else char


@dataclass(frozen=True)
class Expected:
    """The published size of a set and where it was published; None where nothing was published."""

    utterances: int | None = None
    hours: float | None = None
    source: str = ""

    def __str__(self) -> str:
        """Return the sizes for a person: `"3,296 utterances, 2.82 h"`."""
        sizes = [] if self.utterances is None else [f"{self.utterances:,} utterances"]
        sizes += [] if self.hours is None else [f"{self.hours:g} h"]
        return ", ".join(sizes)


@dataclass(frozen=True)
class Item:
    """One line of `check_corpus`; `ok` is None where there is no expectation."""

    what: str
    found: str
    expected: str
    ok: bool | None


@dataclass(frozen=True)
class Corpus:
    """One corpus: what it is, and the functions that find, read and inspect a copy of it.

    Attributes:
        name: Such as `"seame"`.
        title: One line with catalogue number, languages, place.
        variable: Its name in `db.sh` and the environment (`"SEAME"`).
        licence: One line.
        obtain: One line: where to get it.
        sets: All sets that it can give, with their published sizes.
        languages: Whisper's codes that its utterances may have; empty for any.
        find: The user's path -> the folder that `read` takes. FileNotFoundError lists what was
            looked for.
        read: (folder, names out of `sets`, ledger, options) -> set -> utterances. The same files
            give the same records in the same order, whatever the order of directory listings.
        inspect: (folder, options) -> lines for `check_corpus`; opens headers at most. None: what
            `common.inspect_sets` finds by `read`.
        options: Option name -> help; users give them as KEY=VALUE.
    """

    name: str
    title: str
    variable: str
    licence: str
    obtain: str
    sets: Mapping[str, Expected]
    languages: tuple[str, ...]
    find: Callable[[Path], Path]
    read: Callable[[Path, Sequence[str], Ledger, Mapping[str, str]], dict[str, list[Utterance]]]
    inspect: Callable[[Path, Mapping[str, str]], list[Item]] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
