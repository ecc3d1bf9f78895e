"""Files to look at beside `score.json`: every utterance's counts, and the alignments."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from espnet_blora.scoring.alignment import Row, align, confusions, view
from espnet_blora.scoring.counts import HAN_KANA_SCRIPTS, Counts, Utterance, add_up
from espnet_blora.scoring.diagnostics import place_of
from espnet_blora.scoring.set_score import SetScore
from espnet_blora.utils import atomic

_HEAD = (
    *("id", "speaker", "language", "where", "hits", "substitutions", "deletions", "insertions"),
    *("errors", "tokens", "rate", "pier_errors", "pier_points", "pier"),
    *("han_kana_errors", "han_kana_tokens", "cer_han_kana"),
    *("rest_errors", "rest_tokens", "wer_rest"),
)
_NAMES = {"sub": "substitutions", "del": "deletions", "ins": "insertions"}


def write_utterances(
    path: str | Path,
    score: SetScore,
    ref: Mapping[str, str],
    speakers: Mapping[str, str] | None = None,
    languages: Mapping[str, str] | None = None,
) -> None:
    """Write a CSV file of one row an utterance, sorted by id; rates are shares, empty if undefined.

    `where` is the reference's `file:line`.
    """
    with atomic.writing(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_HEAD)
        for u in score.utterances:
            c = u.counts
            sides = [
                add_up(n for s, n in u.scripts if (s in HAN_KANA_SCRIPTS) is han)
                for han in (True, False)
            ]
            group = [(names or {}).get(u.id, "") for names in (speakers, languages)]
            row = [u.id, *group, place_of(ref, u.id)]
            row += [c.hits, c.substitutions, c.deletions, c.insertions]
            table.writerow(row + [cell for part in (c, u.pier, *sides) for cell in _rate(part)])


def _rate(counts: Counts) -> list:
    return [counts.errors, counts.tokens, "" if counts.rate is None else f"{counts.rate:.6g}"]


def worst_first(score: SetScore) -> list[Utterance]:
    """Return the utterances with an error: most errors first, then the higher rate, then by id."""
    wrong = [u for u in score.utterances if u.errors]
    return sorted(wrong, key=lambda u: (-u.errors, u.tokens, u.id))


def write_alignments(
    path: str | Path,
    score: SetScore,
    ref: Mapping[str, Sequence[str]],
    hyp: Mapping[str, Sequence[str]],
    places: Mapping[str, str],
    width: int = 100,
) -> dict[str, list[tuple[int, str, str]]]:
    """Write the alignment of every utterance with an error, the worst first, then what was confused
    most; return the latter (`espnet_blora.scoring.alignment.confusions`).

    `ref` and `hyp` hold tokens, `places` the reference texts, whose file and line are named.
    """
    with atomic.writing(path, "w") as file:
        file.write(
            f"# one optimal alignment an utterance, most errors first; unit {score.unit}, "
            f"normalisation {score.normalisation}\n"
        )

        def written() -> Iterator[list[Row]]:
            for u in worst_first(score):
                rows = align(ref[u.id], hyp.get(u.id, []))
                place = place_of(places, u.id)
                c = u.counts
                file.write(
                    f"\n{u.id}{f' ({place})' if place else ''}: {u.errors} errors in {u.tokens} "
                    f"tokens (S {c.substitutions}, D {c.deletions}, I {c.insertions})\n"
                    f"{view(rows, width)}\n"
                )
                yield rows

        found = confusions(written())
        file.write("\n" + "\n".join(confusion_lines(found)) + "\n")
    return found


def confusion_lines(
    found: Mapping[str, list[tuple[int, str, str]]], most: int | None = None
) -> list[str]:
    """Return lines to print: how often, the reference token, what was heard."""
    lines = []
    for name, rows in found.items():
        if rows:
            lines.append(f"most frequent {_NAMES[name]}:")
            for times, ref, hyp in rows[:most]:
                lines.append(f"  {times:6d}  {ref or '*'} -> {hyp or '*'}")
    return lines
