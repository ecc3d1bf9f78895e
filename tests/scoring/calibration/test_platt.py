"""Repairing confidences: what was bent is bent back, whatever the set looks like."""

import math

import numpy as np
import pytest
from hypothesis import given

from espnet_blora.scoring.calibration.measures import by_chance, figures, nll_of
from espnet_blora.scoring.calibration.platt import fit_map
from tests.scoring.calibration.test_measures import WORDS, marked


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def simulated(scale, shift, seed, n=4000):
    """Words right with probability q, stated as p with logit q = scale logit p + shift."""
    generator = np.random.default_rng(seed)
    z = generator.normal(2.0, 1.5, n)
    right = generator.random(n) < sigmoid(scale * z + shift)
    return marked(list(zip(sigmoid(z), right, strict=True)))


def ece(one):
    return figures(one, np.ones((1, len(one.ids))))["ece"][0]


def test_an_overconfident_set_is_found_and_repaired_on_other_words():
    valid, test = simulated(0.5, -0.3, 1), simulated(0.5, -0.3, 2)
    fitted = fit_map(valid)
    assert fitted.scale == pytest.approx(0.5, abs=0.06)
    assert fitted.shift == pytest.approx(-0.3, abs=0.12)
    assert ece(test) > 0.1
    repaired = fitted.apply(test)
    assert ece(repaired) < by_chance(repaired)[1] < 0.04
    assert nll_of(repaired).mean() < nll_of(test).mean()
    ranks = [figures(one, np.ones((1, 4000)))["auroc"][0] for one in (test, repaired)]
    assert ranks[0] == pytest.approx(ranks[1])
    assert "4000 validation tokens" in fitted.describe()


def test_a_calibrated_set_is_left_as_it_is():
    fitted = fit_map(simulated(1.0, 0.0, 5))
    assert fitted.scale == pytest.approx(1, abs=0.1) and fitted.shift == pytest.approx(0, abs=0.15)


@given(WORDS)
def test_the_fit_is_the_minimum_whatever_the_words(words):
    valid = marked(words)
    fitted = fit_map(valid)
    assert math.isfinite(fitted.scale) and math.isfinite(fitted.shift)
    right, wrong = valid.right.sum(), (~valid.right).sum()
    target = np.where(valid.right, (right + 1) / (right + 2), 1 / (wrong + 2))
    p = np.clip(valid.confidence, 1e-7, 1 - 1e-7)

    def loss(scale, shift):
        z = scale * np.log(p / (1 - p)) + shift
        return (np.logaddexp(0, z) - target * z).sum()

    best = loss(fitted.scale, fitted.shift)
    for a in (-0.3, -0.01, 0.01, 0.3):
        for b in (-0.3, -0.01, 0, 0.01, 0.3):
            assert loss(fitted.scale + a, fitted.shift + b) >= best - 1e-6
    mapped = fitted.apply(valid).confidence
    assert ((mapped >= 0) & (mapped <= 1)).all()


@pytest.mark.parametrize(("answer", "expected"), [(True, 11 / 12), (False, 1 / 12)])
def test_all_right_or_all_wrong_gives_platts_target(answer, expected):
    fitted = fit_map(marked([(p, answer) for p in np.linspace(0, 1, 10)]))
    mapped = fitted.apply(marked([(p, answer) for p in (0.0, 0.3, 1.0)])).confidence
    assert mapped == pytest.approx([expected] * 3, abs=1e-6)


def test_a_fit_needs_words():
    with pytest.raises(ValueError, match="validation tokens, found none"):
        fit_map(marked([]))
