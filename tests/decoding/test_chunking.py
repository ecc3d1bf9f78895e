"""Long audio: pieces that lose nothing, are cut where it is quiet, and join again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_blora.decoding.chunking import cut, cut_stream, joined, n_pieces

LIMIT, FRAME = 400, 8


@pytest.mark.parametrize(("samples", "pieces"), [(480000, 1), (480001, 2), (1500000, 4)])
def test_cut_loses_nothing_and_prefers_silence(samples, pieces):
    wave = torch.randn(samples)
    if pieces == 2:
        wave[250000:252000] = 0
    parts = cut(wave)
    assert len(parts) == pieces
    assert torch.equal(torch.cat(parts), wave)
    assert max(map(len, parts)) <= 480000
    if pieces == 2:
        assert 250000 <= len(parts[0]) <= 252000


@st.composite
def streams(draw):
    """A wave, and the same in blocks of any sizes, empty ones too."""
    sizes = draw(st.lists(st.integers(0, 3 * LIMIT), max_size=12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    blocks = [torch.randn(size, generator=generator) for size in sizes]
    return torch.cat([torch.zeros(0), *blocks]), blocks


@given(streams())
@settings(max_examples=200, deadline=None)
def test_pieces_cover_the_audio_exactly_and_none_is_too_long(stream):
    wave, blocks = stream
    found = list(cut_stream(blocks, len(wave), LIMIT, FRAME))
    assert torch.equal(torch.cat([piece for _, piece in found]), wave)
    assert max(len(piece) for _, piece in found) <= LIMIT
    ends = [begin + len(piece) for begin, piece in found]
    assert [begin for begin, _ in found] == [0, *ends[:-1]]
    assert len(found) == n_pieces(len(wave), LIMIT)
    # as few as leave some play, whatever the blocks were
    assert len(found) <= max(1, -(-len(wave) // int(0.8 * LIMIT)))
    whole = cut(wave, LIMIT, FRAME)
    assert [len(piece) for piece in whole] == [len(piece) for _, piece in found]


def test_a_stream_is_read_no_further_than_it_must():
    read = []

    def blocks():
        for number in range(20):
            read.append(number)
            yield torch.randn(LIMIT // 4)

    pieces = cut_stream(blocks(), 5 * LIMIT, LIMIT, FRAME)
    next(pieces)
    assert len(read) <= 5  # of 20


@pytest.mark.parametrize("promised", [LIMIT - 1, LIMIT + 1, 3 * LIMIT])
def test_blocks_that_are_not_as_long_as_promised(promised):
    with pytest.raises(ValueError, match=f"{promised} samples were expected"):
        list(cut_stream([torch.randn(LIMIT)], promised, LIMIT, FRAME))


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
