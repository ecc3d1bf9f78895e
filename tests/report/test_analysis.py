"""Figures and verdicts from scores whose outcome is known."""

from pathlib import Path

import pytest

from espnet_blora.report.analysis import Figure, analyse, verdict
from espnet_blora.report.collect import Experiment, SweepRow
from espnet_blora.scoring import Interval, score


def experiment(role, rates, sweep=()):
    """An experiment that makes `rates[set]` errors in every utterance of 10 words."""
    found = Experiment(f"asr_{role}", Path(f"asr_{role}"), role, role)
    for name, wrong in rates.items():
        ref = {f"{name}-{n}": "a b c d e f g h i j" for n in range(20)}
        # 0 or 1 more wrong word from utterance to utterance, so that draws differ
        hyp = {
            k: " ".join(["x"] * (wrong + n % 2) + t.split()[wrong + n % 2 :])
            for n, (k, t) in enumerate(ref.items())
        }
        found.scores[name] = score(ref, hyp)
    for scale, new, kept in sweep:
        found.sweep += [SweepRow(scale, "new", new, 20), SweepRow(scale, "old", kept, 20)]
    return found


def trio(lora, blora, lora_sweep=()):
    """Base 65 % on the new set, 5 % on the old; LoRA and BLoRA given as (new, old) in tenths."""
    base = experiment("base", {"new": 6, "old": 0})
    return [
        base,
        experiment("lora", dict(zip(("new", "old"), lora, strict=True)), lora_sweep),
        experiment("blora", dict(zip(("new", "old"), blora, strict=True))),
    ]


def test_figures_by_hand():
    experiments = trio((2, 2), (3, 1))  # LoRA 25 / 25 %, BLoRA 35 / 15 %, base 65 / 5 %
    found = analyse(experiments, ["new"], ["old"], kappa=0.2)
    assert found.degradation["asr_lora", "old"].value == pytest.approx(4)
    assert found.degradation["asr_blora", "old"].value == pytest.approx(2)
    assert found.new_gain["asr_blora"].value == pytest.approx(30 / 65)
    assert found.gate == {"asr_lora": pytest.approx(0.0), "asr_blora": pytest.approx(0.5)}
    compared = found.compared
    assert compared["backward gain"]["old"].value == pytest.approx(0.4)
    assert compared["backward gain on degradations"]["mean over sets"].value == pytest.approx(0.5)
    assert compared["new-domain change"]["new"].value == pytest.approx(-0.4)
    gain = compared["backward gain"]["old"].interval
    assert gain.low < 0.4 < gain.high and found.better == {"new": 0.0, "old": 1.0}


SWEEP = [(0.0, 0.65, 0.05), (0.5, 0.45, 0.08), (0.8, 0.35, 0.12), (1.0, 0.25, 0.25)]


def test_a_rival_that_does_better_is_said():
    experiments = trio((2, 2), (3, 1), SWEEP)
    found = analyse(experiments, ["new"], ["old"])
    said = " ".join(verdict(found, *experiments[1:]))
    assert "LoRA with its scale turned down makes 12.0 % errors on the retention sets" in said
    assert "BLoRA 15.0 %: LoRA turned down keeps more than BLoRA" in said
    assert "BLoRA's edge does not show in this run" in said


def test_an_edge_is_said_too():
    weak = [(0.0, 0.65, 0.05), (0.5, 0.45, 0.18), (0.8, 0.35, 0.21), (1.0, 0.25, 0.25)]
    experiments = trio((2, 2), (3, 1), weak)
    said = " ".join(verdict(analyse(experiments, ["new"], ["old"]), *experiments[1:]))
    assert "keeps less than BLoRA" in said and "BLoRA's edge shows in this run" in said


def test_no_gain_is_no_edge():
    experiments = trio((2, 1), (3, 1), SWEEP)
    said = " ".join(verdict(analyse(experiments, ["new"], ["old"]), *experiments[1:]))
    assert "not clearly above zero" in said and "does not show" in said


def test_without_a_sweep_no_edge_is_claimed():
    experiments = trio((2, 2), (3, 1))
    said = " ".join(verdict(analyse(experiments, ["new"], ["old"]), *experiments[1:]))
    assert "could not be compared with LoRA's scale" in said and "does not show" in said


def test_missing_pieces_leave_no_figure():
    base, lora, blora = trio((2, 2), (3, 1))
    del blora.scores["old"]
    found = analyse([base, lora, blora], ["new"], ["old"])
    assert ("asr_blora", "old") not in found.degradation and "asr_blora" not in found.gate
    assert found.compared["backward gain"] == {}
    assert analyse([lora, blora], ["new"], ["old"]).degradation == {}
    assert "no verdict" in verdict(analyse([base, lora], ["new"], ["old"]), lora, None)[0]


def test_different_references_are_noted_and_give_no_interval():
    base, lora, blora = trio((2, 2), (3, 1))
    lora.scores["old"] = score({"other": "a b", "another": "c"}, {"other": "a", "another": "c"})
    found = analyse([base, lora, blora], ["new"], ["old"])
    assert found.degradation["asr_lora", "old"].interval is None
    assert any("different references" in note for note in found.notes)


def test_sign_of_a_figure():
    assert Figure(0.1, Interval(0.05, 0.2)).sign == 1
    assert Figure(-0.1, Interval(-0.2, -0.05)).sign == -1
    assert Figure(0.1, Interval(-0.1, 0.2)).sign == 0
    assert Figure(0.1).sign == 0
