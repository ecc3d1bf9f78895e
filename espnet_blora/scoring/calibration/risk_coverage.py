r"""Selective prediction: errors that remain when the least certain utterances are set aside.

Utterances are kept in the order of their uncertainty, the most certain first. **Coverage** c is the
share of all reference tokens that the kept utterances hold, **risk** R(c) their error rate; the
utterance at the border is kept in part, its errors in proportion, as are utterances of equal
uncertainty together. With e errors and n reference tokens per utterance, and E, T those of the ones
kept before it, the area under the curve is a sum of

.. math:: \int_T^{T+n} \frac{E + \frac{e}{n} (t - T)}{t} dt
          = e + \bigl(E - \tfrac{e}{n} T\bigr) \ln \frac{T + n}{T}

over utterances, divided by all tokens. The **oracle** keeps utterances by their own error rate:
since coverage is counted in tokens, no order has a lower risk at any coverage, and the **excess**
of the area over the oracle's is never negative. An order that knows nothing has the set's error
rate as its area, on average; the **rejection ratio**

.. math:: \frac{E_\text{set} - \text{area}}{E_\text{set} - \text{area of the oracle}}

is 1 for the oracle and 0 for guessing, and does not profit from a low error rate itself (Geifman
and El-Yaniv 2017 for the curve; Malinin and Gales, arXiv 2002.07650, for the ratio).
"""

from __future__ import annotations

import numpy as np

from espnet_blora.scoring.calibration.measures import in_blocks
from espnet_blora.scoring.calibration.words import LabelledTokens

GRID = np.linspace(0.0, 1.0, 101)  # coverages of a curve that is kept


def oracle_order(labelled: LabelledTokens) -> np.ndarray:
    """Return the oracle's uncertainty (U,): each utterance's own error rate.

    One without reference tokens comes last if something was heard in it.
    """
    errors, tokens = labelled.errors.astype(np.float64), labelled.tokens
    return np.where(tokens > 0, errors / np.maximum(tokens, 1), np.where(errors > 0, np.inf, 0.0))


def areas(labelled: LabelledTokens, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return the figures of risk and coverage, each (D,), for weights (D, U).

    They are `mer`, `area_oracle`, and for every uncertainty `area_<name>`, `excess_<name>`,
    `ratio_<name>` (module docstring). NaN is undefined: without reference tokens; the ratio also
    where all orders are alike.
    """
    weights = np.asarray(weights, dtype=np.float64)
    below = weights @ labelled.tokens
    rate = weights @ labelled.errors / np.where(below > 0, below, np.nan)
    best = _area(labelled, oracle_order(labelled), weights)
    values = {"mer": rate, "area_oracle": best}
    for name, uncertainty in labelled.uncertainty.items():
        area = _area(labelled, uncertainty, weights)
        values[f"area_{name}"] = area
        values[f"excess_{name}"] = area - best
        room = rate - best
        with np.errstate(invalid="ignore", divide="ignore"):
            values[f"ratio_{name}"] = np.where(room > 1e-12, (rate - area) / room, np.nan)
    return values


def curve(
    labelled: LabelledTokens, uncertainty: np.ndarray, grid: np.ndarray = GRID
) -> list[float | None]:
    """Return the risk at each coverage of a grid; at 0 the limit, None without reference tokens."""
    errors, tokens, _ = _kept(labelled, uncertainty, np.ones((1, len(labelled.ids))))
    covered = tokens[0] > 0  # steps without tokens at the start count with the first that has some
    if not covered.any():
        return [None] * len(grid)
    at = np.concatenate([[0.0], tokens[0, covered]])
    sums = np.concatenate([[0.0], errors[0, covered]])
    covered_tokens = np.maximum(np.asarray(grid) * at[-1], 1e-9 * at[1])
    return [float(x) for x in np.interp(covered_tokens, at, sums) / covered_tokens]


def _area(labelled: LabelledTokens, uncertainty: np.ndarray, weights: np.ndarray) -> np.ndarray:
    def measure(some: np.ndarray) -> tuple[np.ndarray]:
        errors, tokens, steps = _kept(labelled, uncertainty, some)
        before, errors_before = tokens - steps[1], errors - steps[0]
        with np.errstate(invalid="ignore", divide="ignore"):
            rest = errors_before - steps[0] / steps[1] * before
            parts = steps[0] + np.where(before > 0, rest * np.log(tokens / before), errors_before)
            # a step without tokens covers nothing, but its errors weigh on those after it
            area = np.where(steps[1] > 0, parts, 0.0).sum(axis=1) / tokens[:, -1]
        return (area,)

    return in_blocks(measure, weights, len(labelled.ids))[0]


def _kept(
    labelled: LabelledTokens, uncertainty: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cumulated errors and tokens (D, steps), and the steps' own (2, D, steps).

    A step is one value of uncertainty.
    """
    order = np.argsort(uncertainty, kind="stable")
    ranked = uncertainty[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    both = np.stack([labelled.errors, labelled.tokens]).astype(np.float64)[:, order]  # (2, U)
    steps = np.add.reduceat(both[:, None, :] * weights[:, order], starts, axis=2)
    errors, tokens = np.cumsum(steps, axis=2)
    return errors, tokens, steps
