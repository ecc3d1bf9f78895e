"""Bootstrap intervals and paired comparisons."""

import numpy as np
import pytest

from espnet_blora.scoring.bootstrap import (
    interval,
    probability_better,
    quantiles,
    resampled_rates,
    summed,
)


def test_interval_is_seeded_and_holds_the_rate():
    generator = np.random.default_rng(3)
    errors, tokens = generator.binomial(10, 0.2, 200), np.full(200, 10)
    found = interval(errors, tokens)
    assert found == interval(errors, tokens)
    assert found != interval(errors, tokens, seed=1)
    assert found.low < errors.sum() / tokens.sum() < found.high


def test_interval_has_the_width_of_the_normal_approximation():
    generator = np.random.default_rng(5)
    errors, tokens = generator.binomial(10, 0.2, 500), np.full(500, 10)
    found = interval(errors, tokens, samples=4000)
    expected = 2 * 1.96 * (errors / 10).std() / 500**0.5
    assert found.high - found.low == pytest.approx(expected, rel=0.08)


def test_interval_covers_about_95_percent():
    generator = np.random.default_rng(7)
    inside = 0
    for _ in range(200):
        found = interval(generator.binomial(10, 0.3, 80), np.full(80, 10), samples=300)
        inside += found.low <= 0.3 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_no_interval_where_there_is_nothing_to_draw_from():
    assert interval([1], [3]) is None
    assert interval([1, 2], [0, 0]) is None
    with pytest.raises(ValueError, match="at least 2"):
        resampled_rates([[1]], [1])
    with pytest.raises(ValueError, match="do not fit"):
        resampled_rates([[1, 2]], [1, 2, 3])


def test_equal_utterances_give_an_interval_without_width():
    found = interval([1] * 10, [4] * 10)
    assert found.low == found.high == 0.25


def test_probability_better():
    worse, better = [3, 2, 4, 3, 3, 2], [1, 1, 2, 1, 1, 1]
    assert probability_better(better, worse) == 1.0
    assert probability_better(worse, better) == 0.0
    assert probability_better(worse, worse) == 0.5
    mixed = probability_better([1, 4, 2, 3, 2, 2], [2, 2, 2, 2, 2, 2], samples=4000)
    other = probability_better([2, 2, 2, 2, 2, 2], [1, 4, 2, 3, 2, 2], samples=4000)
    assert 0.05 < mixed < 0.5 and mixed + other == pytest.approx(1)
    assert probability_better([1], [2]) is None
    with pytest.raises(ValueError, match="same utterances"):
        probability_better([1, 2], [1])


def test_pairing_narrows_the_difference():
    generator = np.random.default_rng(11)
    hard = generator.binomial(20, generator.uniform(0.05, 0.9, 300))
    errors = np.stack([hard, np.maximum(hard - 1, 0)])
    tokens = np.full(300, 20)
    before, after = resampled_rates(errors, tokens)
    paired = quantiles(after - before)
    alone = interval(errors[0], tokens)
    assert paired.high < 0 and paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_undefined_in_some_draw_is_no_interval():
    before, after = resampled_rates([[0, 0, 0, 1], [1, 1, 1, 1]], np.full(4, 5))
    with np.errstate(divide="ignore", invalid="ignore"):
        assert quantiles((after - before) / before) is None


def test_groups_are_summed_by_name():
    assert summed([1, 2, 3, 4], ["b", "a", "b", "a"]).tolist() == [6, 4]
    assert summed([[1, 2, 3], [4, 5, 6]], ["x", "y", "x"]).tolist() == [[4, 2], [10, 5]]
    with pytest.raises(ValueError, match="3 values, but 2 names"):
        summed([1, 2, 3], ["a", "b"])


def test_whole_groups_are_drawn():
    generator = np.random.default_rng(13)
    speakers = np.repeat(np.arange(40), 25)
    hard = np.repeat(generator.uniform(0.02, 0.5, 40), 25)  # speakers differ, utterances less
    errors, tokens = generator.binomial(10, hard), np.full(1000, 10)
    alone = interval(errors, tokens)
    grouped = interval(errors, tokens, samples=2000, groups=speakers.astype(str))
    means = errors.reshape(40, 25).mean(axis=1) / 10
    expected = 2 * 1.96 * means.std() / 40**0.5
    assert grouped.high - grouped.low == pytest.approx(expected, rel=0.1)
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)
    same = interval(errors, tokens, groups=[f"{n:04d}" for n in range(1000)])
    assert same == alone  # every utterance a group of its own
    assert interval(errors, tokens, groups=["x"] * 1000) is None


def test_probability_over_groups():
    ours, theirs = [0, 0, 3, 0], [1, 1, 0, 1]
    groups = ["a", "a", "b", "a"]
    assert probability_better(ours, theirs, groups=groups, samples=4000) == pytest.approx(
        0.5, abs=0.03
    )
    assert probability_better(ours, theirs, groups=["a"] * 4) is None
