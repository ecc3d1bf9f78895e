"""Synthetic corpora laid out on disk exactly as the real ones; all text and speech is invented.

Each module has `make(root, utterances=..., seed=0) -> Layout`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_blora.data.records import Corpus, Ledger, Utterance

SETS = ("train", "dev", "test")


@dataclass(frozen=True)
class Layout:
    """What was laid out, and what its reader must find there."""

    root: Path  # what a user would give
    texts: Mapping[str, Mapping[str, str]]  # set -> id -> text
    languages: Mapping[str, Mapping[str, str]]  # set -> id -> Whisper's code
    skips: Mapping[str, int] = field(default_factory=dict)  # reason -> how often
    options: Mapping[str, str] = field(default_factory=dict)  # for `Corpus.read`

    def ids(self, name: str) -> list[str]:
        """The ids of a set, sorted."""
        return sorted(self.texts[name])


def read(
    corpus: Corpus, layout: Layout, **options: str
) -> tuple[Mapping[str, Sequence[Utterance]], Ledger]:
    """What the reader makes of all that was laid out, and what it left out."""
    ledger, root = Ledger(), corpus.find(layout.root)
    return corpus.read(root, list(layout.texts), ledger, {**layout.options, **options}), ledger
