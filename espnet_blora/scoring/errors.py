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

from collections.abc import Callable, Mapping

from rapidfuzz.distance import Levenshtein

from espnet_blora.scoring.counts import (
    HAN_KANA,
    HAN_KANA_SCRIPTS,
    REST,
    Counts,
    SetScore,
    Utterance,
    some,
)
from espnet_blora.text import characters, mixed_tokens, script_of_token, words
from espnet_blora.text.normalise import NORMALISATIONS, get_normalisation

UNITS: dict[str, Callable[[str], list[str]]] = {
    "mer": mixed_tokens,  # Han and Kana by character, other scripts by word
    "wer": words,  # by white space only
    "cer": characters,  # by character, white space not counted
}


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
            f"{len(missing)} of {len(ref)} references have no hypothesis: {some(missing)}"
        )
    if extra:
        problems.append(f"{len(extra)} hypotheses have no reference: {some(extra)}")
    if problems:
        folded = {key.casefold() for key in extra}
        near = [key for key in missing if key.casefold() in folded]
        if near:
            problems.append(f"ids that differ by case only: {some(near)}")
        if missing and not missing_as_empty:
            problems.append("decode them, or ask for missing hypotheses to be counted as empty")
        raise ValueError("; ".join(problems))
    return missing


def _points(poi: str) -> Callable[[str], bool]:
    if poi == HAN_KANA:
        return lambda script: script in HAN_KANA_SCRIPTS
    if poi == REST:
        return lambda script: script not in HAN_KANA_SCRIPTS
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
