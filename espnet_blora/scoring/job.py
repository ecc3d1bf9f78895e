"""One scoring of two sides with all that belongs to it: groups, a rival, and two other scorers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import batched
from pathlib import Path

import numpy as np

from espnet_blora.scoring.bootstrap import (
    Interval,
    probability_better,
    quantiles,
    resampled_rates,
    summed,
)
from espnet_blora.scoring.counts import Counts, Remark, Utterance, with_rate
from espnet_blora.scoring.diagnostics import with_places
from espnet_blora.scoring.errors import score
from espnet_blora.scoring.modes import Mode, Tokens
from espnet_blora.scoring.sclite import NotScored, cross_check
from espnet_blora.scoring.set_score import SetScore
from espnet_blora.utils.keyed import KeyedText

_AT_A_TIME = 1000  # utterances that jiwer gets in one call


@dataclass(frozen=True)
class Job:
    """What is to be scored, and how.

    Attributes:
        ref: Id -> reference text.
        hyp: Id -> recognised text.
        baseline: Id -> text of another system, or None.
        speakers: Id -> speaker, or None.
        languages: Id -> language, or None.
        missing_as_empty: Count missing hypotheses (of both systems) as empty ones.
        by_speaker: Draw whole speakers for intervals, not utterances.
        sclite: The program that totals are compared with, or None.
        no_sclite: Why there is none.
    """

    ref: Mapping[str, str]
    hyp: Mapping[str, str]
    baseline: Mapping[str, str] | None = None
    speakers: Mapping[str, str] | None = None
    languages: Mapping[str, str] | None = None
    missing_as_empty: bool = False
    by_speaker: bool = False
    sclite: Path | None = None
    no_sclite: str = "not asked for"


def text_of(path: str | Path) -> Path:
    """Return the Kaldi `text` file of a directory; a file as it is."""
    return Path(path) / "text" if Path(path).is_dir() else Path(path)


def open_job(
    ref: str | Path,
    hyp: str | Path,
    baseline: str | Path | None = None,
    utt2spk: str | Path | None = None,
    utt2lang: str | Path | None = None,
    *,
    missing_as_empty: bool = False,
    by_speaker: bool = False,
    sclite: tuple[Path | None, str] = (None, "not asked for"),
) -> Job:
    """Open the files that are to be scored.

    Args:
        ref: References: a `text` file, or a directory, which brings its utt2spk and utt2lang.
        hyp: Hypotheses, likewise.
        baseline: Those of another system.
        utt2spk: File of speakers.
        utt2lang: File of languages.
        missing_as_empty: As in `Job`.
        by_speaker: As in `Job`.
        sclite: As `sclite.find_sclite` gives it.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is not one of keys and values.
    """
    groups = {}
    for name, given in (("utt2spk", utt2spk), ("utt2lang", utt2lang)):
        beside = Path(ref) / name
        path = beside if given is None and beside.is_file() else given
        groups[name] = None if path is None else KeyedText(path)
    return Job(
        KeyedText(text_of(ref)),
        KeyedText(text_of(hyp)),
        None if baseline is None else KeyedText(text_of(baseline)),
        groups["utt2spk"],
        groups["utt2lang"],
        missing_as_empty,
        by_speaker,
        *sclite,
    )


@dataclass(frozen=True)
class Comparison:
    """A system beside a baseline on the same references.

    Attributes:
        errors: Of the system.
        baseline_errors: Of the baseline.
        tokens: Reference tokens, the same for both.
        difference: Rate minus the baseline's; below 0 the system is better.
        interval: 95 % interval of the difference, both systems on the same draws.
        probability_better: Share of draws in which the system makes fewer errors, ties half.
    """

    errors: int
    baseline_errors: int
    tokens: int
    difference: float | None
    interval: Interval | None
    probability_better: float | None

    def as_json(self) -> dict:
        """Return the comparison as a JSON object."""
        document = asdict(self)
        document["interval_95"] = document.pop("interval")
        return document


@dataclass(frozen=True)
class Result:
    """What one combination of unit and normalisation gave.

    Attributes:
        score: The counts.
        interval: 95 % interval of the rate, over utterances or speakers.
        groups: `by_speaker` and `by_language`: name -> what `score.json` says of it.
        comparison: With the baseline, if there is one.
        sclite: sclite's totals on the same tokens, or `{"not_compared": why}`.
        jiwer: jiwer's totals on the same tokens.
        confusions: The most frequent ones, where alignments were written.
    """

    score: SetScore
    interval: Interval | None
    groups: dict[str, dict[str, dict]]
    comparison: Comparison | None
    sclite: dict
    jiwer: dict
    confusions: dict = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What must not differ between the scorers and does; empty if nothing."""
        return [*self.sclite.get("problems", ()), *self.jiwer["problems"]]


def run(job: Job, mode: Mode) -> Result:
    """Score one combination.

    Raises:
        ValueError: Something cannot be scored: ids that do not match, utterances without a speaker
            or language, unknown units and normalisations.
    """
    if job.by_speaker and job.speakers is None:
        raise ValueError("drawing whole speakers needs --utt2spk: no speakers are known")
    drawn = job.speakers if job.by_speaker else None

    def scored(hyp: Mapping[str, str]) -> SetScore:
        return score(
            job.ref,
            hyp,
            mode.unit,
            mode.normalisation,
            poi=mode.poi,
            missing_as_empty=job.missing_as_empty,
        )

    # ours, by group, and beside the baseline
    own = scored(job.hyp)
    groups = {}
    if job.speakers is not None:
        groups["by_speaker"] = groups_as_json(grouped(own, job.speakers))
    if job.languages is not None:
        groups["by_language"] = groups_as_json(grouped(own, job.languages), drawn)
    comparison = compare(own, scored(job.baseline), drawn) if job.baseline is not None else None
    # the other scorers get the tokens that were compared
    ref, hyp = (Tokens(texts, own.unit, own.normalisation) for texts in (job.ref, job.hyp))
    pairs = ((ref[key], hyp.get(key, [])) for key in ref)
    return Result(
        own,
        own.interval(groups=drawn),
        groups,
        comparison,
        _against_sclite(job, ref, hyp, own.total),
        against_jiwer(pairs, own.total.tokens, own.total.errors),
    )


def grouped(score: SetScore, groups: Mapping[str, str]) -> dict[str, SetScore]:
    """Return the score of each group's utterances, by the group's name; they add up to `score`.

    Args:
        score: Of a set.
        groups: Id -> name (Kaldi's utt2spk, utt2lang). Ids that `score` lacks do not matter.

    Raises:
        ValueError: Utterances without a group; they are named.
    """
    without = [u.id for u in score.utterances if not groups.get(u.id)]
    if without:
        source = getattr(groups, "path", None)
        raise ValueError(
            f"{f'{source}: ' if source else ''}no group (speaker, language) for {len(without)} of "
            f"{len(score.utterances)} utterances: {with_places(without, {})}"
        )
    # what each group has of the set
    parts: dict[str, list[Utterance]] = {}
    for utterance in score.utterances:
        parts.setdefault(groups[utterance.id], []).append(utterance)
    missing: dict[str, list[str]] = {}
    for key in score.missing_as_empty:
        missing.setdefault(groups[key], []).append(key)
    remarks: dict[str, list[Remark]] = {}
    for remark in score.remarks:
        remarks.setdefault(groups[remark.id], []).append(remark)
    return {
        name: SetScore(
            unit=score.unit,
            normalisation=score.normalisation,
            poi=score.poi,
            utterances=tuple(parts[name]),
            missing_as_empty=tuple(missing.get(name, ())),
            remarks=tuple(remarks.get(name, ())),
        )
        for name in sorted(parts)
    }


def groups_as_json(
    parts: Mapping[str, SetScore], drawn: Mapping[str, str] | None = None
) -> dict[str, dict]:
    """Return what `score.json` says of each group: counts, rate, 95 % interval.

    Args:
        parts: Name of a group -> its score.
        drawn: Id -> speaker: whole speakers are drawn. By default utterances are.
    """
    rows = {}
    for name, part in parts.items():
        interval = part.interval(groups=drawn)
        rows[name] = {
            "utterances": len(part.utterances),
            **with_rate(part.total),
            "errors": part.total.errors,
            "interval_95": asdict(interval) if interval else None,
        }
    return rows


def compare(
    score: SetScore,
    baseline: SetScore,
    groups: Mapping[str, str] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two scores of the same references by a paired bootstrap (Bisani and Ney, 2004).

    Args:
        score: Of the system.
        baseline: Of its rival.
        groups: Id -> name: whole groups are drawn. By default utterances are.
        samples: Number of draws.
        seed: Of the draws.

    Raises:
        ValueError: Utterances, reference tokens, units or normalisations are not the same.
    """
    for name in ("unit", "normalisation"):
        if getattr(score, name) != getattr(baseline, name):
            raise ValueError(
                f"a paired comparison needs the same {name}, found {getattr(score, name)!r} and "
                f"{getattr(baseline, name)!r}"
            )
    shape = [(u.id, u.tokens) for u in score.utterances]
    if [(u.id, u.tokens) for u in baseline.utterances] != shape:
        raise ValueError("a paired comparison needs the same utterances and references")
    errors = np.array([[u.errors for u in s.utterances] for s in (score, baseline)])  # (2, U)
    tokens = np.array([n for _, n in shape])  # (U,)
    if groups is not None:
        names = [groups[key] for key, _ in shape]
        errors, tokens = summed(errors, names), summed(tokens, names)
    interval = None
    if len(tokens) > 1:
        own_rates, baseline_rates = resampled_rates(errors, tokens, samples, seed)
        interval = quantiles(own_rates - baseline_rates)
    rates = score.rate, baseline.rate
    return Comparison(
        score.total.errors,
        baseline.total.errors,
        score.total.tokens,
        None if rates[0] is None or rates[1] is None else rates[0] - rates[1],
        interval,
        probability_better(errors[0], errors[1], samples, seed),
    )


def _against_sclite(
    job: Job, ref: Mapping[str, Sequence[str]], hyp: Mapping[str, Sequence[str]], own: Counts
) -> dict:
    """Return sclite's totals on the same tokens, or why there are none (`not_compared`)."""
    if job.sclite is None:
        return {"not_compared": job.no_sclite}
    try:
        totals, agreement = cross_check(job.sclite, ref, hyp, own)
    except NotScored as error:
        return {"not_compared": str(error)}
    return {
        "utterances": totals.utterances,
        "tokens": totals.counts.tokens,
        "errors": totals.counts.errors,
        "extra_errors": agreement.extra_errors,
        "problems": list(agreement.problems),
    }


def against_jiwer(
    pairs: Iterable[Sequence[Sequence[str]]], own_tokens: int, own_errors: int
) -> dict:
    """Return jiwer's totals, compared with ours.

    Both alignments are the shortest there is, so the totals must be equal; how they are split into
    substitutions, deletions and insertions may differ.

    Args:
        pairs: (reference, hypothesis), tokens without blanks, per utterance.
        own_tokens: Reference tokens that we counted.
        own_errors: Errors that we counted.
    """
    # Imported here: programs that do not score do not pay for it.
    import jiwer

    cut = jiwer.ReduceToListOfListOfWords()  # at the blanks that join the tokens, nothing else
    tokens = errors = 0
    for batch in batched(pairs, _AT_A_TIME):
        ref, hyp = ([" ".join(pair[side]) for pair in batch] for side in (0, 1))
        output = jiwer.process_words(ref, hyp, cut, cut)
        wrong = output.substitutions + output.deletions
        tokens += output.hits + wrong
        errors += wrong + output.insertions
    problems = [
        f"jiwer counts {other} {name}, we {ours}"
        for name, other, ours in (("tokens", tokens, own_tokens), ("errors", errors, own_errors))
        if other != ours
    ]
    return {"tokens": tokens, "errors": errors, "problems": problems}
