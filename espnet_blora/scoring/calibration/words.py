r"""Recognised words with confidences, and their labels right and wrong.

A file of confidences (`words.jsonl`) has one JSON object per utterance:

.. code:: json

    {"utterance": "id", "text": "go 去", "confidence": 0.8, "total": 0.4, "data": 0.3, "model": 0.1,
     "words": [{"word": "go", "confidence": 0.9}, {"word": "去", "confidence": 0.7}]}

`confidence` is a probability of being right; `total`, `data` and `model` are the
utterance's uncertainties in nats (they may be left out of all lines). What is scored is not the
words of that file but the tokens of `text`, those the error rate is made of: one Han or Kana
character or one word of another script, after the same normalisation. A token has the confidence of
the word it is in; one made of several words has their product; a word that normalisation removes
(punctuation) has no token and is counted.

A token is *right* where one optimal alignment with the reference (the score's own) makes it a hit;
substituted and inserted tokens are wrong. **Deleted words have no confidence**: nothing stands
there to be believed or not. They are counted, and enter the error rate of the risk-coverage curve.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from espnet_blora.scoring.alignment import align
from espnet_blora.scoring.diagnostics import check_ids, place_of
from espnet_blora.scoring.modes import unit_of
from espnet_blora.text.presets import get_normalisation

UNCERTAINTIES = ("confidence", "total", "data", "model")
_SLACK = 1e-6  # single precision may leave a probability this far outside of 0 to 1


@dataclass(frozen=True, slots=True)
class Recognised:
    """One utterance as recognised.

    Attributes:
        text: As it was recognised.
        words: (word, probability that it is right), in order.
        confidence: The whole utterance's.
        uncertainty: `total`, `data`, `model` -> nats; those that the file has.
    """

    text: str
    words: tuple[tuple[str, float], ...]
    confidence: float
    uncertainty: Mapping[str, float]


class Confidences(dict[str, Recognised]):
    """Utterance id -> what was recognised, with the places of a file.

    Attributes:
        path: The file.
        lines: Id -> number of its line.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.lines: dict[str, int] = {}

    def where(self, key: str) -> str:
        """Return `file:line` of an utterance."""
        return f"{self.path}:{self.lines[key]}"


@dataclass(frozen=True, eq=False)
class LabelledTokens:
    """The tokens of a set's hypotheses, each with its confidence and whether it is right.

    Attributes:
        ids: (U,) utterances, sorted.
        owner: (W,) the utterance of each token, ascending.
        confidence: (W,) probability of being right, 0 to 1.
        right: (W,) bool.
        errors: (U,) S + D + I.
        tokens: (U,) reference tokens.
        deletions: (U,) D.
        uncertainty: Name -> (U,) the larger, the less certain; `confidence` is
            1 - the utterance's.
        unit: How both sides were cut into tokens.
        normalisation: How both sides were treated.
        removed: Words of the file of which normalisation left nothing.
    """

    ids: tuple[str, ...]
    owner: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    errors: np.ndarray
    tokens: np.ndarray
    deletions: np.ndarray
    uncertainty: Mapping[str, np.ndarray]
    unit: str = "mer"
    normalisation: str = "basic"
    removed: int = 0


def read_confidences(path: str | Path) -> Confidences:
    """Read a file of confidences.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: A line is not of the format above; file and line are named. A probability is NaN
            or outside of 0 to 1, an uncertainty that is not finite or that only some lines have,
            words that do not spell the text, an utterance twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a words.jsonl with confidences is expected")
    confidences = Confidences(path)
    try:
        for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            key, recognised = _entry(line, where)
            if key in confidences:
                raise ValueError(f"{where}: {key} stands on line {confidences.lines[key]} already")
            confidences[key], confidences.lines[key] = recognised, number
            first = next(iter(confidences))
            expected = confidences[first].uncertainty
            if expected.keys() != recognised.uncertainty.keys():
                raise ValueError(
                    f"{where}: uncertainties {sorted(recognised.uncertainty)}, but line "
                    f"{confidences.lines[first]} has {sorted(expected)}; all lines must have the "
                    "same ones"
                )
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error})") from error
    if not confidences:
        raise ValueError(f"{path}: no utterance; one JSON object per line is expected")
    return confidences


def label_tokens(
    ref: Mapping[str, str],
    hyp: Mapping[str, Recognised],
    unit: str = "mer",
    normalisation: str = "basic",
) -> LabelledTokens:
    """Align every hypothesis with its reference and label its tokens as right or wrong.

    Args:
        ref: Id -> reference text, all of whose ids `hyp` must have, and no others.
        hyp: Id -> what was recognised.
        unit: A key of `modes.UNITS`.
        normalisation: A name that `text.presets.get_normalisation` knows.

    Raises:
        ValueError: The unit or normalisation is unknown, ids do not match, or a text has tokens
            that its words do not account for (`confidences_of_tokens`).
    """
    treat, tokenise = get_normalisation(normalisation), unit_of(unit)
    check_ids(ref, hyp)
    ids = tuple(sorted(ref))
    owner: list[int] = []
    confidence: list[float] = []
    right: list[bool] = []
    counts = np.zeros((3, len(ids)), dtype=np.int64)
    removed = 0
    for place, key in enumerate(ids):
        # each token's confidence
        recognised = hyp[key]
        tokens = tokenise(treat(recognised.text))
        pieces = [tokenise(treat(word)) for word, _ in recognised.words]
        removed += sum(not piece for piece in pieces)
        try:
            confidence += confidences_of_tokens(tokens, pieces, [p for _, p in recognised.words])
        except ValueError as error:
            raise ValueError(f"{place_of(hyp, key) or key}: {error}") from error
        # whether it is right, and the utterance's counts
        expected = tokenise(treat(ref[key]))
        rows = align(expected, tokens)
        hits = [name == "hit" for name, _, heard in rows if heard is not None]
        owner += [place] * len(tokens)
        right += hits
        missed = sum(name == "del" for name, _, _ in rows)
        counts[:, place] = len(hits) - sum(hits) + missed, len(expected), missed
    return LabelledTokens(
        ids,
        np.array(owner, dtype=np.int64),
        np.array(confidence, dtype=np.float64),
        np.array(right, dtype=bool),
        counts[0],
        counts[1],
        counts[2],
        _uncertainties([hyp[key] for key in ids]),
        unit,
        treat.name,
        removed,
    )


def confidences_of_tokens(
    tokens: Sequence[str], pieces: Sequence[Sequence[str]], confidence: Sequence[float]
) -> list[float]:
    """Return the confidence of each token of a text from those of its words.

    Where the words' tokens are not the text's (a word is cut where no token ends, or normalisation
    looks across words), characters are matched, and a token has the product of the confidences of
    the words that its characters are in.

    Args:
        tokens: Those of the whole text.
        pieces: For each word of the file the tokens it gives by itself, perhaps none.
        confidence: Of each word.

    Raises:
        ValueError: There are tokens, but no word that gives any.
    """
    if [t for piece in pieces for t in piece] == list(tokens):
        return [p for piece, p in zip(pieces, confidence, strict=True) for _ in piece]
    spelt = [(c, number) for number, piece in enumerate(pieces) for c in "".join(piece)]
    if not spelt:
        raise ValueError(f"the text has tokens {list(tokens)[:5]}, its words give none")
    text = "".join(tokens)
    owners = _owners("".join(c for c, _ in spelt), text, [number for _, number in spelt])
    products, start = [], 0
    for token in tokens:
        inside = set(owners[start : start + len(token)])
        words = {number for number in inside if number >= 0} or {~number for number in inside}
        products.append(math.prod(confidence[number] for number in words))
        start += len(token)
    return products


def _owners(source: str, target: str, owner: Sequence[int]) -> list[int]:
    """Return the owner of each character of `target`, from the one of `source` it is matched with.

    A character that stands in no word has the complement (< 0) of its right neighbour's owner.
    """
    owners: list[int] = []
    last = len(source) - 1
    for op in Levenshtein.opcodes(source, target):
        length = op.dest_end - op.dest_start
        if op.tag in ("equal", "replace"):
            owners += owner[op.src_start : op.src_start + length]
        elif op.tag == "insert":
            owners += [~owner[min(op.src_start, last)]] * length
    return owners


def _uncertainties(rows: Sequence[Recognised]) -> dict[str, np.ndarray]:
    columns = {"confidence": np.array([1.0 - row.confidence for row in rows])}
    for name in UNCERTAINTIES[1:]:
        if all(name in row.uncertainty for row in rows):
            columns[name] = np.array([row.uncertainty[name] for row in rows])
    return columns


def _entry(line: str, where: str) -> tuple[str, Recognised]:
    # the fields
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: a JSON object is expected, found {line[:40]!r}")
    try:
        key, text, words = entry["utterance"], entry["text"], entry["words"]
        spoken = [(word["word"], word["confidence"]) for word in words]
        whole = entry["confidence"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{where}: utterance, text, confidence and words, each with word and confidence, are "
            f"expected; {error!r}"
        ) from error
    # their types and ranges
    for what, value in (("utterance", key), ("text", text), *(("word", w) for w, _ in spoken)):
        if not isinstance(value, str):
            raise ValueError(f"{where}: {what} must be a string, found {value!r}")
    if not key:
        raise ValueError(f"{where}: utterance must not be empty")
    checked = tuple((w, _probability(p, f"{where}: confidence of word {w!r}")) for w, p in spoken)
    if _letters("".join(w for w, _ in spoken)) != _letters(text):
        raise ValueError(f"{where}: the words of {key} do not spell its text {text[:60]!r}")
    uncertainty = {
        name: _finite(entry[name], f"{where}: {name}")
        for name in UNCERTAINTIES[1:]
        if entry.get(name) is not None
    }
    confidence = _probability(whole, f"{where}: confidence of {key}")
    return key, Recognised(text, checked, confidence, uncertainty)


def _letters(text: str) -> str:
    return unicodedata.normalize("NFC", "".join(text.split()))


def _finite(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, found {value!r}")
    return float(value)


def _probability(value: object, what: str) -> float:
    number = _finite(value, what)
    if not -_SLACK <= number <= 1 + _SLACK:
        raise ValueError(f"{what} must be a probability, 0 to 1, found {value!r}")
    return min(max(number, 0.0), 1.0)
