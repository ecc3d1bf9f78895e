"""The gap test: what it claims where there is nothing, what it sees where there is something."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.claims import world
from espnet_blora.report.gap import (
    SetCounts,
    gap_test,
    holm,
    hull_test,
    inside,
    read_off,
    reduction,
    splined,
)


def simulated(number, seed=0, **kind):
    rng = np.random.default_rng(seed)
    return [world(rng, **kind) for _ in range(number)]


@pytest.fixture(scope="module")
def null():
    """200 worlds, three seeds: the candidate is the rival turned down."""
    return simulated(200, bed="mini")


def test_under_the_null_the_gap_seldom_shows(null):
    """2.5 % nominal; 12 of 200 is the bound."""
    assert sum(gap_test(*one).interval.low > 0 for one in null) <= 12


def test_under_the_null_the_old_rule_of_point_estimates_shows_in_half_of_all_runs(null):
    assert sum(gap_test(*one).value > 0 for one in null) >= 70


def test_under_the_null_the_hull_seldom_shows(null):
    assert sum(hull_test(sets).p < 0.025 for sets, _ in null) <= 12


def test_one_seed_with_the_assumption_seldom_suggests():
    found = [gap_test(*one) for one in simulated(100, bed="mini", seeds=1)]
    assert all(f.assumed for f in found)
    assert sum(f.interval.low > 0 for f in found) <= 8


def test_coarse_scales_do_not_claim_more():
    """The candidate lies between the scales .5 and 1: a chord there would be above the curve."""
    coarse = simulated(60, bed="bed", scale=0.75, forgets=2.0, scales=[0, 0.25, 0.5, 1])
    assert sum(gap_test(*one).interval.low > 0 for one in coarse) <= 8


def test_a_halved_forgetting_is_seen_and_its_size_told():
    """Five seeds, the rival forgets 200 %."""
    worlds = simulated(60, bed="bed", seeds=5, less=0.5, forgets=2.0)
    found = [gap_test(*one) for one in worlds]
    assert sum(f.interval.low > 0 for f in found) >= 57
    assert sum(hull_test(sets).p < 0.025 for sets, _ in worlds) >= 54
    shares = [reduction(*one) for one in worlds[:30]]
    assert sum(ends.low <= 0.5 <= ends.high for _, ends in shares) >= 27
    assert np.mean([share for share, _ in shares]) == pytest.approx(0.5, abs=0.05)


def test_both_ends_of_the_interval_hold():
    """Three seeds on sets of 200 utterances: the true gap is that of the curves."""
    found = [gap_test(*one) for one in simulated(150, bed="mini", less=0.5, forgets=2.0, seed=4)]
    true = 0.5 * 0.05 * 2 * 0.8**2
    assert np.mean([f.interval.low <= true <= f.interval.high for f in found]) >= 0.91


COUNTS = st.integers(0, 2**32 - 1)


@given(COUNTS, st.integers(2, 7))
def test_the_envelope_by_brute_force(seed, number):
    rng = np.random.default_rng(seed)
    new, kept = rng.integers(0, 6, (2, number)) / 7
    at = float(rng.choice([rng.random() * 6 / 7, rng.choice(new)]))
    found = read_off(new, kept, at)
    # every place of the line through the points, in steps
    share = np.linspace(0, 1, 20001)[:, None]
    along = [(share * x[:-1] + (1 - share) * x[1:]).ravel() for x in (new, kept)]
    below = along[1][along[0] <= at + 1e-12]
    if not len(below):
        assert found.beyond and found.kept == kept[new.argmin()] and found.a == new.argmin()
        return
    assert found.kept == pytest.approx(below.min(), abs=1e-3)
    assert not found.beyond and found.slope >= 0
    read = found.share * kept[found.a] + (1 - found.share) * kept[found.b]
    assert found.kept == pytest.approx(read)
    if found.a != found.b:
        assert found.share * new[found.a] + (1 - found.share) * new[found.b] == pytest.approx(at)


@settings(max_examples=30)
@given(COUNTS)
def test_the_gap_by_hand(seed):
    """Two sets on an axis, unequal seeds: the value from rates, with numpy alone."""
    rng = np.random.default_rng(seed)
    scales = np.array([0, 0.3, 0.6, 0.8, 1])
    sets = []
    for new in (True, True, False):
        level = np.linspace(0.4, 0.1, 5) if new else np.linspace(0.05, 0.3, 5)
        tokens = rng.integers(3, 12, 30)
        rival = rng.binomial(tokens, level[:, None], (2, 5, 30))
        candidate = rng.binomial(tokens, 0.2, (3, 1, 30))
        sets.append(SetCounts(new, tokens, rival, candidate))
    found = gap_test(sets, scales)
    fine, basis = splined(scales)
    assert set(scales) <= set(fine) and np.allclose(basis.sum(axis=0), 1)
    rates = [s.rival.mean(axis=0).sum(axis=-1) / s.tokens.sum() for s in sets]
    own = [s.candidate.sum(axis=-1).mean() / s.tokens.sum() for s in sets]
    read = read_off((rates[0] + rates[1]) / 2 @ basis, rates[2] @ basis, (own[0] + own[1]) / 2)
    assert found.value == pytest.approx(read.kept - own[2])
    assert (found.rival, found.candidate) == pytest.approx((read.kept, own[2]))
    assert found.interval.low <= found.value <= found.interval.high
    assert (found.p < 0.025) == (found.interval.low > 0)
    if less := reduction(sets, scales):
        share, ends = less
        assert ends.low <= share <= ends.high and np.sign(share) == np.sign(found.value)
        assert (ends.low > 0) == (found.interval.low > 0)


def test_the_ends_of_the_share_by_hand():
    """Where the test of (1 - rho) g + rho k_base - k_C just rejects, with numpy alone."""
    sets, scales = world(np.random.default_rng(5), bed="mini", less=0.5, forgets=2.0)
    _, ends = reduction(sets, scales)
    _, basis = splined(scales)
    curves = [np.einsum("skg,kf->sfg", s.rival, basis) for s in sets]
    rates = [x.mean(axis=0).sum(axis=1) / s.tokens.sum() for s, x in zip(sets, curves, strict=True)]
    own = [s.candidate.sum() / len(s.candidate) / s.tokens.sum() for s in sets]
    at = read_off(rates[0], (rates[1] + rates[2]) / 2, own[0])  # one new set, two old ones
    base, kept = (rates[1][0] + rates[2][0]) / 2, (own[1] + own[2]) / 2
    for rho in (ends.low, ends.high):
        units = weight = 0.0
        runs = [np.zeros(3), np.zeros(3)]  # what each seed of either side adds
        for s, curve in zip(sets, curves, strict=True):
            read = (1 - rho) * (at.share * curve[:, at.a] + (1 - at.share) * curve[:, at.b])
            mine, theirs = s.candidate[:, 0] / 2, (read + rho * curve[:, 0]) / 2
            if s.new:
                mine, theirs = (1 - rho) * at.slope * s.candidate[:, 0], at.slope * read
            z = theirs.mean(axis=0) - mine.mean(axis=0)
            z, n = z - s.tokens * z.sum() / s.tokens.sum(), len(z)
            one = n / (n - 1) * (z**2).sum() / s.tokens.sum() ** 2
            units, weight = units + one, weight + one**2 / (n - 1)
            runs[0] += theirs.sum(axis=1) / s.tokens.sum()
            runs[1] += mine.sum(axis=1) / s.tokens.sum()
        seeds = [run.var(ddof=1) / 3 for run in runs]
        total, weight = units + sum(seeds), weight + sum(v**2 / 2 for v in seeds)
        reach = stats.t.ppf(0.975, total**2 / weight) * np.sqrt(total)
        value = (1 - rho) * at.kept + rho * base - kept
        assert abs(value) == pytest.approx(reach, rel=1e-3)


def test_the_variance_is_that_of_drawing_the_world_anew(null):
    """Against the values of the worlds themselves; a little too large, as seed times unit counts
    twice."""
    found = [gap_test(*one) for one in null]
    ratio = np.median([f.spread.total for f in found]) / np.var([f.value for f in found])
    assert 0.8 < ratio < 2


def test_a_candidate_beyond_the_curve_is_compared_with_its_best():
    tokens = np.full(30, 10)
    curve = np.array([5, 4, 3, 2])[:, None] * np.ones(30)
    new = SetCounts(True, tokens, curve[None], np.full((1, 1, 30), 1.0))
    old = SetCounts(False, tokens, curve[None, ::-1] / 2, np.full((1, 1, 30), 1.0))
    found = gap_test([new, old], [0, 0.4, 0.7, 1])
    assert found.beyond == 1 and found.scale == 1 and found.value == pytest.approx(0.25 - 0.1)
    assert inside([new, old], [0, 0.4, 0.7, 1]) == []


def test_several_points_give_their_mean():
    sets, scales = world(np.random.default_rng(1), bed="mini")
    more = [
        SetCounts(s.new, s.tokens, s.rival, np.concatenate([s.candidate, s.rival[:, 5:6]], axis=1))
        for s in sets
    ]
    each = [gap_test(more, scales, [m]).value for m in (0, 1)]
    assert gap_test(more, scales).value == pytest.approx(np.mean(each))
    assert each[0] == pytest.approx(gap_test(sets, scales).value) and inside(more, scales) == [0, 1]


def test_holm():
    assert holm([]) == [] and holm([0.2]) == [0.2]
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
