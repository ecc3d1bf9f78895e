"""What a preparation found and wrote, beside what was published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_blora.data.records import Expected


@dataclass(frozen=True)
class SetSummary:
    """What became of one set; `left_out` and `notes` count reasons of its own audio and text.

    `unchanged` says that all was there already and nothing was done.
    """

    name: str
    directory: Path
    utterances: int
    seconds: float
    expected: Expected
    left_out: Mapping[str, int]
    notes: Mapping[str, int]
    unchanged: bool

    def lines(self) -> list[str]:
        """Found against expected, then what was left out, for a person."""
        counts = f"{self.utterances:,} utterances, {self.seconds / 3600:.2f} h"
        known = [
            f"{self.expected.utterances:,} utterances" if self.expected.utterances else "",
            f"{self.expected.hours:g} h" if self.expected.hours else "",
        ]
        if wanted := ", ".join(filter(None, known)):
            source = f", {self.expected.source}" if self.expected.source else ""
            counts += f" (published: {wanted}{source})"
        lines = [f"{self.directory}: {counts}{'; unchanged' if self.unchanged else ''}"]
        if self.expected.utterances not in (None, self.utterances):
            lines.append(f"  differs by {self.utterances - self.expected.utterances:+,} utterances")
        lines += [f"  left out, {reason}: {n:,}" for reason, n in self.left_out.items()]
        lines += [f"  kept, {what}: {n:,}" for what, n in self.notes.items()]
        return lines


@dataclass(frozen=True)
class Summary:
    """What `prepare` did; `left_out` and `notes` count what the corpus's reader reported."""

    corpus: str
    root: Path
    sets: tuple[SetSummary, ...]
    left_out: Mapping[str, int]
    notes: Mapping[str, int]

    def lines(self) -> list[str]:
        """The report of the program, line by line."""
        lines = [f"{self.corpus}: read from {self.root}"]
        lines += [f"  left out in reading, {reason}: {n:,}" for reason, n in self.left_out.items()]
        lines += [f"  kept in reading, {what}: {n:,}" for what, n in self.notes.items()]
        for one in self.sets:
            lines += one.lines()
        if self.left_out or self.notes or any(one.left_out or one.notes for one in self.sets):
            places = ", ".join(str(one.directory / "left_out.tsv") for one in self.sets)
            lines.append(f"each of these is named in {places}")
        return lines
