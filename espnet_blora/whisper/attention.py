"""Attention over openai-whisper's modules, with the padding mask that its own forward lacks.

openai-whisper's `MultiHeadAttention.forward` takes a `mask` only as a causal switch and none at
all for cross-attention. Here the same projections (`query`, `key`, `value`, `out`; adapters
may wrap each of them) are used with a true mask and with keys and values that a decoder may keep.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from whisper.model import MultiHeadAttention


def as_multiplied(x: Tensor) -> Tensor:
    """Return x in the precision of autocast's matrix products; outside autocast as it is.

    What several projections read is cast once, and kept once for the backward pass.
    """
    kind = x.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def run_block(
    forward: Callable[..., Tensor], *inputs: nn.Module | Tensor | None, recomputed: bool
) -> Tensor:
    """Return `forward(*inputs)` of one block.

    Args:
        forward: The block's forward.
        inputs: The block and what it reads.
        recomputed: Keep nothing but the inputs for the backward pass, which runs `forward` again
            (activation checkpointing): the same bits, a third more time.
    """
    if recomputed and torch.is_grad_enabled():
        return checkpoint(forward, *inputs, use_reentrant=False)
    return forward(*inputs)


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """Split the last axis into heads: (B, T, n_state) -> (B, n_head, T, n_state / n_head)."""
    return x.unflatten(-1, (n_head, -1)).transpose(1, 2)


def keys_values(mha: MultiHeadAttention, source: Tensor) -> tuple[Tensor, Tensor]:
    """Project `source` (B, S, n_state) to keys and values, each (B, n_head, S, d_head)."""
    return split_heads(mha.key(source), mha.n_head), split_heads(mha.value(source), mha.n_head)


def attend(
    mha: MultiHeadAttention,
    x: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """Scaled dot-product attention, softmax(q k^T / sqrt(d_head)) v, then the output projection.

    Args:
        mha: a `whisper.model.MultiHeadAttention` (its four Linear layers may be adapted).
        x: queries' source, (B, T, n_state).
        keys: (B, n_head, S, d_head), see `keys_values`.
        values: (B, n_head, S, d_head).
        mask: boolean, broadcastable to (B, n_head, T, S); True where a key may be seen.
        causal: position t sees keys up to t only (T == S); not together with `mask`.

    Returns:
        (B, T, n_state).
    """
    queries = split_heads(mha.query(x), mha.n_head)
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal)
    return mha.out(out.transpose(1, 2).flatten(2))


def padding_mask(lengths: Tensor, max_length: int, device: torch.device) -> Tensor | None:
    """Boolean (B, max_length) on `device`, True on real positions; None when no row is padded.

    Lengths that are still on the CPU tell that without waiting for a GPU.
    """
    if int(lengths.min()) >= max_length:
        return None
    return torch.arange(max_length, device=device) < lengths.to(device).unsqueeze(1)
