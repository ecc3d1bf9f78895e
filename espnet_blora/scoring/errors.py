r"""Error counts of a set of utterances, paired by utterance id.

For one utterance, reference and hypothesis become tokens (`modes.UNITS`) after the same
normalisation, and a Levenshtein alignment (costs 1/1/1, the engine of `jiwer`) gives hits H,
substitutions S, deletions D and insertions I. Over any collection of utterances

.. math:: E = \frac{S + D + I}{H + S + D}

(errors over reference tokens, not a mean of the utterances' rates). The total of errors is unique;
how it is split into S, D and I, over scripts and over points is that of one of the shortest
alignments, chosen by the rule of `shortest`.

**By script**: S and D count under the script of the reference token, I under that of the hypothesis
token, so the scripts' counts add up to the total. The rate of Han + Kana is a CER, that of the rest
a WER. (Aligning each language apart, as some recipes do, gives other figures.)

**PIER**, point-of-interest error rate: errors at the points of interest over the number of points
of interest, :math:`|A_I| / |I|`, counted on utterances that hold both points and other tokens (the
code-switched ones). The points are the words of the embedded language: here every reference token
not written in Han or Kana (`poi = "rest"`, for Mandarin-English and the like), every one that is
(`"han_kana"`), or those of one named script. S and D count where the reference token is a point;
an insertion where the reference token it stands before is one (after the last token: where the last
one is). Source: Ugan, Pham, Baermann, Waibel, "PIER: A Novel Metric for Evaluating What Matters in
Code-Switching", ICASSP 2025, arXiv 2501.09512.

Where alignments of the same length differ, so does PIER, by the place of an insertion above all: as
much as two systems may. So its lowest and highest value over all shortest alignments stand beside
it, and no difference is claimed between systems whose ranges touch. **Errors on the embedded
language** are the figure to quote: at the same points, but an insertion counts if it is itself
written in a script of the points (as in the rates by script). By the rule of `shortest` they are
all but unique: 1 of 6,353 utterances of a made-up Mandarin-English set had a choice left, against
837 for PIER.

The rule for S, D, I, for the end of an utterance and for utterances left out (no points, or nothing
else) is that of its public program (enesyugan/PIER-CodeSwitching-Evaluation). It differs in what a
point is: there, with a second language named, every word that holds a letter a-z (or, if English is
the matrix language, every word that holds none, and words that mix); with Mandarin or Japanese it
also spells digits out as English words, drops what is neither Han, Kana, digit nor a-z, and cuts
fullwidth forms apart. Here letters of every script count (`café` is one point), a number is one
point of `rest` and none of a named script, a word that mixes scripts belongs to one of them
(`text.tokens`, rule 4), and the normalisation alone decides what is dropped. Points tagged by
hand (`<tag word>`) are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from espnet_blora.scoring.alignment import Codes, Scripts
from espnet_blora.scoring.counts import REST, Remark, Utterance, shared_counts
from espnet_blora.scoring.diagnostics import check_ids, ids_by_case, look_at, place_of
from espnet_blora.scoring.modes import points_of, unit_of
from espnet_blora.scoring.set_score import SetScore
from espnet_blora.scoring.shortest import MOST_EDITS, Side, count
from espnet_blora.text import script_of_token
from espnet_blora.text.presets import get_normalisation


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

    One utterance is looked at after the other: of lazy mappings
    (`espnet_blora.utils.keyed.KeyedText`) no text stays in memory, only counts do.

    Args:
        ref: Id -> reference text. Where a mapping has `where` (id -> `file:line`), errors and
            remarks name that place.
        hyp: Id -> hypothesis text.
        unit: A key of `modes.UNITS`.
        normalisation: A name that `text.presets.get_normalisation` knows.
        poi: `"rest"`, `"han_kana"` or the name of a script (module docstring, PIER).
        missing_as_empty: Count a missing hypothesis as an empty one (all deletions); the score
            names them.

    Raises:
        ValueError: The unit, normalisation or kind of points is unknown; there is no reference;
            references are without hypothesis, or hypotheses without reference (ids are named).

    >>> counts = score({"a": "我要 two apples"}, {"a": "我 two apple"}).total
    >>> counts.errors, counts.tokens, counts.rate
    (2, 4, 0.5)
    """
    treat, tokenise = get_normalisation(normalisation), unit_of(unit)
    missing = check_ids(ref, hyp, missing_as_empty=missing_as_empty)
    is_point, codes = points_of(poi), Codes()
    utterances: list[Utterance] = []
    remarks: list[Remark] = list(ids_by_case(ref))
    for key in sorted(ref):
        # counts, of one utterance at a time
        left_text = ref[key]
        right_text = hyp.get(key, "")
        left, right = tokenise(treat(left_text)), tokenise(treat(right_text))
        utterances.append(_count(key, left, right, is_point, codes))
        # what is odd in it
        if (errors := utterances[-1].errors) > MOST_EDITS:
            place = place_of(hyp, key)
            remarks.append(Remark("many_errors", "hypothesis", key, place, f"{errors} errors"))
        remarks += look_at("reference", key, left_text, ref)
        remarks += look_at("hypothesis", key, right_text, hyp)
        if not left:
            remarks.append(Remark("empty_reference", "reference", key, place_of(ref, key)))
        if key not in hyp:
            remarks.append(Remark("missing_hypothesis", "reference", key, place_of(ref, key)))
        elif left and not right:
            remarks.append(Remark("empty_hypothesis", "hypothesis", key, place_of(hyp, key)))
    return SetScore(
        unit=unit,
        normalisation=treat.name,
        poi=poi,
        utterances=tuple(utterances),
        missing_as_empty=tuple(missing),
        remarks=tuple(sorted(remarks)),
    )


def describe_normalisation(name: str) -> str:
    """Say what a normalisation does; of one that is not ours (an old file), give the name alone."""
    try:
        return get_normalisation(name).describe()
    except ValueError:
        return name


_HIT, _SUB, _DEL, _INS = range(4)
_NONE = (0, 0, 0, 0)


def _count(
    key: str, ref: list[str], hyp: list[str], is_point: Callable[[str], bool], codes: Codes
) -> Utterance:
    """Count one utterance: in all, by script, and at the points of interest.

    Args:
        key: Its id.
        ref: Reference tokens.
        hyp: Recognised tokens.
        is_point: Whether tokens of a script are points.
        codes: Stand for tokens; kept from utterance to utterance.
    """
    # all right so far: hits by script
    scripts = list(map(script_of_token, ref))
    rows = {name: [scripts.count(name), 0, 0, 0] for name in set(scripts)}
    points = set(filter(is_point, rows))
    if points == rows.keys():  # nothing else: not code-switched
        points = set()

    # every edit of the chosen alignment turns a hit into an error, or inserts one
    inserted = low = high = 0  # at the points
    if ref != hyp:
        heard = Scripts(hyp)
        weights = [0] * (len(ref) + 1)
        if points:
            weights = [int(script in points) for script in (*scripts, scripts[-1])]
        sides = Side(codes.spell(ref), scripts), Side(codes.spell(hyp), heard)
        edits, low, high = count(*sides, weights)
        for tag, i, j in edits:
            if tag == "insert":
                rows.setdefault(heard[j], [0, 0, 0, 0])[_INS] += 1
                inserted += weights[i]
                continue
            row = rows[scripts[i]]
            row[_HIT] -= 1
            row[_SUB if tag == "replace" else _DEL] += 1
        codes.forget()

    # sums over scripts
    parts = tuple((name, shared_counts(*rows[name])) for name in sorted(rows))
    whole = map(sum, zip(*rows.values(), strict=True))
    hits, missed, lost, _ = map(sum, zip(_NONE, *[rows[name] for name in points], strict=True))
    pier = shared_counts(hits, missed, lost, inserted)
    pier_range = (low, high) if low < high else None
    return Utterance(key, shared_counts(*whole), pier, parts, pier_range=pier_range)
