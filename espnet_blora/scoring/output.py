"""Output of a score: files, the lines of a program, ESPnet's table of results."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from espnet_blora.scoring.alignment import Row, align, confusions, view
from espnet_blora.scoring.counts import HAN_KANA_SCRIPTS, Counts, Remark, Utterance, add_up
from espnet_blora.scoring.diagnostics import REMARKS, place_of
from espnet_blora.scoring.errors import describe_normalisation
from espnet_blora.scoring.intervals import LEAST_ERRORS, Interval, RateInterval, Units
from espnet_blora.scoring.job import Comparison, Job, Result, fewer_than_published, run
from espnet_blora.scoring.modes import Mode, tokeniser
from espnet_blora.scoring.set_score import SetScore
from espnet_blora.utils import atomic

ESPNET_HEAD = ("dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")

_UNDEFINED = "–"
_CSV_HEAD = (
    *("id", "speaker", "language", "where", "hits", "substitutions", "deletions", "insertions"),
    *("errors", "tokens", "rate", "pier_errors", "pier_points", "pier"),
    *("han_kana_errors", "han_kana_tokens", "cer_han_kana"),
    *("rest_errors", "rest_tokens", "wer_rest"),
)
_NAMES = {"sub": "substitutions", "del": "deletions", "ins": "insertions"}
_MOST_GROUPS = 20  # printed
_MOST_REMARKS = 5
_MOST_CONFUSIONS = 10

Confusions = dict[str, list[tuple[int, str, str]]]


# ---- files ---------------------------------------------------------------------------------------


def score_modes(
    job: Job, modes: Iterable[Mode], folder: str | Path | None = None, alignments: bool = False
) -> Iterator[tuple[str, Result]]:
    """Score and write every combination of unit and normalisation; yield its name and its result.

    Args:
        job: What is scored.
        modes: The combinations.
        folder: Where `score.json` goes, and `score_<name>.json` of those after the first; None
            writes nothing.
        alignments: Also write `alignment.txt` and `utterances.csv`; the result then has the
            confusions.
    """
    for number, mode in enumerate(modes):
        name = f"{mode.unit}_{mode.normalisation}"
        result = run(job, mode)
        if folder is not None:
            result = save(job, result, Path(folder), f"_{name}" if number else "", alignments)
        yield name, result


def save(job: Job, result: Result, folder: Path, stem: str, alignments: bool) -> Result:
    """Write `score<stem>.json` and, on request, `alignment<stem>.txt` and `utterances<stem>.csv`.

    Returns:
        The result, with the confusions that the alignments show.
    """
    score = result.score
    if alignments:
        most = write_alignments(folder / f"alignment{stem}.txt", job, score)
        result = replace(result, confusions=most)
        write_utterances(folder / f"utterances{stem}.csv", job, score)
    extra: dict[str, object] = {
        **job.paths,
        **result.groups,
        "sclite": result.sclite,
        "jiwer": result.jiwer,
        "published": result.published,
    }
    if result.comparison:
        extra["comparison"] = asdict(result.comparison)
    score.save(folder / f"score{stem}.json", **extra)
    return result


def write_utterances(path: Path, job: Job, score: SetScore) -> None:
    """Write a CSV file of one row per utterance, sorted by id.

    Rates are shares, empty if undefined; `where` is the reference's `file:line`.
    """
    with atomic.writing(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_CSV_HEAD)
        for u in score.utterances:
            c = u.counts
            sides = [
                add_up(n for s, n in u.scripts if (s in HAN_KANA_SCRIPTS) is han)
                for han in (True, False)
            ]
            group = [(names or {}).get(u.id, "") for names in (job.speakers, job.languages)]
            row: list[object] = [u.id, *group, place_of(job.ref, u.id)]
            row += [c.hits, c.substitutions, c.deletions, c.insertions]
            for part in (c, u.pier, *sides):
                row += [part.errors, part.tokens, "" if part.rate is None else f"{part.rate:.6g}"]
            table.writerow(row)


def worst_first(score: SetScore) -> list[Utterance]:
    """Return the utterances with an error: most errors first, then the higher rate, then by id."""
    wrong = [u for u in score.utterances if u.errors]
    return sorted(wrong, key=lambda u: (-u.errors, u.tokens, u.id))


def write_alignments(path: Path, job: Job, score: SetScore) -> Confusions:
    """Write the alignment of every utterance with an error, the worst first, then the confusions.

    Returns:
        What was confused most (`alignment.confusions`).
    """
    cut = tokeniser(score.unit, score.normalisation)
    with atomic.writing(path, "w") as file:
        file.write(
            f"# one optimal alignment per utterance, most errors first; unit {score.unit}, "
            f"normalisation {score.normalisation}\n"
        )

        def written() -> Iterator[list[Row]]:
            for u in worst_first(score):
                rows = align(cut(job.ref[u.id]), cut(job.hyp.get(u.id, "")))
                place = place_of(job.ref, u.id)
                c = u.counts
                file.write(
                    f"\n{u.id}{f' ({place})' if place else ''}: {u.errors} errors in {u.tokens} "
                    f"tokens (S {c.substitutions}, D {c.deletions}, I {c.insertions})\n"
                    f"{view(rows)}\n"
                )
                yield rows

        most = dict(confusions(written()))
        file.write("\n" + "\n".join(confusion_lines(most)) + "\n")
    return most


# ---- printed lines -------------------------------------------------------------------------------


def lines_of(result: Result) -> list[str]:
    """Return what is printed of one combination of unit and normalisation."""
    score = result.score
    lines = [
        f"{score.unit.upper()} {percent(score.total)}, {len(score.utterances)} utterances, "
        f"{score.wrong_utterances} with an error",
        f"  normalisation {describe_normalisation(score.normalisation)}",
    ]
    if part := fewer_than_published(score, result.published):
        lines.append(f"  NOT THE WHOLE SET: {part}")
    if score.interval:
        lines.append(f"  95 % interval {_between(score.interval)} ({score.interval.basis})")
    elif score.rate is not None:
        few = f"{score.total.errors} errors, {LEAST_ERRORS} are needed"
        lines.append(f"  no interval: {score.units.lacking or few}")
    if score.worst_share is not None:
        lines.append(
            f"  the worst 1 % of utterances make {100 * score.worst_share:.0f} % of errors"
        )
    if score.unit == "mer":
        lines.append(f"  CER on Han and Kana {percent(score.han_kana)}")
        lines.append(f"  WER on the rest     {percent(score.rest)}")
        lines += _switched_lines(score)
    for name, rows in result.groups.items():
        lines += _group_lines(name.removeprefix("by_"), rows)
    if result.comparison:
        lines += _comparison_lines(result.comparison, score.units)
    lines += _remark_lines(score.remarks)
    lines += [f"  {line}" for line in _scorer_lines(result)]
    lines += [f"  {line}" for line in confusion_lines(result.confusions, _MOST_CONFUSIONS)]
    return lines


def _switched_lines(score: SetScore) -> Iterator[str]:
    """Yield errors on the embedded language, and PIER with its range."""
    pier = f"  {f'PIER ({score.poi})':19}"
    if score.pier_range is None:
        yield f"{pier} undefined: no switched utterance"
        return
    yield f"  embedded language   {percent(score.embedded)}"
    yield f"{pier} {percent(score.pier)}; {_between(score.pier_range)} by the alignment"


def percent(counts: Counts) -> str:
    """Write a rate with the counts it is made of."""
    if counts.rate is None:
        return f"undefined: no reference token ({counts.insertions} insertions)"
    return (
        f"{100 * counts.rate:.2f} % of {counts.tokens} tokens "
        f"(S {counts.substitutions}, D {counts.deletions}, I {counts.insertions})"
    )


def confusion_lines(most: Confusions, limit: int | None = None) -> list[str]:
    """Return lines to print: how often, the reference token, what was recognised."""
    lines = []
    for name, rows in most.items():
        if rows:
            lines.append(f"most frequent {_NAMES[name]}:")
            for times, ref, hyp in rows[:limit]:
                lines.append(f"  {times:6d}  {ref or '*'} -> {hyp or '*'}")
    return lines


def _between(interval: Interval, sign: str = "") -> str:
    return f"{100 * interval.low:{sign}.2f} to {100 * interval.high:{sign}.2f} %"


def _group_lines(kind: str, rows: Mapping[str, dict]) -> Iterator[str]:
    """Yield a line per group, by name; of many groups those with the highest rates."""
    shown = list(rows.items())
    if len(rows) > _MOST_GROUPS:
        shown = sorted(shown, key=lambda item: -(item[1]["rate"] or 0.0))[:_MOST_GROUPS]
    for name, row in shown:
        rate = "undefined" if row["rate"] is None else f"{100 * row['rate']:.2f} %"
        ends = row["interval_95"] and RateInterval(**row["interval_95"])
        interval = f" ({_between(ends)}, {ends.basis})" if ends else ""
        yield (
            f"  {kind} {name}: {rate} of {row['tokens']} tokens{interval}, "
            f"{row['utterances']} utterances"
        )
    if len(rows) > len(shown):
        yield f"  ... the worst {len(shown)} of {len(rows)} {kind}s; all are in score.json"


def _comparison_lines(rivals: Comparison, units: Units) -> Iterator[str]:
    yield f"  errors {rivals.errors}, of the baseline {rivals.baseline_errors}"
    if rivals.difference is not None:
        ends = rivals.interval_95
        between = ends and f"{_between(ends, '+').removesuffix(' %')}, {ends.basis}"
        interval = f" (95 % interval {between})" if ends else f" (no interval: {units.lacking})"
        yield f"  difference to the baseline {100 * rivals.difference:+.2f} points{interval}"
    if rivals.probability_better is not None:
        yield f"  probability that it is better than the baseline {rivals.probability_better:.3f}"


def _remark_lines(remarks: Sequence[Remark]) -> Iterator[str]:
    kinds: dict[tuple[str, str], list[Remark]] = defaultdict(list)
    for remark in remarks:
        kinds[remark.kind, remark.side].append(remark)
    for (kind, side), alike in kinds.items():
        name = kind.replace("_", " ")
        where = "" if side in kind or kind.startswith("missing") else f", {side}"
        more = ", ..." if len(alike) > _MOST_REMARKS else ""
        listed = ", ".join(map(str, alike[:_MOST_REMARKS]))
        yield f"  {name}{where}: {len(alike)}, {REMARKS[kind]}: {listed}{more}"


def _scorer_lines(result: Result) -> Iterator[str]:
    """Yield what sclite and jiwer make of the same tokens."""
    sclite, jiwer = result.sclite, result.jiwer
    if "not_compared" in sclite:
        yield f"sclite: not compared: {sclite['not_compared']}"
    else:
        more = sclite["extra_errors"]
        note = f", {more} more than we, by its other costs" if more else ", as we"
        yield _totals_line("sclite", sclite, note)
    yield _totals_line("jiwer", jiwer, ", as we")


def _totals_line(name: str, totals: Mapping, note: str) -> str:
    if totals["problems"]:
        note = f"; UNEXPLAINED: {'; '.join(totals['problems'])}"
    return (
        f"{name} on the same tokens: {totals['errors']} errors in {totals['tokens']} tokens{note}"
    )


# ---- ESPnet's table ------------------------------------------------------------------------------


def espnet_row(name: str, score: SetScore) -> list[str]:
    """Return the cells of one row: utterances, reference tokens, then per cent with one digit."""
    counts, number = score.total, len(score.utterances)
    cells = (counts.hits, counts.substitutions, counts.deletions, counts.insertions, counts.errors)
    shares = [_percent(cell, counts.tokens) for cell in cells]
    return [
        name,
        str(number),
        str(counts.tokens),
        *shares,
        _percent(score.wrong_utterances, number),
    ]


def espnet_table(scores: Iterable[tuple[str, SetScore]]) -> str:
    """Return the table, Markdown as ESPnet's RESULTS.md has it, of (name, score) pairs."""
    rows = [ESPNET_HEAD, ["---"] * len(ESPNET_HEAD), *(espnet_row(*pair) for pair in scores)]
    return "\n".join("|" + "|".join(c.replace("|", "\\|") for c in row) + "|" for row in rows)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else _UNDEFINED
