"""Whisper's text decoder on batches of unequal memories (`espnet_blora.whisper.cache`: by steps).

The modules are openai-whisper's `TextDecoder` (adapters may wrap its Linear layers); only the
forward is ours: cross-attention sees no padded memory position, so an utterance's logits do not
depend on its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espnet_blora.whisper.attention import attend, keys_values, padding_mask


def memory_mask(memory: Tensor, lengths: Tensor | None) -> Tensor | None:
    """(B, 1, 1, T), True where a memory position may be seen; None when nothing is padded."""
    if lengths is None:
        return None
    mask = padding_mask(lengths.to(memory.device), memory.shape[1])
    return None if mask is None else mask[:, None, None, :]


def embed(decoder: nn.Module, tokens: Tensor, offset: int, dtype: torch.dtype) -> Tensor:
    """Token plus position embeddings of `tokens` (N, L) that start at position `offset`."""
    room = decoder.positional_embedding.shape[0]
    if offset + tokens.shape[1] > room:
        raise ValueError(
            f"{offset + tokens.shape[1]} tokens (prompt included) but this Whisper has {room} "
            "positions: cut the text or leave the utterance out"
        )
    positions = decoder.positional_embedding[offset : offset + tokens.shape[1]]
    return (decoder.token_embedding(tokens) + positions).to(dtype)


def logits_of(decoder: nn.Module, states: Tensor) -> Tensor:
    """The product with the token embedding: (..., n_state) -> (..., n_vocab) fp32."""
    packed = getattr(decoder, "packed_logits", None)  # espnet_blora.whisper.packed
    if packed is not None:
        return packed(states)
    return (states @ decoder.token_embedding.weight.to(states.dtype).T).float()


def states(
    decoder: nn.Module, tokens: Tensor, memory: Tensor, memory_lengths: Tensor | None = None
) -> Tensor:
    """What the logits are made of, teacher forcing: (B, L, n_state), after the final norm.

    Arguments and errors as in `forward`.
    """
    mask = memory_mask(memory, memory_lengths)
    x = embed(decoder, tokens, 0, memory.dtype)
    for block in decoder.blocks:
        normed = block.attn_ln(x)
        x = x + attend(block.attn, normed, *keys_values(block.attn, normed), causal=True)
        cross = keys_values(block.cross_attn, memory)
        x = x + attend(block.cross_attn, block.cross_attn_ln(x), *cross, mask=mask)
        x = x + block.mlp(block.mlp_ln(x))
    return decoder.ln(x)


def forward(
    decoder: nn.Module, tokens: Tensor, memory: Tensor, memory_lengths: Tensor | None = None
) -> Tensor:
    """Logits of every next token, teacher forcing.

    Args:
        decoder: a `whisper.model.TextDecoder`.
        tokens: (B, L) ids, prompt first; what stands behind a text cannot change it (causal).
        memory: (B, T, n_state) from the encoder.
        memory_lengths: (B,) real positions of each memory; None when none is padded.

    Returns:
        (B, L, n_vocab) fp32.

    Raises:
        ValueError: more tokens than the decoder has positions.
    """
    return logits_of(decoder, states(decoder, tokens, memory, memory_lengths))
