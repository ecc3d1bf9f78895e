"""LoRA with L2-SP (Li et al. 2018, arXiv 1802.01483): a pull back to the weights it starts from.

loss = loss per token + strength / 2 * sum over matrices of ||W - W0||_F^2, and W - W0 is delta W,
the distance from the base in weights, not in factors: a small lora_A times a large lora_B costs
what it does to the model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import option
from espnet_blora.adapters.layer import full_precision, wide
from espnet_blora.adapters.methods.lora import LoraConfig, LoraLayer

REDUCTIONS = ("sum", "per_matrix_mean")


@dataclass(frozen=True)
class LoraL2spConfig(LoraConfig):
    """Options of `lora_l2sp`: those of `lora`, and a penalty on the update.

    Attributes:
        strength: Weight of the penalty against a loss per token; 0 is plain LoRA.
        reduction: `sum` of the squares of all entries of delta W (L2-SP), or `per_matrix_mean`:
            their mean over each matrix, summed over matrices, so that large matrices count no more.
    """

    method: ClassVar[str] = "lora_l2sp"

    strength: float = option(0.001, checks.number, low=0.0)
    reduction: str = option("sum", checks.one_of, allowed=REDUCTIONS)


def squared_norm(layer: LoraLayer) -> Tensor:
    """Return ||delta W||_F^2 = s^2 tr((B^T B)(A A^T)), 0-dim, differentiable; s: the scaling.

    Costs 2 r^2 (d_in + d_out) multiplications; delta W, (d_out, d_in), is never formed.
    """
    down, up = wide(layer.lora_A), wide(layer.lora_B)
    with full_precision(down):
        gram = (up.T @ up) * (down @ down.T)  # (r, r)
    return (layer.scaling * layer.context.factor) ** 2 * gram.sum()


def logged(term: Tensor, layers: Iterable[LoraLayer]) -> dict[str, Tensor]:
    """Return what is logged beside a penalty `term`: itself, and delta_norm = ||all delta W||_F."""
    with torch.no_grad():
        squares = torch.stack([squared_norm(layer) for layer in layers])
        return {"penalty": term.detach(), "delta_norm": squares.sum().clamp_min(0.0).sqrt()}


def l2sp_term(
    model: nn.Module, layers: Mapping[str, LoraLayer], config: LoraL2spConfig, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return strength / 2 * ||delta W||^2, reduced, and what to log: `Method.loss_term`."""
    mean = config.reduction == "per_matrix_mean"
    norms = [
        squared_norm(layer) / (layer.weight.numel() if mean else 1) for layer in layers.values()
    ]
    term = 0.5 * config.strength * torch.stack(norms).sum()
    return term, logged(term, layers.values())
