"""How probable Whisper finds a text, and what else depends on reading it: teacher forcing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.encoder import encode


def text_nll(
    encoder: nn.Module,
    decoder: nn.Module,
    wave: Tensor,
    prompt: Sequence[int],
    text: Sequence[int],
    eot: int,
    pad_to: str = "batch",
    sampler: torch.Generator | None = None,
) -> tuple[Tensor, int]:
    """Return -log p(text and end of text | wave, prompt) in nats, 0-dim, and how many tokens.

    Args:
        encoder: a `whisper.model.AudioEncoder`.
        decoder: a `whisper.model.TextDecoder`.
        wave: (S,) samples at 16 kHz.
        prompt: ids that are given, not predicted.
        text: text ids.
        eot: id of end of text, which is predicted too.
        pad_to: `batch` or `30s`.
        sampler: if given, the log likelihood is of tokens drawn from the model, each after the
            text so far, instead of the text's own.

    Raises:
        ValueError: a wave longer than 30 s, or more ids than the decoder has positions.
    """
    device = decoder.token_embedding.weight.device
    lengths = torch.tensor([len(wave)], device=device)
    memory, memory_lengths = encode(encoder, wave.to(device).unsqueeze(0), lengths, pad_to)
    read = torch.tensor([[*prompt, *text]], device=device)
    logits = forward(decoder, read, memory, memory_lengths)[0, len(prompt) - 1 :]
    wanted = torch.tensor([*text, eot], device=device)
    if sampler is not None:
        chances = logits.detach().softmax(-1).to(sampler.device)
        wanted = torch.multinomial(chances, 1, generator=sampler).squeeze(1).to(device)
    return nn.functional.cross_entropy(logits, wanted, reduction="sum"), len(wanted)
