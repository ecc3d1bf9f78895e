"""Whisper's encoder under ESPnet: any length of mono audio, both paddings, masked augmentation."""

import pytest
import torch

from espnet_blora.plugin import whisper_parts
from espnet_blora.plugin.whisper_parts import WhisperEncoder


@pytest.fixture(scope="module")
def checkpoint(random_whisper):
    return random_whisper


@pytest.mark.parametrize("samples", [0, 1, 159, 16000])
def test_audio_of_any_length(checkpoint, samples):
    encoder = WhisperEncoder(whisper_model=checkpoint, pad_to="batch").eval()
    out, lengths, extra = encoder(torch.randn(1, samples), torch.tensor([samples]))
    assert extra is None
    assert out.shape == (1, max(1, -(-samples // 320)), 32)
    assert lengths.tolist() == [out.shape[1]]
    assert torch.isfinite(out).all()


def test_mixed_precision_leaves_the_features_alone(checkpoint, monkeypatch):
    encoder = WhisperEncoder(whisper_model=checkpoint, pad_to="batch").eval()
    wave, lengths = torch.randn(1, 16000), torch.tensor([16000])
    seen = []
    real = whisper_parts.encode_features

    def spy(encoder, features, *rest):
        seen.append(features)
        return real(encoder, features, *rest)

    monkeypatch.setattr(whisper_parts, "encode_features", spy)
    encoder(wave, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        out, _, _ = encoder(wave, lengths)
    assert torch.isfinite(out).all()
    assert torch.equal(seen[0], seen[1])


def test_thirty_seconds_need_no_mask(checkpoint):
    encoder = WhisperEncoder(whisper_model=checkpoint).eval()
    out, lengths, _ = encoder(torch.randn(2, 3000), torch.tensor([3000, 100]))
    assert out.shape == (2, 1500, 32)
    assert lengths.tolist() == [1500, 1500]


def test_augmentation_only_in_training_and_not_in_the_padding(checkpoint):
    conf = {"apply_time_warp": False, "num_freq_mask": 2, "freq_mask_width_range": [20, 30]}
    encoder = WhisperEncoder(
        whisper_model=checkpoint,
        pad_to="batch",
        use_specaug=True,
        specaug_conf={**conf, "time_mask_width_range": [0, 5]},
    )
    torch.manual_seed(3)
    waves, lengths = torch.randn(2, 8000), torch.tensor([8000, 4000])
    encoder.eval()
    calm = encoder(waves, lengths)[0]
    assert torch.equal(calm, encoder(waves, lengths)[0])
    encoder.train()
    noisy = encoder(waves, lengths)[0]
    assert not torch.allclose(calm, noisy)
    torch.manual_seed(7)
    first = encoder(waves, lengths)[0][1, :12]
    torch.manual_seed(7)
    changed = waves.clone()
    changed[1, 4000:] = 100.0
    assert torch.equal(first, encoder(changed, lengths)[0][1, :12])


def test_refused_options_and_stereo(checkpoint):
    with pytest.raises(ValueError, match=r"pad_to is 'yes'; allowed: batch, 30s"):
        WhisperEncoder(whisper_model=checkpoint, pad_to="yes")
    with pytest.raises(ValueError, match=r"encoder_conf\.dropout_rate"):
        WhisperEncoder(whisper_model=checkpoint, dropout_rate=0.1)
    with pytest.raises(FileNotFoundError, match="neither a file nor a published size"):
        WhisperEncoder(whisper_model="enormous")
    encoder = WhisperEncoder(whisper_model=checkpoint)
    with pytest.raises(ValueError, match="one channel"):
        encoder(torch.zeros(1, 100, 2), torch.tensor([100]))
    whisper_parts.forget()
