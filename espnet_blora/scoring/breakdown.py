"""A score taken apart by speaker, language or any other grouping of its utterances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from espnet_blora.scoring.counts import Utterance, with_rate
from espnet_blora.scoring.diagnostics import with_places
from espnet_blora.scoring.set_score import SetScore


def grouped(score: SetScore, groups: Mapping[str, str]) -> dict[str, SetScore]:
    """Return the score of each group's utterances, by the group's name; they add up to `score`.

    Args:
        groups: id -> name (Kaldi's utt2spk, utt2lang). Ids that `score` lacks do not matter.

    Raises: ValueError naming the utterances without a group.
    """
    without = [u.id for u in score.utterances if not groups.get(u.id)]
    if without:
        source = getattr(groups, "path", None)
        raise ValueError(
            f"{f'{source}: ' if source else ''}no group (speaker, language) for {len(without)} of "
            f"{len(score.utterances)} utterances: {with_places(without, {})}"
        )
    parts: dict[str, list[Utterance]] = {}
    for utterance in score.utterances:
        parts.setdefault(groups[utterance.id], []).append(utterance)
    missing: dict[str, list[str]] = {}
    for key in score.missing_as_empty:
        missing.setdefault(groups[key], []).append(key)
    remarks: dict[str, list] = {}
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


def as_json(
    parts: Mapping[str, SetScore], drawn: Mapping[str, str] | None = None
) -> dict[str, dict]:
    """Return what `score.json` says of each group: counts, rate, 95 % interval.

    Utterances are drawn; with `drawn` (id -> speaker) whole speakers.
    """
    return {
        name: {
            "utterances": len(part.utterances),
            **with_rate(part.total),
            "errors": part.total.errors,
            "interval_95": asdict(found) if (found := part.interval(groups=drawn)) else None,
        }
        for name, part in parts.items()
    }
