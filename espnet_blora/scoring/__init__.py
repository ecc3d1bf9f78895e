"""Scoring: error counts by utterance id, intervals, retention formulas, the bridge to sclite."""

from espnet_blora.scoring.alignment import align
from espnet_blora.scoring.bootstrap import Interval, interval, probability_better
from espnet_blora.scoring.counts import Counts, Remark, Utterance
from espnet_blora.scoring.errors import describe_normalisation, score
from espnet_blora.scoring.modes import UNITS
from espnet_blora.scoring.set_score import SetScore

__all__ = [
    "UNITS",
    "Counts",
    "Interval",
    "Remark",
    "SetScore",
    "Utterance",
    "align",
    "describe_normalisation",
    "interval",
    "probability_better",
    "score",
]
