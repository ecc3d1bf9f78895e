"""One scoring of two sides with all that belongs to it: groups, a rival, and two other scorers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import batched
from pathlib import Path
from typing import Any

from espnet_blora.scoring.counts import Counts, Utterance, with_rate
from espnet_blora.scoring.diagnostics import with_places
from espnet_blora.scoring.errors import score
from espnet_blora.scoring.intervals import RateInterval, difference_interval
from espnet_blora.scoring.modes import Mode, tokeniser
from espnet_blora.scoring.sclite import NotScored, Pair, cross_check
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
        resample: What intervals take as independent units: see `intervals.units_of`.
        sclite: The program that totals are compared with, or None.
        no_sclite: Why there is none.
        paths: What `score.json` says of the files.
        published: What `published.json` says of the set: `utterances`, `hours`, `source`.
    """

    ref: Mapping[str, str]
    hyp: Mapping[str, str]
    baseline: Mapping[str, str] | None = None
    speakers: Mapping[str, str] | None = None
    languages: Mapping[str, str] | None = None
    missing_as_empty: bool = False
    resample: str = "auto"
    sclite: Path | None = None
    no_sclite: str = "not asked for"
    paths: Mapping[str, str | None] = field(default_factory=dict)
    published: Mapping[str, Any] | None = None


def text_of(path: str | Path) -> Path:
    """Return the Kaldi `text` file of a directory; a file as it is."""
    return Path(path) / "text" if Path(path).is_dir() else Path(path)


def open_job(
    ref: str | Path,
    hyp: str | Path,
    baseline: str | Path | None = None,
    utt2spk: str | Path | None = None,
    utt2lang: str | Path | None = None,
    published: str | Path | None = None,
    *,
    missing_as_empty: bool = False,
    resample: str = "auto",
    sclite: tuple[Path | None, str] = (None, "not asked for"),
) -> Job:
    """Open the files that are to be scored.

    Args:
        ref: References: a `text` file, or a directory, which brings its utt2spk, utt2lang and
            published.json.
        hyp: Hypotheses, likewise.
        baseline: Those of another system.
        utt2spk: File of speakers.
        utt2lang: File of languages.
        published: File of the set's published size, which stage 1 writes; it may be absent.
        missing_as_empty: As in `Job`.
        resample: As in `Job`.
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
        resample,
        *sclite,
        {
            "reference": str(text_of(ref)),
            "hypothesis": str(text_of(hyp)),
            "baseline": None if baseline is None else str(baseline),
        },
        _published(Path(published or Path(ref) / "published.json")),
    )


def _published(path: Path) -> dict | None:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


@dataclass(frozen=True)
class Comparison:
    """A system beside a baseline on the same references.

    Attributes:
        errors: Of the system.
        baseline_errors: Of the baseline.
        tokens: Reference tokens, the same for both.
        difference: Rate minus the baseline's; below 0 the system is better.
        probability_better: How sure it is that the system makes fewer errors; 0.5 for equal ones.
        interval_95: Of the difference, paired by unit.
    """

    errors: int
    baseline_errors: int
    tokens: int
    difference: float | None
    probability_better: float | None
    interval_95: RateInterval | None


@dataclass(frozen=True)
class Result:
    """What one combination of unit and normalisation gave.

    Attributes:
        score: The counts.
        groups: `by_speaker` and `by_language`: name -> what `score.json` says of it.
        comparison: With the baseline, if there is one.
        sclite: sclite's totals on the same tokens, or `{"not_compared": why}`.
        jiwer: jiwer's totals on the same tokens.
        published: As in `Job`.
        confusions: The most frequent ones, where alignments were written.
    """

    score: SetScore
    groups: dict[str, dict[str, dict]]
    comparison: Comparison | None
    sclite: dict
    jiwer: dict
    published: Mapping[str, Any] | None = None
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
    speakers = job.speakers or {}

    def scored(hyp: Mapping[str, str]) -> SetScore:
        counted = score(
            job.ref,
            hyp,
            mode.unit,
            mode.normalisation,
            poi=mode.poi,
            missing_as_empty=job.missing_as_empty,
        )
        named = (replace(u, speaker=speakers.get(u.id, "")) for u in counted.utterances)
        return replace(counted, utterances=tuple(named), resample=job.resample)

    # ours, by group, and beside the baseline
    own = scored(job.hyp)
    groups = {
        "by_speaker": {} if job.speakers is None else by_group(own, job.speakers),
        "by_language": {} if job.languages is None else by_group(own, job.languages),
    }
    comparison = compare(own, scored(job.baseline)) if job.baseline is not None else None
    # the other scorers get the tokens that were compared
    cut = tokeniser(own.unit, own.normalisation)

    def pairs() -> Iterator[Pair]:
        return ((cut(job.ref[key]), cut(job.hyp.get(key, ""))) for key in job.ref)

    return Result(
        own,
        groups,
        comparison,
        _against_sclite(job, pairs(), own.total),
        against_jiwer(pairs(), own.total.tokens, own.total.errors),
        job.published,
    )


def fewer_than_published(score: SetScore, published: Mapping[str, Any] | None) -> str:
    """Say how many utterances of a set's published size a score has; empty if none is missing."""
    published, found = published or {}, len(score.utterances)
    size = published.get("utterances") or 0
    return f"{found:,} of {size:,} utterances ({published['source']})" if found < size else ""


def by_group(score: SetScore, groups: Mapping[str, str]) -> dict[str, dict]:
    """Return what `score.json` says of each group: counts, rate, 95 % interval.

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
    members: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in score.utterances:
        members[groups[utterance.id]].append(utterance)
    rows = {}
    for name in sorted(members):
        part = replace(score, utterances=tuple(members[name]))
        rows[name] = {
            "utterances": len(part.utterances),
            **with_rate(part.total),
            "errors": part.total.errors,
            "interval_95": asdict(part.interval) if part.interval else None,
        }
    return rows


def compare(score: SetScore, baseline: SetScore) -> Comparison:
    """Compare two scores of the same references, paired by unit.

    Args:
        score: Of the system; its units are those of the interval.
        baseline: Of its rival, in the same unit and normalisation.
    """
    errors = [[u.errors for u in s.utterances] for s in (score, baseline)]  # (2, U)
    tokens = [u.tokens for u in score.utterances]  # (U,)
    interval, chance = difference_interval(errors, tokens, score.units)
    rates = score.rate, baseline.rate
    return Comparison(
        score.total.errors,
        baseline.total.errors,
        score.total.tokens,
        None if rates[0] is None or rates[1] is None else rates[0] - rates[1],
        chance,
        interval,
    )


def _against_sclite(job: Job, pairs: Iterable[Pair], own: Counts) -> dict:
    """Return sclite's totals on the same tokens, or why there are none (`not_compared`)."""
    if job.sclite is None:
        return {"not_compared": job.no_sclite}
    try:
        totals, problems = cross_check(job.sclite, pairs, own)
    except NotScored as error:
        return {"not_compared": str(error)}
    return {
        "utterances": totals.utterances,
        "tokens": totals.counts.tokens,
        "errors": totals.counts.errors,
        "extra_errors": max(0, totals.counts.errors - own.errors),
        "problems": problems,
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
