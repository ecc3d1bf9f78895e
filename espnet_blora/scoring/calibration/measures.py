r"""Figures of calibration, each a function of the weights of utterances.

p is the confidence of a token, y whether it is right (0 or 1), B a bin, n the number of tokens.

* **ECE** :math:`= \sum_B \frac{n_B}{n} |\bar p_B - \bar y_B|`, over bins of equal width and, apart,
  over bins of equal mass (edges at quantiles, ties in one bin); Naeini et al. 2015, Guo et al.,
  arXiv 1706.04599. It is above 0 by chance alone: `by_chance` says how much.
* **gap** :math:`= \bar p - \bar y`: above 0 is overconfident.
* **Brier score** :math:`= \overline{(p - y)^2}` = reliability - resolution + uncertainty + within:
  reliability :math:`\sum_B \frac{n_B}{n} (\bar p_B - \bar y_B)^2`, resolution
  :math:`\sum_B \frac{n_B}{n} (\bar y_B - \bar y)^2`, uncertainty :math:`\bar y (1 - \bar y)`
  (Murphy 1973); within is the spread of confidences inside bins of equal width:
  their variance less twice their covariance with y (Stephenson et al. 2008).
* **NLL** :math:`= -\overline{y \log p + (1 - y) \log (1 - p)}` in nats, p kept within
  :math:`10^{-7}` of 0 and 1, so that one sure and wrong token costs 16 nats, not infinity.
* **AUROC**: the probability that a wrong token has a lower confidence than a right one, ties one
  half. **AUPR**: average precision of finding wrong tokens by low confidence; guessing gives the
  share of wrong tokens.

Every function takes weights (D, U), how often each utterance is taken in each of D draws, and
returns (D,) figures; ones give the figure of the set itself. NaN is undefined: without tokens, or
AUROC and AUPR where all are right or all are wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from espnet_blora.scoring.calibration.words import LabelledTokens
from espnet_blora.scoring.intervals import Interval

BINS = 15
NEAREST = 1e-7  # to 0 and 1, for logarithms
_CELLS = 4_000_000  # numbers held at a time
_DRAWS = 200  # of what chance gives
_WILSON_Z = 1.959963984540054


@dataclass(frozen=True)
class Bin:
    """A bin of equal width of a reliability diagram.

    Attributes:
        low: Its lower end, which belongs to it.
        high: Its upper end, which belongs to the last bin alone.
        count: Tokens in it.
        confidence: Mean over them; None for an empty bin.
        accuracy: Mean over them; None for an empty bin.
        interval: 95 % Wilson interval of the accuracy, as if tokens were independent.
    """

    low: float
    high: float
    count: int
    confidence: float | None = None
    accuracy: float | None = None
    interval: Interval | None = None


def equal_width(bins: int = BINS) -> np.ndarray:
    """Return the inner edges (bins - 1,) of bins of equal width.

    Raises:
        ValueError: There is less than one bin.
    """
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, found {bins}")
    return np.arange(1, bins) / bins


def equal_mass(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the inner edges, at most bins - 1, of bins of about as many tokens each.

    Tokens of one confidence share a bin.

    Raises:
        ValueError: There is less than one bin.
    """
    shares = equal_width(bins)
    if not len(confidence):
        return shares
    edges = np.quantile(confidence, shares, method="higher")
    return np.unique(edges[edges > confidence.min()])


def bins_of(labelled: LabelledTokens, bins: int = BINS) -> tuple[Bin, ...]:
    """Return the bins of equal width of a reliability diagram."""
    edges = equal_width(bins)
    sums = _by_bin(labelled, edges).sum(axis=1)
    ends = np.concatenate([[0.0], edges, [1.0]])
    diagram = []
    for low, high, (count, confidence, right) in zip(ends[:-1], ends[1:], sums.T, strict=True):
        if not count:
            diagram.append(Bin(float(low), float(high), 0))
            continue
        means = float(confidence / count), float(right / count)
        interval = wilson(int(right), int(count))
        diagram.append(Bin(float(low), float(high), int(count), *means, interval))
    return tuple(diagram)


def wilson(right: float, count: float) -> Interval:
    """Return the 95 % Wilson score interval of a share (Wilson 1927); 0 to 1 of nothing.

    Counts may be fractions, as means over seeds are; scipy's takes whole numbers alone.
    """
    if not count:
        return Interval(0.0, 1.0)
    share, z2 = right / count, _WILSON_Z**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _WILSON_Z / (1 + z2 / count)
    half *= np.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return Interval(float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def figures(
    labelled: LabelledTokens, weights: np.ndarray, bins: int = BINS
) -> dict[str, np.ndarray]:
    """Return every figure of tokens, each (D,), for weights (D, U)."""
    weights = np.asarray(weights, dtype=np.float64)
    mass = equal_mass(labelled.confidence, bins)
    wide = weights @ _by_bin(labelled, equal_width(bins))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = _binned(wide)
        even = weights @ _by_bin(labelled, mass)  # (3, D, bins)
        values["ece_mass"] = _ece(even)
        total = wide[0].sum(axis=1)  # (D,)
        squares = (labelled.confidence - labelled.right) ** 2  # (W,)
        values["brier"] = weights @ _summed(labelled, squares) / total
        values["within"] = values["brier"] - (
            values["reliability"] - values["resolution"] + values["uncertainty"]
        )
        values["nll"] = weights @ _summed(labelled, nll_of(labelled)) / total
    values["auroc"], values["aupr"] = in_blocks(_ranked(labelled), weights, len(labelled.owner))
    return values


def nll_of(labelled: LabelledTokens) -> np.ndarray:
    """Return the negative log likelihood of every token, in nats."""
    p = np.clip(labelled.confidence, NEAREST, 1 - NEAREST)
    return -np.where(labelled.right, np.log(p), np.log1p(-p))


def by_chance(labelled: LabelledTokens, bins: int = BINS) -> tuple[float, float] | None:
    """Return mean and 97.5 % point of the ECE (equal width) that chance alone gives.

    By chance, every token is right with just the probability it states, all independent. An ECE
    below the second figure is no sign of miscalibration (Broecker and Smith 2007). Errors come in
    runs, so real chance gives somewhat more. None without tokens.
    """
    # bins of the sorted tokens, and what they hold
    p = np.sort(labelled.confidence)  # (W,)
    if not len(p):
        return None
    place = np.searchsorted(equal_width(bins), p, side="right")
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    count = np.add.reduceat(np.ones_like(p), starts)
    confidence = np.add.reduceat(p, starts)
    # draws, some at a time
    generator = np.random.default_rng(0)
    parts = []
    block = max(1, _CELLS // len(p))
    for start in range(0, _DRAWS, block):
        right = generator.random((min(block, _DRAWS - start), len(p))) < p  # (b, W)
        sums = np.add.reduceat(right.astype(np.float64), starts, axis=1)
        parts.append(np.abs(sums - confidence).sum(axis=1) / count.sum())
    values = np.concatenate(parts)
    return float(values.mean()), float(np.percentile(values, 97.5))


def in_blocks(
    measure: Callable[[np.ndarray], tuple[np.ndarray, ...]], weights: np.ndarray, width: int
) -> tuple[np.ndarray, ...]:
    """Apply a measure that holds (D, width) numbers to some draws at a time."""
    block = max(1, _CELLS // max(1, width))
    parts = [measure(weights[start : start + block]) for start in range(0, len(weights), block)]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _summed(labelled: LabelledTokens, values: np.ndarray) -> np.ndarray:
    """Return sums (U,) by utterance."""
    return np.bincount(labelled.owner, weights=values, minlength=len(labelled.ids))


def _by_bin(labelled: LabelledTokens, edges: np.ndarray) -> np.ndarray:
    """Return (3, U, bins): tokens, sums of confidences and tokens that are right."""
    bins = len(edges) + 1
    place = labelled.owner * bins + np.searchsorted(edges, labelled.confidence, side="right")
    shape, size = (len(labelled.ids), bins), len(labelled.ids) * bins
    columns = (None, labelled.confidence, labelled.right)
    return np.stack([np.bincount(place, values, size).reshape(shape) for values in columns])


def _ece(sums: np.ndarray) -> np.ndarray:
    count, confidence, right = sums
    return np.abs(confidence - right).sum(axis=1) / count.sum(axis=1)


def _binned(sums: np.ndarray) -> dict[str, np.ndarray]:
    count, confidence, right = sums
    total = count.sum(axis=1)
    share = right.sum(axis=1) / total
    filled = np.where(count > 0, count, 1)
    off = (confidence - right) ** 2 / filled
    apart = (right / filled - share[:, None]) ** 2 * count
    return {
        "accuracy": share,
        "ece": _ece(sums),
        "gap": confidence.sum(axis=1) / total - share,
        "reliability": off.sum(axis=1) / total,
        "resolution": apart.sum(axis=1) / total,
        "uncertainty": share * (1 - share),
    }


def _ranked(labelled: LabelledTokens) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return AUROC and AUPR as a function of weights; tokens of one confidence are one step."""
    order = np.argsort(labelled.confidence, kind="stable")  # the surest errors first
    owner, right = labelled.owner[order], labelled.right[order]
    starts = np.flatnonzero(np.diff(labelled.confidence[order], prepend=np.nan) != 0)

    def measure(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not len(owner):
            return (np.full(len(weights), np.nan),) * 2
        taken = weights[:, owner]  # (D, W), the surest errors first
        wrong = np.add.reduceat(taken * ~right, starts, axis=1)
        fine = np.add.reduceat(taken * right, starts, axis=1)
        wrongs, fines = wrong.sum(axis=1), fine.sum(axis=1)
        passed = np.cumsum(fine, axis=1)
        caught = np.cumsum(wrong, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            above = fines[:, None] - passed + fine / 2
            auroc = (wrong * above).sum(axis=1) / (wrongs * fines)
            precision = np.where(caught > 0, caught / (caught + passed), 0.0)
            aupr = (wrong * precision).sum(axis=1) / wrongs
        aupr[fines == 0] = np.nan
        return auroc, aupr

    return measure
