"""Whisper's text decoder on batches of unequal memories, whole or step by step with a cache.

The modules are openai-whisper's `TextDecoder` (adapters may wrap its Linear layers); only the
forward is ours: cross-attention sees no padded memory position, so an utterance's logits do not
depend on its batch, and a search computes each key and value once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from espnet_blora.whisper.attention import attend, keys_values, padding_mask

KeysValues = tuple[Tensor, Tensor]


def _memory_mask(memory: Tensor, lengths: Tensor | None) -> Tensor | None:
    """(B, 1, 1, T), True where a memory position may be seen; None when nothing is padded."""
    if lengths is None:
        return None
    mask = padding_mask(lengths.to(memory.device), memory.shape[1])
    return None if mask is None else mask[:, None, None, :]


def _embed(decoder: nn.Module, tokens: Tensor, offset: int, dtype: torch.dtype) -> Tensor:
    """Token plus position embeddings of `tokens` (N, L) that start at position `offset`."""
    room = decoder.positional_embedding.shape[0]
    if offset + tokens.shape[1] > room:
        raise ValueError(
            f"{offset + tokens.shape[1]} tokens (prompt included) but this Whisper has {room} "
            "positions: cut the text or leave the utterance out"
        )
    positions = decoder.positional_embedding[offset : offset + tokens.shape[1]]
    return (decoder.token_embedding(tokens) + positions).to(dtype)


def _logits(decoder: nn.Module, states: Tensor) -> Tensor:
    """The product with the token embedding: (..., n_state) -> (..., n_vocab) fp32."""
    return (states @ decoder.token_embedding.weight.to(states.dtype).T).float()


def states(
    decoder: nn.Module, tokens: Tensor, memory: Tensor, memory_lengths: Tensor | None = None
) -> Tensor:
    """What the logits are made of, teacher forcing: (B, L, n_state), after the final norm.

    Arguments and errors as in :func:`forward`.
    """
    mask = _memory_mask(memory, memory_lengths)
    x = _embed(decoder, tokens, 0, memory.dtype)
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
    return _logits(decoder, states(decoder, tokens, memory, memory_lengths))


class KVCache:
    """Keys and values of one search: the memory's once an utterance, the tokens' once a token.

    Rows are hypotheses, utterance-major: with B utterances and N rows, row i belongs to utterance
    i // (N / B). `select` moves rows about (a beam search's survivors), `step` appends tokens.
    """

    def __init__(self, decoder: nn.Module, memory: Tensor, memory_lengths: Tensor | None = None):
        """Project the memory of B utterances, (B, T, n_state), once for the whole search."""
        self.decoder = decoder
        self.n_utterances = memory.shape[0]
        self.dtype = memory.dtype
        self.mask = _memory_mask(memory, memory_lengths)
        self.cross: list[KeysValues] = [keys_values(b.cross_attn, memory) for b in decoder.blocks]
        self.past: list[KeysValues | None] = [None] * len(self.cross)
        self.length = 0

    @property
    def n_rows(self) -> int:
        """Hypotheses held; 0 before the first step, which may bring any number."""
        return 0 if self.past[0] is None else self.past[0][0].shape[0]

    def fork(self) -> KVCache:
        """A second cache that goes its own way; tensors are shared, none is ever changed."""
        other = object.__new__(KVCache)
        other.__dict__.update(self.__dict__)
        other.past = list(self.past)
        return other

    def select(self, rows: Sequence[int]) -> None:
        """Keep `rows` (repeats allowed) in this order; before the first step there are none yet."""
        if self.length == 0 or list(rows) == list(range(self.n_rows)):
            return
        index = torch.tensor(rows, device=self.past[0][0].device)
        self.past = [(k.index_select(0, index), v.index_select(0, index)) for k, v in self.past]

    def step(self, tokens: Tensor) -> Tensor:
        """Append `tokens` (N, L), L >= 1, and return the logits (N, n_vocab) of what follows.

        Raises:
            ValueError: no room left, or N rows that do not fit the rows held.
        """
        n, new = tokens.shape
        if n % self.n_utterances or (self.length and n != self.n_rows):
            raise ValueError(
                f"{n} rows of tokens, {self.n_rows} cached rows, {self.n_utterances} utterances"
            )
        x = _embed(self.decoder, tokens, self.length, self.dtype)
        causal = self.length == 0 and new > 1
        mask = None
        if self.length and new > 1:
            mask = torch.ones(new, self.length + new, dtype=torch.bool, device=x.device)
            mask = mask.tril(self.length)
        for layer, block in enumerate(self.decoder.blocks):
            normed = block.attn_ln(x)
            keys, values = keys_values(block.attn, normed)
            if self.past[layer] is not None:
                keys = torch.cat([self.past[layer][0], keys], dim=2)
                values = torch.cat([self.past[layer][1], values], dim=2)
            self.past[layer] = keys, values
            x = x + attend(block.attn, normed, keys, values, mask=mask, causal=causal)
            # all rows of an utterance ask the same memory: fold them into the query axis
            asked = block.cross_attn_ln(x).reshape(self.n_utterances, -1, x.shape[-1])
            answer = attend(block.cross_attn, asked, *self.cross[layer], mask=self.mask)
            x = x + answer.reshape(x.shape)
            x = x + block.mlp(block.mlp_ln(x))
        self.length += new
        return _logits(self.decoder, self.decoder.ln(x[:, -1]))
