"""Intervals in closed form: what they cover, what they rest on, and when there is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring.intervals import (
    Part,
    Units,
    by_seed,
    difference_interval,
    rate_interval,
    units_of,
    variance,
    worst_share,
)

UTTERANCES = Units("utterances", np.arange(200))


def of(number):
    return Units("utterances", np.arange(number))


def simulated(rng, speakers, each=20, effect=0.4):
    """Errors (U,) of utterances of 10 tokens, at 20 % on average; their speakers differ."""
    spoken = 0.2 * np.exp(rng.normal(-(effect**2) / 2, effect, speakers)).repeat(each)
    return rng.binomial(10, np.minimum(spoken, 0.95))


@pytest.mark.parametrize(("speakers", "least"), [(5, 0.91), (10, 0.90), (40, 0.92)])
def test_intervals_over_speakers_hold_what_they_say(speakers, least):
    """The mean rate over all speakers there are is in 95 % of them; over utterances in 60 %."""
    rng = np.random.default_rng(speakers)
    tokens = np.full(20 * speakers, 10)
    by_speaker = units_of(np.arange(speakers).repeat(20).astype(str).tolist())
    inside = np.zeros(2)
    for _ in range(500):
        errors = simulated(rng, speakers)
        found = [rate_interval(errors, tokens, u) for u in (by_speaker, of(len(tokens)))]
        inside += [f.low <= 0.2 <= f.high for f in found]
    assert inside[0] / 500 >= least and inside[1] / 500 < 0.75


@pytest.mark.parametrize("number", [20, 50, 200])
def test_intervals_over_utterances_hold_what_they_say(number):
    rng = np.random.default_rng(number)
    found = [
        rate_interval(rng.binomial(10, 0.2, number), np.full(number, 10), of(number))
        for _ in range(600)
    ]
    assert 0.92 <= np.mean([f.low <= 0.2 <= f.high for f in found]) <= 0.98


def test_what_an_interval_rests_on():
    errors, tokens = [1, 0] * 100, [4] * 200
    plain = rate_interval(errors, tokens, UTTERANCES)
    assert plain.basis == "200 utt." and not plain.few and 0 < plain.low < 0.125 < plain.high
    ten = units_of([f"s{n % 10}" for n in range(200)])
    assert rate_interval(np.arange(200) % 3, tokens, ten).basis == "10 spk., few"
    assert rate_interval([1, 0] * 15, [4] * 30, of(30)).basis == "30 utt., few"
    assert rate_interval([1] * 9 + [0] * 191, tokens, UTTERANCES).few  # nine errors


@pytest.mark.parametrize(
    ("errors", "units"),
    [
        ([1] * 19, of(19)),
        ([1] * 4 + [0] * 196, UTTERANCES),
        ([0] * 200, UTTERANCES),
        ([1] * 200, units_of([f"s{n % 4}" for n in range(200)], "speakers")),
    ],
)
def test_too_few_units_or_errors_give_none(errors, units):
    assert rate_interval(errors, [4] * len(errors), units) is None


def test_units_are_speakers_where_there_are_five():
    five, four = ([f"s{n % k}" for n in range(40)] for k in (5, 4))
    assert units_of(five).kind == "speakers" and units_of(five).number == 5
    assert units_of(four).kind == units_of(five, "utterances").kind == "utterances"
    assert units_of(four, "speakers").number == 4 and not units_of(four, "speakers").enough
    assert units_of([*five[:-1], ""]).kind == "utterances"
    assert units_of(five).sums(np.arange(40)).tolist() == [140, 148, 156, 164, 172]
    with pytest.raises(ValueError, match="1 of 40 utterances have no speaker"):
        units_of([*five[:-1], ""], "speakers")


def test_pairing_narrows_the_difference():
    rng = np.random.default_rng(11)
    hard = rng.binomial(20, rng.uniform(0.05, 0.9, 200))
    pair, tokens = [np.maximum(hard - 1, 0), hard], np.full(200, 20)
    paired, chance = difference_interval(pair, tokens, UTTERANCES)
    alone = rate_interval(hard, tokens, UTTERANCES)
    assert paired.high < 0 and paired.high - paired.low < 0.3 * (alone.high - alone.low)
    assert chance > 0.999
    back, other = difference_interval(pair[::-1], tokens, UTTERANCES)
    assert (back.low, back.high) == pytest.approx((-paired.high, -paired.low))
    assert chance + other == pytest.approx(1)
    assert difference_interval([hard, hard], tokens, UTTERANCES)[1] == 0.5
    assert difference_interval([[1], [2]], [3], of(1)) == (None, None)


def test_a_paired_difference_under_the_null_is_seldom_clear():
    """Each method has its own effect on each of 10 speakers: utterances as units see too much."""
    rng, clear = np.random.default_rng(5), np.zeros(2)
    tokens, speakers = np.full(1000, 10), np.arange(10).repeat(100)
    by_speaker = units_of(speakers.astype(str).tolist())
    for _ in range(300):
        rates = 0.2 * np.exp(rng.normal(0, 0.1, (2, 10)))[:, speakers]
        errors = rng.binomial(10, rates)
        for k, units in enumerate((by_speaker, of(1000))):
            found, _ = difference_interval(errors, tokens, units)
            clear[k] += found.low > 0 or found.high < 0
    assert clear[0] <= 27 and clear[1] > 60  # 5 % nominal; by utterance 20 % and more


@given(st.integers(0, 2**32 - 1))
def test_the_variance_over_units_is_the_text_books(seed):
    """One seed, units of one token: the variance of a mean; two sides: that of the differences."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 7))
    ones = np.ones(7)
    found = variance([Part(ones, (a[None],))])
    assert found.units == pytest.approx(a.var(ddof=1) / 7) and found.seeds == 0
    assert found.df == pytest.approx(6)
    pair = variance([Part(ones, (a[None], -b[None]))])
    assert pair.units == pytest.approx((a - b).var(ddof=1) / 7)


@given(st.integers(0, 2**32 - 1))
def test_the_variance_over_seeds_is_welchs(seed):
    """Units without a difference: Welch's test of two samples is left."""
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=3), rng.normal(0.4, 2, size=5)
    tokens = np.full(6, 2.0)
    sides = (np.outer(a, tokens), -np.outer(b, tokens))
    found = variance([Part(tokens, sides)])
    known = ttest_ind(a, b, equal_var=False, alternative="greater")
    assert found.units == pytest.approx(0, abs=1e-20) and found.df == pytest.approx(known.df)
    assert found.p_above(a.mean() - b.mean()) == pytest.approx(known.pvalue)


def test_the_variance_is_that_of_drawing_anew():
    """Against a direct simulation: fresh units, fresh seeds, two sets of unequal size."""
    rng, values, told = np.random.default_rng(3), [], []
    for _ in range(800):
        seeds = rng.normal(0, 0.03, (2, 3))  # of two systems, three seeds each
        parts = []
        for number in (150, 350):
            tokens = rng.integers(5, 15, number)
            hard = rng.uniform(0.1, 0.4, number)  # shared by the systems
            rates = np.clip(hard + seeds[..., None], 0, 1)
            errors = rng.binomial(tokens, rates)  # (2, 3, number)
            parts.append(Part(tokens, (errors[0] / 2, -errors[1] / 2)))
        values.append(sum(side.mean() for side in by_seed(parts)))
        told.append(variance(parts).total)
    # a little too large: what a seed does on one utterance alone is in both parts
    assert 0.93 < np.mean(told) / np.var(values) < 1.2


def test_the_share_of_the_worst_utterances():
    assert worst_share([0] * 199 + [3]) == 1.0
    assert worst_share([1] * 200) == pytest.approx(0.01)
    assert worst_share([1] * 198 + [30, 12]) == pytest.approx(42 / 240)
    assert worst_share([0, 0]) is None
