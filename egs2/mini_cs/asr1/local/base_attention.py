"""Attention of a decoder in training, pulled to where the next token is said.

Joined utterances are hard to follow: many words come twice, and a decoder that has only met short
utterances takes the n-th token from the n-th part of the audio. Where each utterance begins and
ends in a window is known, so one head per layer is shown where to look (guided attention).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from whisper.model import TextDecoder

from espnet_blora.whisper.attention import attend, keys_values
from espnet_blora.whisper.decoder import embed

Span = tuple[int, int, int]
"""First mel frame, the frame after the last, and number of tokens of an utterance in a window."""

NEIGHBOURS, SLACK = 0.7, 4
"""An estimated place may be wrong by so many tokens, and so many encoder positions of 20 ms."""


def places(
    spans: Sequence[Sequence[Span]], shape: tuple[int, int, int], prompt: int
) -> tuple[Tensor, Tensor]:
    """Where the next token is said, if every token of an utterance lasts equally long.

    Args:
        spans: Per row the utterances in order.
        shape: (B, L, T): rows, tokens, encoder positions.
        prompt: Tokens before the text.

    Returns:
        Mask (B, L, T) of positions, and which tokens have any: (B, L).
    """
    rows, length, positions = shape
    first, last = torch.zeros(rows, length), torch.zeros(rows, length)
    spoken = torch.zeros(rows, length, dtype=torch.bool)
    for row, utterances in enumerate(spans):
        at = prompt - 1  # this token's state predicts the first token of the text
        for begin, end, count in utterances:
            step, token = (end - begin) / 2 / count, torch.arange(count)
            first[row, at : at + count] = begin / 2 + (token - NEIGHBOURS) * step - SLACK
            last[row, at : at + count] = begin / 2 + (token + 1 + NEIGHBOURS) * step + SLACK
            spoken[row, at : at + count] = True
            at += count
    place = torch.arange(positions)
    return (place >= first[..., None]) & (place <= last[..., None]), spoken


def guided_states(
    decoder: TextDecoder,
    tokens: Tensor,
    memory: Tensor,
    lengths: Tensor,
    spans: Sequence[Sequence[Span]],
    prompt: int,
) -> tuple[Tensor, Tensor]:
    """Return `whisper.decoder.states`, and how little of the attention falls where it should.

    The second figure is the mean of -log(attention inside `places`), in nats, over the spoken
    tokens and the first head of every layer but the lowest.

    Args:
        decoder: A `whisper.model.TextDecoder`.
        tokens: (B, L) ids, prompt first.
        memory: (B, T, n_state) from the encoder.
        lengths: (B,) real positions of each memory.
        spans: Per row the utterances in order.
        prompt: Tokens before the text.

    Returns:
        States (B, L, n_state) and a scalar.
    """
    (rows, length), positions = tokens.shape, memory.shape[1]
    inside, spoken = places(spans, (rows, length, positions), prompt)
    padded = (torch.arange(positions) >= lengths[:, None])[:, None, None]  # (B, 1, 1, T)
    x = embed(decoder, tokens, 0, memory.dtype)
    missed = torch.zeros(())
    for depth, block in enumerate(decoder.blocks):
        normed = block.attn_ln(x)
        x = x + attend(block.attn, normed, *keys_values(block.attn, normed), causal=True)
        cross = block.cross_attn
        query, key, value = (
            side.view(rows, -1, cross.n_head, side.shape[-1] // cross.n_head).transpose(1, 2)
            for side in (
                cross.query(block.cross_attn_ln(x)),
                cross.key(memory),
                cross.value(memory),
            )
        )  # (B, heads, L or T, d_head)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        weights = scores.masked_fill(padded, -torch.inf).softmax(-1)  # (B, heads, L, T)
        x = x + cross.out((weights @ value).transpose(1, 2).flatten(2))
        if depth:
            mass = (weights[:, 0] * inside).sum(-1).clamp(min=1e-6)  # (B, L)
            missed = missed - mass.log()[spoken].mean() / (len(decoder.blocks) - 1)
        x = x + block.mlp(block.mlp_ln(x))
    return decoder.ln(x), missed
