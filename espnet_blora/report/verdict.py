"""The outcome in sentences, whichever system it favours, and beside what was published.

The BLoRA paper: arXiv 2510.18723 (abstract and text; its tables could not all be checked against
a second source, and it does not give the formula of its backward gain). Forgetting of LoRA in other
work is quoted at second hand: the Whisper-Finetune project on Cantonese; OpenReview bAzF6Kqnuq.
"""

from __future__ import annotations

from collections.abc import Sequence

from espnet_blora.report.estimates import (
    ALL_SETS,
    Analysis,
    Comparison,
    Estimate,
    estimate_text,
    signed,
)
from espnet_blora.report.experiments import System
from espnet_blora.report.page import ABSENT, Block, Bullets, Prose, Table, percent, table
from espnet_blora.report.sparsity import mean_over
from espnet_blora.scoring import retention as r

MOST_TOLD = 6
_PAPER = "BLoRA, arXiv 2510.18723"
# measure, key of our figure (see `published`), published figure, source
PUBLISHED = (
    ("backward gain of BLoRA over LoRA", "gain", "+54 %", _PAPER),
    ("the same, on degradations", "gain on degradations", "+54 % (if that is meant)", _PAPER),
    ("new-domain change, BLoRA against LoRA", "change", "-4 %", _PAPER),
    ("backward degradation of BLoRA", "degradation blora", "0.13 % (SEAME)", _PAPER),
    ("new-domain gain of BLoRA", "new gain blora", "28 % (SEAME)", _PAPER),
    (
        "backward degradation of LoRA",
        "degradation lora",
        "49 %; interpolated weights 3.4 %",
        "OpenReview bAzF6Kqnuq",
    ),
    (
        "the same",
        "degradation lora",
        "+54 % AISHELL, +183 % net, +81 % meeting (CER 8.1 → 12.4, 11.5 → 32.4, 19.9 → 35.9)",
        "Whisper-Finetune, large-v3 on Cantonese",
    ),
    ("share of |w| < 0.001 in ΔW, BLoRA", "below blora", "99.7 %", _PAPER),
    ("energy in the largest 1 % of ΔW, BLoRA", "top_energy blora", "37.5 %", _PAPER),
    ("energy in the largest 1 % of ΔW, LoRA", "top_energy lora", "9.2 %", _PAPER),
    ("Hoyer index of ΔW, BLoRA", "hoyer blora", "0.45", _PAPER),
    ("Hoyer index of ΔW, LoRA", "hoyer lora", "0.22", _PAPER),
)
REMARK = (
    "Published figures are of other data (SEAME, ArzEn, Fisher), of a large base, of far longer "
    "trainings and of the authors' own text treatment: they say what to look for, not what must "
    "come out here. The paper does not say which of the two backward gains it means."
)


def headline(analysis: Analysis) -> list[str]:
    """Say in plain words what each system gained and forgot, and whose edge shows.

    Of many systems only those on the frontier are described, of many pairs only the first.
    """
    kept = analysis.kept if analysis.retention_sets else analysis.new
    systems = [s for s in analysis.adapted if s.name in analysis.new and s.name in kept]
    base = analysis.base
    if base is None or not base.rates(analysis.sets[0]) or not systems:
        scored = [s.label for s in analysis.systems if any(s.rates(n) for n in analysis.sets)]
        return [
            "Nothing can be said yet: it needs the scores of the base and of an adapted system on "
            f"all sets. Scored here: {', '.join(scored) or 'nothing'}."
        ]
    sentences = [_terms(analysis)]
    if len(systems) > MOST_TOLD:
        levels = (analysis.new, kept)
        points = [r.Point(s.name, *(e[s.name].value or 0.0 for e in levels)) for s in systems]
        best = {point.name for point in r.frontier(points)}
        sentences += [
            f"{len(systems)} adapted systems were compared. Described here are the {len(best)} "
            "that no other system beats on both the new domain and the retention sets."
        ]
        systems = [s for s in systems if s.name in best]
    sentences += [_of_system(analysis, base, system) for system in systems]
    return sentences + [verdict(analysis, pair)[-1] for pair in analysis.comparisons[:MOST_TOLD]]


def _terms(analysis: Analysis) -> str:
    """Say which sets are which, and what the gate is."""
    left_out = "".join(f" Left out: {name}, {why}." for name, why in analysis.left_out.items())
    if small := analysis.too_small:
        left_out += (
            f" Left out of mean changes and their intervals: {_names(small)}, with one utterance "
            "or too few errors for an interval."
        )
    if not analysis.retention_sets:
        return f"New domain: {_names(analysis.test_sets)}. No retention set.{left_out}"
    return (
        f"New domain: {_names(analysis.test_sets)}. Retention sets, what the base could do before: "
        f"{_names(analysis.retention_sets)}. The gate allows the errors on a retention set to "
        f"rise by less than {_allowed(analysis)} points (kappa); a system fails it when every set "
        f"rises by more.{left_out}"
    )


def _names(sets: Sequence[str]) -> str:
    """Name sets, or count them where they are many."""
    return ", ".join(sets) if len(sets) <= MOST_TOLD else f"{len(sets)} sets"


def _allowed(analysis: Analysis) -> str:
    """Write kappa in points; its range where the sets differ."""
    values = sorted(set(analysis.kappa.values()))
    return " to ".join(f"{100 * value:g}" for value in dict.fromkeys((values[0], values[-1])))


def _of_system(analysis: Analysis, base: System, system: System) -> str:
    """Say what one system gained and forgot, and whether it passes the gate."""
    gain, mean = analysis.new_gain.get(system.name), analysis.mean_degradation.get(system.name)
    levels = [
        [rates[name].value for name in (base.name, system.name)]
        for rates in (analysis.new, analysis.kept)
        if system.name in rates and base.name in rates
    ]
    changes = [f"{percent(before)} → {percent(after)} %" for before, after in levels]
    seeds = f" (mean of {len(system.runs)} seeds)" if len(system.runs) > 1 else ""
    text = (
        f"**{system.label}**{seeds}: errors on the new domain {changes[0]} "
        f"({_change(gain, -1, ' learnt')})"
    )
    if not analysis.retention_sets:
        return f"{text}; what it forgot was not measured."
    before, after = levels[1]
    rise = (after or 0.0) - (before or 0.0)
    return (
        f"{text}; errors on the retention sets {changes[1]}: "
        f"{'worse' if rise >= 0 else 'better'} by {percent(abs(rise))} points "
        f"({_change(mean, 1, '')}){_of_gate(analysis, system)}."
    )


def _of_gate(analysis: Analysis, system: System) -> str:
    """Say whether a system stays within what the gate allows."""
    gate, beyond, points = (
        analysis.gate.get(system.name),
        analysis.beyond(system),
        _allowed(analysis),
    )
    if gate is None:
        return ""
    if not beyond:
        return f", within the {points} allowed{' on every set' if len(analysis.kappa) > 1 else ''}"
    text = f", beyond the {points} allowed on {_names(beyond)}"
    return f"{text}: gate failed" if gate <= 0 else f"{text}, within it on the other sets"


def _change(estimate: Estimate | None, more: int, word: str) -> str:
    """Write `71 % fewer, clearly learnt`.

    Args:
        estimate: The relative change.
        more: The sign of an estimate that means more errors.
        word: What follows "clearly" where the change is clear and as the sign says.
    """
    if estimate is None or estimate.value is None:
        return "relative change undefined"
    size = f"{abs(100 * estimate.value):.0f} % {'more' if estimate.value * more > 0 else 'fewer'}"
    if estimate.sign == 0:
        return f"{size}, but not clearly"
    if estimate.sign < 0:
        word = " worse" if more < 0 else ""
    return f"{size}, clearly{word}"


def verdict(analysis: Analysis, pair: Comparison) -> list[str]:
    """Say in sentences what came out of comparing A with B; the last one is the conclusion."""
    a, b = pair.a, pair.b
    change, gain = (
        pair.figures.get(title, {}).get(ALL_SETS)
        for title in ("new-domain change", "backward gain")
    )
    if change is not None and not analysis.retention_sets:
        return [
            f"New domain: {_direction(pair, change)}.",
            f"Whether {a.label} forgets less than {b.label} was not measured: no retention set.",
        ]
    if change is None or gain is None:
        return [f"There is no verdict: it needs scores of {b.label} and {a.label} on all sets."]
    sentences = [
        f"New domain: {_direction(pair, change)}.",
        f"Retention sets: {_direction(pair, gain)}.",
    ]
    if rival := _rival(analysis, a, b):
        sentences += [rival[0], *_curves(analysis, a, b)]
    return [*sentences, _edge(pair, gain, change, rival)]


def _edge(
    pair: Comparison, gain: Estimate, change: Estimate, rival: tuple[str, bool | None] | None
) -> str:
    """Say whether A is clearly better than B, also than B turned down."""
    a, b = pair.a.label, pair.b.label
    turned = "its weights moved towards the base" if pair.b.full else "its scale turned down"
    against = []
    if gain.value is not None and gain.interval is None:
        against.append("its gain on the retention sets has no interval")
    elif gain.sign <= 0:
        against.append("its gain on the retention sets is not clearly above zero")
    if rival and rival[1] is not True:
        against.append(f"{b} with {turned} does as well or better")
    if not rival:
        against.append(f"it could not be compared with {b} with {turned}")
    if not against:
        pays = f", and pays for it on the new domain ({percent(change.value, sign=True)} %)"
        return (
            f"**{a}'s edge over {b} shows in this run**: it forgets less than {b}, also than {b} "
            f"with {turned} to the same error on the new domain{pays if change.sign < 0 else ''}."
        )
    text = f"**{a}'s edge over {b} does not show in this run**: {' and '.join(against)}."
    if (pair.a.role, pair.b.role) == ("blora", "lora"):
        text += (
            " The paper (arXiv 2510.18723) trains far longer, on a large base, and adapts fewer "
            "layers. That may be the reason, but this run does not prove it."
        )
    return text


def _direction(pair: Comparison, estimate: Estimate) -> str:
    """Say which of the two makes fewer errors, and whether that is clear."""
    a, b, value = pair.a.label, pair.b.label, estimate.value
    if value is None:
        return f"{b} makes no error on some set, so the formula is undefined"
    if value == 0:
        return f"{a} makes as many errors as {b}"
    more = "fewer" if value > 0 else "more"
    share = f"{abs(100 * value):.1f} % {more} errors than {b}"
    if estimate.interval is None:
        return f"{a} makes {share} (no interval)"
    low, high = estimate.interval.low, estimate.interval.high
    ends = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f} %"
    if len(estimate.seeds) > 1:
        same = sum((x > 0) == (value > 0) and x != 0 for x in estimate.seeds)
        ends += f", so in {same} of {len(estimate.seeds)} pairs of seeds"
    if estimate.sign != 0:
        return f"{a} makes {share} ({ends}, + is fewer)"
    why = "the seeds do not agree" if low > 0 or high < 0 else "the interval holds zero"
    return f"no clear difference: {a} makes {share}, but {why} ({ends}, + is fewer)"


def _curves(analysis: Analysis, a: System, b: System) -> list[str]:
    """Compare the two scale curves where both were decoded, scale 0 (the base) left out."""
    curve = analysis.points.get(b.name, [])
    points = [p for p in analysis.points.get(a.name, []) if p.name not in ("0", "base")]
    pairs = [(p.kept, kept) for p in points if (kept := r.kept_at(curve, p.new)) is not None]
    if len(points) < 3 or not pairs:
        return []
    below = sum(error < rival - 1e-9 for error, rival in pairs)
    return [
        f"{a.label} turned down too: at {below} of {len(pairs)} scales it keeps more than "
        f"{b.label} does at the same error on the new domain."
    ]


def _rival(analysis: Analysis, a: System, b: System) -> tuple[str, bool | None] | None:
    """Compare A as decoded with B's scale curve.

    Returns:
        A sentence, and True where A keeps more, None where both keep as much; None without curve.
    """
    curve, points = analysis.points.get(b.name, []), analysis.points.get(a.name, [])
    point = next((p for p in points if p.name == "1"), None)
    if len(curve) < 3 or point is None:
        return None
    kept = r.kept_at(curve, point.new)
    new, error = 100 * point.new, 100 * point.kept
    if kept is None:
        return (
            f"Rival: {a.label}'s error on the new domain ({new:.1f} %) is lower than that of "
            f"{b.label} at any scale, so no scale of {b.label} can be set against it there.",
            True,
        )
    rival = 100 * kept
    better = None if abs(rival - error) <= 1e-9 else rival > error
    outcome = {True: "less than", False: "more than", None: "as much as"}[better]
    turned = "moved towards the base" if b.full else "with its scale turned down"
    return (
        f"Rival: at {a.label}'s error on the new domain ({new:.1f} %), {b.label} {turned} makes "
        f"{rival:.1f} % errors on the retention sets (read off its curve, no interval), {a.label} "
        f"{error:.1f} %: {b.label} turned down keeps {outcome} {a.label}.",
        better,
    )


def compared(analysis: Analysis, pair: Comparison) -> list[Block]:
    """Return the section on system A against system B."""
    a, b = pair.a.label, pair.b.label
    blocks: list[Block] = [Bullets(verdict(analysis, pair))]
    rows = [
        [title, name, signed(estimate, 1)]
        for title, figures in pair.figures.items()
        for name, estimate in figures.items()
    ]
    if not rows:
        return blocks
    roles = "" if (b, a) == ("LoRA", "BLoRA") else f" For LoRA read {b}, for BLoRA {a}."
    blocks.append(table(("formula", "set", "%"), rows, f"Above zero favours {a}.{roles}"))
    if pair.better:
        shares = ", ".join(f"{n} {share:.2f}" for n, share in pair.better.items())
        seeds = ", means over seeds" if max(len(s.runs) for s in (pair.a, pair.b)) > 1 else ""
        blocks.append(
            Prose(f"Probability that {a} makes fewer errors than {b} (paired{seeds}): {shares}.")
        )
    return blocks


def published(analysis: Analysis) -> Table:
    """Return measure, ours, published, source; a dash where this run has no such figure."""
    roles = {s.role: s for s in reversed(analysis.systems)}
    lora, blora = roles.get("lora"), roles.get("blora")
    pair = next((c for c in analysis.comparisons if (c.a, c.b) == (blora, lora)), None)
    ours = {}
    if pair is not None:
        for key, title in (
            ("gain", "backward gain"),
            ("gain on degradations", "backward gain on degradations"),
            ("change", "new-domain change"),
        ):
            ours[key] = _in_percent(pair.figures.get(title, {}).get(ALL_SETS))
    for role, system in roles.items():
        ours[f"degradation {role}"] = _in_percent(analysis.mean_degradation.get(system.name))
        ours[f"new gain {role}"] = _in_percent(analysis.new_gain.get(system.name))
        update = mean_over(run.sparsity for run in system.runs).get("delta W")
        if update is not None:
            ours[f"below {role}"] = f"{percent(update.below)} %"
            ours[f"top_energy {role}"] = f"{percent(update.top_energy)} %"
            ours[f"hoyer {role}"] = f"{update.hoyer:.2f}"
    rows = [
        (what, ours.get(key, ABSENT), theirs, source) for what, key, theirs, source in PUBLISHED
    ]
    return table(("measure", "here", "published", "source"), rows, REMARK)


def _in_percent(estimate: Estimate | None) -> str:
    text = estimate_text(estimate)
    value, blank, rest = text.partition(" ")
    defined = estimate is not None and estimate.value is not None
    return f"{value} %{blank}{rest}" if defined else text
