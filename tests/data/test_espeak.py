"""Speech from espeak-ng: the same bits every time, and never a voice that was not asked for."""

import numpy as np
import pytest

from espnet_blora.data import espeak
from tests.data.phonemes import phonemes

HELLO = espeak.Run("hello my friend", "en", "f2", 160, 50)


def test_same_bits_whatever_was_spoken_before():
    first = espeak.synthesise([HELLO], 7)[0]
    espeak.synthesise([espeak.Run("我们 喜欢 音乐", "cmn", "m3", 190, 60)], 3)
    again = espeak.synthesise([HELLO], 7)[0]
    assert first.dtype == np.int16
    assert 0.5 < len(first) / espeak.SAMPLE_RATE < 3.0
    assert np.abs(first).max() > 1000
    np.testing.assert_array_equal(first, again)


def test_each_setting_is_heard():
    base = espeak.synthesise([HELLO], 7)[0]
    for change in ({"language": "en-US"}, {"variant": "m1"}, {"rate": 200}, {"pitch": 70}):
        other = espeak.synthesise([espeak.Run(**(vars(HELLO) | change))], 7)[0]
        assert other.shape != base.shape or (other != base).any(), change
    fast = espeak.synthesise([espeak.Run(**(vars(HELLO) | {"rate": 200}))], 7)[0]
    assert len(fast) < len(base)


def test_runs_come_back_apart_and_in_order():
    zh = espeak.Run("我们", "cmn", "f2", 160, 50)
    first, second = espeak.synthesise([HELLO, zh], 7)
    np.testing.assert_array_equal(first, espeak.synthesise([HELLO], 7)[0])
    assert 0 < len(second) < len(first)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"language": "zh"}, "no language 'zh'; it has .*cmn"),
        ({"variant": "nosuch"}, "no variant 'nosuch'; it has .*m1"),
        ({"text": "  "}, "empty text"),
    ],
)
def test_what_espeak_would_replace_in_silence_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        espeak.synthesise([espeak.Run(**(vars(HELLO) | change))], 7)


def test_a_failure_in_the_fork_reaches_the_caller():
    def fail():
        raise RuntimeError("no voice today")

    with pytest.raises(RuntimeError, match="no voice today"):
        espeak._in_fork(fail)


def test_phonemes_tell_homophones():
    need, want, know, no = phonemes(["need", "want", "know", "no"], "en")
    assert need != want and know == no
