r"""Error counts of a set of utterances, paired by utterance id.

For one utterance, reference and hypothesis become tokens (see ``UNITS``) after the same
normalisation, and a Levenshtein alignment (costs 1/1/1, the engine of ``jiwer``) gives hits H,
substitutions S, deletions D and insertions I. Over any collection of utterances

.. math:: E = \frac{S + D + I}{H + S + D}

(errors over reference tokens, not a mean of the utterances' rates). The total of errors is unique;
how it is split into S, D and I is that of one optimal alignment.

**By script**: S and D count under the script of the reference token, I under that of the hypothesis
token, so the scripts' counts add up to the total. The rate of Han + Kana is a CER, that of the rest
a WER. (Aligning each language apart, as some recipes do, gives other figures.)

**PIER**, point-of-interest error rate: errors at the points of interest over the number of points
of interest, :math:`|A_I| / |I|`, counted on utterances that hold both points and other tokens (the
code-switched ones). The points are the words of the embedded language: here every reference token
not written in Han or Kana (``poi = "rest"``, for Mandarin-English and the like), every one that is
(``"han_kana"``), or those of one named script. S and D count where the reference token is a point;
an insertion where the reference token it stands before is one (after the last token: where the last
one is). Source: Ugan, Pham, Baermann, Waibel, "PIER: A Novel Metric for Evaluating What Matters in
Code-Switching", ICASSP 2025, arXiv 2501.09512, and its public program.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from espnet_blora.scoring.bootstrap import Interval, interval
from espnet_blora.text import characters, mixed_tokens, script_of_token, words
from espnet_blora.text.normalise import NORMALISATIONS, get_normalisation

UNITS: dict[str, Callable[[str], list[str]]] = {
    "mer": mixed_tokens,  # Han and Kana by character, other scripts by word
    "wer": words,  # by white space only
    "cer": characters,  # by character, white space not counted
}
HAN_KANA, REST = "han_kana", "rest"
_HAN_KANA_SCRIPTS = ("Han", "Hiragana", "Katakana")
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
        return sum((c for s, c in self.by_script.items() if s in _HAN_KANA_SCRIPTS), Counts())

    @property
    def rest(self) -> Counts:
        """Counts on everything else; in unit ``mer`` its rate is a word error rate."""
        return sum((c for s, c in self.by_script.items() if s not in _HAN_KANA_SCRIPTS), Counts())

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
            raise ValueError(f"scores share utterances and do not add up: {_some(both)}")
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


def align(ref: list[str], hyp: list[str]) -> list[tuple[str, str | None, str | None]]:
    """Return one optimal alignment as ``(operation, reference token or None, hypothesis token or
    None)``.

    Operations: ``hit``, ``sub``, ``del``, ``ins``, in order.
    """
    rows: list[tuple[str, str | None, str | None]] = []
    for tag, i1, i2, j1, j2 in Levenshtein.opcodes(*_numbered(ref, hyp)):
        if tag == "delete":
            rows += [("del", token, None) for token in ref[i1:i2]]
        elif tag == "insert":
            rows += [("ins", None, token) for token in hyp[j1:j2]]
        else:
            name = "hit" if tag == "equal" else "sub"
            rows += [(name, a, b) for a, b in zip(ref[i1:i2], hyp[j1:j2], strict=True)]
    return rows


def score(
    ref: Mapping[str, str],
    hyp: Mapping[str, str],
    unit: str = "mer",
    normalisation: str = "basic",
    *,
    poi: str = REST,
    missing_as_empty: bool = False,
) -> SetScore:
    """Score hypotheses against references, paired by utterance id.

    Args:
        ref: id -> reference text.
        hyp: id -> hypothesis text.
        unit: a key of ``UNITS``.
        normalisation: a key of ``text.normalise.NORMALISATIONS``.
        poi: ``"rest"``, ``"han_kana"`` or the name of a script (module docstring, PIER).
        missing_as_empty: count a missing hypothesis as an empty one (all deletions); the score
            names them.

    Raises: ValueError for an unknown unit or normalisation, no reference at all, references without
        hypothesis, hypotheses without reference; ids are named.
    """
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r} is unknown; there are: {', '.join(UNITS)}")
    treat, tokenise = get_normalisation(normalisation), UNITS[unit]
    missing = check_ids(ref, hyp, missing_as_empty=missing_as_empty)
    total, pier, wrong = Counts(), Counts(), 0
    by_script: dict[str, list[int]] = {}
    utterances, empty_references, empty_hypotheses = [], [], []
    is_point = _points(poi)
    for key in sorted(ref):
        left = tokenise(treat(ref[key]))
        right = tokenise(treat(hyp.get(key, "")))
        counts = _count(left, right, by_script)
        points = [is_point(script_of_token(token)) for token in left]
        if any(points) and not all(points):
            pier += _count_at(left, right, points)
        total += counts
        wrong += counts.errors > 0
        utterances.append(Utterance(key, counts.errors, counts.tokens))
        if not left:
            empty_references.append(key)
        elif not right:
            empty_hypotheses.append(key)
    return SetScore(
        unit=unit,
        normalisation=normalisation,
        total=total,
        by_script={script: Counts(*by_script[script]) for script in sorted(by_script)},
        pier=pier,
        poi=poi,
        utterances=tuple(utterances),
        wrong_utterances=wrong,
        empty_references=tuple(empty_references),
        empty_hypotheses=tuple(empty_hypotheses),
        missing_as_empty=tuple(missing),
    )


def tokens_of(texts: Mapping[str, str], unit: str, normalisation: str) -> dict[str, list[str]]:
    """Return id -> the tokens that :func:`score` compares."""
    treat, tokenise = get_normalisation(normalisation), UNITS[unit]
    return {key: tokenise(treat(text)) for key, text in texts.items()}


def describe_normalisation(name: str) -> str:
    """Say what a normalisation does; of one that is not ours (an old file), give the name alone."""
    return NORMALISATIONS[name].describe() if name in NORMALISATIONS else name


def check_ids(
    ref: Mapping[str, str], hyp: Mapping[str, str], *, missing_as_empty: bool = False
) -> list[str]:
    """Compare the ids of both sides; return the references without hypothesis, if those are
    allowed.

    Raises: ValueError naming missing and extra ids, and near misses that differ by case only.
    """
    if not ref:
        raise ValueError("no reference utterance: there is nothing to score")
    missing = sorted(ref.keys() - hyp.keys())
    extra = sorted(hyp.keys() - ref.keys())
    problems = []
    if missing and not missing_as_empty:
        problems.append(
            f"{len(missing)} of {len(ref)} references have no hypothesis: {_some(missing)}"
        )
    if extra:
        problems.append(f"{len(extra)} hypotheses have no reference: {_some(extra)}")
    if problems:
        folded = {key.casefold() for key in extra}
        near = [key for key in missing if key.casefold() in folded]
        if near:
            problems.append(f"ids that differ by case only: {_some(near)}")
        if missing and not missing_as_empty:
            problems.append("decode them, or ask for missing hypotheses to be counted as empty")
        raise ValueError("; ".join(problems))
    return missing


def _points(poi: str) -> Callable[[str], bool]:
    if poi == HAN_KANA:
        return lambda script: script in _HAN_KANA_SCRIPTS
    if poi == REST:
        return lambda script: script not in _HAN_KANA_SCRIPTS
    return lambda script: script == poi


def _numbered(ref: list[str], hyp: list[str]) -> tuple[list[int], list[int]]:
    numbers: dict[str, int] = {}
    return (
        [numbers.setdefault(token, len(numbers)) for token in ref],
        [numbers.setdefault(token, len(numbers)) for token in hyp],
    )


_HIT, _SUB, _DEL, _INS = range(4)


def _count(ref: list[str], hyp: list[str], by_script: dict[str, list[int]]) -> Counts:
    """Count one utterance, adding to ``by_script`` (script -> [H, S, D, I])."""
    for token in ref:
        by_script.setdefault(script_of_token(token), [0, 0, 0, 0])[_HIT] += 1
    substitutions = deletions = insertions = 0
    if ref != hyp:
        for tag, i, j in Levenshtein.editops(*_numbered(ref, hyp)):
            if tag == "insert":
                insertions += 1
                by_script.setdefault(script_of_token(hyp[j]), [0, 0, 0, 0])[_INS] += 1
                continue
            row = by_script[script_of_token(ref[i])]
            row[_HIT] -= 1
            if tag == "replace":
                substitutions += 1
                row[_SUB] += 1
            else:
                deletions += 1
                row[_DEL] += 1
    return Counts(len(ref) - substitutions - deletions, substitutions, deletions, insertions)


def _count_at(ref: list[str], hyp: list[str], points: list[bool]) -> Counts:
    """Count one utterance's hits and errors at its points of interest."""
    found = {"replace": 0, "delete": 0, "insert": 0}
    for tag, i, _ in Levenshtein.editops(*_numbered(ref, hyp)):
        if points[min(i, len(points) - 1)]:
            found[tag] += 1
    hits = sum(points) - found["replace"] - found["delete"]
    return Counts(hits, found["replace"], found["delete"], found["insert"])


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


def _some(ids: Iterable[str], limit: int = 5) -> str:
    ids = sorted(ids)
    return ", ".join(ids[:limit]) + (f", ... ({len(ids)} in all)" if len(ids) > limit else "")
