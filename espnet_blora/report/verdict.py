"""What came out, in sentences, whoever it flatters."""

from __future__ import annotations

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


def headline(found: Analysis) -> list[str]:
    """Say in plain words what each system gained and forgot, and whose edge shows.

    Of many systems those on the frontier are told of, of many pairs the first.
    """
    told = [s for s in found.adapted if s.name in found.new and s.name in found.kept]
    if found.base is None or not found.base.rates(found.sets[0]) or not told:
        scored = [s.label for s in found.systems if any(s.rates(n) for n in found.sets)]
        return [
            "Nothing can be said yet: it needs the scores of the base and of an adapted system on "
            f"all sets. Scored here: {', '.join(scored) or 'nothing'}."
        ]
    more = []
    if len(told) > MOST_TOLD:
        points = [r.Point(s.name, found.new[s.name].value, found.kept[s.name].value) for s in told]
        best = {p.name for p in r.frontier(points)}
        more = [
            f"{len(told)} adapted systems were compared; told of here are the {len(best)} that no "
            "other one beats on both the new domain and the retention sets."
        ]
        told = [s for s in told if s.name in best]
    edges = [verdict(found, made)[-1] for made in found.comparisons[:MOST_TOLD]]
    return [*more, *(_told(found, s) for s in told), *edges]


def _told(found: Analysis, system: System) -> str:
    base = found.base.name
    before, after = (percent(found.new[name].value) for name in (base, system.name))
    gain, mean = found.new_gain.get(system.name), found.mean_degradation.get(system.name)
    seeds = f" (mean of {len(system.runs)} seeds)" if len(system.runs) > 1 else ""
    said = (
        f"**{system.label}**{seeds}: on the new domain {before} → {after} % errors, "
        f"{_change(gain, -1, 'learnt')}; on what the base could do before "
        f"{percent(found.kept[base].value)} → {percent(found.kept[system.name].value)} %, "
        f"{_change(mean, 1, 'forgotten')}"
    )
    gate = found.gate.get(system.name)
    if gate is None:
        return f"{said}."
    over = ", ".join(found.beyond(system))
    if gate <= 0:
        return f"{said}. Gate failed: beyond kappa on {over}."
    return f"{said}. Gate passed{f', but beyond kappa on {over}' if over else ''}."


def _change(one: Estimate | None, more: int, word: str) -> str:
    """Write `71 % fewer: clearly learnt`; `more` is the sign of a figure that means more
    errors, `word` what its clear other side (new domain) or itself (retention) is called."""
    if one is None or one.value is None:
        return "relative change undefined"
    size = f"{abs(100 * one.value):.0f} % {'more' if one.value * more > 0 else 'fewer'}"
    if one.sign == 0:
        return f"{size}, but not clearly"
    expected = one.sign > 0
    return f"{size}: clearly {word if expected else 'worse' if more < 0 else 'better than before'}"


def verdict(found: Analysis, made: Comparison) -> list[str]:
    """Say in sentences what came out of comparing A with B."""
    a, b = made.a, made.b
    change, gain = (
        made.figures.get(title, {}).get(ALL_SETS)
        for title in ("new-domain change", "backward gain")
    )
    if change is None or gain is None:
        return [f"There is no verdict: it needs scores of {b.label} and {a.label} on all sets."]
    said = []
    for title, one in (("New domain", change), ("Retention sets", gain)):
        undefined = f"{b.label} makes no error on some set, so the formula is undefined"
        said.append(f"{title}: {undefined if one.value is None else _direction(made, one)}.")
    rival = _rival(found, a, b)
    if rival:
        said.append(rival[0])
        said += _curves(found, a, b)
    return [*said, _edge(made, gain, change, rival)]


def _edge(made: Comparison, gain: Estimate, change: Estimate, rival: tuple | None) -> str:
    a, b = made.a.label, made.b.label
    turned = "its weights moved towards the base" if made.b.full else "its scale turned down"
    against = []
    if gain.sign <= 0:
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
    said = f"**{a}'s edge over {b} does not show in this run**: {' and '.join(against)}."
    if (made.a.role, made.b.role) == ("blora", "lora"):
        said += (
            " The paper (arXiv 2510.18723) trains far longer, on a large base, and adapts fewer "
            "layers; that may be why, but this run does not prove it."
        )
    return said


def _direction(made: Comparison, one: Estimate) -> str:
    a, b = made.a.label, made.b.label
    if one.value == 0:
        return f"{a} makes as many errors as {b}"
    more = "fewer" if one.value > 0 else "more"
    share = f"{abs(100 * one.value):.1f} % {more} errors than {b}"
    if one.interval is None:
        return f"{a} makes {share} (no interval)"
    ends = f"95 % interval {100 * one.interval.low:+.1f} to {100 * one.interval.high:+.1f} %"
    if len(one.seeds) > 1:
        same = sum((x > 0) == (one.value > 0) and x != 0 for x in one.seeds)
        ends += f", so in {same} of {len(one.seeds)} pairs of seeds"
    if one.sign != 0:
        return f"{a} makes {share} ({ends}, + is fewer)"
    why = "the interval holds zero"
    if one.interval.low > 0 or one.interval.high < 0:
        why = "the seeds do not agree"
    return f"no clear difference: {a} makes {share}, but {why} ({ends}, + is fewer)"


def _curves(found: Analysis, a: System, b: System) -> list[str]:
    """Compare the two scale curves where both were decoded, scale 0 (the base) left out."""
    curve = found.points.get(b.name, [])
    mine = [p for p in found.points.get(a.name, []) if p.name not in ("0", "base")]
    pairs = [(p.kept, kept) for p in mine if (kept := r.kept_at(curve, p.new)) is not None]
    if len(mine) < 3 or not pairs:
        return []
    below = sum(have < kept - 1e-9 for have, kept in pairs)
    return [
        f"{a.label} turned down too: at {below} of {len(pairs)} scales it keeps more than "
        f"{b.label} does at the same error on the new domain."
    ]


def _rival(found: Analysis, a: System, b: System) -> tuple[str, bool | None] | None:
    """Compare A as decoded with B's scale curve; True where A keeps more."""
    curve, mine = found.points.get(b.name, []), found.points.get(a.name, [])
    point = next((p for p in mine if p.name == "1"), None)
    if len(curve) < 3 or point is None:
        return None
    kept = r.kept_at(curve, point.new)
    new, have = 100 * point.new, 100 * point.kept
    if kept is None:
        return (
            f"Rival: {a.label}'s error on the new domain ({new:.1f} %) is lower than that of "
            f"{b.label} at any scale, so no scale of {b.label} can be set against it there.",
            True,
        )
    rival = 100 * kept
    if rival < have - 1e-9:
        outcome, better = f"keeps more than {a.label}", False
    elif rival > have + 1e-9:
        outcome, better = f"keeps less than {a.label}", True
    else:
        outcome, better = f"keeps as much as {a.label}", None
    turned = "moved towards the base" if b.full else "with its scale turned down"
    return (
        f"Rival: at {a.label}'s error on the new domain ({new:.1f} %), {b.label} {turned} makes "
        f"{rival:.1f} % errors on the retention sets (read off its curve, no interval), {a.label} "
        f"{have:.1f} %: {b.label} turned down {outcome}.",
        better,
    )


def compared(found: Analysis, made: Comparison) -> list[Block]:
    """Return the section on system A against system B."""
    a, b = made.a.label, made.b.label
    rows = [
        [title, name, signed(one, 1)]
        for title, figures in made.figures.items()
        for name, one in figures.items()
    ]
    if not rows:
        return [Bullets(verdict(found, made))]
    roles = "" if (b, a) == ("LoRA", "BLoRA") else f" For LoRA read {b}, for BLoRA {a}."
    blocks: list[Block] = [
        Bullets(verdict(found, made)),
        table(("formula", "set", "%"), rows, f"Above zero favours {a}.{roles}"),
    ]
    if made.better:
        said = ", ".join(f"{name} {share:.2f}" for name, share in made.better.items())
        seeds = ", means over seeds" if max(len(made.a.runs), len(made.b.runs)) > 1 else ""
        blocks.append(
            Prose(f"Probability that {a} makes fewer errors than {b} (paired{seeds}): {said}.")
        )
    return blocks


BLORA = "BLoRA, arXiv 2510.18723"
REMARK = (
    "Published figures are of other data (SEAME, ArzEn, Fisher), of a large base, of far longer "
    "trainings and of the authors' own text treatment: they say what to look for, not what must "
    "come out here. The paper does not say which of the two backward gains it means."
)


def published(found: Analysis) -> Table:
    """Return measure, ours, published, source; a dash where this run has no such figure."""
    lora, blora = (next((s for s in found.systems if s.role == r), None) for r in ("lora", "blora"))
    pair = next((c for c in found.comparisons if (c.a, c.b) == (blora, lora)), None)
    rows = [
        ("backward gain of BLoRA over LoRA", _of(pair, "backward gain"), "+54 %", BLORA),
        (
            "the same, on degradations",
            _of(pair, "backward gain on degradations"),
            "+54 % (if that is meant)",
            BLORA,
        ),
        ("new-domain change, BLoRA against LoRA", _of(pair, "new-domain change"), "-4 %", BLORA),
        (
            "backward degradation of BLoRA",
            _in(found.mean_degradation, blora),
            "0.13 % (SEAME)",
            BLORA,
        ),
        ("new-domain gain of BLoRA", _in(found.new_gain, blora), "28 % (SEAME)", BLORA),
        (
            "backward degradation of LoRA",
            _in(found.mean_degradation, lora),
            "49 %; interpolated weights 3.4 %",
            "OpenReview bAzF6Kqnuq",
        ),
        (
            "the same",
            _in(found.mean_degradation, lora),
            "+54 % AISHELL, +183 % net, +81 % meeting (CER 8.1 → 12.4, 11.5 → 32.4, 19.9 → 35.9)",
            "Whisper-Finetune, large-v3 on Cantonese",
        ),
    ]
    for what, key, told in (
        ("share of |w| < 0.001 in ΔW", "below", {"blora": "99.7 %"}),
        ("energy in the largest 1 % of ΔW", "top_energy", {"blora": "37.5 %", "lora": "9.2 %"}),
        ("Hoyer index of ΔW", "hoyer", {"blora": "0.45", "lora": "0.22"}),
    ):
        for system, role in ((blora, "blora"), (lora, "lora")):
            if role in told:
                name = "BLoRA" if role == "blora" else "LoRA"
                rows.append((f"{what}, {name}", _sparse(system, key), told[role], BLORA))
    rows.append(
        ("time of a training step, BLoRA's over LoRA's", _time(blora, lora), "+8 to +10 %", BLORA)
    )
    return table(("measure", "here", "published", "source"), rows, REMARK)


def _of(pair: Comparison | None, title: str) -> str:
    return _percent(pair.figures.get(title, {}).get(ALL_SETS) if pair else None)


def _in(figures: dict[str, Estimate], system: System | None) -> str:
    return _percent(figures.get(system.name) if system else None)


def _percent(one: Estimate | None) -> str:
    text = estimate_text(one)
    value, blank, rest = text.partition(" ")
    return text if one is None or one.value is None else f"{value} %{blank}{rest}"


def _sparse(system: System | None, key: str) -> str:
    found = mean_over(r.sparsity for r in system.runs).get("delta W") if system else None
    if found is None:
        return ABSENT
    value = getattr(found, key)
    return f"{value:.2f}" if key == "hoyer" else f"{percent(value)} %"


def _time(blora: System | None, lora: System | None) -> str:
    mine, theirs = (s and s.seconds_per_step for s in (blora, lora))
    return ABSENT if not mine or not theirs else f"{percent(mine / theirs - 1, sign=True)} %"
