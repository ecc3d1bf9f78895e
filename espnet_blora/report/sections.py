"""Sections of the page: cards, errors, forgetting, rivals, cost, sparsity, missing, conditions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from statistics import fmean

from espnet_blora.report.collect import Texts
from espnet_blora.report.conditions import conditions as made_under
from espnet_blora.report.estimates import WORST_SHARE, Analysis, level, signed
from espnet_blora.report.experiments import Experiment, System
from espnet_blora.report.page import (
    ABSENT,
    MOST_TOLD,
    Block,
    Bullets,
    Card,
    Cards,
    Cell,
    Prose,
    name_sets,
    percent,
    size,
    table,
    with_interval,
)
from espnet_blora.report.sparsity import mean_over
from espnet_blora.report.style import of_page, styles
from espnet_blora.scoring import Interval
from espnet_blora.scoring import retention as r
from espnet_blora.scoring.retention import frontier

WHAT = {
    "lora": "trains a small low-rank update of each layer, all else frozen",
    "blora": "trains such an update as a distribution, which a prior pulls towards no change",
}


def introduction(analysis: Analysis) -> str:
    """Say in one paragraph what was compared, for somebody who reads the first such page."""
    if analysis.base is None or not analysis.adapted:
        return ""
    kinds = {s.role: s.label for s in analysis.adapted}
    methods = [f"{kinds[role]} {what}" for role, what in WHAT.items() if role in kinds]
    method = f" ({'; '.join(methods)})" if methods else ""
    adapted = _listed([s.label for s in analysis.adapted])
    text = (
        f"Compared are **{analysis.base.label}**, a Whisper as it was, and that Whisper after "
        f"training on new speech by {adapted}{method}. Each wrote down what it heard in "
        f"{_listed(analysis.test_sets)}: speech like that of the training."
    )
    if analysis.retention_sets:
        text += (
            f" It also heard {_listed(analysis.retention_sets)}: speech that the base could write "
            "down before. Where errors rise there, something was forgotten."
        )
    return text


def _listed(words: Iterable[str], most: int = 6) -> str:
    *named, last = words
    if len(named) >= most:
        return f"{', '.join(named[:most])} and {len(named) + 1 - most} more"
    return f"{', '.join(named)} and {last}" if named else last


def cards(analysis: Analysis) -> list[Block]:
    """Return a card per system: what it gained, what it forgot, its gate."""
    look = styles(analysis.systems)
    gain, loss = (
        f"mean of the sets' {what}, %" if len(sets) > 1 else f"{one}, %"
        for sets, what, one in (
            (analysis.test_sets, "gains", "new-domain gain"),
            (analysis.retention_sets, "degradations", "degradation"),
        )
    )
    cards = []
    for s in analysis.systems:
        if not any(s.rates(n) for n in analysis.sets):
            continue
        facts = {
            "error, new domain, %": level(analysis.new.get(s.name)),
            gain: signed(analysis.new_gain.get(s.name), 1),
            "error, retention, %": level(analysis.kept.get(s.name)),
            loss: signed(analysis.mean_degradation.get(s.name), -1),
        }
        cards.append(Card(s.label, of_page(look[s.name][0]), facts, _gate(analysis, s)))
    return [Cards(cards)] if cards else []


def _gate(analysis: Analysis, system: System) -> Cell:
    """Return the gate and the sets beyond kappa as a cell."""
    gate = analysis.gate.get(system.name)
    if gate is None:
        return Cell(ABSENT)
    over = name_sets(analysis.beyond(system))
    if gate <= 0:
        return Cell(f"{gate:.2f} (failed: beyond kappa on {over})", gate, "bad")
    if over:
        return Cell(f"{gate:.2f} (passed, but beyond kappa on {over})", gate, "unclear")
    return Cell(f"{gate:.2f} (passed)", gate, "good")


def errors(analysis: Analysis) -> list[Block]:
    """Return every error rate, the sides of the new domain, and how the sets were scored."""
    head = ["system", *(f"{n} (new)" for n in analysis.test_sets)]
    head += [f"{n} (kept?)" for n in analysis.retention_sets]
    # error rates by system and set
    rows = [
        [s.label, *(level(analysis.rates.get((s.name, n))) for n in analysis.sets)]
        for s in analysis.systems
    ]
    several = any(len(s.runs) > 1 for s in analysis.systems)
    seeds = (
        " Of several training seeds: mean ± standard deviation over seeds; the interval is that of "
        "the mean, over seeds as well."
    )
    caption = (
        "Per cent (95 % interval; its independent units: speakers or utterances; few: a rough "
        "one). A token of MER is one Han or Kana character or one word of another script: on "
        "Mandarin alone the rate is a CER, on English alone a WER."
        f"{seeds if several else ''}"
    )
    blocks: list[Block] = [table(head, rows, caption)]
    # bursts
    worst = [[s.label, *(_worst(s, n) for n in analysis.sets)] for s in analysis.systems]
    caption = (
        "Share of the errors that the worst 1 % of utterances make, per cent. Above a third the "
        "rate hangs on a few utterances, and its interval does not know how many more such there "
        "are."
    )
    blocks.append(table(["system", *analysis.sets], worst, caption))
    blocks += _sides(analysis)
    # the sets; what a treatment does is said once, below: in a column it would make rows tall
    sets: list[list[object]] = []
    treatments: dict[str, None] = {}
    for name in analysis.sets:
        score = next(
            (run.scores[name] for s in analysis.systems for run in s.with_score(name)), None
        )
        if score is not None:
            numbers = (len(score.utterances), score.total.tokens)
            treated = analysis.treated[name]
            treatments[treated.describe()] = None
            sets.append([name, analysis.kind(name), *numbers, str(treated)])
    if sets:
        head = ["set", "kind", "utterances", "reference tokens", "unit, treatment of both sides"]
        blocks.append(table(head, sets, "The sets, and how they were scored:"))
        blocks.append(Bullets(list(treatments)))
    return blocks


def _worst(system: System, name: str) -> Cell:
    """Return the share of the worst utterances of a set; of several seeds the largest."""
    shares = [run.scores[name].worst_share or 0.0 for run in system.with_score(name)]
    if not shares:
        return Cell(ABSENT)
    return Cell(percent(max(shares), 0), max(shares), "bad" if max(shares) > WORST_SHARE else "")


def _sides(analysis: Analysis) -> list[Block]:
    """Return the sides of the new domain, and which systems PIER cannot tell apart there."""
    rows = []
    for s in analysis.systems:
        for name in analysis.test_sets:
            if scores := [run.scores[name] for run in s.with_score(name)]:
                han_kana, rest, embedded, pier = (
                    r.mean([getattr(score, part).rate for score in scores])
                    for part in ("han_kana", "rest", "embedded", "pier")
                )
                sides = map(percent, (han_kana, rest, embedded))
                rows.append([s.label, name, *sides, with_interval(pier, _pier_range(s, name))])
    if not rows:
        return []
    head = ["system", "set", "CER, Han and Kana", "WER, other scripts"]
    head += ["embedded language", "PIER (lowest to highest)"]
    caption = (
        "Inside the new domain, per cent. Embedded language: errors on the switched words of "
        "code-switched utterances, insertions under their own script; the figure to quote. PIER "
        "counts an insertion at the next reference token, and depends on which of the shortest "
        "alignments is taken: in brackets its range over all of them."
    )
    alike = [
        f"{pair.a.label} and {pair.b.label} on {name}"
        for pair in analysis.comparisons
        for name in analysis.test_sets
        if (a := _pier_range(pair.a, name)) and (b := _pier_range(pair.b, name))
        if max(a.low, b.low) <= min(a.high, b.high)
    ]
    told = f"PIER cannot tell apart, as the ranges touch: {', '.join(alike)}."
    return [table(head, rows, caption), *([Prose(told)] if alike else [])]


def _pier_range(system: System, name: str) -> Interval | None:
    """Return lowest and highest PIER on a set, means over seeds; None without switched words."""
    ranges = [run.scores[name].pier_range for run in system.with_score(name)]
    known = [ends for ends in ranges if ends]
    if not known:
        return None
    return Interval(fmean(ends.low for ends in known), fmean(ends.high for ends in known))


def retention(analysis: Analysis) -> list[Block]:
    """Return the formulas of forgetting, and their figures."""
    formulas = [f"**{name}** = {formula}" for name, formula in r.FORMULAS]
    kappa = ", ".join(f"{n} {percent(k)}" for n, k in analysis.kappa.items())
    if len(analysis.kappa) > MOST_TOLD and len({*analysis.kappa.values()}) == 1:
        kappa = f"{percent(next(iter(analysis.kappa.values())))} on each set"
    formulas.append(f"kappa, the degradation allowed, in points: {kappa or ABSENT}")
    head = ["system", *(f"degradation {n}, %" for n in analysis.retention_sets)]
    head += ["mean degradation, %", "gate", "new-domain gain, %"]
    rows, gates = [], []
    for s in analysis.adapted:
        degradations = [analysis.degradation.get((s.name, n)) for n in analysis.retention_sets]
        degradations.append(analysis.mean_degradation.get(s.name))
        cells = [signed(estimate, -1) for estimate in degradations]
        gain = signed(analysis.new_gain.get(s.name), 1)
        rows.append([s.label, *cells, _gate(analysis, s), gain])
        gates.append([s.label, *(_allowed(analysis, s, name) for name in analysis.retention_sets)])
    if not rows:
        return [Prose("No adapted experiment.")]
    caption = "E is an error rate. "
    if any(len(s.runs) > 1 for s in analysis.systems):
        caption += (
            "Of several seeds: the formula of the mean rates; its interval over units and seeds; "
            "the range of the seeds' own figures. Coloured where the interval has one sign."
        )
    head_gate = ["system", *(f"{n}: points of {percent(k)}" for n, k in analysis.kappa.items())]
    told = "The gate, set by set: how much worse than the base, of what kappa allows, in points."
    if not analysis.retention_sets:
        told = "Not measured: there is no retention set."
        return [Prose(told), table(head, rows, caption)]
    return [Bullets(formulas), table(head, rows, caption), table(head_gate, gates, told)]


def _allowed(analysis: Analysis, system: System, name: str) -> Cell:
    rise = analysis.rise(system, name)
    if rise is None:
        return Cell(ABSENT)
    passed = rise < analysis.kappa[name]
    text = f"{percent(rise, sign=True)} {'pass' if passed else 'FAIL'}"
    return Cell(text, rise, "good" if passed else "bad")


def rivals(analysis: Analysis) -> list[Block]:
    """Return the points of every scale sweep, and which no other point beats."""
    text = (
        "The adapter's scale turned down at decoding, and interpolation between base and adapted "
        "weights. For an adapter on linear layers they are the same thing: "
        "W0 + s dW = (1 - s) W0 + s (W0 + dW); scale 0 is the base. A method earns its keep only "
        "below and left of the other's curve. The points are those of the sweep's own search."
    )
    best = frontier([p for points in analysis.points.values() for p in points])
    on_best = {(p.new, p.kept) for p in best}
    rows = []
    for s in analysis.placed:
        points = analysis.points[s.name]
        if len(points) < 2:
            continue
        own = frontier(points)
        scaled = "weights interpolated" if s.full else "adapter's scale"
        if s.knob == "mu":
            scaled = "strength of a repair"
        for p in points:
            rates = [Cell(percent(rate), rate) for rate in (p.new, p.kept)]
            fronts = ["yes" if on else "no" for on in (p in own, (p.new, p.kept) in on_best)]
            rows.append([s.label, scaled, Cell(p.name), *rates, *fronts])
    if not analysis.retention_sets:
        return [Prose(text), Prose("There is no retention set, so the rivals are **not shown**.")]
    if not rows:
        told = "There is no scale sweep of all these sets, so the rivals are **not shown**."
        return [Prose(text), Prose(told)]
    head = ("system", "what is scaled", "scale", "new domain, mean %", "retention, mean %")
    return [Prose(text), table((*head, "on its frontier", "on that of all"), rows)]


def cost(analysis: Analysis) -> list[Block]:
    """Return what was trained, how long a step took, how large the files are."""
    rows = []
    for s in analysis.adapted:
        t = next((run.training for run in s.runs if run.training), None)
        share = trained = ABSENT
        if t is not None and t.trainable is not None and t.total:
            trained = f"{t.trainable:,} of {t.total:,}"
            share = f"{100 * t.trainable / t.total:.2f} %"
        took = s.seconds_per_step
        first = s.runs[0]
        sizes = (first.adapter_bytes, first.means_bytes, first.checkpoint_bytes)
        text = ABSENT if took is None else f"{took:.3f}"
        rows.append([s.label, trained, share, text, *map(size, sizes)])
    if not rows:
        return [Prose("No adapted experiment.")]
    head = ["system", "trainable", "share", "seconds per step"]
    head += ["adapter file", "its means alone", "ESPnet's checkpoint"]
    return [
        table(head, rows),
        Prose(
            "Adapter file: all factors, means and scales, as `Adapter.save` writes them (without "
            "some kB of metadata). The means alone are what decoding needs. ESPnet's checkpoint "
            "(of the best epoch) also holds the model's buffers."
        ),
        Prose(
            "Seconds per step are the median over epochs of each training by itself, data loading "
            "included. Whatever else the machine did meanwhile is in them, so **they cannot be "
            "compared between systems**. For a comparison run `benchmarks/adapter_step.py`, which "
            "times the methods in turn on one machine."
        ),
    ]


def sparsity(analysis: Analysis) -> list[Block]:
    """Return how concentrated the updates are."""
    rows = []
    for s in analysis.systems:
        means = mean_over(run.sparsity for run in s.runs)
        for part, measures in means.items():
            *shares, hoyer = astuple(measures)
            rows.append([s.label, part, *map(percent, shares), f"{hoyer:.3f}"])
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


def missing_notes(analysis: Analysis, undrawn: Sequence[str], texts: Texts) -> list[str]:
    """Return everything that could not be shown, and why."""
    runs = [run for s in analysis.systems for run in s.runs]
    notes = [f"{e.label} (`{e.name}`): {note}" for e in runs for note in e.notes]
    notes += [*analysis.notes, *texts.notes]
    notes += [f"{n} was not drawn: there was nothing to draw" for n in undrawn]
    for e in runs:
        # where the sweep's scale 1 and the recipe's own decoding do not tell the same
        notes += [
            f"{e.label}, {row.set}: the sweep at scale 1 gives {percent(row.rate, 2)} %, the "
            f"recipe's decoding {percent(rate, 2)} %. These are two searches: a small difference "
            "is to be expected, a large one is not"
            for row in e.sweep
            if row.scale == 1
            and row.set in e.scores
            and (rate := e.scores[row.set].rate) is not None
            and abs(row.rate - rate) > 5e-4
        ]
        notes += [
            f"{e.label}, {name}: {len(score.missing_as_empty)} missing hypotheses were counted as "
            "empty"
            for name, score in e.scores.items()
            if score.missing_as_empty
        ]
    return notes


def conditions(analysis: Analysis, exp: Path, command: str) -> list[Block]:
    """Return machine, versions, what intervals cover, how each experiment was trained."""
    items = [f"{what}: {value}" for what, value in made_under(exp)]
    items.append(
        "intervals: 95 %, Student's t in closed form, over the speakers of a set where it names 5 "
        "or more, else over its utterances (--resample); systems are paired; none below 5 "
        "speakers, 20 utterances or 5 errors; few: below 20 speakers, 50 utterances or 10 errors"
    )
    items.append(_seeds(analysis.adapted))
    items.append(f"this page: `{command.replace('`', chr(39))}`")
    runs = [run for s in analysis.systems for run in s.runs if run.exists]
    items += [f"{e.label} (`{e.folder}`): {_settings(e)}" for e in runs]
    return [Bullets(items)]


def _seeds(adapted: list[System]) -> str:
    several = [s for s in adapted if len(s.runs) > 1]
    if not several:
        return (
            "one training seed per system: what another seed would change is not in the intervals"
        )
    counts = ", ".join(f"{s.label} {len(s.runs)}" for s in several)
    rest = "" if len(several) == len(adapted) else "; the others have one"
    return (
        f"training seeds: {counts}{rest}. Rates are means over seeds; seeds never count as further "
        "utterances; intervals hold for other seeds, too, where a system has several"
    )


def _settings(e: Experiment) -> str:
    """Say how one experiment was trained; its whole command is the first line of its log."""
    if not e.adapted:
        return "not trained"
    by_size = str(e.config.get("batch_type", "sorted")) in ("sorted", "unsorted", "folded")
    keys = ["seed", "max_epoch", "batch_size" if by_size else "batch_bins", "accum_grad"]
    settings = [f"{k} {e.config[k]}" for k in keys if k in e.config]
    rate = (e.config.get("optim_conf") or {}).get("lr")
    settings += [f"lr {rate}"] if rate is not None else []
    if e.config.get("use_adapter"):
        settings.append(f"adapter {e.config.get('adapter')}")
        settings += [f"{k} {v}" for k, v in (e.config.get("adapter_conf") or {}).items()]
    logged = e.training is not None and e.training.command
    settings += ["command: first line of its train.log"] if logged else []
    return ", ".join(settings) or "settings unknown"
