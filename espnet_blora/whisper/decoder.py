"""Whisper's text decoder on batches of unequal memories: whole texts, or token by token.

The modules are openai-whisper's `TextDecoder` (adapters may wrap its Linear layers); only the
forward is ours: cross-attention sees no padded memory position, so an utterance's logits do not
depend on its batch. `KVCache` projects the memory once per utterance, and each token once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from whisper.model import ResidualAttentionBlock, TextDecoder

from espnet_blora.whisper.attention import (
    as_multiplied,
    attend,
    keys_values,
    padding_mask,
    run_block,
)

ROOM = 32
"""Positions of a cache that are allocated at first; doubled when they are full."""


def memory_mask(memory: Tensor, lengths: Tensor | None) -> Tensor | None:
    """(B, 1, 1, T), True where a memory position may be seen; None when nothing is padded."""
    if lengths is None:
        return None
    mask = padding_mask(lengths, memory.shape[1], memory.device)
    return None if mask is None else mask[:, None, None, :]


def embed(decoder: TextDecoder, tokens: Tensor, offset: int, dtype: torch.dtype) -> Tensor:
    """Token plus position embeddings of `tokens` (N, L) that start at position `offset`."""
    room = decoder.positional_embedding.shape[0]
    if offset + tokens.shape[1] > room:
        raise ValueError(
            f"{offset + tokens.shape[1]} tokens (prompt included) but this Whisper has {room} "
            "positions: cut the text or leave the utterance out"
        )
    positions = decoder.positional_embedding[offset : offset + tokens.shape[1]]
    return (decoder.token_embedding(tokens) + positions).to(dtype)


def logits_of(decoder: TextDecoder, states: Tensor) -> Tensor:
    """The product with the token embedding: (..., n_state) -> (..., n_vocab) fp32."""
    packed = getattr(decoder, "packed_logits", None)  # espnet_blora.whisper.packed
    if packed is not None:
        return packed(states)
    return (states @ decoder.token_embedding.weight.to(states.dtype).T).float()


def _block(block: ResidualAttentionBlock, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
    normed = as_multiplied(block.attn_ln(x))
    x = x + attend(block.attn, normed, *keys_values(block.attn, normed), causal=True)
    cross = keys_values(block.cross_attn, memory)
    x = x + attend(block.cross_attn, as_multiplied(block.cross_attn_ln(x)), *cross, mask=mask)
    return x + block.mlp(as_multiplied(block.mlp_ln(x)))


def states(
    decoder: TextDecoder,
    tokens: Tensor,
    memory: Tensor,
    memory_lengths: Tensor | None = None,
    recomputed: bool = False,
) -> Tensor:
    """What the logits are made of, teacher forcing: (B, L, n_state), after the final norm.

    Arguments and errors as in `forward`; `recomputed` as of `run_block`.
    """
    mask = memory_mask(memory, memory_lengths)
    x = embed(decoder, tokens, 0, memory.dtype)
    memory = as_multiplied(memory)
    for block in decoder.blocks:
        x = run_block(_block, block, x, memory, mask, recomputed=recomputed)
    return decoder.ln(x)


def forward(
    decoder: TextDecoder, tokens: Tensor, memory: Tensor, memory_lengths: Tensor | None = None
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


class KVCache:
    """Whisper's decoder step by step, over memories that are projected once.

    Rows are hypotheses, utterance-major: with B utterances and N rows, row i belongs to utterance
    i // (N / B). `step` appends tokens in place, `select` moves rows about (a beam search's
    survivors; only rows that change are copied), `keep` lets finished utterances go.

    The tokens' keys and values lie in one tensor (layers, 2, N, n_head, positions, d_head).
    """

    def __init__(self, decoder: TextDecoder, memory: Tensor, memory_lengths: Tensor | None = None):
        """Project the memory of B utterances, (B, T, n_state), once for the whole search."""
        self.decoder = decoder
        self.n_utterances = memory.shape[0]
        self.dtype = memory.dtype
        self.mask = memory_mask(memory, memory_lengths)
        self.cross: list[tuple[Tensor, Tensor]] = []  # per layer, (B, n_head, T, d_head) each
        for block in decoder.blocks:
            keys, values = keys_values(block.cross_attn, memory)
            self.cross.append((keys.contiguous(), values.contiguous()))
        self.past: Tensor | None = None  # (layers, 2, N, n_head, positions, d_head)
        self.length = 0

    @property
    def n_rows(self) -> int:
        """Hypotheses held; 0 before the first step, which may bring any number."""
        return 0 if self.past is None else self.past.shape[2]

    def fork(self) -> KVCache:
        """A second cache that goes its own way; the memory's keys and values are shared."""
        other = object.__new__(KVCache)
        other.__dict__.update(self.__dict__)
        other.past = None if self.past is None else self.past.clone()
        return other

    def select(self, rows: Sequence[int]) -> None:
        """Keep `rows` (repeats allowed) in this order; before the first step there are none yet."""
        if self.past is None:
            return
        if len(rows) != self.n_rows:
            self.past = self.past.index_select(2, self._index(rows))
            return
        moved = [(to, row) for to, row in enumerate(rows) if to != row]
        if not moved:
            return
        to, source = (self._index(side) for side in zip(*moved, strict=True))
        filled = self.past[..., : self.length, :]
        filled[:, :, to] = filled[:, :, source]

    def keep(self, utterances: Sequence[int]) -> None:
        """Let all utterances but these go, with their rows."""
        rows_each = self.n_rows // self.n_utterances
        index = self._index(utterances)
        self.cross = [(k.index_select(0, index), v.index_select(0, index)) for k, v in self.cross]
        if self.mask is not None:
            self.mask = self.mask.index_select(0, index)
        self.n_utterances = len(utterances)
        if self.past is not None:
            self.select([u * rows_each + row for u in utterances for row in range(rows_each)])

    def step(self, tokens: Tensor) -> Tensor:
        """Append `tokens` as `read` does, and return the logits (N, n_vocab) of what follows."""
        return logits_of(self.decoder, self.read(tokens)[:, -1])

    def read(self, tokens: Tensor) -> Tensor:
        """Append `tokens` (N, L), L >= 1, and return their states (N, L, n_state), as `states`.

        Raises:
            ValueError: no room left, or N rows that do not fit the rows held.
        """
        n, new = tokens.shape
        if n % self.n_utterances or (self.length and n != self.n_rows):
            raise ValueError(
                f"{n} rows of tokens, {self.n_rows} cached rows, {self.n_utterances} utterances"
            )
        x = embed(self.decoder, tokens, self.length, self.dtype)  # (N, L, n_state)
        end = self.length + new
        cache = self._make_room(n, end)
        causal = self.length == 0 and new > 1
        mask = None
        if self.length and new > 1:
            mask = torch.ones(new, end, dtype=torch.bool, device=x.device).tril(self.length)
        for layer, block in enumerate(self.decoder.blocks):
            normed = block.attn_ln(x)
            past = cache[layer]  # (2, N, n_head, positions, d_head)
            for side, part in enumerate(keys_values(block.attn, normed)):
                past[side, :, :, self.length : end] = part
            keys, values = past[:, :, :, :end]
            x = x + attend(block.attn, normed, keys, values, mask=mask, causal=causal)
            # all rows of an utterance see the same memory: fold them into the query axis
            query = block.cross_attn_ln(x).reshape(self.n_utterances, -1, x.shape[-1])
            seen = attend(block.cross_attn, query, *self.cross[layer], mask=self.mask)
            x = x + seen.reshape(x.shape)  # (N, L, n_state)
            x = x + block.mlp(block.mlp_ln(x))
        self.length = end
        return self.decoder.ln(x)

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(list(numbers), device=self.cross[0][0].device)

    def _make_room(self, rows: int, end: int) -> Tensor:
        """Return the tokens' keys and values, with room for `end` positions."""
        if self.past is not None and end <= self.past.shape[4]:
            return self.past
        room = ROOM
        while room < end:
            room *= 2
        room = min(room, self.decoder.positional_embedding.shape[0])
        keys = self.cross[0][0]
        shape = (len(self.cross), 2, rows, keys.shape[1], room, keys.shape[3])
        wider = torch.empty(shape, dtype=keys.dtype, device=keys.device)
        if self.past is not None:
            wider[..., : self.length, :] = self.past[..., : self.length, :]
        self.past = wider
        return wider
