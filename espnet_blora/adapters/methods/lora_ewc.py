"""LoRA with EWC (Kirkpatrick et al. 2017, arXiv 1612.00796): a pull on weights that old data need.

loss = loss per token + strength / 2 * sum_ij F_ij (delta W_ij)^2, with F the diagonal of the Fisher
information of the base on old data, per token (`fisher.diagonal_fisher`). To second order, and with
the rest of the Fisher matrix left out, sum / 2 is KL(base || adapted) per token of that data, in
nats: at strength 1 a nat lost there weighs as much as a nat of the loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import option
from espnet_blora.adapters.fisher import read_fisher
from espnet_blora.adapters.layer import full_precision
from espnet_blora.adapters.methods.lora import LoraConfig, LoraLayer
from espnet_blora.adapters.methods.lora_l2sp import logged


@dataclass(frozen=True)
class LoraEwcConfig(LoraConfig):
    """Options of `lora_ewc`: those of `lora`, and a penalty on the update.

    Attributes:
        fisher_file: The file that `espnet-blora fisher` has written for this base and at least
            these targets. It is read at the first step of training; decoding does not need it.
        strength: Weight of the penalty against a loss per token; 0 is plain LoRA.
    """

    method: ClassVar[str] = "lora_ewc"

    fisher_file: str | None = option(None, checks.written_file, needed=True, program="fisher")
    strength: float = option(1.0, checks.number, low=0.0)


class LoraEwcLayer(LoraLayer):
    """A LoRA layer that knows how much each weight of its base matters.

    Attributes:
        fisher: (d_out, d_in), only while training: not in state dicts, since it can be read again
            and the update does not depend on it.
    """

    fisher: Tensor | None = None


def weighted_square(layer: LoraEwcLayer) -> Tensor:
    """Return sum_ij F_ij (delta W_ij)^2, 0-dim, differentiable; F: `layer.fisher`.

    Backward forms delta W again instead of keeping it: memory is that of one layer at a time.
    """
    return checkpoint(_weighted_square, layer, use_reentrant=False, preserve_rng_state=False)


def _weighted_square(layer: LoraEwcLayer) -> Tensor:
    assert layer.fisher is not None
    with full_precision(layer.weight):
        delta = layer.delta_weight()  # (d_out, d_in)
        return (layer.fisher.to(delta) * delta.square()).sum()


def ewc_term(
    model: nn.Module, layers: Mapping[str, LoraEwcLayer], config: LoraEwcConfig, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return strength / 2 * sum F (delta W)^2 and what to log: `Method.loss_term`.

    Raises:
        FileNotFoundError: At the first call, as `fisher.read_fisher`.
        ValueError: At the first call, as `fisher.read_fisher`.
    """
    if any(layer.fisher is None for layer in layers.values()):
        targets = {f"{name}.weight": layer.weight for name, layer in layers.items()}
        file = str(config.fisher_file)  # checked by the options: it is one
        values = read_fisher(file, dict(model.named_parameters()), targets)
        for layer, value in zip(layers.values(), values.values(), strict=True):
            layer.fisher = value
    squares = torch.stack([weighted_square(layer) for layer in layers.values()])
    term = 0.5 * config.strength * squares.sum()
    return term, logged(term, layers.values())
