"""Scoring: error counts by utterance id, intervals, retention formulas, the bridge to sclite."""

from espnet_blora.scoring.bootstrap import Interval, interval, probability_better
from espnet_blora.scoring.errors import UNITS, Counts, SetScore, align, score

__all__ = [
    "UNITS",
    "Counts",
    "Interval",
    "SetScore",
    "align",
    "interval",
    "probability_better",
    "score",
]
