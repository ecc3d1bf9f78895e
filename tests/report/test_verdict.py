"""Sentences that say what came out, whoever it flatters."""

from espnet_blora.report.estimates import analyse
from espnet_blora.report.experiments import make_systems
from espnet_blora.report.verdict import headline, published, verdict

from .conftest import experiment, trio

SWEEP = [(0.0, 0.65, 0.05), (0.5, 0.45, 0.08), (0.8, 0.35, 0.12), (1.0, 0.25, 0.25)]


def said_of(systems, **kw):
    found = analyse(systems, ["new"], ["old"], **kw)
    return " ".join(verdict(found, found.comparisons[0])), found


def test_a_rival_that_does_better_is_said():
    said, _ = said_of(trio((2, 2), (3, 1), SWEEP))
    assert "LoRA with its scale turned down makes 12.0 % errors on the retention sets" in said
    assert "BLoRA 15.0 %: LoRA turned down keeps more than BLoRA" in said
    assert "BLoRA's edge over LoRA does not show in this run" in said


def test_an_edge_is_said_too():
    weak = [(0.0, 0.65, 0.05), (0.5, 0.45, 0.18), (0.8, 0.35, 0.21), (1.0, 0.25, 0.25)]
    said, found = said_of(trio((2, 2), (3, 1), weak))
    assert "keeps less than BLoRA" in said and "BLoRA's edge over LoRA shows in this run" in said
    assert "pays for it on the new domain (-40.0 %)" in said
    assert any("edge over LoRA shows" in line for line in headline(found))


def test_no_gain_is_no_edge():
    said, _ = said_of(trio((2, 1), (3, 1), SWEEP))
    assert "not clearly above zero" in said and "does not show" in said


def test_without_a_sweep_no_edge_is_claimed():
    said, _ = said_of(trio((2, 2), (3, 1)))
    assert "could not be compared with LoRA with its scale" in said and "does not show" in said


def test_the_paper_is_no_excuse_for_others():
    base, *others = trio((2, 2), (3, 1))
    for system in others:
        system.role = "other"
    said, _ = said_of([base, *others])
    assert "LoRA's edge over" not in said.replace("BLoRA's", "") and "arXiv" not in said


def test_seeds_that_disagree_are_no_clear_difference():
    runs = [experiment("base", {"new": 6, "old": 0})]
    runs += [experiment("lora", {"new": 2, "old": n}, name=f"asr_lora_seed{n}") for n in (2, 4)]
    runs += [experiment("blora", {"new": 2, "old": n}, name=f"asr_blora_seed{n}") for n in (1, 3)]
    said, _ = said_of(make_systems(runs))
    assert "but the seeds do not agree" in said and "so in 3 of 4 pairs of seeds" in said


def test_without_scores_there_is_no_verdict():
    base, lora, blora = trio((2, 2), (3, 1))
    del blora.runs[0].scores["old"]
    said, _ = said_of([base, lora, blora])
    assert "There is no verdict" in said
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
    assert "does not show" in edge and not any("orgotten" in line for line in (lora, blora))


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
