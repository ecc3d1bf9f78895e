"""Error counts that add up, and the file they are kept in.

How they are counted, and what the rates mean: :mod:`espnet_blora.scoring.errors`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from espnet_blora.scoring.bootstrap import Interval, interval

HAN_KANA, REST = "han_kana", "rest"
HAN_KANA_SCRIPTS = ("Han", "Hiragana", "Katakana")
FORMAT = "espnet_blora.score/1"


@dataclass(frozen=True)
class Counts:
    """Token counts of an alignment; they add up with ``+`` and ``sum(..., Counts())``.

    Attributes:
        hits, substitutions, deletions, insertions: tokens (insertions are hypothesis tokens).
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
        """Errors over reference tokens; None where there is no reference token (never 0 or 1 by
        decree)."""
        return self.errors / self.tokens if self.tokens else None

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True)
class Utterance:
    """Errors and reference tokens of one utterance: what intervals and paired comparisons need."""

    id: str
    errors: int
    tokens: int


@dataclass(frozen=True)
class SetScore:
    """Counts of a set of utterances. Sets scored alike add up with ``+``.

    Attributes:
        unit: ``mer``, ``wer`` or ``cer``.
        normalisation: the name of the treatment of both sides.
        total: counts over all utterances.
        by_script: counts by script of the token.
        pier: counts at the points of interest; ``pier.rate`` is the PIER.
        poi: which tokens are points of interest.
        utterances: errors and tokens by utterance, sorted by id.
        wrong_utterances: utterances with at least one error.
        empty_references: ids whose reference holds no token: everything heard there is an
            insertion.
        empty_hypotheses: ids whose hypothesis holds no token though the reference does.
        missing_as_empty: ids without hypothesis that were, on request, counted as empty ones.
    """

    unit: str
    normalisation: str
    total: Counts = Counts()
    by_script: dict[str, Counts] = field(default_factory=dict)
    pier: Counts = Counts()
    poi: str = REST
    utterances: tuple[Utterance, ...] = ()
    wrong_utterances: int = 0
    empty_references: tuple[str, ...] = ()
    empty_hypotheses: tuple[str, ...] = ()
    missing_as_empty: tuple[str, ...] = ()

    @property
    def rate(self) -> float | None:
        """The set's error rate in its unit; None without reference tokens."""
        return self.total.rate

    @property
    def han_kana(self) -> Counts:
        """Counts on the Han and Kana side; in unit ``mer`` its rate is a character error rate."""
        return sum((c for s, c in self.by_script.items() if s in HAN_KANA_SCRIPTS), Counts())

    @property
    def rest(self) -> Counts:
        """Counts on everything else; in unit ``mer`` its rate is a word error rate."""
        return sum((c for s, c in self.by_script.items() if s not in HAN_KANA_SCRIPTS), Counts())

    def interval(self, samples: int = 1000, seed: int = 0) -> Interval | None:
        """Return the 95 % bootstrap interval of the rate over utterances (None: fewer than two)."""
        return interval(
            [u.errors for u in self.utterances],
            [u.tokens for u in self.utterances],
            samples=samples,
            seed=seed,
        )

    def __add__(self, other: SetScore) -> SetScore:
        if not isinstance(other, SetScore):
            return NotImplemented
        for name in ("unit", "normalisation", "poi"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(
                    f"scores of different {name} do not add up: {mine!r} and {theirs!r}"
                )
        both = {u.id for u in self.utterances} & {u.id for u in other.utterances}
        if both:
            raise ValueError(f"scores share utterances and do not add up: {some(both)}")
        scripts = self.by_script.keys() | other.by_script.keys()
        return SetScore(
            unit=self.unit,
            normalisation=self.normalisation,
            total=self.total + other.total,
            by_script={
                s: self.by_script.get(s, Counts()) + other.by_script.get(s, Counts())
                for s in sorted(scripts)
            },
            pier=self.pier + other.pier,
            poi=self.poi,
            utterances=tuple(sorted(self.utterances + other.utterances, key=lambda u: u.id)),
            wrong_utterances=self.wrong_utterances + other.wrong_utterances,
            empty_references=tuple(sorted(self.empty_references + other.empty_references)),
            empty_hypotheses=tuple(sorted(self.empty_hypotheses + other.empty_hypotheses)),
            missing_as_empty=tuple(sorted(self.missing_as_empty + other.missing_as_empty)),
        )

    def summary(self) -> dict:
        """Return the counts alone, flat and small: a row of a sweep (``{"scale": ..., "set": ...,
        **row}``)."""
        return {
            "unit": self.unit,
            "normalisation": self.normalisation,
            "num_utterances": len(self.utterances),
            "wrong_utterances": self.wrong_utterances,
            **asdict(self.total),
            "errors": self.total.errors,
            "tokens": self.total.tokens,
            "rate": self.rate,
        }

    def save(self, path: str | Path, **extra: object) -> None:
        """Write the score as JSON (whole or not at all); ``extra`` goes in as it is (paths,
        settings)."""
        path = Path(path)
        found = self.interval()
        document = {
            "format": FORMAT,
            **self.summary(),
            "interval_95": asdict(found) if found else None,
            "by_script": {s: _with_rate(c) for s, c in self.by_script.items()},
            "cer_han_kana": _with_rate(self.han_kana),
            "wer_rest": _with_rate(self.rest),
            "pier": {"points_of_interest": self.poi, **_with_rate(self.pier)},
            "empty_references": list(self.empty_references),
            "empty_hypotheses": list(self.empty_hypotheses),
            "missing_as_empty": list(self.missing_as_empty),
            **extra,
            "utterances": [[u.id, u.errors, u.tokens] for u in self.utterances],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            text = json.dumps(document, ensure_ascii=False, indent=1)
            part.write_text(text + "\n", encoding="utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> SetScore:
        """Read what :meth:`save` wrote.

        Raises: FileNotFoundError; ValueError for anything else, or for totals that contradict the
            utterances.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such file; write it with python -m espnet_blora.bin.score"
            )
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}, expected {FORMAT!r}")
            loaded = cls(
                unit=document["unit"],
                normalisation=document["normalisation"],
                total=_counts(document),
                by_script={s: _counts(c) for s, c in document["by_script"].items()},
                pier=_counts(document["pier"]),
                poi=document["pier"]["points_of_interest"],
                utterances=tuple(Utterance(*row) for row in document["utterances"]),
                wrong_utterances=document["wrong_utterances"],
                empty_references=tuple(document["empty_references"]),
                empty_hypotheses=tuple(document["empty_hypotheses"]),
                missing_as_empty=tuple(document["missing_as_empty"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: not a score of this project ({error!r}); write it anew with "
                "python -m espnet_blora.bin.score"
            ) from error
        sums = sum(u.errors for u in loaded.utterances), sum(u.tokens for u in loaded.utterances)
        if sums != (loaded.total.errors, loaded.total.tokens):
            raise ValueError(
                f"{path}: its utterances add up to {sums[0]} errors in {sums[1]} tokens, "
                f"its total says {loaded.total.errors} in {loaded.total.tokens}; score anew"
            )
        return loaded


def _counts(document: Mapping[str, int]) -> Counts:
    names = ("hits", "substitutions", "deletions", "insertions")
    values = [document[name] for name in names]
    if not all(isinstance(value, int) and value >= 0 for value in values):
        raise ValueError(
            f"counts must be whole numbers >= 0, found {dict(zip(names, values, strict=True))}"
        )
    return Counts(*values)


def _with_rate(counts: Counts) -> dict:
    return {**asdict(counts), "tokens": counts.tokens, "rate": counts.rate}


def some(ids: Iterable[str], limit: int = 5) -> str:
    """Write ids for a message: the first few, and how many there are."""
    ids = sorted(ids)
    return ", ".join(ids[:limit]) + (f", ... ({len(ids)} in all)" if len(ids) > limit else "")
