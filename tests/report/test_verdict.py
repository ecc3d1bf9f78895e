"""Sentences that say what came out, whoever it flatters."""

from dataclasses import replace

import numpy as np
import pytest

from espnet_blora.report.edge import corrected
from espnet_blora.report.estimates import analyse
from espnet_blora.report.experiments import make_systems
from espnet_blora.report.gap import holm
from espnet_blora.report.sections import cards
from espnet_blora.report.verdict import compared, headline, published, verdict
from espnet_blora.scoring import score
from espnet_blora.scoring.sweep import UtteranceErrors

from .conftest import experiment, trio

SWEEP = [(0.0, 0.65, 0.05), (0.5, 0.45, 0.08), (0.8, 0.35, 0.12), (1.0, 0.25, 0.25)]
WEAK = [(0.0, 0.65, 0.05), (0.5, 0.45, 0.18), (0.8, 0.35, 0.21), (1.0, 0.25, 0.25)]
THREE = {"seeds": 3, "number": 60}


def said_of(systems, **kw):
    found = analyse(systems, ["new"], ["old"], **kw)
    return " ".join(verdict(found, found.comparisons[0])), found


def test_a_rival_that_does_better_is_said():
    said, found = said_of(trio((2, 2), (3, 1), SWEEP, **THREE))
    assert found.comparisons[0].edge.outcome == "less"
    assert "**LoRA turned down keeps more than BLoRA**: at BLoRA's error on the new" in said
    assert "domain (35.2 %) LoRA turned down makes 12." in said and "BLoRA 15.17 %: a gap" in said
    assert "not off the hull of LoRA's scales" in said and "arXiv 2510.18723" in said


def test_an_edge_is_said_too():
    said, found = said_of(trio((2, 2), (3, 1), WEAK, **THREE))
    edge = found.comparisons[0].edge
    assert edge.outcome == "shows" and edge.seeds == (3, 3) and edge.lacks == []
    assert edge.step == 0.3
    assert "**BLoRA's edge over LoRA shows**: at BLoRA's error" in said
    assert "120 utterances, 3 seeds of BLoRA and 3 of LoRA, one-sided p below 0.0001)" in said
    assert "BLoRA forgets 37 % less than LoRA turned down (reduction, 95 % interval" in said
    assert any("edge over LoRA shows" in line for line in headline(found))
    (row,) = compared(found, found.comparisons[0])[-1].rows
    assert [row[0].text, row[2].text, row[5].tone] == ["1", "0.80", "good"]


def test_a_curve_with_wide_steps_only_suggests():
    wide = [(0.25, 0.55, 0.12), *(row for row in WEAK if row[0] != 0.8)]
    said, found = said_of(trio((2, 2), (3, 1), wide, **THREE))
    assert found.comparisons[0].edge.step == 0.5
    assert found.comparisons[0].edge.outcome == "suggested"
    assert "the scales of LoRA are 0.5 apart where its curve is read off, 0.3" in said


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ({"seeds": 2, "number": 60}, "BLoRA has 2 training seeds, 3 are needed"),
        ({"seeds": 3, "number": 40}, "old has fewer than 50 utterances"),
    ],
)
def test_too_few_seeds_or_utterances_only_suggest(kind, lacks):
    said, found = said_of(trio((2, 2), (3, 1), WEAK, **kind))
    assert found.comparisons[0].edge.outcome == "suggested"
    assert "edge of BLoRA over LoRA is suggested, not shown** (" in said and lacks in said


def test_several_comparisons_share_the_risk():
    _, found = said_of(trio((2, 2), (3, 1), WEAK, **THREE))
    edge = found.comparisons[0].edge
    one, two = (replace(edge, gap=replace(edge.gap, value=v)) for v in (0.06, 0.0001))
    first, second, none = corrected([two, one, "no sweep"])
    assert none == "no sweep" and second.p == pytest.approx(2 * one.gap.p)
    assert first.p == two.gap.p and second.compared == 2
    edge = replace(edge, p=0.03, compared=2)
    assert edge.outcome == "suggested" and "0.030 over the 2 comparisons" in edge.lacks[0]


def test_the_page_corrects_for_all_of_its_comparisons():
    runs = [run for s in trio((2, 2), (3, 1), WEAK, **THREE) for run in s.runs]
    for n in range(3):
        runs.append(experiment("other", {"new": 3, "old": 1}, name=f"asr_x_seed{n}", number=60))
    edges = [c.edge for c in analyse(make_systems(runs), ["new"], ["old"]).comparisons]
    alone = [edge.gap.p for edge in edges]
    assert [edge.p for edge in edges] == holm(alone) != alone
    assert [edge.compared for edge in edges] == [2, 2]


@pytest.mark.parametrize(
    ("sweep", "suggests"),
    [
        (WEAK, "That suggests that BLoRA keeps more"),
        (SWEEP, "That suggests that LoRA turned down keeps more"),
        ([(s, n, k + 0.03 * (0 < s < 1)) for s, n, k in SWEEP], "The interval holds zero"),
    ],
)
def test_one_seed_is_no_verdict(sweep, suggests):
    said, found = said_of(trio((2, 2), (3, 1), sweep, number=60))
    assert found.comparisons[0].edge.outcome == "checkpoints"
    assert "**No verdict on BLoRA against LoRA: one training seed.** Of these two" in said
    assert "if training again moves error rates by about 5 %" in said and suggests in said
    assert "A verdict needs 3 training seeds" in said and "hull" not in said


def test_what_cannot_be_told_apart_is_said():
    middle = [(s, n, k + 0.03 * (0 < s < 1)) for s, n, k in SWEEP]
    systems = trio((2, 2), (3, 1), middle, **THREE)
    for run, row in zip(systems[2].runs, (0.30, 0.36, 0.40), strict=True):
        run.sweep = experiment("blora", {}, [(1.0, row, 0.15)], number=60).sweep
    said, _ = said_of(systems)
    assert "**BLoRA cannot be told from LoRA turned down**: at BLoRA's error on the new" in said


def test_all_scales_of_the_candidate_count():
    systems = trio((2, 2), (3, 1), WEAK, **THREE)
    for run in systems[2].runs:
        points = [(0.0, 0.65, 0.05), (0.5, 0.5, 0.08), (1.0, 0.35, 0.15), (1.5, 0.1, 0.3)]
        run.sweep = experiment("blora", {}, points, number=60).sweep
    said, found = said_of(systems)
    edge = found.comparisons[0].edge
    assert edge.tested == (0.5, 1.0) and list(edge.points) == [0.5, 1.0, 1.5]
    assert edge.points[1.5].beyond == 1 and edge.gap.beyond == 0
    assert edge.gap.value == pytest.approx((edge.points[0.5].value + edge.points[1.0].value) / 2)
    assert "of BLoRA's 2 scales (mean 42.5 %)" in said


def test_sets_that_are_too_small_for_a_test_are_named():
    runs = [run for s in trio((2, 2), (3, 1), WEAK, **THREE) for run in s.runs]
    for run in runs:
        run.scores["tiny"] = score({"u": "a b"}, {"u": "a x"})
    found = analyse(make_systems(runs), ["new"], ["old", "tiny"])
    (pair,) = found.comparisons
    assert pair.edge.left_out == ("tiny",) and pair.edge.outcome == "shows"
    assert verdict(found, pair)[-1].endswith("Left out: tiny.")
    found = analyse(make_systems(runs), ["new"], ["tiny"])
    assert "needs a set of the new domain and a retention set of 20" in found.comparisons[0].edge


def elsewhere(sweep):
    other = UtteranceErrors((("x", 10),), np.array([3]))
    return [replace(row, detail=other) for row in sweep]


def with_a_wide_step(sweep):
    return [replace(row, scale={0.5: 0.2, 0.8: 0.3}.get(row.scale, row.scale)) for row in sweep]


def without_counts(sweep):
    return [replace(row, detail=None) for row in sweep]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda sweep: [], "LoRA was not decoded at other scales"),
        (elsewhere, "the sweep and the scores of LoRA are of different references"),
        (without_counts, "the sweep of LoRA is of an older release, without counts by utterance"),
        (
            lambda sweep: [r for r in sweep if r.scale != 0.5],
            "LoRA was decoded, with all its seeds, at the scales 0 0.8 1; a curve",
        ),
        (with_a_wide_step, "LoRA was decoded, with all its seeds, at the scales 0 0.2 0.3 1; a"),
    ],
)
def test_without_a_curve_there_is_no_verdict(change, why):
    systems = trio((2, 2), (3, 1), WEAK, **THREE)
    for run in systems[1].runs:
        run.sweep = change(run.sweep)
    said, _ = said_of(systems)
    assert f"**There is no verdict on BLoRA against LoRA**: {why}" in said


def test_the_paper_is_no_excuse_for_others():
    base, *others = trio((2, 2), (3, 1), SWEEP)
    for system in others:
        system.role = "other"
    said, _ = said_of([base, *others])
    assert "arXiv" not in said


def test_seeds_that_disagree_are_no_clear_difference():
    runs = [experiment("base", {"new": 6, "old": 0})]
    runs += [experiment("lora", {"new": 2, "old": n}, name=f"asr_lora_seed{n}") for n in (2, 4)]
    runs += [experiment("blora", {"new": 2, "old": n}, name=f"asr_blora_seed{n}") for n in (1, 3)]
    said, _ = said_of(make_systems(runs))
    assert "but the interval holds zero (95 % interval" in said and "20 utt., few)" in said


def test_without_scores_there_is_no_verdict():
    base, lora, blora = trio((2, 2), (3, 1))
    del blora.runs[0].scores["old"]
    said, _ = said_of([base, lora, blora])
    assert "There is no verdict" in said and "on all sets; old has not all of them." in said
    assert headline(analyse([base], ["new"], ["old"]))[0].startswith("Nothing can be said yet")
    assert "Scored here: nothing" in headline(analyse([], ["new"], ["old"]))[0]


def test_the_headline_in_plain_words():
    found = analyse(trio((2, 2), (3, 1)), ["new"], ["old"], kappa=0.15)
    terms, lora, blora, edge = headline(found)
    assert "New domain: new. Retention sets" in terms and "before: old. The gate" in terms
    assert "less than 15 points (kappa)" in terms
    assert lora.startswith("**LoRA**: errors on the new domain 65.0 → 25.0 % (62 % fewer, clearly")
    assert "5.0 → 25.0 %: worse by 20.0 points (400 % more, clearly), beyond the 15" in lora
    assert lora.endswith("allowed on old: gate failed.")
    assert "worse by 10.0 points (200 % more, clearly), within the 15 allowed." in blora
    assert "There is no verdict" in edge and not any("orgotten" in line for line in (lora, blora))


def test_a_change_without_interval_is_not_called_unclear():
    lora = headline(analyse(trio((2, 2), (3, 1), number=10), ["new"], ["old"]))[1]
    assert "(62 % fewer, no interval)" in lora and "(400 % more, no interval)" in lora


def test_a_gate_that_one_set_fails_names_it():
    runs = [
        experiment("base", {"new": 6, "old": 1, "far": 1}),
        experiment("lora", {"new": 2, "old": 1, "far": 3}),
    ]
    told = headline(analyse(make_systems(runs), ["new"], ["old", "far"], {"old": 0.01, "far": 0.1}))
    assert "less than 1 to 10 points" in told[0] and "before: old, far." in told[0]
    assert "beyond the 1 to 10 allowed on far, within it on the other sets." in told[1]


def test_of_many_systems_the_frontier_is_told():
    runs = [experiment("base", {"new": 8, "old": 0})]
    runs += [
        experiment("other", {"new": n, "old": 7 - n + (n == 3) * 3}, name=f"asr_{n}")
        for n in range(7)
    ]
    told = headline(analyse(make_systems(runs), ["new"], ["old"]))
    assert told[1].startswith("7 adapted systems were compared. Described here are the 6")
    assert not any(line.startswith("**asr_3**:") for line in told)


def test_ours_beside_the_papers():
    table = published(analyse(trio((2, 2), (3, 1)), ["new"], ["old"]))
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    here, theirs, source = rows["backward gain of BLoRA over LoRA"]
    assert here.startswith("+40.0 % (") and theirs == "+54 %" and "2510.18723" in source
    assert rows["new-domain change, BLoRA against LoRA"][:2][1] == "-4 %"
    assert rows["Hoyer index of ΔW, BLoRA"] == ["–", "0.45", "BLoRA, arXiv 2510.18723"]
    assert "other data" in table.caption


def test_without_blora_only_the_papers_column_is_filled():
    table = published(analyse(trio((2, 2), (3, 1))[:1], ["new"], ["old"]))
    assert {row[1].text for row in table.rows} == {"–"} and len(table.rows) == 12


def test_a_mean_of_relative_changes_is_not_taken_for_the_change_of_the_mean():
    """Of 45 -> 15 % and 15 -> 25 % the relative changes are -2/3 and +2/3; the mean falls by 10."""
    runs = [experiment("base", {"new": 6, "old": 4, "far": 1})]
    runs += [experiment("lora", {"new": 6, "old": 1, "far": 2})]
    found = analyse(make_systems(runs), ["new"], ["old", "far"])
    line = next(line for line in headline(found) if line.startswith("**LoRA**"))
    assert "65.0 → 65.0 % (unchanged" in line
    assert "30.0 → 20.0 %: better by 10.0 points (mean of the sets' relative changes: un" in line
    assert "mean of the sets' degradations, %" in cards(found)[0].cards[-1].facts
