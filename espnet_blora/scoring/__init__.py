"""Scoring: error counts by utterance id, intervals, retention formulas, the bridge to sclite."""

from espnet_blora.scoring.alignment import align
from espnet_blora.scoring.counts import Counts, Remark, Utterance
from espnet_blora.scoring.errors import describe_normalisation, score
from espnet_blora.scoring.intervals import Interval, RateInterval, rate_interval, units_of
from espnet_blora.scoring.modes import UNITS
from espnet_blora.scoring.set_score import SetScore

__all__ = [
    "UNITS",
    "Counts",
    "Interval",
    "RateInterval",
    "Remark",
    "SetScore",
    "Utterance",
    "align",
    "describe_normalisation",
    "rate_interval",
    "score",
    "units_of",
]
