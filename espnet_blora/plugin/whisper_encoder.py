"""Whisper's audio encoder as an ESPnet encoder (`encoder: whisper`)."""

from __future__ import annotations

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.specaug.specaug import SpecAug
from torch import Tensor

from espnet_blora.plugin.loading import parts_for_encoder
from espnet_blora.whisper.attention import padding_mask
from espnet_blora.whisper.encoder import PAD_TO, encode_features, log_mel


def check_dropout(rate: float, where: str) -> None:
    """Refuse a dropout inside Whisper.

    Raises:
        ValueError: `rate` is not 0.
    """
    if rate != 0:
        raise ValueError(
            f"{where}.dropout_rate is {rate}, allowed is 0.0: Whisper has no dropout; "
            "adapter_conf.dropout_rate drops the adapter's input"
        )


class WhisperEncoder(AbsEncoder):
    """Waves at 16 kHz to Whisper's memory; an utterance's memory does not depend on its batch.

    `encoders` is openai-whisper's `AudioEncoder` (adapter targets: `encoder.encoders.blocks...`).
    """

    def __init__(
        self,
        input_size: int = 1,
        whisper_model: str = "small",
        pad_to: str = "30s",
        dropout_rate: float = 0.0,
        use_specaug: bool = False,
        specaug_conf: dict | None = None,
    ):
        """Load the encoder.

        Args:
            input_size: unused; ESPnet passes 1 for raw waves.
            whisper_model: published size or checkpoint file.
            pad_to: "30s" (Whisper's own window, exact for published models) or "batch" (only to
                the longest utterance, masked: faster, and what a fine-tuned model can be used to).
            dropout_rate: 0.0, kept for ESPnet's yaml files.
            use_specaug: mask the log-mel features in training.
            specaug_conf: arguments of ESPnet's `SpecAug`.

        Raises:
            ValueError: an option out of range, or no such Whisper.
        """
        super().__init__()
        check_dropout(dropout_rate, "encoder_conf")
        if pad_to not in PAD_TO:
            raise ValueError(f"encoder_conf.pad_to is {pad_to!r}; allowed: {', '.join(PAD_TO)}")
        parts = parts_for_encoder(str(whisper_model))
        self.encoders = parts.encoder
        self.n_mels = parts.dims.n_mels
        self.pad_to = pad_to
        self.specaug = SpecAug(**(specaug_conf or {})) if use_specaug else None

    def output_size(self) -> int:
        """Width of the memory."""
        return self.encoders.ln_post.normalized_shape[-1]

    def forward(
        self, xs_pad: Tensor, ilens: Tensor, prev_states: Tensor | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """Waves (B, S) and samples (B,) -> memory (B, T', n_state), lengths (B,), None.

        Audio of any length down to nothing is accepted (padded to one frame), so ESPnet's
        `TooShortUttError` never arises.

        Raises:
            ValueError: several channels, or more than 30 s.
        """
        if xs_pad.dim() != 2:
            raise ValueError(
                f"speech of shape {tuple(xs_pad.shape)}: Whisper takes one channel, (batch, "
                "samples); make the audio mono in stage 1"
            )
        with torch.autocast(
            xs_pad.device.type, enabled=False
        ):  # mel power overflows half precision
            features, frames = log_mel(xs_pad, ilens, self.n_mels, self.pad_to)
        if self.specaug is not None and self.training:
            features = self.specaug(features.transpose(1, 2), frames)[0].transpose(1, 2)
            mask = padding_mask(frames.to(features.device), features.shape[-1])
            if mask is not None:
                features = features.masked_fill(~mask.unsqueeze(1), 0.0)
        memory, lengths = encode_features(self.encoders, features, frames)
        return memory, lengths, None
