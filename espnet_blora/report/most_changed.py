"""The utterances and groups whose errors changed most.

Shown are the utterances that worsened most on the retention sets, and improved most on the new
domain.

Utterances are ranked by the change of their errors from the base to the adapted system (the mean
over its seeds; more errors first at equal changes, then by id). The words shown of a system with
several seeds are those of the seed with most errors there (on the new domain: with fewest).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_blora.report.collect import Texts
from espnet_blora.report.comparability import Treatment, comparable
from espnet_blora.report.estimates import Analysis
from espnet_blora.report.experiments import Experiment, System
from espnet_blora.report.page import (
    ABSENT,
    Block,
    Cell,
    Folded,
    Heard,
    Prose,
    Table,
    percent,
    table,
)
from espnet_blora.scoring import align
from espnet_blora.scoring.modes import tokeniser

MOST = 5
PLAYED = 2
"""Utterances to listen to, of those that worsened and of those that improved."""


@dataclass(frozen=True)
class Changed:
    """One utterance before and after; `run` is the seed whose words are shown, `errors` its own."""

    id: str
    before: float
    after: float
    tokens: int
    run: Experiment
    errors: int


@dataclass(frozen=True)
class Change:
    """How many utterances of a set got worse and better, and the most changed ones."""

    worse: int
    better: int
    same: int
    most: tuple[Changed, ...]


def identical(analysis: Analysis, texts: Texts) -> list[str]:
    """Return a line per group of experiments whose texts of sets agree in every utterance."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in analysis.sets:
        runs = [run for s in analysis.systems for run in s.with_score(name)]
        while runs:
            first, *runs = runs
            # texts are read only where all counts agree
            same = [
                run
                for run in runs
                if run.scores[name].utterances == first.scores[name].utterances
                and (heard := texts.heard(first, name))
                and heard == texts.heard(run, name)
            ]
            runs = [run for run in runs if run not in same]
            if same:
                alike.setdefault(tuple(run.label for run in (first, *same)), []).append(name)
    return [
        f"{' and '.join(labels)}: identical texts in every utterance of {', '.join(sets)}."
        for labels, sets in alike.items()
    ]


def changed(base: System, adapted: System, name: str, most: int = MOST, *, worse: bool) -> Change:
    """Compare a system with the base, which has the same references, utterance by utterance."""
    before, after = (s.errors(name).mean(axis=0) for s in (base, adapted))  # (U,) over seeds
    runs = adapted.with_score(name)
    change = after - before
    shape = base.shape(name) or ()

    # the utterances that changed in the direction asked for, most changed first
    side = 1 if worse else -1
    ranked = sorted(
        np.flatnonzero(side * change > 0),
        key=lambda at: (-side * change[at], -after[at], shape[at][0]),
    )
    pick = max if worse else min
    shown = []
    for at in ranked[:most]:
        uid, tokens = shape[at]
        errors = [run.scores[name].utterances[at].errors for run in runs]
        own = pick(errors)
        run = runs[errors.index(own)]
        shown.append(Changed(uid, float(before[at]), float(after[at]), tokens, run, own))
    up, down = int((change > 0).sum()), int((change < 0).sum())
    return Change(up, down, len(change) - up - down, tuple(shown))


def change_table(
    analysis: Analysis, system: System, name: str, change: Change, texts: Texts
) -> Table:
    """Return the most changed utterances with what was said and heard."""
    assert analysis.base is not None  # what else were they compared with?
    base, treatment = analysis.base.with_score(name)[0], analysis.treated[name]
    reference, before = texts.reference(name), texts.heard(base, name)
    rows = []
    for changed in change.most:
        text = reference.get(changed.id, ABSENT)
        after = texts.heard(changed.run, name)
        errors = f"{_number(changed.before)} → {_number(changed.after)} of {changed.tokens}"
        if len(system.runs) > 1:
            seed = changed.run.name.removeprefix(system.name).strip("_")
            errors += f" [{seed}: {changed.errors}]"
        rows.append(
            [
                changed.id,
                Cell(text, foreign=True),
                *(_cell(text, t.get(changed.id, ABSENT), treatment) for t in (before, after)),
                Cell(errors, changed.after - changed.before),
            ]
        )
    head = ("utterance", "reference", f"{base.label} heard", f"{system.label} heard", "errors")
    return table(head, rows)


def heard(analysis: Analysis, texts: Texts) -> list[Block]:
    """Return utterances to listen to: those that worsened most on old sets, improved on new.

    Of one adapted system: BLoRA's, else the first that can be compared with the base.
    """
    base = analysis.base
    ranked = sorted(analysis.adapted, key=lambda s: s.role != "blora")
    blocks: list[Block] = []
    for sets, worse in ((analysis.retention_sets, True), (analysis.test_sets, False)):
        if base is None:
            break
        found = [
            (abs(one.after - one.before), system, name, one)
            for system in ranked[:1]
            for name in sets
            if comparable([base, system], name)
            for one in changed(base, system, name, PLAYED, worse=worse).most
        ]
        for _, system, name, one in sorted(found, key=lambda row: -row[0])[:PLAYED]:
            blocks.append(_player(analysis, base, system, name, one, texts))
    if not blocks:
        return []
    caption = (
        "What the base could do and got worse most, then what is new and improved most. Wrong "
        "words are marked. The section of the utterances that changed most has more."
    )
    return [Prose(caption), *blocks]


def _player(
    analysis: Analysis, base: System, system: System, name: str, one: Changed, texts: Texts
) -> Heard:
    """Return one utterance with its sound, and what was said and heard."""
    text, treatment = texts.reference(name).get(one.id, ABSENT), analysis.treated[name]
    runs = ((base.label, base.with_score(name)[0]), (system.label, one.run))
    told = [(label, texts.heard(run, name).get(one.id, ABSENT)) for label, run in runs]
    title = f"{name}, {one.id}: {_number(one.before)} → {_number(one.after)} errors"
    return Heard(
        f"{title} in {one.tokens} tokens",
        texts.sound(name, one.id),
        [
            ("said", Cell(text, foreign=True)),
            *((who, _cell(text, t, treatment)) for who, t in told),
        ],
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _cell(reference: str, heard: str, treatment: Treatment) -> Cell:
    """Return recognised words, the wrong ones marked (as they were treated, if that is known)."""
    if ABSENT in (reference, heard):
        return Cell(heard, foreign=True)
    try:
        cut = tokeniser(treatment.unit, treatment.normalisation)
    except ValueError:  # a treatment of an old file that there is no more
        return Cell(heard, foreign=True)
    marks = _marks(heard, wrong_tokens(cut(reference), cut(heard)))
    return Cell(heard, marks=marks, foreign=True)


def wrong_tokens(reference: Sequence[str], heard: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the tokens heard, each with whether it is wrong in one optimal alignment."""
    rows = align(list(reference), list(heard))
    return [(token, operation != "hit") for operation, _, token in rows if token is not None]


def _marks(text: str, tokens: Iterable[tuple[str, bool]]) -> tuple[tuple[str, bool], ...]:
    """Cut a text into pieces at its tokens; () where the treatment has changed the letters."""
    pieces: list[tuple[str, bool]] = []
    folded, at = text.lower(), 0
    if len(folded) != len(text):
        return ()
    for token, wrong in tokens:
        start = folded.find(token, at)
        if start < 0:
            return ()
        pieces += [(text[at:start], False), (text[start : start + len(token)], wrong)]
        at = start + len(token)
    return tuple((piece, wrong) for piece, wrong in (*pieces, (text[at:], False)) if piece)


FULL = 0.10
MOST_GROUPS = 30
TITLES = {"by_language": "language", "by_speaker": "speaker"}


def group_rates(system: System, name: str, kind: str) -> dict[str, float]:
    """Return group -> mean rate over the seeds that have it."""
    by_group: dict[str, list[float]] = {}
    for group, row in _rows(system, name, kind):
        if row["rate"] is not None:
            by_group.setdefault(group, []).append(row["rate"])
    return {group: statistics.fmean(values) for group, values in by_group.items()}


def _rows(system: System, name: str, kind: str) -> Iterator[tuple[str, dict]]:
    """Yield each group of each seed, with its counts and rate."""
    for run in system.with_score(name):
        yield from run.groups.get(name, {}).get(kind, {}).items()


def heat(analysis: Analysis, kind: str) -> Table | None:
    """Return rates by set and group, one column per system; None where no set has two groups.

    Of more than `MOST_GROUPS` groups of a set, those whose rate differs most from the base's are
    kept, and the caption says how many were left out.
    """
    shown = [s for s in analysis.systems if any(s.rates(n) for n in analysis.sets)]
    body, left_out = [], 0
    for name in analysis.sets:
        by_system = {s.name: group_rates(s, name, kind) for s in shown}
        sizes = {g: row["tokens"] for s in reversed(shown) for g, row in _rows(s, name, kind)}
        if len(sizes) < 2:
            continue
        base = by_system.get(analysis.base.name, {}) if analysis.base else {}
        moved = dict.fromkeys(sizes, 0.0)  # the greatest change of any system
        for rates in by_system.values():
            for g in rates.keys() & base.keys() & sizes.keys():
                moved[g] = max(moved[g], abs(rates[g] - base[g]))
        kept = sorted(sizes, key=lambda g: (-moved[g], g))[:MOST_GROUPS]
        left_out += len(sizes) - len(kept)
        for group in sorted(kept):
            cells = [
                _heat_cell(by_system[s.name].get(group), base.get(group), s.adapted) for s in shown
            ]
            body.append([name, group, Cell(str(sizes[group]), sizes[group]), *cells])
    if not body:
        return None
    caption = (
        f"Error rate in per cent by {TITLES[kind]}; mean over seeds. Arrows: the change from the "
        "base by more than one point."
    )
    if left_out:
        caption += f" {left_out} groups that changed least are left out; score.json has them."
    return table(("set", TITLES[kind], "tokens", *(s.label for s in shown)), body, caption)


def _heat_cell(rate: float | None, base: float | None, adapted: bool) -> Cell:
    if rate is None:
        return Cell(ABSENT)
    if not adapted or base is None:
        return Cell(percent(rate), rate)
    change = rate - base
    arrow = "" if abs(change) <= 0.01 else (" ↑" if change > 0 else " ↓")
    return Cell(percent(rate) + arrow, rate, heat=max(-1.0, min(1.0, change / FULL)))


def utterances(analysis: Analysis, texts: Texts) -> list[Block]:
    """Return the section of the utterances that changed most."""
    blocks: list[Block] = []
    base = analysis.base
    for s in analysis.adapted:
        for name in analysis.shown_sets:
            if base is None or not comparable([base, s], name):
                continue
            forgetting = name in analysis.retention_sets
            change = changed(base, s, name, worse=forgetting)
            what = "worsened" if forgetting else "improved"
            caption = f"{change.worse} worse, {change.better} better, {change.same} as before"
            inside: list[Block] = [Prose(f"None {what}.")]
            if change.most:
                inside = [change_table(analysis, s, name, change, texts)]
            blocks.append(Folded(f"{s.label}, {name}: {caption}; {what} most", inside))
    if not blocks:
        return []
    caption = (
        "Utterances by their errors before and after: on the retention sets those that worsened "
        f"most, on the new domain those that improved most (at most {MOST} each). Of several "
        "seeds: the mean of their errors; the words, and the errors in brackets, are those "
        "of the seed with most errors there (new domain: with fewest)."
    )
    if len(analysis.shown_sets) < len(analysis.sets):
        number = f"{len(analysis.shown_sets)} of {len(analysis.sets)}"
        caption += f" These are the {number} sets whose errors differ most."
    return [Prose(caption), *blocks]


def groups(analysis: Analysis) -> list[Block]:
    """Return the section of error rates by language and by speaker."""
    tables = [heat(analysis, kind) for kind in TITLES]
    return [table for table in tables if table is not None]
