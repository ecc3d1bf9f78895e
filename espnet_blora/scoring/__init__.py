"""Scoring: error counts by utterance id, intervals, retention formulas, the bridge to sclite."""

from espnet_blora.scoring.alignment import align
from espnet_blora.scoring.bootstrap import Interval, interval, probability_better
from espnet_blora.scoring.breakdown import grouped
from espnet_blora.scoring.counts import Counts, Remark, Utterance
from espnet_blora.scoring.errors import describe_normalisation, score
from espnet_blora.scoring.set_score import SetScore
from espnet_blora.scoring.units import UNITS

__all__ = [
    "UNITS",
    "Counts",
    "Interval",
    "Remark",
    "SetScore",
    "Utterance",
    "align",
    "describe_normalisation",
    "grouped",
    "interval",
    "probability_better",
    "score",
]
