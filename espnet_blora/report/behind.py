"""The later sections of the page: rivals, cost, sparsity, what is missing, conditions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from espnet_blora.report import conditions as made_under
from espnet_blora.report.analysis import Analysis
from espnet_blora.report.blocks import Block, Bullets, Picture, Prose
from espnet_blora.report.collect import Experiment
from espnet_blora.report.paper import seconds
from espnet_blora.report.plots import PLOTS
from espnet_blora.report.sparsity import PARTS, mean_over
from espnet_blora.report.systems import System
from espnet_blora.report.tables import ABSENT, Cell, percent, size, table
from espnet_blora.report.worst import Words
from espnet_blora.scoring.retention import frontier


def rivals(found: Analysis) -> list[Block]:
    """Return the points of every scale sweep, and which no other point beats."""
    told = (
        "The adapter's scale turned down at decoding, and interpolation between base and adapted "
        "weights. For an adapter on linear layers they are the same thing: "
        "W0 + s dW = (1 - s) W0 + s (W0 + dW); scale 0 is the base. A method earns its keep only "
        "below and left of the other's curve. The points are those of the sweep's own search."
    )
    best = frontier([p for points in found.points.values() for p in points])
    rows = []
    for s in found.adapted:
        points = found.points.get(s.name, [])
        if len(points) < 2:
            continue
        own = frontier(points)
        rows += [
            [
                s.label,
                "weights interpolated" if s.full else "adapter's scale",
                Cell(p.name, float(p.name)),
                Cell(percent(p.new), p.new),
                Cell(percent(p.kept), p.kept),
                "yes" if p in own else "no",
                "yes" if any((p.new, p.kept) == (q.new, q.kept) for q in best) else "no",
            ]
            for p in points
        ]
    if not rows:
        return [Prose(told), Prose("No scale sweep was found, so the rivals are **not shown**.")]
    head = ("system", "what is scaled", "scale", "new domain, mean %", "retention, mean %")
    return [Prose(told), table((*head, "on its frontier", "on that of all"), rows)]


def cost(found: Analysis) -> list[Block]:
    """Return what was trained, how long a step took, how large the files are."""
    rows = []
    for s in found.adapted:
        t = next((run.training for run in s.runs if run.training), None)
        share = trained = ABSENT
        if t is not None and t.trainable is not None and t.total:
            trained = f"{t.trainable:,} of {t.total:,}"
            share = f"{100 * t.trainable / t.total:.2f} %"
        took = seconds(s)
        first = s.runs[0]
        sizes = (first.adapter_bytes, first.means_bytes, first.checkpoint_bytes)
        told = ABSENT if took is None else f"{took:.3f}"
        rows.append([s.label, trained, share, told, *map(size, sizes)])
    if not rows:
        return [Prose("No adapted experiment.")]
    head = ("system", "trainable", "share", "seconds a step")
    head += ("adapter file", "its means alone", "ESPnet's checkpoint")
    blocks: list[Block] = [
        table(head, rows),
        Prose(
            "Adapter file: all factors, means and scales, as `Adapter.save` writes them (without "
            "some kB of metadata). The means alone are what decoding needs. ESPnet's checkpoint "
            "(of the best epoch) also holds the model's buffers. Seconds a step: as timed in these "
            "trainings, data loading included; whatever else the machine did is in them."
        ),
    ]
    by_role = {s.role: s for s in reversed(found.systems)}
    lora, blora = (seconds(by_role.get(role)) for role in ("lora", "blora"))
    if lora and blora:
        told = f"BLoRA's step takes {blora / lora:.2f} times LoRA's (median over epochs)."
        blocks.append(Prose(told))
    return blocks


def sparsity(found: Analysis) -> list[Block]:
    """Return how concentrated the updates are."""
    rows = []
    for s in found.systems:
        means = mean_over(run.sparsity for run in s.runs)
        for part in PARTS:
            if part in means:
                one = means[part]
                shares = (one.below, one.adaptive_mean, one.adaptive_std, one.top_energy)
                rows.append([s.label, part, *(percent(x) for x in shares), f"{one.hoyer:.3f}"])
    if not rows:
        return [Prose("Unknown: no adapter's factors were found.")]
    caption = (
        "delta W = alpha / rank · B A (posterior means). |w| < 0.001: share of all entries; "
        "adaptive: share below half the mean of |w|, or half the standard deviation, of the "
        "matrix; energy: share of the squares in the largest 1 %; Hoyer: 0 even, 1 one entry. "
        "Means over matrices, and over seeds."
    )
    head = ("system", "of", "|w| < 0.001, %", "adaptive (mean), %", "adaptive (std), %")
    return [table((*head, "energy in top 1 %, %", "Hoyer"), rows, caption)]


def missing(found: Analysis, pictures: Mapping[str, Picture], words: Words) -> list[Block]:
    """Return the section of what could not be shown."""
    notes = notes_of(found, pictures, words)
    return [Bullets(notes) if notes else Prose("Nothing.")]


def notes_of(found: Analysis, pictures: Mapping[str, Picture], words: Words) -> list[str]:
    """Return everything that could not be shown, and why."""
    runs = [run for s in found.systems for run in s.runs]
    notes = [f"{e.label} (`{e.name}`): {note}" for e in runs for note in e.notes]
    notes += [*found.notes, *words.notes]
    notes += [f"{n} was not drawn: there was nothing to draw" for n in PLOTS if n not in pictures]
    for e in runs:
        if e.adapted:
            notes += _scale_one(e)
        notes += [
            f"{e.label}, {name}: {len(score.missing_as_empty)} missing hypotheses were counted as "
            "empty"
            for name, score in e.scores.items()
            if score.missing_as_empty
        ]
    return notes


def _scale_one(e: Experiment) -> list[str]:
    """Note where the sweep's scale 1 and the recipe's own decoding do not tell the same."""
    return [
        f"{e.label}, {row.set}: the sweep at scale 1 gives {percent(row.rate, 2)} %, the recipe's "
        f"decoding {percent(e.scores[row.set].rate, 2)} %: two searches, so a little is to be "
        "expected, much is not"
        for row in e.sweep
        if row.scale == 1
        and row.set in e.scores
        and e.scores[row.set].rate is not None
        and abs(row.rate - e.scores[row.set].rate) > 5e-4
    ]


def conditions(found: Analysis, exp: Path, command: str) -> list[Block]:
    """Return machine, versions, what intervals cover, how each experiment was trained."""
    items = [f"{what}: {value}" for what, value in made_under.conditions(exp)]
    items.append(
        "intervals: 1,000 bootstrap draws over utterances, seed 0; systems are compared on the "
        "same draws; nothing in them of other speakers or recordings"
    )
    items.append(_seeds(found.adapted))
    items.append(f"this page: `{command.replace('`', chr(39))}`")
    runs = [run for s in found.systems for run in s.runs if run.exists]
    items += [f"{e.label} (`{e.folder}`): {_settings(e)}" for e in runs]
    return [Bullets(items)]


def _seeds(adapted: list[System]) -> str:
    several = [s for s in adapted if len(s.runs) > 1]
    if not several:
        return "one training seed a system: what another seed would change is not in the intervals"
    told = ", ".join(f"{s.label} {len(s.runs)}" for s in several)
    rest = "" if len(several) == len(adapted) else "; the others have one"
    return (
        f"training seeds: {told}{rest}. Rates are means over seeds; a draw "
        "takes the same utterances for all seeds, so seeds never count as further utterances, and "
        "the intervals hold for these seeds; the spread over seeds is given beside them"
    )


def _settings(e: Experiment) -> str:
    """Say how one experiment was trained; its whole command is the first line of its log."""
    if not e.adapted:
        return "not trained"
    by_size = str(e.config.get("batch_type", "sorted")) in ("sorted", "unsorted", "folded")
    keys = ["seed", "max_epoch", "batch_size" if by_size else "batch_bins", "accum_grad"]
    told = [f"{k} {e.config[k]}" for k in keys if k in e.config]
    rate = (e.config.get("optim_conf") or {}).get("lr")
    told += [f"lr {rate}"] if rate is not None else []
    if e.config.get("use_adapter"):
        told.append(f"adapter {e.config.get('adapter')}")
        told += [f"{k} {v}" for k, v in (e.config.get("adapter_conf") or {}).items()]
    logged = e.training is not None and e.training.command
    told += ["command: first line of its train.log"] if logged else []
    return ", ".join(told) or "settings unknown"
