"""Risk and coverage: by sorting and fine steps, against every order, by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring.calibration.risk_coverage import areas, curve, oracle_order
from espnet_blora.scoring.calibration.words import LabelledTokens

ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.5, 2.0])),
    min_size=1,
    max_size=5,
)


def marked(rows):
    """Make utterances of (errors, tokens, uncertainty)."""
    errors, tokens, uncertainty = (np.array(column) for column in zip(*rows, strict=True))
    none = np.zeros(0)
    return LabelledTokens(
        tuple(f"u{n}" for n in range(len(rows))),
        none.astype(int),
        none,
        none.astype(bool),
        errors,
        tokens,
        np.zeros(len(rows), dtype=int),
        {"total": uncertainty},
    )


def of(rows):
    return {k: v[0] for k, v in areas(marked(rows), np.ones((1, len(rows)))).items()}


def risks_by_sorting(rows, steps):
    """Return the risk at coverages (k + 1/2) / steps: sort, then walk; ties as one utterance."""
    whole = sum(n for _, n, _ in rows)
    pooled = {}
    for e, n, u in sorted(rows, key=lambda row: row[2]):
        a, b = pooled.get(u, (0, 0))
        pooled[u] = a + e, b + n
    found = []
    for k in range(steps):
        left = (k + 0.5) / steps * whole
        errors, covered = 0.0, left
        for e, n in pooled.values():
            part = min(1.0, left / n)
            errors += part * e
            left -= part * n
            if left <= 1e-12:
                break
        found.append(errors / covered)
    return found


@given(ROWS)
def test_the_area_is_that_under_the_sorted_curve(rows):
    steps = 2000
    fine = math.fsum(risks_by_sorting(rows, steps)) / steps
    # errors jump by at most 6 in a step of the sum
    assert of(rows)["area_total"] == pytest.approx(fine, abs=0.02)


@given(ROWS)
def test_the_curve_is_the_sorted_one_and_ends_at_the_error_rate(rows):
    grid = [(k + 0.5) / 20 for k in range(20)]
    found = curve(marked(rows), marked(rows).uncertainty["total"], grid)
    assert found == pytest.approx(risks_by_sorting(rows, 20), abs=1e-9)
    whole = curve(marked(rows), marked(rows).uncertainty["total"])
    assert len(whole) == 101
    assert whole[-1] == pytest.approx(sum(e for e, _, _ in rows) / sum(n for _, n, _ in rows))


@given(ROWS)
def test_no_order_is_below_the_oracle(rows):
    best = of(rows)["area_oracle"]
    least = curve(marked(rows), oracle_order(marked(rows)))
    for order in itertools.islice(itertools.permutations(range(len(rows))), 40):
        turned = [(e, n, float(at)) for (e, n, _), at in zip(rows, order, strict=True)]
        assert of(turned)["area_total"] >= best - 1e-12
        other = curve(marked(turned), marked(turned).uncertainty["total"])
        assert all(a >= b - 1e-6 for a, b in zip(other, least, strict=True))
    assert of(rows)["excess_total"] >= -1e-12


@given(ROWS, st.data())
def test_a_weight_is_so_many_copies(rows, data):
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    weighted = {k: v[0] for k, v in areas(marked(rows), np.array([times])).items()}
    copied = [row for row, n in zip(rows, times, strict=True) for _ in range(n)]
    if not copied:
        assert all(math.isnan(value) for value in weighted.values())
        return
    again = of(copied)
    assert weighted.keys() == again.keys()
    for name, value in again.items():
        assert weighted[name] == pytest.approx(value, nan_ok=True, abs=1e-9), name


def test_by_hand():
    # 10 tokens without error kept first, then 10 with 5: risk 0, then 5 (t - 10) / 10 / t
    rows = [(5, 10, 0.9), (0, 10, 0.1)]
    found = of(rows)
    expected = (5 - 5 * math.log(2)) / 20
    assert found["mer"] == 0.25
    assert found["area_total"] == pytest.approx(expected) == found["area_oracle"]
    assert found["excess_total"] == 0 and found["ratio_total"] == pytest.approx(1)
    worst = of([(5, 10, 0.1), (0, 10, 0.9)])
    # 0.5 over the first half, then 5 / t
    assert worst["area_total"] == pytest.approx(0.25 + 5 * math.log(2) / 20)
    assert worst["ratio_total"] < 0


def test_knowing_nothing_has_the_error_rate_as_area():
    found = of([(1, 4, 0.5), (0, 7, 0.5), (3, 5, 0.5)])
    assert found["area_total"] == pytest.approx(4 / 16) == found["mer"]
    assert found["ratio_total"] == pytest.approx(0)


def test_utterances_alike_leave_no_ratio():
    assert math.isnan(of([(1, 4, 0.1), (1, 4, 0.2)])["ratio_total"])
    assert math.isnan(of([(0, 4, 0.1), (0, 9, 0.2)])["ratio_total"])


def test_what_is_heard_in_silence_counts_as_error_and_covers_nothing():
    rows = [(2, 0, 0.5), (1, 4, 0.1), (0, 4, 0.9)]
    found = of(rows)
    assert found["mer"] == 3 / 8
    # 1/4 over the first half; then 3 errors over t tokens, 4 to 8
    assert found["area_total"] == pytest.approx((1 + 3 * math.log(2)) / 8)
    # no error over the first half, then (t - 4) / 4 / t; the silence comes last
    assert found["area_oracle"] == pytest.approx((1 - math.log(2)) / 8)
    first = of([(2, 0, 0.0), (1, 4, 0.1), (0, 4, 0.9)])
    assert first["area_total"] == pytest.approx((3 + 3 * math.log(2)) / 8)
    grid = curve(marked(rows), np.array([0.0, 0.1, 0.9]), [0.0, 0.25, 0.5, 1.0])
    assert grid == pytest.approx([3 / 4, 3 / 4, 3 / 4, 3 / 8])


def test_no_reference_token_is_undefined():
    rows = [(2, 0, 0.5), (0, 0, 0.1)]
    assert all(math.isnan(value) for value in of(rows).values())
    assert curve(marked(rows), np.array([0.5, 0.1]), [0.0, 1.0]) == [None, None]
