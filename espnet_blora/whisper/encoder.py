"""Whisper's audio encoder on unequal lengths: an utterance's output ignores its neighbours.

Four things leak padding into an utterance when openai-whisper's encoder is fed a padded batch: the
STFT's reflected tail, the features of padded frames, what the first convolution makes of them, and
attention to padded positions. Each is closed here: batch composition changes nothing but rounding.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from whisper.audio import HOP_LENGTH, N_FFT, N_SAMPLES, SAMPLE_RATE, mel_filters
from whisper.model import AudioEncoder, ResidualAttentionBlock

from espnet_blora.whisper.attention import (
    as_multiplied,
    attend,
    keys_values,
    padding_mask,
    run_block,
)

PAD_TO = ("batch", "30s")
"""`batch`: pad to the longest utterance, masked. `30s`: Whisper's own window, unmasked."""


@lru_cache(maxsize=8)
def _filters(n_mels: int, device: str) -> Tensor:
    return mel_filters(torch.device(device), n_mels)


def frames_of(lengths: Tensor) -> Tensor:
    """Mel frames of waves with `lengths` samples: ceil(S / 160), at least one."""
    return torch.clamp((lengths + HOP_LENGTH - 1) // HOP_LENGTH, min=1)


def memory_lengths(lengths: Tensor, pad_to: str) -> Tensor:
    """Positions of the memory of waves with `lengths` (B,) samples: half their frames, up."""
    if pad_to == "30s":
        return torch.full_like(lengths, N_SAMPLES // HOP_LENGTH // 2)
    return (frames_of(lengths) + 1) // 2


def log_mel(
    wave: Tensor, lengths: Tensor, n_mels: int, pad_to: str = "batch"
) -> tuple[Tensor, Tensor]:
    """Whisper's log-mel features of a batch.

    log10 of the mel power, floored at (the utterance's maximum - 8), then (x + 4) / 4. With
    `batch` the right edge of an utterance is followed by zeros (not by a reflection, which would
    depend on where the padding ends) and frames past the end are zero. With `30s` the figures are
    those of `whisper.log_mel_spectrogram(whisper.pad_or_trim(wave))`.

    Args:
        wave: (B, S) samples at 16 kHz.
        lengths: (B,) samples of each row.
        n_mels: 80 or 128.
        pad_to: one of `PAD_TO`.

    Returns:
        features (B, n_mels, T) fp32 and frames (B,).

    Raises:
        ValueError: unknown `pad_to`, or an utterance longer than 30 s (no positions beyond).
    """
    if pad_to not in PAD_TO:
        raise ValueError(f"pad_to is {pad_to!r}; allowed: {', '.join(PAD_TO)}")
    longest = int(lengths.max())
    if longest > N_SAMPLES:
        row = int(lengths.argmax())
        raise ValueError(
            f"row {row} of the batch lasts {longest / SAMPLE_RATE:.2f} s; Whisper's encoder takes "
            f"at most {N_SAMPLES // SAMPLE_RATE} s: cut the utterance (segments) or leave it out"
        )
    # zeros behind each utterance, as many as its spectrum may see
    keep = torch.arange(wave.shape[1], device=wave.device) < lengths.to(wave.device).unsqueeze(1)
    wave = wave.float().masked_fill(~keep, 0.0)
    if pad_to == "30s":
        frames = torch.full_like(lengths, N_SAMPLES // HOP_LENGTH)
        target = N_SAMPLES
    else:
        frames = frames_of(lengths)
        target = int(frames.max()) * HOP_LENGTH + N_FFT  # >= 200 zeros behind every utterance
    wave = wave[:, :target]  # samples past `target` are padding by the check above
    wave = F.pad(wave, (0, target - wave.shape[1]))
    # the features, (B, n_mels, T)
    window = torch.hann_window(N_FFT, device=wave.device)
    stft = torch.stft(wave, N_FFT, HOP_LENGTH, window=window, return_complex=True)
    power = stft[..., : int(frames.max())].abs() ** 2
    mel = torch.clamp(_filters(n_mels, str(wave.device)) @ power, min=1e-10).log10()
    # each utterance has its own floor, below its own maximum
    mask = padding_mask(frames, mel.shape[-1], mel.device)
    peak = mel if mask is None else mel.masked_fill(~mask.unsqueeze(1), -torch.inf)
    mel = torch.maximum(mel, peak.amax(dim=(1, 2), keepdim=True) - 8.0)
    mel = (mel + 4.0) / 4.0
    return (mel if mask is None else mel.masked_fill(~mask.unsqueeze(1), 0.0)), frames


def _block(block: ResidualAttentionBlock, x: Tensor, mask: Tensor | None) -> Tensor:
    normed = as_multiplied(block.attn_ln(x))
    x = x + attend(block.attn, normed, *keys_values(block.attn, normed), mask=mask)
    return x + block.mlp(as_multiplied(block.mlp_ln(x)))


def encode_features(
    encoder: AudioEncoder, features: Tensor, frames: Tensor, recomputed: bool = False
) -> tuple[Tensor, Tensor]:
    """Run openai-whisper's `AudioEncoder` modules over padded features, every leak closed.

    Args:
        encoder: a `whisper.model.AudioEncoder` (its Linear layers may be adapted).
        features: (B, n_mels, T), zero past each utterance's frames.
        frames: (B,) real frames.
        recomputed: as of `run_block`.

    Returns:
        memory (B, ceil(T / 2), n_state) and its lengths (B,) = ceil(frames / 2).

    Raises:
        ValueError: more frames than the encoder has positions for.
    """
    # the convolutions see zeros behind an utterance
    mask = padding_mask(frames, features.shape[-1], features.device)
    dtype = encoder.conv1.weight.dtype
    x = F.gelu(encoder.conv1(features.to(dtype)))  # (B, n_state, T)
    if mask is not None:
        x = x.masked_fill(~mask.unsqueeze(1), 0.0)
    x = F.gelu(encoder.conv2(x)).transpose(1, 2)  # (B, T', n_state)
    positions = encoder.positional_embedding
    if x.shape[1] > positions.shape[0]:
        raise ValueError(
            f"{x.shape[1]} encoder positions are needed but the model has {positions.shape[0]}: "
            "cut the audio into pieces of at most 30 s"
        )
    # the residual stream is as wide as the weights, or autocast would round it in every block, and
    # laid out by position: the convolutions' order would stay, and cost each block a copy
    x = (x + positions[: x.shape[1]]).to(dtype).contiguous()
    # attention sees no padded position
    lengths = (frames + 1) // 2
    mask = padding_mask(lengths, x.shape[1], x.device)
    if mask is not None:
        mask = mask[:, None, None, :]  # (B, 1, 1, T'): which keys may be seen
    for block in encoder.blocks:
        x = run_block(_block, block, x, mask, recomputed=recomputed)
    return encoder.ln_post(x), lengths.to(x.device)


def encode(
    encoder: AudioEncoder, wave: Tensor, lengths: Tensor, pad_to: str = "batch"
) -> tuple[Tensor, Tensor]:
    """Waves (B, S) at 16 kHz -> memory (B, T', n_state) and lengths (B,): the two steps above."""
    features, frames = log_mel(wave, lengths, encoder.conv1.in_channels, pad_to)
    return encode_features(encoder, features, frames)
