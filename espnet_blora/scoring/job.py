"""One scoring of two sides with all that belongs to it: breakdowns, rival, sclite, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from espnet_blora.scoring.bootstrap import Interval
from espnet_blora.scoring.breakdown import as_json, grouped
from espnet_blora.scoring.errors import score, tokens_of
from espnet_blora.scoring.listing import write_alignments, write_utterances
from espnet_blora.scoring.modes import Mode
from espnet_blora.scoring.paired import Comparison, compare
from espnet_blora.scoring.sclite import cross_check
from espnet_blora.scoring.set_score import SetScore


@dataclass(frozen=True)
class Job:
    """What is to be scored, and how.

    Attributes:
        ref, hyp, baseline: id -> text; `baseline` is another system's, or None.
        speakers, languages: id -> name, or None.
        missing_as_empty: count missing hypotheses (of both systems) as empty ones.
        by_speaker: draw whole speakers for intervals, not utterances.
        sclite: the program that totals are compared with, or None.
        no_sclite: why there is none.
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


@dataclass(frozen=True)
class Result:
    """What one combination of unit and normalisation gave.

    Attributes:
        score: the counts.
        interval: 95 % interval of the rate, over utterances or speakers.
        groups: `by_speaker` and `by_language`: name -> what `score.json` says of it.
        comparison: with the baseline, if there is one.
        sclite: sclite's totals on the same tokens, or `{"not_compared": why}`.
        confusions: the most frequent ones, where alignments were written.
    """

    score: SetScore
    interval: Interval | None
    groups: dict[str, dict[str, dict]]
    comparison: Comparison | None
    sclite: dict
    confusions: dict = field(default_factory=dict)


def run(job: Job, mode: Mode) -> Result:
    """Score one combination.

    Raises: ValueError for what cannot be scored: ids that do not match, utterances without a
        speaker or language, unknown units and normalisations.
    """
    if job.by_speaker and job.speakers is None:
        raise ValueError("drawing whole speakers needs --utt2spk: no speakers are known")
    how = {"poi": mode.poi, "missing_as_empty": job.missing_as_empty}
    found = score(job.ref, job.hyp, mode.unit, mode.normalisation, **how)
    groups = {}
    drawn = job.speakers if job.by_speaker else None
    if job.speakers is not None:
        groups["by_speaker"] = as_json(grouped(found, job.speakers))
    if job.languages is not None:
        groups["by_language"] = as_json(grouped(found, job.languages), drawn)
    comparison = None
    if job.baseline is not None:
        other = score(job.ref, job.baseline, mode.unit, mode.normalisation, **how)
        comparison = compare(found, other, drawn)
    return Result(
        found, found.interval(groups=drawn), groups, comparison, _against_sclite(job, found)
    )


def save(
    job: Job, result: Result, folder: str | Path, stem: str, alignments: bool, **extra: object
) -> Result:
    """Write `score<stem>.json` and, on request, `alignment<stem>.txt` and
    `utterances<stem>.csv`; return the result with the confusions found on the way."""
    folder, found = Path(folder), result.score
    if alignments:
        sides = [tokens_of(texts, found.unit, found.normalisation) for texts in (job.ref, job.hyp)]
        confused = write_alignments(folder / f"alignment{stem}.txt", found, *sides, job.ref)
        result = replace(result, confusions=confused)
        write_utterances(
            folder / f"utterances{stem}.csv", found, job.ref, job.speakers, job.languages
        )
    extra |= {
        "interval_95": asdict(result.interval) if result.interval else None,
        "resampled": "speaker" if job.by_speaker else "utterance",
        "by_speaker": {},
        "by_language": {},
        **result.groups,
        "sclite": result.sclite,
    }
    if result.comparison:
        extra["comparison"] = result.comparison.as_json()
    found.save(folder / f"score{stem}.json", **extra)
    return result


def _against_sclite(job: Job, found: SetScore) -> dict:
    """Return sclite's totals on the same tokens, or why there are none (`not_compared`)."""
    if job.sclite is None:
        return {"not_compared": job.no_sclite}
    sides = [tokens_of(texts, found.unit, found.normalisation) for texts in (job.ref, job.hyp)]
    try:
        totals, agreement = cross_check(job.sclite, *sides, found.total)
    except (ValueError, RuntimeError) as error:
        return {"not_compared": str(error)}
    return {
        "utterances": totals.utterances,
        "tokens": totals.counts.tokens,
        "errors": totals.counts.errors,
        "extra_errors": agreement.extra_errors,
        "problems": list(agreement.problems),
    }
