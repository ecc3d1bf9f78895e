"""``retention.md``: one page on what adaptation gained and what it forgot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espnet_blora.report.analysis import Analysis, verdict
from espnet_blora.report.collect import Experiment
from espnet_blora.report.conditions import conditions
from espnet_blora.report.plots import frontier_names
from espnet_blora.report.sparsity import PARTS
from espnet_blora.report.tables import ABSENT, markdown, percent, rate, size
from espnet_blora.report.tables import figure as cell
from espnet_blora.scoring import describe_normalisation
from espnet_blora.scoring import retention as r

PLOTS = ("retention_scatter.png", "retention_bars.png", "retention_sparsity.png")
_PAPER = (
    "The BLoRA paper (arXiv 2510.18723; SEAME, ArzEn, Fisher; other data, a large base) reports "
    "a backward gain of +54 % and a new-domain change of -4 %, |w| < 0.001 for 99.7 % of the "
    "weights, top-1 % energy 37.5 % (LoRA 9.2 %), Hoyer 0.45 (LoRA 0.22)."
)


def page(
    experiments: Sequence[Experiment],
    found: Analysis,
    plots: Sequence[str],
    exp: Path,
    command: str,
) -> str:
    """Return the text of the page; ``plots`` are the names of the PNGs that were drawn."""
    by_role = {e.role: e for e in experiments}
    lines = ["# What was gained, what was forgotten", ""]
    lines += [f"- {said}" for said in verdict(found, by_role.get("lora"), by_role.get("blora"))]
    lines += ["", *_errors(experiments, found)]
    if PLOTS[0] in plots:
        lines += ["", f"![gained against forgotten]({PLOTS[0]})"]
    if PLOTS[1] in plots:
        lines += ["", f"![errors by set]({PLOTS[1]})"]
    lines += ["", *_retention(experiments, found)]
    lines += ["", *_rivals(experiments, found)]
    lines += ["", *_cost(experiments)]
    lines += ["", *_sparsity(experiments)]
    if PLOTS[2] in plots:
        lines += ["", f"![sparsity of the update]({PLOTS[2]})"]
    lines += ["", *_missing(experiments, found, plots), "", *_conditions(experiments, exp, command)]
    return "\n".join(lines) + "\n"


def _errors(experiments: Sequence[Experiment], found: Analysis) -> list[str]:
    sets = [*found.test_sets, *found.retention_sets]
    scores = [s for e in experiments for s in e.scores.values()]
    units = "/".join(sorted({s.unit.upper() for s in scores})) or "error rate"
    treatments = sorted({s.normalisation for s in scores})
    treated = "; ".join(map(describe_normalisation, treatments))
    head = ["system", *(f"{n} (new)" for n in found.test_sets)]
    head += [f"{n} (kept?)" for n in found.retention_sets]
    rows = [[e.label, *(rate(e.scores.get(n)) for n in sets)] for e in experiments]
    sizes = {n: len(e.scores[n].utterances) for e in experiments for n in sets if n in e.scores}
    counted = ", ".join(f"{name} {number}" for name, number in sizes.items())
    lines = [
        "## Errors before and after",
        "",
        f"{units} in per cent (95 % interval). Normalisation {treated or 'unknown'}. A token is "
        "one Han or Kana character or one word of another script: on Mandarin alone the rate is a "
        f"CER, on English alone a WER. Utterances: {counted or 'none scored'}.",
        "",
        markdown(head, rows),
    ]
    sides = [
        [
            e.label,
            name,
            *(percent(side.rate) for side in (score.han_kana, score.rest, score.pier)),
        ]
        for e in experiments
        for name in found.test_sets
        if (score := e.scores.get(name)) is not None
    ]
    if sides:
        head = ("system", "set", "CER, Han and Kana", "WER, other scripts", "PIER, switched words")
        lines += ["", "Inside the new domain:", "", markdown(head, sides)]
    return lines


def _retention(experiments: Sequence[Experiment], found: Analysis) -> list[str]:
    lines = ["## Forgetting, by these formulas", "", "E is an error rate.", ""]
    lines += [f"- **{name}** = {formula}" for name, formula in r.FORMULAS]
    kappa = ", ".join(f"{n} {percent(k)}" for n, k in found.kappa.items())
    lines += [f"- kappa, the degradation allowed, in points: {kappa or ABSENT}", ""]
    head = ["system", *(f"degradation {n}, %" for n in found.retention_sets)]
    head += ["mean degradation, %", "gate", "new-domain gain, %"]
    rows = []
    for e in experiments:
        if not e.adapted:
            continue
        gate = found.gate.get(e.name)
        told = ABSENT if gate is None else f"{gate:.2f} ({'passed' if gate > 0 else 'failed'})"
        row = [cell(found.degradation.get((e.name, n))) for n in found.retention_sets]
        row += [cell(found.mean_degradation.get(e.name)), told, cell(found.new_gain.get(e.name))]
        rows.append([e.label, *row])
    lines.append(markdown(head, rows) if rows else "No adapted experiment.")
    if found.compared:
        rows = [
            [title, name, cell(one)]
            for title, figures in found.compared.items()
            for name, one in figures.items()
        ]
        lines += ["", "BLoRA against LoRA:", "", markdown(("formula", "set", "%"), rows)]
    if found.better:
        said = ", ".join(f"{name} {share:.2f}" for name, share in found.better.items())
        lines += ["", f"Probability that BLoRA makes fewer errors than LoRA (paired): {said}."]
    return [*lines, "", _PAPER]


def _rivals(experiments: Sequence[Experiment], found: Analysis) -> list[str]:
    lines = [
        "## The trivial rivals",
        "",
        "The adapter's scale turned down at decoding, and interpolation between base and adapted "
        "weights. For an adapter on linear layers they are the same thing: "
        "W0 + s dW = (1 - s) W0 + s (W0 + dW); scale 0 is the base. A method earns its keep only "
        "below and left of the other's curve. The points are those of the sweep's own search.",
        "",
    ]
    rows = []
    for e in experiments:
        points = found.points.get(e.name, [])
        if len(points) < 2:
            continue
        best = frontier_names(points)
        rows += [
            [
                e.label,
                p.name,
                percent(p.new),
                percent(p.kept),
                "yes" if p.name in best else "no",
            ]
            for p in points
        ]
    if not rows:
        return [*lines, "No scale sweep was found, so the rivals are **not shown**."]
    head = ("system", "scale", "new domain, mean %", "retention, mean %", "on its frontier")
    return [*lines, markdown(head, rows)]


def _cost(experiments: Sequence[Experiment]) -> list[str]:
    rows = []
    for e in experiments:
        if not e.adapted:
            continue
        t = e.training
        share = trained = seconds = ABSENT
        if t is not None:
            seconds = ABSENT if t.seconds_per_step is None else f"{t.seconds_per_step:.3f}"
            if t.trainable is not None and t.total:
                trained = f"{t.trainable:,} of {t.total:,}"
                share = f"{100 * t.trainable / t.total:.2f} %"
        sizes = (e.adapter_bytes, e.means_bytes, e.checkpoint_bytes)
        rows.append([e.label, trained, share, seconds, *map(size, sizes)])
    head = ("system", "trainable", "share", "seconds a step")
    head += ("adapter file", "its means alone", "ESPnet's checkpoint")
    lines = ["## Cost", "", markdown(head, rows) if rows else "No adapted experiment."]
    lines += [
        "",
        "Adapter file: all factors, means and scales, as `Adapter.save` writes them (without some "
        "kB of metadata). The means alone are what decoding needs. ESPnet's checkpoint (of the "
        "best epoch) also holds the model's buffers. Seconds a step: as timed in these trainings, "
        "data loading included; whatever else the machine did is in them.",
    ]
    by_role = {e.role: e.training for e in experiments if e.training is not None}
    pair = [by_role.get(role) for role in ("lora", "blora")]
    if all(t is not None and t.seconds_per_step for t in pair):
        ratio = pair[1].seconds_per_step / pair[0].seconds_per_step
        lines += ["", f"BLoRA's step takes {ratio:.2f} times LoRA's (median over epochs)."]
    return lines


def _sparsity(experiments: Sequence[Experiment]) -> list[str]:
    rows = []
    for e in experiments:
        for part in PARTS:
            if part in e.sparsity:
                s = e.sparsity[part]
                shares = (s.below, s.adaptive_mean, s.adaptive_std, s.top_energy)
                rows.append([e.label, part, *(percent(x) for x in shares), f"{s.hoyer:.3f}"])
    lines = [
        "## Sparsity",
        "",
        "delta W = alpha / rank · B A (posterior means). |w| < 0.001: share of all entries; "
        "adaptive: share below half the mean of |w|, or half the standard deviation, of the "
        "matrix; energy: share of the squares in the largest 1 %; Hoyer: 0 even, 1 one entry. "
        "Means over matrices.",
        "",
    ]
    head = (
        "system",
        "of",
        "|w| < 0.001, %",
        "adaptive (mean), %",
        "adaptive (std), %",
        "energy in top 1 %, %",
        "Hoyer",
    )
    return [*lines, markdown(head, rows) if rows else "Unknown."]


def _missing(experiments: Sequence[Experiment], found: Analysis, plots: Sequence[str]) -> list[str]:
    notes = [f"{e.label} ({e.name}): {note}" for e in experiments for note in e.notes]
    notes += found.notes
    absent = [name for name in PLOTS if name not in plots]
    notes += [f"{name} was not drawn: there was nothing to draw" for name in absent]
    for e in experiments:
        if e.role == "base":
            continue
        notes += _scale_one(e)
        for name, score in e.scores.items():
            if score.missing_as_empty:
                notes.append(
                    f"{e.label}, {name}: {len(score.missing_as_empty)} missing hypotheses were "
                    "counted as empty"
                )
    said = [f"- {note}" for note in notes] or ["Nothing."]
    return ["## What is missing here", "", *said]


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


def _conditions(experiments: Sequence[Experiment], exp: Path, command: str) -> list[str]:
    lines = ["## Conditions", ""]
    lines += [f"- {what}: {value}" for what, value in conditions(exp)]
    lines.append("- intervals: 1,000 bootstrap draws over utterances, seed 0")
    lines.append("- one training seed a system: what another seed would change is not in them")
    lines.append(f"- this page: `{command}`")
    for e in experiments:
        if not e.exists:
            continue
        lines.append(f"- {e.label} (`{e.folder}`): {_settings(e)}")
    return lines


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
