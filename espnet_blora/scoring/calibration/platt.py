r"""Maps of confidences (Platt scaling), fitted on other utterances than they are judged on.

A map takes the word's log odds, after the fact and from the file of confidences alone:

.. math:: p' = \sigma(a \operatorname{logit} p + b)

with a and b fitted by the NLL of validation tokens. a < 1 makes confidences milder, b moves them
all. The order of tokens stays (a > 0), and so do AUROC and AUPR. Targets are Platt's, (R + 1) / (R
+ 2) for the R right tokens and 1 / (F + 2) for the F wrong ones, so that a fit exists when all
tokens are right, or one threshold parts them (Platt 1999; Lin, Lin and Weng 2007).

The other repair, a temperature, divides the logits before the softmax (Guo et al., arXiv
1706.04599). A file of confidences holds no logits, so it takes files written at several
temperatures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from espnet_blora.scoring.calibration.measures import NEAREST
from espnet_blora.scoring.calibration.words import LabelledTokens

_MOST_STEPS = 100


@dataclass(frozen=True)
class ConfidenceMap:
    """p' = sigmoid(scale * logit(p) + shift), fitted on `tokens` tokens."""

    scale: float
    shift: float
    tokens: int

    def apply(self, labelled: LabelledTokens) -> LabelledTokens:
        """Return a set with mapped confidences of tokens; its utterances' uncertainties stay."""
        mapped = _sigmoid(self.scale * _logit(labelled.confidence) + self.shift)
        return replace(labelled, confidence=mapped)

    def describe(self) -> str:
        """Say the formula with its numbers."""
        return (
            f"p' = sigmoid({self.scale:.3f} logit p {self.shift:+.3f}), fitted on {self.tokens} "
            "validation tokens"
        )


def fit_map(valid: LabelledTokens) -> ConfidenceMap:
    """Fit a map of confidences by Newton's method with halved steps; the problem is convex.

    Raises:
        ValueError: There is no token.
    """
    count, right = len(valid.owner), int(valid.right.sum())
    if not count:
        raise ValueError("a map of confidences needs validation tokens, found none")
    # Platt's targets, and the line's two columns: log odds and 1
    wrong = count - right
    target = np.where(valid.right, (right + 1) / (right + 2), 1 / (wrong + 2))
    x = np.stack([_logit(valid.confidence), np.ones(count)])
    # Newton's method from the map that changes nothing
    line = np.array([1.0, 0.0])
    loss = _loss(line, x, target)
    for _ in range(_MOST_STEPS):
        p = _sigmoid(line @ x)  # (W,)
        gradient = x @ (p - target)
        curvature = (x * (p * (1 - p))) @ x.T + 1e-9 * count * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while (new := _loss(line - step, x, target)) > loss and np.abs(step).max() > 1e-12:
            step = step / 2
        if new > loss:
            break
        line, gain, loss = line - step, loss - new, new
        if gain <= 1e-12 * count:
            break
    return ConfidenceMap(float(line[0]), float(line[1]), count)


def _loss(line: np.ndarray, x: np.ndarray, target: np.ndarray) -> float:
    z = line @ x
    return float((np.logaddexp(0.0, z) - target * z).sum())


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(np.asarray(p, dtype=np.float64), NEAREST, 1 - NEAREST)
    return np.log(p) - np.log1p(-p)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -z))
