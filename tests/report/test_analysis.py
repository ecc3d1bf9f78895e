"""Figures from scores whose outcome is known."""

import pytest

from espnet_blora.report.estimates import ALL_SETS, analyse
from espnet_blora.report.experiments import make_systems
from espnet_blora.scoring import score

from .conftest import experiment, sweep_row, trio


def test_figures_by_hand():
    systems = trio((2, 2), (3, 1))  # LoRA 25 / 25 %, BLoRA 35 / 15 %, base 65 / 5 %
    found = analyse(systems, ["new"], ["old"], kappa=0.2)
    assert found.degradation["asr_lora", "old"].value == pytest.approx(4)
    assert found.degradation["asr_blora", "old"].value == pytest.approx(2)
    assert found.new_gain["asr_blora"].value == pytest.approx(30 / 65)
    assert found.gate == {"asr_lora": pytest.approx(0.0), "asr_blora": pytest.approx(0.5)}
    assert found.rise(systems[2], "old") == pytest.approx(0.1)
    (made,) = found.comparisons
    assert made.figures["backward gain"]["old"].value == pytest.approx(0.4)
    assert made.figures["backward gain on degradations"][ALL_SETS].value == pytest.approx(0.5)
    assert made.figures["new-domain change"]["new"].value == pytest.approx(-0.4)
    gain = made.figures["backward gain"]["old"].interval
    assert (gain.low, gain.high) == pytest.approx((0.4, 0.4)) and gain.basis == "20 utt., few"


def test_any_pair_is_compared():
    others = [experiment("other", {"new": n, "old": 1}, name=f"asr_{n}") for n in (2, 3, 4)]
    systems = make_systems([experiment("base", {"new": 6, "old": 0}), *others])

    def compared(*compare):
        made = analyse(systems, ["new"], ["old"], compare=compare).comparisons
        return [(c.a.name, c.b.name) for c in made]

    assert compared() == [("asr_3", "asr_2"), ("asr_4", "asr_2")]
    assert compared("asr_4:asr_3", "asr_2:base") == [("asr_4", "asr_3"), ("asr_2", "asr_base")]
    for text, said in (
        ("asr_4", "give pairs A:B"),
        ("asr_4:asr_9", "asr_9: no such experiment here; there are: asr_2"),
        ("asr_4:asr_4", "cannot be compared with itself"),
    ):
        with pytest.raises(ValueError, match=said):
            compared(text)


def test_missing_pieces_leave_no_figure():
    base, lora, blora = trio((2, 2), (3, 1))
    del blora.runs[0].scores["old"]
    found = analyse([base, lora, blora], ["new"], ["old"])
    assert ("asr_blora", "old") not in found.degradation and "asr_blora" not in found.gate
    assert found.comparisons[0].figures["backward gain"] == {}
    assert analyse([lora, blora], ["new"], ["old"]).degradation == {}


def test_different_references_are_noted_and_give_no_interval():
    base, lora, blora = trio((2, 2), (3, 1))
    lora.runs[0].scores["old"] = score(
        {"other": "a b", "another": "c"}, {"other": "a", "another": "c"}
    )
    found = analyse([base, lora, blora], ["new"], ["old"])
    assert found.degradation["asr_lora", "old"].interval is None
    assert any("different references" in note for note in found.notes)


def test_seeds_have_points_of_their_own_and_a_mean():
    base = experiment("base", {"new": 6, "old": 0})
    sweep = [(0.5, 0.45, 0.08)]
    runs = [
        experiment("lora", {"new": n, "old": 1}, s, name=f"asr_lora_seed{n}")
        for n, s in ((1, [*sweep, (0.7, 0.3, 0.1)]), (2, sweep))
    ]
    found = analyse(make_systems([base, *runs]), ["new"], ["old"])
    names = [p.name for p in found.points["asr_lora"]]
    assert names == ["0", "0.5", "1"]  # only what all seeds have is averaged
    full = found.points["asr_lora"][-1]
    assert (full.new, full.kept) == (pytest.approx(0.2), pytest.approx(0.15))
    assert [p.new for p in found.seed_points["asr_lora"]] == pytest.approx([0.15, 0.25])
    assert "asr_base" not in found.seed_points


def test_a_seed_without_score_is_said():
    base = experiment("base", {"new": 6, "old": 0})
    runs = [experiment("lora", {"new": 1, "old": 1}, name=f"asr_lora_seed{n}") for n in (1, 2)]
    del runs[1].scores["old"]
    for run in runs:
        run.folder = base.folder.cwd()
    found = analyse(make_systems([base, *runs]), ["new"], ["old"])
    assert any("1 of 2 seeds have no score (asr_lora_seed2)" in note for note in found.notes)


def rescored(run, name, **how):
    ref = {u.id: "a b c d e f g h i j" for u in run.scores[name].utterances}
    run.scores[name] = score(ref, dict.fromkeys(ref, "a b C d e f g h i j"), **how)


def test_other_treatments_are_set_aside_loudly():
    systems = trio((2, 2), (3, 1))
    rescored(systems[2].runs[0], "old", normalisation="none")
    systems[1].runs[0].sweep = [sweep_row(0.5, "new", 0.3, "wer")]
    found = analyse(systems, ["new"], ["old"])
    assert len(found.warnings) == 2
    assert "BLoRA, old: its decoding was scored as MER, none, the others as MER, basic" in str(
        found.warnings
    )
    assert "LoRA, new: its sweep was scored as WER, basic" in str(found.warnings)
    assert ("asr_blora", "old") not in found.rates and "asr_blora" not in found.gate
    assert systems[1].runs[0].sweep == [] and "asr_lora" in found.gate


def test_sets_that_are_not_treated_alike_are_warned_of():
    systems = trio((2, 2), (3, 1))
    for system in systems:
        rescored(system.runs[0], "old", normalisation="none")
    found = analyse(systems, ["new"], ["old"])
    assert len(found.warnings) == 1 and "not treated alike" in found.warnings[0]
    assert "asr_blora" in found.gate and found.treated["old"].normalisation == "none"
