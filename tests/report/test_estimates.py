"""Figures with their uncertainty."""

from dataclasses import replace

import numpy as np
import pytest

from espnet_blora.report.estimates import Estimate, analyse, mean_estimate
from espnet_blora.report.experiments import make_systems
from espnet_blora.report.verdict import headline
from espnet_blora.scoring import Counts, Interval, score
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


def test_one_run_has_the_interval_of_its_score():
    system = seeds("lora", [2])
    one = mean_estimate(r.error_rate, [system], ["new"])
    mine, theirs = one.interval, system.runs[0].scores["new"].interval
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high))
    assert mine.basis == theirs.basis == "20 utt., few"
    assert one.seeds == (0.25,) and one.spread is None


def test_seeds_are_no_further_utterances():
    """Three equal seeds tell no more of other utterances than one."""
    one = mean_estimate(r.error_rate, [seeds("lora", [2])], ["new"])
    three = mean_estimate(r.error_rate, [seeds("blora", [2, 2, 2])], ["new"])
    assert (three.interval.low, three.interval.high) == pytest.approx(
        (one.interval.low, one.interval.high)
    )
    assert three.interval.basis == "20 utt., few"
    assert three.spread == 0 and len(three.seeds) == 3


def test_seeds_that_differ_widen_the_interval():
    base = seeds("base", [3])
    alike, unlike = (seeds("lora", wrongs) for wrongs in ([1, 1, 1], [0, 1, 2]))
    narrow, wide = (
        mean_estimate(r.new_domain_gain, [base, system], ["new"]) for system in (alike, unlike)
    )
    assert narrow.value == pytest.approx(wide.value)
    assert narrow.sign == 1 and wide.sign == 0  # three seeds: t with 2 degrees of freedom
    assert wide.interval.high - wide.interval.low > 5 * (narrow.interval.high - narrow.interval.low)


def test_by_hand_over_seeds():
    base, other = seeds("base", [3]), seeds("lora", [1, 2])
    one = mean_estimate(r.new_domain_gain, [base, other], ["new"])
    assert one.value == pytest.approx((0.35 - 0.2) / 0.35)
    assert one.seeds == pytest.approx(((0.35 - 0.15) / 0.35, (0.35 - 0.25) / 0.35))
    assert one.interval.low <= one.value <= one.interval.high


def test_a_paired_interval_knows_what_the_systems_share():
    """Systems that differ by the same number of errors everywhere: the interval has no width."""
    a, b = seeds("lora", [1]), seeds("blora", [3])
    one = mean_estimate(r.Formula("", "", (-1, 1)), [a, b], ["new"])
    assert one.interval.low == pytest.approx(0.2) and one.interval.high == pytest.approx(0.2)


@pytest.mark.parametrize("formula", [r.backward_degradation, r.backward_gain_on_degradations])
def test_the_interval_of_a_quotient_is_as_wide_as_draws_of_utterances_say(formula):
    """The standard error against 4,000 draws, over two sets; the divisor is held fixed."""
    rng = np.random.default_rng(2)
    hard = {name: rng.beta(2, 6, 300) for name in ("old", "far")}
    runs = [
        experiment(role, {"old": 1, "far": 1}, number=300) for role in ("base", "lora", "blora")
    ]
    for run, level in zip(runs, (0.8, 1.6, 1.1), strict=True):
        for name, scored in run.scores.items():
            errors = rng.binomial(10, np.minimum(level * hard[name], 1)).tolist()
            counted = zip(scored.utterances, errors, strict=True)
            rows = tuple(replace(u, counts=Counts(10 - n, n, 0, 0)) for u, n in counted)
            run.scores[name] = replace(scored, utterances=rows)
    systems = make_systems(runs)[: 2 if formula is r.backward_degradation else 3]
    found = mean_estimate(formula, systems, ["old", "far"])
    values = []
    for name in ("old", "far"):
        errors = np.concatenate([s.errors(name) for s in systems])  # (systems, 300)
        drawn = errors[:, rng.integers(0, 300, (4000, 300))].sum(axis=2) / 3000
        divisor = formula.divisor(*(system.rate(name) for system in systems))
        values.append(formula.above @ drawn / divisor)
    deviation = np.mean(values, axis=0).std()
    width = found.interval.high - found.interval.low
    assert width / (2 * 1.96) == pytest.approx(deviation, rel=0.07)


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
    alone = mean_estimate(r.backward_degradation, [base, lora], ["old"])
    assert (degradation.value, degradation.interval) == (alone.value, alone.interval)
    assert "intervals: tiny, with too few" in headline(found)[0]
    # an error rate is the mean over all sets
    assert found.kept["asr_lora"].value == pytest.approx((lora.rate("old") + lora.rate("tiny")) / 2)
    # with no other set the verdict gives the reason
    found = analyse(make_systems(runs), ["new"], ["tiny"])
    assert found.too_small == []
    assert found.mean_degradation["asr_lora"].interval is None


def test_undefined_stays_undefined():
    perfect = seeds("base", [-1])  # no error in the first utterance, none in the second
    assert perfect.rate("new") == 0
    one = mean_estimate(r.backward_gain, [perfect, seeds("lora", [1])], ["new"])
    assert one == Estimate(None)
    assert mean_estimate(r.error_rate, [perfect], ["x"]) is None
