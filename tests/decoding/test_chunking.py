"""Long audio: pieces that lose nothing, are cut where it is quiet, and join again."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_blora.data.audio import loudness
from espnet_blora.decoding.chunking import cut, joined, slices, spans


def speech(seconds):
    """Noise in syllables, of which the first and the last are loud: (S,)."""
    samples = round(16000 * seconds)
    syllable = (torch.arange(samples) // 1600 % 3 != 2).float() * 0.9 + 0.1
    return 0.2 * syllable * torch.randn(samples, generator=torch.Generator().manual_seed(7))


def pause(seconds):
    return torch.zeros(round(16000 * seconds))


def found(wave, limit=30.0, merge=None, **how):
    """Spans in seconds."""
    most, least = (int(16000 * s) for s in (limit, limit if merge is None else merge))
    pieces = spans(loudness(wave.numpy()), len(wave), most, least, **how)
    return [(begin / 16000, end / 16000) for begin, end in pieces]


def test_pieces_go_from_pause_to_pause():
    """With 0.24 s of the pauses on each side, half of a short one, and no more than there is."""
    wave = torch.cat([pause(3), speech(1.6), pause(0.3), speech(1), pause(2), speech(1.6)])
    assert found(wave, merge=1) == [(2.76, 4.74), (4.74, 6.14), (7.66, 9.5)]
    # neighbours are put together while they are not longer than that
    assert found(wave, merge=3.4) == [(2.76, 6.14), (7.66, 9.5)]
    assert found(wave, merge=30) == [(2.76, 9.5)]


def test_what_has_no_pause_is_cut_where_it_is_quietest():
    wave = speech(9)
    for end in (3.46, 6.26):  # 0.12 s are no pause
        wave[int((end - 0.12) * 16000) : int(end * 16000)] = 0
    (a, b), (c, d), (e, f) = found(wave, limit=4, merge=2)
    assert a == 0 and f == 9.0 and b == c and d == e
    assert 3.3 <= b <= 3.46 and 6.1 <= d <= 6.26


def test_silence_hum_and_steady_noise_are_no_piece():
    at = torch.arange(60 * 16000) / 16000
    for nothing in (pause(60), 0.1 * torch.sin(2 * torch.pi * 50 * at), 0.1 * torch.randn(960000)):
        assert found(nothing) == [] == found(nothing, limit=4)
        kept = found(nothing, drop_quiet=False)
        assert sum(end - begin for begin, end in kept) == pytest.approx(60)
    # noise before speech that is too loud to be a pause
    wave = torch.cat([0.03 * torch.randn(20 * 16000), speech(4)])
    assert found(wave, limit=5)[0][0] > 14


@st.composite
def recordings(draw):
    """Speech, pauses and noise of any lengths."""
    parts = draw(st.lists(st.tuples(st.sampled_from("spn"), st.floats(0, 6)), max_size=8))
    kinds = {"s": speech, "p": pause, "n": lambda t: 0.1 * torch.randn(round(16000 * t))}
    wave = torch.cat([torch.zeros(1), *(kinds[kind](seconds) for kind, seconds in parts)])
    return wave, draw(st.floats(1, 30))


@given(recordings(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_pieces_lie_in_order_and_none_is_too_long(recording, drop_quiet):
    wave, limit = recording
    most = int(limit * 16000)
    pieces = spans(loudness(wave.numpy()), len(wave), most, most, drop_quiet)
    assert all(0 <= begin < end <= len(wave) and end - begin <= most for begin, end in pieces)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(pieces))
    if not drop_quiet:
        assert torch.equal(torch.cat([wave[begin:end] for begin, end in pieces]), wave)
    # the same pieces from a stream, whatever its blocks
    blocks = wave.split([1, *[len(wave) // 3] * 2, len(wave) - 1 - len(wave) // 3 * 2])
    streamed = list(slices(blocks, len(wave), pieces))
    assert [begin for begin, _ in streamed] == [begin for begin, _ in pieces]
    for (_, piece), (begin, end) in zip(streamed, pieces, strict=True):
        assert torch.equal(piece, wave[begin:end])


@pytest.mark.parametrize(("samples", "pieces"), [(0, 1), (480000, 1), (480001, 2), (1500000, 4)])
def test_cut_loses_nothing(samples, pieces):
    wave = torch.randn(samples)
    parts = cut(wave)
    assert len(parts) >= pieces and torch.equal(torch.cat(parts), wave)
    assert max(map(len, parts)) <= 480000


def test_a_stream_is_read_no_further_than_it_must():
    read = []

    def blocks():
        for number in range(20):
            read.append(number)
            yield torch.randn(100)

    pieces = slices(blocks(), 2000, [(450, 500), (1000, 1700)])
    next(pieces)
    assert len(read) == 5


@pytest.mark.parametrize("promised", [399, 401, 1200])
def test_blocks_that_are_not_as_long_as_promised(promised):
    with pytest.raises(ValueError, match=f"{promised} samples were expected"):
        list(slices([torch.randn(400)], promised, [(0, promised)]))


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["so we", " went home"], "so we went home"),
        (["你好", "世界"], "你好世界"),
        (["说完。", "好"], "说完。好"),
        (["我要 coffee", "谢谢"], "我要 coffee 谢谢"),
        (["안녕하세요", "여러분"], "안녕하세요 여러분"),
        (["ภาษา", "ไทย"], "ภาษาไทย"),
        (["", "  one\ntwo ", ""], "one two"),
        ([], ""),
    ],
)
def test_texts_are_joined_as_their_scripts_are_written(texts, whole):
    assert joined(texts) == whole
