"""The lines that the scoring program prints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from espnet_blora.scoring.bootstrap import Interval
from espnet_blora.scoring.counts import Counts, Remark
from espnet_blora.scoring.diagnostics import REMARKS
from espnet_blora.scoring.errors import describe_normalisation
from espnet_blora.scoring.job import Result
from espnet_blora.scoring.listing import confusion_lines
from espnet_blora.scoring.paired import Comparison

_MOST_GROUPS = 20
_MOST_REMARKS = 5
_MOST_CONFUSIONS = 10


def lines_of(result: Result) -> list[str]:
    """Return what is printed of one combination of unit and normalisation."""
    found = result.score
    lines = [
        f"{found.unit.upper()} {percent(found.total)}, {len(found.utterances)} utterances, "
        f"{found.wrong_utterances} with an error",
        f"  normalisation {describe_normalisation(found.normalisation)}",
    ]
    if result.interval:
        lines.append(f"  95 % interval {_between(result.interval)}")
    if found.unit == "mer":
        lines.append(f"  CER on Han and Kana {percent(found.han_kana)}")
        lines.append(f"  WER on the rest     {percent(found.rest)}")
        switched = percent(found.pier) if found.pier.tokens else "undefined: no switched utterance"
        lines.append(f"  {f'PIER ({found.poi})':19} {switched}")
    for name, rows in result.groups.items():
        lines += _group_lines(name.removeprefix("by_"), rows)
    if result.comparison:
        lines += _comparison_lines(result.comparison)
    lines += _remark_lines(found.remarks)
    lines.append(f"  sclite{_sclite_told(result.sclite)}")
    lines += [f"  {line}" for line in confusion_lines(result.confusions, _MOST_CONFUSIONS)]
    return lines


def percent(counts: Counts) -> str:
    """Write a rate with the counts it is made of."""
    if counts.rate is None:
        return f"undefined: no reference token ({counts.insertions} insertions)"
    return (
        f"{100 * counts.rate:.2f} % of {counts.tokens} tokens "
        f"(S {counts.substitutions}, D {counts.deletions}, I {counts.insertions})"
    )


def _between(found: Interval, sign: str = "") -> str:
    return f"{100 * found.low:{sign}.2f} to {100 * found.high:{sign}.2f} %"


def _group_lines(kind: str, rows: Mapping[str, dict]) -> Iterator[str]:
    """Every group, by name; of many those with the highest rates."""
    shown = list(rows.items())
    if len(rows) > _MOST_GROUPS:
        shown = sorted(shown, key=lambda item: -(item[1]["rate"] or 0.0))[:_MOST_GROUPS]
    for name, row in shown:
        rate = "undefined" if row["rate"] is None else f"{100 * row['rate']:.2f} %"
        between = row["interval_95"]
        known = f" ({_between(Interval(**between))})" if between else ""
        yield (
            f"  {kind} {name}: {rate} of {row['tokens']} tokens{known}, "
            f"{row['utterances']} utterances"
        )
    if len(rows) > len(shown):
        yield f"  ... the worst {len(shown)} of {len(rows)} {kind}s; all are in score.json"


def _comparison_lines(found: Comparison) -> Iterator[str]:
    yield f"  errors {found.errors}, of the baseline {found.baseline_errors}"
    if found.difference is not None:
        between = _between(found.interval, "+").removesuffix(" %") if found.interval else ""
        known = f" (95 % interval {between})" if between else ""
        yield f"  difference to the baseline {100 * found.difference:+.2f} points{known}"
    if found.probability_better is not None:
        yield f"  probability that it is better than the baseline {found.probability_better:.3f}"


def _remark_lines(remarks: Sequence[Remark]) -> Iterator[str]:
    kinds: dict[tuple[str, str], list[Remark]] = defaultdict(list)
    for remark in remarks:
        kinds[remark.kind, remark.side].append(remark)
    for (kind, side), found in kinds.items():
        what = kind.replace("_", " ")
        where = "" if side in kind or kind.startswith("missing") else f", {side}"
        more = ", ..." if len(found) > _MOST_REMARKS else ""
        listed = ", ".join(map(str, found[:_MOST_REMARKS]))
        yield f"  {what}{where}: {len(found)}, {REMARKS[kind]}: {listed}{more}"


def _sclite_told(compared: Mapping) -> str:
    if "not_compared" in compared:
        return f": not compared: {compared['not_compared']}"
    told = f" on the same tokens: {compared['errors']} errors in {compared['tokens']} tokens"
    if compared["problems"]:
        return f"{told}; UNEXPLAINED: {'; '.join(compared['problems'])}"
    more = compared["extra_errors"]
    return f"{told}, {f'{more} more than we, by its other costs' if more else 'as we'}"
