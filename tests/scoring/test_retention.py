"""Retention formulas against numbers worked out by hand."""

import pytest

from espnet_blora.scoring import retention as r


def test_formulas_by_hand():
    # base 4 %, LoRA 12 %, BLoRA 8 % on a retention set; 50 / 25 / 26 % on the new domain
    assert r.backward_degradation(0.04, 0.12) == pytest.approx(2.0)
    assert r.backward_degradation(0.04, 0.03) == pytest.approx(-0.25)
    assert r.backward_gain(0.12, 0.08) == pytest.approx(1 / 3)
    assert r.backward_gain_on_degradations(0.04, 0.12, 0.08) == pytest.approx(0.5)
    assert r.new_domain_change(0.25, 0.26) == pytest.approx(-0.04)
    assert r.new_domain_gain(0.5, 0.26) == pytest.approx(0.48)


def test_the_signs_of_the_paper():
    assert r.backward_gain(1.0, 0.46) == pytest.approx(0.54)
    assert r.new_domain_change(1.0, 1.04) == pytest.approx(-0.04)


def test_undefined_is_none():
    assert r.backward_degradation(0.0, 0.1) is None
    assert r.backward_gain(0.0, 0.1) is None
    assert r.backward_gain_on_degradations(0.05, 0.05, 0.1) is None
    assert r.backward_gain_on_degradations(0.05, 0.04, 0.1) is None


def test_gate_by_hand():
    # degradations 0, 1, 3 points with 2 allowed: 1, 0.5, 0
    assert r.gate([0.1, 0.1, 0.1], [0.09, 0.11, 0.13], [0.02] * 3) == pytest.approx(0.5)
    assert r.gate([0.1], [0.2], [0.02]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "at least one"),
        (([0.1], [0.1], [0]), "kappa"),
        (([0.1], [], [1]), "same sets"),
    ],
)
def test_gate_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        r.gate(*arguments)


def test_mean_is_undefined_with_an_undefined_part():
    assert r.mean([1.0, 3.0]) == 2.0
    assert r.mean([1.0, None]) is None and r.mean([]) is None


def test_frontier():
    points = [r.Point("1.0", 0.20, 0.12), r.Point("0.7", 0.30, 0.06), r.Point("0.5", 0.40, 0.04)]
    worse = r.Point("bad", 0.31, 0.10)
    assert r.frontier([*points, worse]) == points
