"""`retention.csv`: every figure in long form, one row an experiment, set and scale.

Columns, which stay as they are (new ones are added at the end):

* `system`: the label; `experiment`: its folder (one a seed); `role`: base, lora, blora or
  other;
* `set`; `kind`: `new` (domain) or `retention`;
* `decoded`: `recipe` (ESPnet's stages 12 and 13) or `sweep` (the scale sweep's own search);
* `scale`: 0 is the base, 1 the model as trained; between them the adapter's scale, or the weights
  interpolated;
* `unit`, `normalisation`: how it was scored; only rows that agree in both are comparable;
* `utterances`, `tokens`, `hits`, `substitutions`, `deletions`, `insertions`,
  `errors`: counts; `tokens` are those of the reference;
* `rate`: errors / tokens as a share (0.25 is 25 %), `low` and `high`: its 95 % interval over
  utterances;
* `cer_han_kana`, `wer_rest`, `pier`: rates of the Han and Kana tokens, of the others, and at
  the points of interest;
* `compared`: `yes`, or `no` where the page leaves the row out, as it was scored otherwise.

What is not known is empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from espnet_blora.report.analysis import Analysis
from espnet_blora.report.collect import Experiment, SweepRow
from espnet_blora.report.treatments import Treatment
from espnet_blora.scoring import Counts, SetScore

COLUMNS = (
    *("system", "experiment", "role", "set", "kind", "decoded", "scale", "unit", "normalisation"),
    *("utterances", "tokens", "hits", "substitutions", "deletions", "insertions", "errors"),
    *("rate", "low", "high", "cer_han_kana", "wer_rest", "pier", "compared"),
)


def rows(
    experiments: Sequence[Experiment], test_sets: Sequence[str], sets: Sequence[str]
) -> Iterator[dict[str, object]]:
    """Yield the rows of experiments, as they were read; `compared` is not filled in."""
    for e in experiments:
        for name in sets:
            head = {"experiment": e.name, "role": e.role, "set": name}
            head["kind"] = "new" if name in test_sets else "retention"
            if name in e.scores:
                yield {**head, **_decoded(e.scores[name], e.adapted)}
            yield from ({**head, **_swept(row)} for row in e.sweep if row.set == name)


def _decoded(score: SetScore, adapted: bool) -> dict[str, object]:
    found = score.interval()
    return {
        "decoded": "recipe",
        "scale": int(adapted),
        "unit": score.unit,
        "normalisation": score.normalisation,
        "utterances": len(score.utterances),
        **_counts(score.total),
        "rate": score.rate,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "cer_han_kana": score.han_kana.rate,
        "wer_rest": score.rest.rate,
        "pier": score.pier.rate,
    }


def _swept(row: SweepRow) -> dict[str, object]:
    return {
        "decoded": "sweep",
        "scale": f"{row.scale:g}",
        "unit": row.unit,
        "normalisation": row.normalisation,
        "utterances": row.utterances or None,
        **(_counts(row.counts) if row.counts else {}),
        "rate": row.rate,
    }


def _counts(counts: Counts) -> dict[str, int]:
    names = ("tokens", "hits", "substitutions", "deletions", "insertions", "errors")
    return {name: getattr(counts, name) for name in names}


def text(found: Iterable[Mapping[str, object]]) -> str:
    """Return rows as CSV (RFC 4180, but lines end as on Unix)."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue()


def complete(found: Iterable[dict[str, object]], analysis: Analysis) -> Iterator[dict[str, object]]:
    """Yield the rows with the system's label and whether the page compares them."""
    labels = {run.name: s.label for s in analysis.systems for run in s.runs}
    for row in found:
        wanted = analysis.treated.get(row["set"])
        alike = (
            wanted is None
            or not row["unit"]
            or wanted == Treatment(row["unit"], row["normalisation"])
        )
        yield {"system": labels[row["experiment"]], **row, "compared": "yes" if alike else "no"}
