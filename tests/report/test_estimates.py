"""Figures with their uncertainty."""

import numpy as np
import pytest

from espnet_blora.report.estimates import Draws, Estimate, analyse, better, mean_estimate
from espnet_blora.report.experiments import make_systems
from espnet_blora.report.verdict import headline
from espnet_blora.scoring import Interval, score
from espnet_blora.scoring import retention as r

from .conftest import experiment


def seeds(role, wrongs, **kw):
    names = [f"asr_{role}_seed{n}" for n in range(len(wrongs))]
    made = [experiment(role, {"new": w}, name=n, **kw) for n, w in zip(names, wrongs, strict=True)]
    return make_systems(made)[0]


def test_sign_of_a_figure():
    assert Estimate(0.1, Interval(0.05, 0.2)).sign == 1
    assert Estimate(-0.1, Interval(-0.2, -0.05)).sign == -1
    assert Estimate(0.1, Interval(-0.1, 0.2)).sign == 0
    assert Estimate(0.1).sign == 0
    assert Estimate(0.1, Interval(0.05, 0.2), (0.1, 0.3)).sign == 1
    assert Estimate(0.1, Interval(0.05, 0.2), (0.3, -0.1)).sign == 0  # a seed says otherwise


def test_one_run_has_the_interval_of_its_score():
    system = seeds("lora", [2])
    one = mean_estimate(Draws(["old", "new"]), lambda x: x, [system], ["new"])
    mine, theirs = one.interval, system.runs[0].scores["new"].interval()
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high))
    assert one.seeds == (0.25,) and one.spread is None


def test_seeds_are_no_further_utterances():
    """Three equal seeds tell no more of other utterances than one."""
    draws = Draws(["new"])
    one = mean_estimate(draws, lambda x: x, [seeds("lora", [2])], ["new"])
    three = mean_estimate(draws, lambda x: x, [seeds("blora", [2, 2, 2])], ["new"])
    assert (three.interval.low, three.interval.high) == pytest.approx(
        (one.interval.low, one.interval.high)
    )
    assert three.spread == 0 and len(three.seeds) == 3


def test_by_hand_over_seeds():
    base, other = seeds("base", [3]), seeds("lora", [1, 2])
    one = mean_estimate(Draws(["new"]), r.new_domain_gain, [base, other], ["new"])
    assert one.value == pytest.approx((0.35 - 0.2) / 0.35)
    assert one.seeds == pytest.approx(((0.35 - 0.15) / 0.35, (0.35 - 0.25) / 0.35))
    assert one.interval.low <= one.value <= one.interval.high


def test_a_paired_interval_uses_the_same_draws():
    """Systems that differ by the same number of errors everywhere differ in every draw alike."""
    a, b = seeds("lora", [1]), seeds("blora", [3])
    one = mean_estimate(Draws(["new"]), lambda x, y: y - x, [a, b], ["new"])
    assert one.interval.low == pytest.approx(0.2) and one.interval.high == pytest.approx(0.2)
    assert better(a, b, "new") == 1.0 and better(b, a, "new") == 0.0


def test_unequal_numbers_of_seeds_compare_means():
    assert better(seeds("lora", [2, 2]), seeds("blora", [2]), "new") == 0.5


def test_sets_are_drawn_apart():
    draws = Draws(["new", "old"])
    same = {"new": 2, "old": 2}
    (system,) = make_systems([experiment("lora", same)])
    new, old = (draws.rates(system, name) for name in ("new", "old"))
    assert new.shape == (1000,) and not np.array_equal(new, old)
    assert draws.rates(system, "new") is new


@pytest.mark.parametrize("small", ["one utterance", "no errors"])
def test_a_set_that_allows_no_interval_is_left_out_of_a_mean_of_changes(small):
    runs = [
        experiment(role, {"new": 6, "old": wrong, "tiny": -1 if role == "base" else wrong})
        for role, wrong in (("base", 1), ("lora", 3), ("blora", 2))
    ]
    if small == "one utterance":
        for run in runs:
            run.scores["tiny"] = score({"u": "a b c d"}, {"u": "a b c x"})
    base, lora, _ = systems = make_systems(runs)
    found = analyse(systems, ["new"], ["old", "tiny"])
    degradation = found.mean_degradation["asr_lora"]
    assert degradation.left_out == ("tiny",) and found.too_small == ["tiny"]
    alone = mean_estimate(Draws(["old"]), r.backward_degradation, [base, lora], ["old"])
    assert (degradation.value, degradation.interval) == (alone.value, alone.interval)
    terms, *_, edge = headline(found)
    assert "intervals: tiny, with one" in terms and "not clearly above zero" not in edge
    # an error rate is the mean over all sets
    assert found.kept["asr_lora"].value == pytest.approx((lora.rate("old") + lora.rate("tiny")) / 2)
    # with no other set the verdict gives the reason
    found = analyse(make_systems(runs), ["new"], ["tiny"])
    assert found.too_small == []
    if small == "one utterance":
        assert "on the retention sets has no interval" in headline(found)[-1]


def test_undefined_stays_undefined():
    perfect = seeds("base", [-1])  # no error in the first utterance, none in the second
    assert perfect.rate("new") == 0
    one = mean_estimate(Draws(["new"]), r.backward_gain, [perfect, seeds("lora", [1])], ["new"])
    assert one == Estimate(None)
    assert mean_estimate(Draws(["x"]), lambda x: x, [perfect], ["x"]) is None
