"""The outcome in sentences, whichever system it favours, and beside what was published.

The BLoRA paper: arXiv 2510.18723 (abstract and text; its tables could not all be checked against
a second source, and it does not give the formula of its backward gain). Forgetting of LoRA in other
work is quoted at second hand: the Whisper-Finetune project on Cantonese; OpenReview bAzF6Kqnuq.
"""

from __future__ import annotations

import math

from espnet_blora.report.edge import ENOUGH_SEEDS, LEVEL, Edge
from espnet_blora.report.estimates import (
    ALL_SETS,
    Analysis,
    Comparison,
    Estimate,
    estimate_text,
    signed,
)
from espnet_blora.report.experiments import System
from espnet_blora.report.gap import holm
from espnet_blora.report.page import (
    ABSENT,
    MOST_TOLD,
    Block,
    Bullets,
    Cell,
    Table,
    in_points,
    name_sets,
    p_value,
    percent,
    table,
)
from espnet_blora.report.sparsity import mean_over
from espnet_blora.scoring import retention as r

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
            f" Left out of mean changes and their intervals: {name_sets(small)}, with too few "
            "utterances or errors for an interval."
        )
    if not analysis.retention_sets:
        return f"New domain: {name_sets(analysis.test_sets)}. No retention set.{left_out}"
    return (
        f"New domain: {name_sets(analysis.test_sets)}. Retention sets, what the base could do "
        f"before: {name_sets(analysis.retention_sets)}. The gate allows the errors on a retention "
        f"set to rise by less than {_allowed(analysis)} points (kappa); a system fails it where no "
        f"set stays below that.{left_out}"
    )


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
        f"({_change(gain, -1, ' learnt', len(analysis.test_sets))})"
    )
    if not analysis.retention_sets:
        return f"{text}; what it forgot was not measured."
    before, after = levels[1]
    rise = (after or 0.0) - (before or 0.0)
    moved = f"{'worse' if rise > 0 else 'better'} by {percent(abs(rise))} points"
    moved = "unchanged" if abs(rise) < 1e-9 else moved
    return (
        f"{text}; errors on the retention sets {changes[1]}: {moved} "
        f"({_change(mean, 1, '', len(analysis.retention_sets))}){_of_gate(analysis, system)}."
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
    text = f", beyond the {points} allowed on {name_sets(beyond)}"
    return f"{text}: gate failed" if gate <= 0 else f"{text}, within it on the other sets"


def _change(estimate: Estimate | None, more: int, word: str, sets: int) -> str:
    """Write `71 % fewer, clearly learnt`; of several sets, that it is a mean over them.

    Args:
        estimate: The relative change.
        more: The sign of an estimate that means more errors.
        word: What follows "clearly" where the change is clear and as the sign says.
        sets: The number of sets; the mean of their relative changes may have another sign than the
            change of the mean rate.
    """
    if estimate is None or estimate.value is None:
        return "relative change undefined"
    way = "more" if estimate.value * more > 0 else "fewer"
    size = f"{abs(100 * estimate.value):.0f} % {way}"
    if abs(estimate.value) < 0.005:
        size = "unchanged" if abs(estimate.value) < 1e-9 else f"under 1 % {way}"
    if sets - len(estimate.left_out) > 1:
        size = f"mean of the sets' relative changes: {size}"
    if estimate.interval is None:
        return f"{size}, no interval"
    if estimate.sign == 0:
        return size if abs(estimate.value) < 1e-9 else f"{size}, but not clearly"
    if estimate.sign < 0:
        word = " worse" if more < 0 else ""
    return f"{size}, clearly{word}"


def verdict(analysis: Analysis, pair: Comparison) -> list[str]:
    """Say in sentences what came out of comparing A with B; the last one is the verdict."""
    a, b = pair.a.label, pair.b.label
    change, gain = (
        pair.figures.get(title, {}).get(ALL_SETS)
        for title in ("new-domain change", "backward gain")
    )
    sentences = []
    if change is not None:
        sentences.append(f"New domain: {_direction(pair, change)}.")
    if gain is not None:
        sentences.append(f"Retention sets: {_direction(pair, gain)}.")
    if not analysis.retention_sets:
        return [
            *sentences,
            f"Whether {a} forgets less than {b} was not measured: no retention set.",
        ]
    if isinstance(pair.edge, str):
        return [*sentences, f"**There is no verdict on {a} against {b}**: {pair.edge}."]
    return [*sentences, *_beside(pair.edge), _of_edge(pair.edge)]


def _beside(edge: Edge) -> list[str]:
    """Say what stands beside the verdict: the share of forgetting, and a second opinion."""
    a, b, turned = edge.a.label, edge.b.label, _turned(edge.b)
    said = []
    if edge.reduction is not None:
        share, ends = edge.reduction
        low, high = (
            "no bound" if math.isinf(end) else f"{100 * end:.0f} %" for end in (ends.low, ends.high)
        )
        said.append(
            f"At the same error on the new domain {a} forgets {abs(100 * share):.0f} % "
            f"{'less' if share > 0 else 'more'} than {b} {turned} (reduction, 95 % interval {low} "
            f"to {high})."
        )
    if edge.hull is not None:
        place = "off" if edge.hull.value > 0 else "not off"
        said.append(
            f"Second opinion, from which no verdict comes: {a} as trained is {place} the hull of "
            f"{b}'s scales ({in_points(edge.hull.value)} points of retention + "
            f"{edge.hull.weight:.2g} × new domain, one-sided p {p_value(edge.hull.p)})."
        )
    return said


def _of_edge(edge: Edge) -> str:
    """Say the verdict, with its figures."""
    a, b, turned = edge.a.label, edge.b.label, _turned(edge.b)
    facts, ends = _facts(edge), edge.gap.interval
    paper = ""
    if (edge.a.role, edge.b.role) == ("blora", "lora"):
        paper = (
            " The paper (arXiv 2510.18723) trains far longer, on a large base, and adapts fewer "
            "layers. That may be the reason, but this run does not prove it."
        )
    if edge.outcome == "shows":
        return f"**{a}'s edge over {b} shows**: {facts}"
    if edge.outcome == "suggested":
        missing = "; ".join(edge.lacks)
        return f"**An edge of {a} over {b} is suggested, not shown** ({missing}): {facts}"
    if edge.outcome == "open":
        return f"**{a} cannot be told from {b} {turned}**: {facts}{paper}"
    if edge.outcome == "less":
        return f"**{b} {turned} keeps more than {a}**: {facts}{paper}"
    if ends.low > 0:
        suggests = f"That suggests that {a} keeps more, and shows nothing."
    elif ends.high < 0:
        suggests = f"That suggests that {b} {turned} keeps more, and shows nothing."
    else:
        suggests = "The interval holds zero."
    return (
        f"**No verdict on {a} against {b}: one training seed.** Of these two checkpoints, {facts} "
        f"{suggests} A verdict needs {ENOUGH_SEEDS} training seeds of each."
    )


def _facts(edge: Edge) -> str:
    """Say what the verdict rests on."""
    gap, ends = edge.gap, edge.gap.interval
    a, b, turned = edge.a.label, edge.b.label, _turned(edge.b)
    points = len(edge.tested)
    where = f"at {a}'s error on the new domain ({percent(gap.at)} %)"
    if points > 1:
        where = (
            f"at the errors on the new domain of {a}'s {points} scales (mean {percent(gap.at)} %)"
        )
    best = f" (no scale of {b} makes so few errors there; its best is taken)" if gap.beyond else ""
    seeds = f"{edge.seeds[0]} seeds of {a} and {edge.seeds[1]} of {b}"
    if gap.assumed:
        sure = "if training again moves error rates by about 5 %"
    else:
        sure = f"{seeds}, one-sided p {p_value(gap.p)}"
    left_out = f" Left out: {name_sets(edge.left_out)}." if edge.left_out else ""
    return (
        f"{where} {b} {turned} makes {percent(gap.rival, 2)} % errors on the retention sets{best}, "
        f"{a} {percent(gap.candidate, 2)} %: a gap of {in_points(gap.value)} points (95 % interval "
        f"{in_points(ends.low)} to {in_points(ends.high)}, {edge.basis}, {sure}).{left_out}"
    )


def _turned(b: System) -> str:
    return "moved towards the base" if b.full else "turned down"


def _points_table(edge: Edge) -> Table:
    """Return the gap at each of A's scales."""
    adjusted = holm([gap.p for gap in edge.points.values()])
    rows = []
    for (scale, gap), p in zip(edge.points.items(), adjusted, strict=True):
        ends = f"{in_points(gap.interval.low)} to {in_points(gap.interval.high)}"
        tone = "good" if p <= LEVEL and not gap.assumed else "unclear"
        rows.append(
            [
                Cell(f"{scale:g}", scale),
                percent(gap.at),
                f"{gap.scale:.2f}{' (its best)' if gap.beyond else ''}",
                percent(gap.rival, 2),
                percent(gap.candidate, 2),
                Cell(f"{in_points(gap.value)} ({ends})", gap.value, tone),
                p_value(p),
            ]
        )
    a, b = edge.a.label, edge.b.label
    caption = (
        f"{b}'s curve, read off at each scale of {a}: errors on the retention sets of both at the "
        f"same error on the new domain. Above zero {a} keeps more. p: one-sided, with Holm's "
        f"correction over these scales. The verdict is the mean over those that {b}'s curve "
        "reaches, not the best of them."
    )
    head = ("scale", "new domain, %", f"{b}'s scale", f"{b}, %", f"{a}, %")
    return table((*head, "gap, points (95 % interval)", "p"), rows, caption)


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
    low, high, basis = estimate.interval.low, estimate.interval.high, estimate.interval.basis
    ends = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f} %, + is fewer; {basis}"
    if estimate.sign != 0:
        return f"{a} makes {share} ({ends})"
    return f"no clear difference: {a} makes {share}, but the interval holds zero ({ends})"


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
    if isinstance(pair.edge, Edge):
        blocks.append(_points_table(pair.edge))
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
