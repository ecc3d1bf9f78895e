"""The padding-safe encoder: no leak between rows of a batch, and Whisper's own figures at 30 s."""

import pytest
import torch
import whisper
from whisper.model import Whisper

from espnet_blora.whisper.attention import attend, keys_values, padding_mask
from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.encoder import encode, encode_features, frames_of, log_mel
from tests.whispers import random_whisper

LENGTHS = torch.tensor([48000, 21234, 30000, 50])


@pytest.fixture(scope="module")
def model() -> Whisper:
    model = random_whisper(64, (2, 2))
    for parameter in model.encoder.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(1.5)
    return model


@pytest.fixture(scope="module")
def waves() -> torch.Tensor:
    torch.manual_seed(1)
    waves = 0.1 * torch.randn(len(LENGTHS), int(LENGTHS.max()))
    return waves  # the padding is NOT zero: the encoder must ignore whatever stands there


@torch.no_grad()
def test_an_utterance_does_not_see_its_batch(model, waves):
    out, lengths = encode(model.encoder, waves, LENGTHS)
    for row, n in enumerate(LENGTHS.tolist()):
        alone, length = encode(model.encoder, waves[row : row + 1, :n], LENGTHS[row : row + 1])
        assert alone.shape[1] == int(length) == int(lengths[row])
        difference = (alone[0] - out[row, : int(length)]).abs().max()
        assert difference <= 1e-6 * alone.abs().max() * 2


@torch.no_grad()
def test_without_the_masks_padding_does_leak(model, waves):
    """The test above can fail: Whisper's own modules on the same padded features differ."""
    features, frames = log_mel(waves, LENGTHS, 80)
    full = torch.full_like(frames, features.shape[-1])
    leaky, _ = encode_features(model.encoder, features, full)
    right, lengths = encode_features(model.encoder, features, frames)
    n = int(lengths[1])
    assert (leaky[1, :n] - right[1, :n]).abs().max() > 1e-3 * right.abs().max()


@torch.no_grad()
def test_thirty_seconds_is_whispers_own_encoder(model, waves):
    out, lengths = encode(model.encoder, waves[:1, :30000], LENGTHS[2:3], pad_to="30s")
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(waves[0, :30000]))
    assert int(lengths) == 1500
    torch.testing.assert_close(out, model.encoder(mel.unsqueeze(0)), rtol=0, atol=2e-5)


@torch.no_grad()
def test_thirty_seconds_floors_each_row_by_its_own_peak(waves):
    batch, _ = log_mel(torch.cat([waves[:1], 1e-3 * waves[:1]]), LENGTHS[:1].repeat(2), 80, "30s")
    quiet, _ = log_mel(1e-3 * waves[:1], LENGTHS[:1], 80, "30s")
    assert torch.equal(batch[1:], quiet)


def test_frames_and_lengths_of_the_shortest_audio(model):
    assert frames_of(torch.tensor([0, 1, 160, 161, 480000])).tolist() == [1, 1, 1, 2, 3000]
    out, lengths = encode(model.encoder, torch.zeros(1, 0), torch.tensor([0]))
    assert out.shape[:2] == (1, 1)
    assert lengths.tolist() == [1]
    assert torch.isfinite(out).all()


def test_too_long_audio_and_unknown_padding_are_errors(model):
    long = torch.zeros(1, 480001)
    with pytest.raises(ValueError, match=r"row 0 .* 30\.00 s.* at most 30 s"):
        encode(model.encoder, long, torch.tensor([480001]))
    with pytest.raises(ValueError, match="pad_to is '20s'; allowed: batch, 30s"):
        encode(model.encoder, long, torch.tensor([10]), pad_to="20s")


def test_attention_equals_whispers_own(model):
    torch.manual_seed(2)
    x, xa = torch.randn(2, 5, 64), torch.randn(2, 7, 64)
    mha = model.decoder.blocks[0].cross_attn
    ours = attend(mha, x, *keys_values(mha, xa))
    torch.testing.assert_close(ours, mha(x, xa)[0], rtol=0, atol=1e-6)
    causal = attend(mha, x, *keys_values(mha, x), causal=True)
    torch.testing.assert_close(causal, mha(x, mask=model.decoder.mask)[0], rtol=0, atol=1e-6)


def test_masked_keys_have_no_influence(model):
    torch.manual_seed(3)
    x, xa = torch.randn(1, 3, 64), torch.randn(1, 7, 64)
    mha = model.decoder.blocks[0].cross_attn
    mask = padding_mask(torch.tensor([4]), 7, torch.device("cpu"))[:, None, None, :]
    masked = attend(mha, x, *keys_values(mha, xa), mask=mask)
    torch.testing.assert_close(
        masked, attend(mha, x, *keys_values(mha, xa[:, :4])), atol=1e-6, rtol=0
    )
    assert padding_mask(torch.tensor([7, 7]), 7, torch.device("cpu")) is None


@torch.no_grad()
def test_autocast_leaves_the_residual_stream_in_fp32(waves):
    """Six blocks in CPU bf16: a bf16 stream was 0.0066 (relative) off the fp32 memory."""
    model = random_whisper(64, (6, 6))
    exact, lengths = encode(model.encoder, waves, LENGTHS)
    tokens = torch.randint(0, 50000, (len(LENGTHS), 9))
    logits = forward(model.decoder, tokens, exact, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        memory, _ = encode(model.encoder, waves, LENGTHS)
        rough = forward(model.decoder, tokens, memory, lengths)
    assert memory.dtype == torch.float32
    assert (memory - exact).norm() / exact.norm() < 0.004
    assert (rough - logits).norm() / logits.norm() < 0.006
