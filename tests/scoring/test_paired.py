"""A system beside a baseline on the same utterances."""

import pytest

from espnet_blora.scoring import score
from espnet_blora.scoring.paired import compare

IDS = [f"{speaker}{n:02d}" for speaker in "abcdefgh" for n in range(10)]
REF = dict.fromkeys(IDS, "one two three four")


def heard(wrong):
    return score(REF, {k: "one two three" if k in wrong else REF[k] for k in IDS})


def test_a_better_system():
    ours, theirs = heard(set(IDS[::8])), heard(set(IDS[::2]))
    found = compare(ours, theirs)
    assert (found.errors, found.baseline_errors, found.tokens) == (10, 40, 320)
    assert found.difference == pytest.approx(-30 / 320)
    assert found.interval.low < found.difference < found.interval.high < 0
    assert found.probability_better == 1.0
    back = compare(theirs, ours)
    assert back.difference == -found.difference and back.probability_better == 0.0
    assert found.as_json()["interval_95"]["high"] == found.interval.high
    assert "interval" not in found.as_json()


def test_a_difference_of_one_speaker_is_no_difference_between_speakers():
    ours, theirs = heard(set()), heard({k for k in IDS if k[0] == "a"})
    assert compare(ours, theirs).interval.high < 0
    found = compare(ours, theirs, {k: k[0] for k in IDS})
    assert found.interval.high == 0.0
    assert 0.7 < found.probability_better < 0.9


def test_equal_systems_and_single_utterances():
    same = compare(heard(set(IDS[:4])), heard(set(IDS[:4])))
    assert same.difference == 0 == same.interval.low == same.interval.high
    assert same.probability_better == 0.5
    one = score({"a": "x"}, {"a": "y"})
    assert compare(one, one).interval is None and compare(one, one).probability_better is None
    nothing = score({"a": "", "b": ""}, {"a": "y", "b": ""})
    assert compare(nothing, nothing).difference is None


def test_what_cannot_be_compared():
    one = score({"a": "x y"}, {"a": "x"})
    with pytest.raises(ValueError, match="same utterances and references"):
        compare(one, score({"b": "x y"}, {"b": "x"}))
    with pytest.raises(ValueError, match="same utterances and references"):
        compare(one, score({"a": "x"}, {"a": "x"}))
    with pytest.raises(ValueError, match="same unit, found 'mer' and 'wer'"):
        compare(one, score({"a": "x y"}, {"a": "x"}, "wer"))
