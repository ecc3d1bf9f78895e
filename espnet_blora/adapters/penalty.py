"""Penalties on the update of a LoRA, for retention: formed in fp32 or better, never all at once.

Both act on delta W, the distance from the base in weights, not on the factors: a small lora_A times
a large lora_B costs what it does to the model.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from espnet_blora.adapters.lora import LoraLayer

if TYPE_CHECKING:
    from espnet_blora.adapters.lora_ewc import LoraEwcLayer


def squared_norm(layer: LoraLayer) -> Tensor:
    """Return ||delta W||_F^2 = s^2 tr((B^T B)(A A^T)), 0-dim, differentiable; s: the scaling.

    Costs 2 r^2 (d_in + d_out) multiplications; delta W, (d_out, d_in), is never formed.
    """
    down, up = layer.lora_A, layer.lora_B
    if down.dtype != torch.float64:
        down, up = down.float(), up.float()
    with exactly(down):
        gram = (up.T @ up) * (down @ down.T)
    return (layer.scaling * layer.context.factor) ** 2 * gram.sum()


def exactly(tensor: Tensor) -> AbstractContextManager:
    """Leave half precision for the sums of a penalty; the meta device knows no autocast."""
    kind = tensor.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def weighted_square(layer: "LoraEwcLayer") -> Tensor:
    """Return sum_ij F_ij (delta W_ij)^2, 0-dim, differentiable; F: `layer.fisher`.

    Backward forms delta W again instead of keeping it: memory is that of one layer at a time.
    """
    return checkpoint(_weighted_square, layer, use_reentrant=False, preserve_rng_state=False)


def _weighted_square(layer: "LoraEwcLayer") -> Tensor:
    with exactly(layer.weight):
        delta = layer.delta_weight()
        return (layer.fisher.to(delta) * delta.square()).sum()


def logged(term: Tensor, layers: Iterable[LoraLayer]) -> dict[str, Tensor]:
    """Return what is logged beside a penalty `term`: itself, and delta_norm = ||all delta W||_F."""
    with torch.no_grad():
        squares = torch.stack([squared_norm(layer) for layer in layers])
        return {"penalty": term.detach(), "delta_norm": squares.sum().clamp_min(0.0).sqrt()}
