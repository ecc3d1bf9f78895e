"""The retention page: what was gained, what was forgotten, and everything behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from espnet_blora.report import behind, breakdown, worst
from espnet_blora.report.analysis import Analysis, Comparison
from espnet_blora.report.blocks import (
    Block,
    Bullets,
    Card,
    Cards,
    Fact,
    Folded,
    Page,
    Picture,
    Prose,
    Section,
)
from espnet_blora.report.figures import comparable
from espnet_blora.report.looks import looks, of_page
from espnet_blora.report.paper import paper_table
from espnet_blora.report.plots import PLOTS
from espnet_blora.report.systems import System
from espnet_blora.report.tables import (
    ABSENT,
    Cell,
    figure,
    level,
    percent,
    signed,
    table,
)
from espnet_blora.report.verdict import beyond, headline, verdict
from espnet_blora.scoring import retention as r

TITLE = "What was gained, what was forgotten"


def retention_page(
    found: Analysis,
    pictures: Mapping[str, Picture],
    words: worst.Words,
    exp: Path,
    command: str,
    confidence: Section | None = None,
) -> Page:
    """Return the page; `pictures` are the plots that could be drawn, by file; `confidence` is
    the section on calibration, where there is one."""
    scatter, bars, sparsity = (pictures.get(name) for name in PLOTS)
    sections = [
        Section("At a glance", [*_cards(found), *_of(scatter)]),
        Section("Errors before and after", [*_errors(found), *_of(bars)]),
        Section("Forgetting, by these formulas", _retention(found)),
        *(
            Section(f"{c.a.label} against {c.b.label}", _compared(found, c))
            for c in found.comparisons
        ),
        Section("Beside what was published", [paper_table(found)]),
        Section("The trivial rivals", behind.rivals(found)),
        Section("Utterances that changed most", _changed(found, words)),
        Section("By language and speaker", _groups(found)),
        *([confidence] if confidence else []),
        Section("Cost", behind.cost(found)),
        Section("Sparsity", [*behind.sparsity(found), *_of(sparsity)]),
        Section("What is missing here", behind.missing(found, pictures, words)),
        Section("Conditions", behind.conditions(found, exp, command)),
    ]
    return Page(TITLE, found.warnings, headline(found), [s for s in sections if s.blocks])


def _of(picture: Picture | None) -> list[Block]:
    return [] if picture is None else [picture]


def _cards(found: Analysis) -> list[Block]:
    look = looks(found.systems)
    cards = []
    for s in found.systems:
        if not any(s.rates(n) for n in found.sets):
            continue
        gain, mean = found.new_gain.get(s.name), found.mean_degradation.get(s.name)
        tones = [signed(one, good).tone for one, good in ((gain, 1), (mean, -1))]
        facts = [
            Fact("error, new domain, %", level(found.new.get(s.name))),
            Fact("new-domain gain, %", figure(gain), tones[0]),
            Fact("error, retention, %", level(found.kept.get(s.name))),
            Fact("mean degradation, %", figure(mean), tones[1]),
        ]
        tone = _tone(found, s)
        cards.append(Card(s.label, of_page(look[s.name][0]), facts, _gate(found, s), tone))
    return [Cards(cards)] if cards else []


def _tone(found: Analysis, system: System) -> str:
    gate = found.gate.get(system.name)
    if gate is None:
        return ""
    return "bad" if gate <= 0 else "unclear" if beyond(found, system) else "good"


def _gate(found: Analysis, system: System) -> str:
    """Write the gate, and the sets beyond kappa."""
    gate = found.gate.get(system.name)
    if gate is None:
        return ABSENT
    over = beyond(found, system)
    sets = f"{', but' if gate > 0 else ':'} beyond kappa on {', '.join(over)}" if over else ""
    return f"{gate:.2f} ({'passed' if gate > 0 else 'failed'}{sets})"


def _errors(found: Analysis) -> list[Block]:
    head = ["system", *(f"{n} (new)" for n in found.test_sets)]
    head += [f"{n} (kept?)" for n in found.retention_sets]
    rows = []
    for s in found.systems:
        ones = [found.rates.get((s.name, n)) for n in found.sets]
        rows.append([s.label, *(Cell(level(one), one.value if one else None) for one in ones)])
    several = any(len(s.runs) > 1 for s in found.systems)
    seeds = (
        " Of several training seeds: mean ± standard deviation over seeds; the interval is that of "
        "the mean over utterances, for these seeds."
    )
    caption = (
        "Per cent (95 % bootstrap interval over utterances). A token of MER is one Han or Kana "
        "character or one word of another script: on Mandarin alone the rate is a CER, on English "
        f"alone a WER.{seeds if several else ''}"
    )
    made: list[Block] = [table(head, rows, caption)]
    sides = []
    for s in found.systems:
        for name in found.test_sets:
            if scores := [run.scores[name] for run in s.with_score(name)]:
                parts = [[getattr(x, k).rate for x in scores] for k in ("han_kana", "rest", "pier")]
                sides.append([s.label, name, *(percent(r.mean(part)) for part in parts)])
    if sides:
        head = ("system", "set", "CER, Han and Kana", "WER, other scripts", "PIER, switched words")
        made.append(table(head, sides, "Inside the new domain, per cent:"))
    sets = []
    for name in found.sets:
        score = next((run.scores[name] for s in found.systems for run in s.with_score(name)), None)
        if score is not None:
            numbers = (str(len(score.utterances)), str(score.total.tokens))
            sets.append([name, found.kind(name), *numbers, found.treated[name].describe()])
    if sets:
        head = ("set", "kind", "utterances", "reference tokens", "unit and treatment of both sides")
        made.append(table(head, sets, "The sets, and how they were scored:"))
    return made


def _retention(found: Analysis) -> list[Block]:
    formulas = [f"**{name}** = {formula}" for name, formula in r.FORMULAS]
    kappa = ", ".join(f"{n} {percent(k)}" for n, k in found.kappa.items())
    formulas.append(f"kappa, the degradation allowed, in points: {kappa or ABSENT}")
    head = ["system", *(f"degradation {n}, %" for n in found.retention_sets)]
    head += ["mean degradation, %", "gate", "new-domain gain, %"]
    rows, gates = [], []
    for s in found.adapted:
        rows.append(
            [
                s.label,
                *(signed(found.degradation.get((s.name, n)), -1) for n in found.retention_sets),
                signed(found.mean_degradation.get(s.name), -1),
                Cell(_gate(found, s), found.gate.get(s.name), _tone(found, s)),
                signed(found.new_gain.get(s.name), 1),
            ]
        )
        gates.append([s.label, *(_allowed(found, s, name) for name in found.retention_sets)])
    if not rows:
        return [Prose("No adapted experiment.")]
    caption = "E is an error rate. "
    if any(len(s.runs) > 1 for s in found.systems):
        caption += (
            "Of several seeds: the formula of the mean rates; its interval over utterances; the "
            "range of the seeds' own figures. Coloured where all of these have one sign."
        )
    head_gate = ["system", *(f"{n}: points of {percent(k)}" for n, k in found.kappa.items())]
    told = "The gate, set by set: how much worse than the base, of what kappa allows, in points."
    return [Bullets(formulas), table(head, rows, caption), table(head_gate, gates, told)]


def _allowed(found: Analysis, system: System, name: str) -> Cell:
    rise = found.rise(system, name)
    if rise is None:
        return Cell(ABSENT)
    passed = rise < found.kappa[name]
    text = f"{percent(rise, sign=True)} {'pass' if passed else 'FAIL'}"
    return Cell(text, rise, "good" if passed else "bad")


def _compared(found: Analysis, made: Comparison) -> list[Block]:
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


def _changed(found: Analysis, words: worst.Words) -> list[Block]:
    blocks: list[Block] = []
    base = found.base
    for s in found.adapted:
        for name in found.sets:
            if base is None or not (base.rates(name) and s.rates(name)):
                continue
            if not comparable([base, s], name):
                continue
            forgetting = name in found.retention_sets
            change = worst.changed(base, s, name, worse=forgetting)
            what = "most worse" if forgetting else "most better"
            told = f"{change.worse} worse, {change.better} better, {change.same} as before"
            inside: list[Block] = [Prose(f"None got {what.split()[1]}.")]
            if change.most:
                inside = [worst.change_table(found, s, name, change, words)]
            blocks.append(Folded(f"{s.label}, {name}: {told}; {what}", inside))
    if not blocks:
        return []
    told = (
        "Utterances by their errors before and after: on the retention sets those that got most "
        f"worse, on the new domain those that got most better (at most {worst.MOST} each). Of "
        "several seeds: the mean of their errors; the words, and the errors in brackets, are those "
        "of the seed with most errors there (new domain: with fewest)."
    )
    return [Prose(told), *blocks]


def _groups(found: Analysis) -> list[Block]:
    made = [breakdown.heat(found, kind) for kind in breakdown.TITLES]
    return [one for one in made if one is not None]
