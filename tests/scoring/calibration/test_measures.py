"""Figures of calibration against the plainest loops, on hand examples and on simulated sets."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring.calibration.measures import (
    BINS,
    bins_of,
    by_chance,
    equal_mass,
    equal_width,
    figures,
    wilson,
)
from espnet_blora.scoring.calibration.words import LabelledTokens

# few different values, so that ties and the edges of bins occur
CONFIDENCE = st.one_of(
    st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.6, 0.9, 1.0]), st.floats(0, 1, allow_subnormal=False)
)
WORDS = st.lists(st.tuples(CONFIDENCE, st.booleans()), min_size=1, max_size=30)


def marked(words, owner=None):
    """Make a set of one-word utterances, or of those that `owner` says."""
    owner = np.arange(len(words)) if owner is None else np.asarray(owner)
    count = int(owner.max()) + 1 if len(owner) else 1
    right = np.array([y for _, y in words], dtype=bool)
    return LabelledTokens(
        tuple(f"u{n:03d}" for n in range(count)),
        owner,
        np.array([p for p, _ in words], dtype=float),
        right,
        np.bincount(owner, ~right, count).astype(int),
        np.bincount(owner, minlength=count),
        np.zeros(count, dtype=int),
        {},
    )


def of(words, bins=BINS):
    found = marked(words)
    return {k: v[0] for k, v in figures(found, np.ones((1, len(found.ids))), bins).items()}


def in_bins(words, bins):
    """Put words into bins of equal width, one after the other."""
    table = [[] for _ in range(bins)]
    ends = [n / bins for n in range(1, bins)]
    for p, y in words:
        table[sum(p >= end for end in ends)].append((p, y))
    return [rows for rows in table if rows]


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


@given(WORDS, st.integers(1, 20))
def test_ece_and_brier_are_those_of_a_plain_loop(words, bins):
    found, n = of(words, bins), len(words)
    ece = reliability = resolution = within = 0.0
    share = mean(y for _, y in words)
    for rows in in_bins(words, bins):
        p, y = mean(p for p, _ in rows), mean(y for _, y in rows)
        ece += len(rows) / n * abs(p - y)
        reliability += len(rows) / n * (p - y) ** 2
        resolution += len(rows) / n * (y - share) ** 2
        within += math.fsum((a - p) ** 2 - 2 * (a - p) * (b - y) for a, b in rows) / n
    assert found["ece"] == pytest.approx(ece, abs=1e-9)
    assert found["reliability"] == pytest.approx(reliability, abs=1e-9)
    assert found["resolution"] == pytest.approx(resolution, abs=1e-9)
    assert found["within"] == pytest.approx(within, abs=1e-9)
    assert found["uncertainty"] == pytest.approx(share * (1 - share), abs=1e-9)
    assert found["brier"] == pytest.approx(mean((p - y) ** 2 for p, y in words), abs=1e-9)
    assert found["gap"] == pytest.approx(mean(p for p, _ in words) - share, abs=1e-9)
    assert abs(found["gap"]) <= found["ece"] + 1e-9


@given(WORDS)
def test_auroc_counts_pairs_and_aupr_steps(words):
    found = of(words)
    wrong = [p for p, y in words if not y]
    right = [p for p, y in words if y]
    if not wrong or not right:
        assert math.isnan(found["auroc"]) and math.isnan(found["aupr"])
        return
    pairs = [(a < b) + (a == b) / 2 for a in wrong for b in right]
    assert found["auroc"] == pytest.approx(mean(pairs))
    area = before = 0.0
    for threshold in sorted({p for p, _ in words}):
        taken = [y for p, y in words if p <= threshold]
        recall, precision = taken.count(False) / len(wrong), taken.count(False) / len(taken)
        area, before = area + (recall - before) * precision, recall
    assert found["aupr"] == pytest.approx(area)


@given(WORDS)
def test_nll_is_finite_and_plain(words):
    def cost(p, y):
        p = min(max(p, 1e-7), 1 - 1e-7)
        return -math.log(p if y else 1 - p)

    assert of(words)["nll"] == pytest.approx(mean(cost(p, y) for p, y in words), rel=1e-6)


@given(WORDS, st.integers(1, 8))
def test_bins_of_equal_mass_hold_every_word_once_and_ties_together(words, bins):
    found = marked(words)
    edges = equal_mass(found.confidence, bins)
    assert len(edges) < bins and (np.diff(edges) > 0).all()
    place = np.searchsorted(edges, found.confidence, side="right")
    for value in set(found.confidence):
        assert len(set(place[found.confidence == value])) == 1
    expected = 0.0
    for number in set(place):
        inside = place == number
        off = found.confidence[inside].mean() - found.right[inside].mean()
        expected += inside.mean() * abs(off)
    assert of(words, bins)["ece_mass"] == pytest.approx(expected, abs=1e-9)


def test_bins_of_equal_mass_without_ties_are_equal():
    values = np.random.default_rng(0).permutation(np.linspace(0, 1, 30))
    place = np.searchsorted(equal_mass(values, 5), values, side="right")
    assert np.bincount(place).tolist() == [6] * 5


@given(st.data())
def test_a_weight_is_so_many_copies_of_an_utterance(data):
    words = data.draw(WORDS)
    owner = sorted(data.draw(st.lists(st.integers(0, 4), min_size=len(words), max_size=len(words))))
    first = marked(words, owner)
    size = len(first.ids)
    times = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    copied = [(w, o) for w, o in zip(words, owner, strict=True) for _ in range(times[o])]
    weighted = figures(first, np.array([times]))
    if not copied:
        assert math.isnan(weighted["ece"][0]) and math.isnan(weighted["auroc"][0])
        return
    again = of([w for w, _ in copied])
    for name in again.keys() - {"ece_mass"}:  # whose edges are those of the set
        assert weighted[name][0] == pytest.approx(again[name], nan_ok=True, abs=1e-9), name


def test_a_hand_example():
    # bin 0.8 to 0.9: means 0.825, 1 of 2 right; bin 0.2 to 0.3: 0.25, none right
    words = [(0.85, True), (0.8, False), (0.25, False)]
    found = of(words, 10)
    assert found["ece"] == pytest.approx(2 / 3 * 0.325 + 1 / 3 * 0.25)
    assert found["gap"] == pytest.approx(1.9 / 3 - 1 / 3)
    assert found["brier"] == pytest.approx((0.15**2 + 0.8**2 + 0.25**2) / 3)
    assert found["auroc"] == 1.0 and found["aupr"] == 1.0
    filled = [b for b in bins_of(marked(words), 10) if b.count]
    assert [(b.low, b.count, b.accuracy) for b in filled] == [(0.2, 1, 0.0), (0.8, 2, 0.5)]
    assert filled[1].confidence == pytest.approx(0.825)


def test_confidence_0_and_1_are_in_the_outer_bins_and_cost_16_nats_at_most():
    sure = bins_of(marked([(1.0, True), (0.0, False), (0.1, False)]), 10)
    assert (sure[0].count, sure[1].count, sure[9].count) == (1, 1, 1)
    assert of([(1.0, False)])["nll"] == pytest.approx(-math.log(1e-7), rel=1e-6)
    assert of([(1.0, True)])["nll"] < 1e-6


@pytest.mark.parametrize("answer", [True, False])
def test_all_right_or_all_wrong_has_no_auroc(answer):
    found = of([(0.7, answer), (0.9, answer)])
    assert math.isnan(found["auroc"]) and math.isnan(found["aupr"])
    assert found["ece"] == pytest.approx(0.2 if answer else 0.8)
    assert found["uncertainty"] == 0


def test_no_words_is_undefined_not_perfect():
    empty = marked([])
    found = figures(empty, np.ones((3, 1)))
    assert all(np.isnan(values).all() and values.shape == (3,) for values in found.values())
    assert by_chance(empty) is None
    assert {b.count for b in bins_of(empty)} == {0}
    assert bins_of(empty)[0].accuracy is None


def test_wilson_has_the_published_ends():
    # Newcombe 1998: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611
    assert wilson(81, 263).low == pytest.approx(0.2553, abs=1e-4)
    assert wilson(81, 263).high == pytest.approx(0.3662, abs=1e-4)
    assert wilson(0, 20).low == 0 and wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(20, 20).high == 1.0
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


def test_chance_gives_a_calibrated_set_its_ece_and_not_an_overconfident_one():
    generator = np.random.default_rng(3)
    p = generator.beta(4, 1, 2000)
    fair = of(list(zip(p, generator.random(2000) < p, strict=True)))
    over = of(list(zip(p, generator.random(2000) < p**2, strict=True)))
    usual, most = by_chance(marked([(x, True) for x in p]))
    assert 0 < usual < most < 0.05
    assert fair["ece"] < most and abs(fair["gap"]) < 0.03
    assert over["ece"] > 4 * most and over["gap"] > 0.1


@pytest.mark.parametrize("bins", [0, -1])
def test_no_bins_is_an_error(bins):
    with pytest.raises(ValueError, match="1 or more"):
        equal_width(bins)
