"""Error counts of tokens and of utterances, which add up.

How they are counted, and what the rates mean: `espnet_blora.scoring.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache

HAN_KANA, REST = "han_kana", "rest"
HAN_KANA_SCRIPTS = ("Han", "Hiragana", "Katakana")


@dataclass(frozen=True, slots=True)
class Counts:
    """Token counts of an alignment; they add up with `+` and `sum(..., Counts())`.

    Attributes:
        hits: Tokens recognised right, H.
        substitutions: Tokens recognised as others, S.
        deletions: Reference tokens that are missing, D.
        insertions: Hypothesis tokens that nobody said, I.
    """

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def tokens(self) -> int:
        """Reference tokens, H + S + D."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Errors, S + D + I."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors over reference tokens; None where there is no reference token."""
        return self.errors / self.tokens if self.tokens else None

    def __add__(self, other: Counts) -> Counts:
        return add_up((self, other))


# Few different counts occur among many utterances: equal ones are one object.
shared_counts = lru_cache(maxsize=65536)(Counts)


@dataclass(frozen=True, slots=True)
class Utterance:
    """Counts of one utterance, of which totals, groups, intervals and comparisons are made.

    Attributes:
        id: The utterance's id.
        counts: Over all tokens.
        pier: At the points of interest; all zero for an utterance that is not code-switched.
        scripts: (script, counts) pairs sorted by script; they add up to `counts`.
        speaker: Who speaks; empty where that is unknown.
        pier_range: Fewest and most errors at the points over all shortest alignments; None where
            all have as many.
    """

    id: str
    counts: Counts
    pier: Counts = Counts()
    scripts: tuple[tuple[str, Counts], ...] = ()
    speaker: str = ""
    pier_range: tuple[int, int] | None = None

    @property
    def errors(self) -> int:
        """Errors, S + D + I."""
        return self.counts.errors

    @property
    def tokens(self) -> int:
        """Reference tokens, H + S + D."""
        return self.counts.tokens


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """Something odd in the texts that was counted all the same.

    Attributes:
        kind: A key of `diagnostics.REMARKS`, which says how such a thing counts.
        side: `reference` or `hypothesis`.
        id: The utterance's id.
        where: `file:line`; empty where the texts came from no file.
        what: The odd thing itself; may be empty.
    """

    kind: str
    side: str
    id: str
    where: str = ""
    what: str = ""

    def __str__(self) -> str:
        place = f"{self.where} ({self.id})" if self.where else f"{self.side} {self.id}"
        return f"{place}: {self.what}" if self.what else place


def add_up(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts."""
    hits = substitutions = deletions = insertions = 0
    for c in counts:
        hits += c.hits
        substitutions += c.substitutions
        deletions += c.deletions
        insertions += c.insertions
    return Counts(hits, substitutions, deletions, insertions)


def with_rate(counts: Counts) -> dict:
    """Return counts as a JSON object with their tokens and rate."""
    return {**asdict(counts), "tokens": counts.tokens, "rate": counts.rate}
