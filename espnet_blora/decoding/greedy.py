"""Greedy transcription of a batch, for sweeps that decode the same sets many times."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from espnet_blora.whisper.cache import KVCache
from espnet_blora.whisper.encoder import encode


def pad(waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Waves of unequal length -> (B, S) zero-padded and their lengths (B,)."""
    lengths = torch.tensor([len(wave) for wave in waves])
    return torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True), lengths


@torch.no_grad()
def search(
    decoder: nn.Module,
    memory: Tensor,
    lengths: Tensor,
    prompts: Sequence[Sequence[int]],
    eot: int,
    maxlenratio: float = 0.0,
) -> list[list[int]]:
    """The most probable next token, step by step, until end of text, for each row of a batch.

    A row gets at most ``maxlenratio`` tokens a position of its memory (a position lasts 20 ms), one
    a position where that is 0, as in ESPnet's search; and no more than the decoder has room for.

    Args:
        decoder: a ``whisper.model.TextDecoder``.
        memory: encoder output, (B, T', n_state).
        lengths: real positions of each row, (B,).
        prompts: B prompts of equal length (start, language, task, no timestamps).
        eot: id of end of text.
        maxlenratio: tokens a memory position at most, >= 0; 0 stands for 1.

    Returns:
        B lists of text ids, without prompt and end of text.

    Raises:
        ValueError: prompts of unequal length, or not one prompt a row.
    """
    if len(prompts) != len(memory) or len({len(p) for p in prompts}) > 1:
        raise ValueError(
            f"{len(memory)} utterances and prompts of lengths {[len(p) for p in prompts]}: one "
            "prompt an utterance is needed, all of one length"
        )
    cache = KVCache(decoder, memory, lengths)
    limits = (lengths * maxlenratio).long().clamp(min=1) if maxlenratio else lengths
    limits = limits.clamp(max=decoder.positional_embedding.shape[0] - len(prompts[0]))
    tokens = torch.tensor([list(p) for p in prompts], device=memory.device)
    done = torch.zeros(len(memory), dtype=torch.bool, device=memory.device)
    texts: list[Tensor] = []
    for step in range(int(limits.max())):
        best = cache.step(tokens).argmax(-1)
        done = done | (best == eot) | (step >= limits)
        texts.append(torch.where(done, eot, best))
        if done.all():
            break
        tokens = texts[-1].unsqueeze(1)
    rows = torch.stack(texts, dim=1).tolist()
    return [[t for t in row if t != eot] for row in rows]


@torch.no_grad()
def greedy(
    encoder: nn.Module,
    decoder: nn.Module,
    waves: Sequence[Tensor],
    prompts: Sequence[Sequence[int]],
    eot: int,
    pad_to: str = "batch",
    maxlenratio: float = 0.0,
) -> list[list[int]]:
    """Waves at 16 kHz, each (S_i,), to lists of text ids; see :func:`search`.

    Raises:
        ValueError: as :func:`search`, or a wave longer than 30 s.
    """
    wave, lengths = pad(waves)
    device = decoder.token_embedding.weight.device
    memory, memory_lengths = encode(encoder, wave.to(device), lengths.to(device), pad_to)
    return search(decoder, memory, memory_lengths, prompts, eot, maxlenratio)
