"""Where nobody speaks, and what that does to a path."""

import numpy as np
import pytest
import torch

from espnet_blora.data.audio import loudness
from espnet_blora.decoding.silence import (
    MARGIN,
    NEAR,
    SpeechMask,
    may_be_speech,
    quiet_positions,
)


def waves(*parts, noise=0.0):
    """Parts (seconds, loudness) as noise at 16 kHz."""
    generator = torch.Generator().manual_seed(0)
    wave = torch.cat(
        [level * torch.randn(int(16000 * t), generator=generator) for t, level in parts]
    )
    return wave + noise * torch.randn(len(wave), generator=generator)


def quiet(wave):
    return quiet_positions(loudness(wave.numpy()))


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.01])
def test_pauses_of_a_fifth_of_a_second_and_edges_of_any_length(noise):
    wave = waves((0.1, 0), (0.4, 0.2), (0.18, 0), (0.4, 0.1), (0.3, 0), (0.2, 0.2), (0.041, 0))
    found = quiet(wave + noise * torch.randn(len(wave)))
    wanted = np.zeros(82, dtype=bool)
    wanted[:5] = wanted[54:69] = wanted[79:] = True
    assert found.tolist() == wanted.tolist()


def test_where_nothing_stands_out_nothing_is_quiet():
    for wave in (torch.zeros(8000), waves((1, 0.1)), waves((0.5, 0.1), (0.5, 0.05)), torch.ones(1)):
        assert not quiet(wave).any()
    speech = waves((0.4, 0.2), (0.4, 0), (0.4, 0.2), noise=0.1)  # 6 dB of noise below speech
    assert not quiet(speech).any()


def test_what_may_be_speech():
    """Silence, hum and steady noise of half a second or more are not; what is short may be."""
    at = torch.arange(3 * 16000) / 16000
    hums = [torch.sin(2 * torch.pi * hertz * at) for hertz in (50, 60, 100, 440)]
    for wave in (torch.zeros(48000), waves((3, 0.2)), waves((3, 1e-4)), *hums):
        assert not may_be_speech(loudness(wave.numpy()))
        assert not may_be_speech(loudness(1e-5 * wave.numpy()))
    syllables = waves(*[(0.2, 0.2), (0.1, 0.05)] * 10)
    for wave in (syllables, syllables + 0.2 * torch.randn(len(syllables)), waves((0.4, 0.1))):
        assert may_be_speech(loudness(wave.numpy()))


def mask(*spans, n=100):
    found = np.zeros(n, dtype=bool)
    for begin, end in spans:
        found[begin:end] = True
    return found


def test_the_path_leaves_out_the_middle_of_pauses():
    heard = SpeechMask.of(mask((0, 20), (40, 60), (97, 100)), 100)
    assert heard.path.tolist() == [*range(20 - MARGIN, 40 + MARGIN), *range(60 - MARGIN, 100)]
    assert heard.breaks == [20 + 2 * MARGIN]
    assert heard.moment(heard.breaks[0], end=True) == 40 + MARGIN
    assert heard.moment(heard.breaks[0], end=False) == 60 - MARGIN
    assert heard.moment(0, end=False) == heard.moment(0, end=True) == 20 - MARGIN
    assert heard.moment(len(heard.path), end=False) == 100
    assert heard.moment(3.5, end=False) == 20 - MARGIN + 3.5


def test_without_pauses_places_are_positions():
    for heard in (
        SpeechMask.of(None, 7),
        SpeechMask.of(mask(n=7), 7),
        SpeechMask.of(mask((0, 7), n=9), 7),
    ):
        assert heard.path.tolist() == list(range(7)) and heard.breaks == []
        assert [heard.moment(k, end) for k in range(8) for end in (False, True)] == [
            k for k in range(8) for _ in range(2)
        ]
        assert heard.tight(2.5, 4) == (2.5, 4) and heard.tight(3, 3) == (3, 3)


def test_words_lose_the_quiet_at_their_ends():
    heard = SpeechMask.of(mask((0, 20), (40, 60)), 100)
    assert heard.tight(15, 45) == (20, 40)
    assert heard.tight(25.5, 61) == (25.5, 61)
    assert heard.tight(42, 50) == (42, 50)


def test_the_nearest_word_begins_behind_the_pause():
    heard = SpeechMask.of(mask((40, 60)), 100)
    at = heard.breaks[0]
    begins = np.array([0, 20, at - 9, at - 4, at + 10, 85])
    assert heard.snap(begins, [0, 1, 2, 4]).tolist() == [0, 20, at, at, at + 10, 85]
    assert heard.snap(begins, [0, 1, 4]).tolist() == [0, 20, at - 9, at - 4, at, 85]
    assert heard.snap(begins, [0]).tolist() == begins.tolist()
    far = np.array([0, at - NEAR - 1, 85])
    assert heard.snap(far, [0, 1]).tolist() == far.tolist()
