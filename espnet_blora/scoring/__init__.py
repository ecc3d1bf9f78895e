"""Scoring: error counts by utterance id, intervals, retention formulas, the bridge to sclite."""

from espnet_blora.scoring.bootstrap import Interval, interval, probability_better
from espnet_blora.scoring.counts import Counts, SetScore
from espnet_blora.scoring.errors import UNITS, align, describe_normalisation, score

__all__ = [
    "UNITS",
    "Counts",
    "Interval",
    "SetScore",
    "align",
    "describe_normalisation",
    "interval",
    "probability_better",
    "score",
]
