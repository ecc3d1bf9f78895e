"""LoRA with EWC (Kirkpatrick et al. 2017, arXiv 1612.00796): what old data needs is moved least.

loss = loss per token + strength / 2 * sum_ij F_ij (delta W_ij)^2, with F the diagonal of the Fisher
information of the base on old data, per token (`fisher.diagonal_fisher`). To second order, and with
the rest of the Fisher matrix left out, sum / 2 is KL(base || adapted) per token of that data, in
nats: at strength 1 a nat lost there weighs as much as a nat of the loss.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import LoraConfig
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.fisher import read_fisher
from espnet_blora.adapters.layer import exactly
from espnet_blora.adapters.methods.lora import LoraLayer
from espnet_blora.adapters.methods.lora_l2sp import logged

if TYPE_CHECKING:
    from espnet_blora.adapters.adapter import Adapter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoraEwcConfig(LoraConfig):
    """Options of `lora_ewc`: those of `lora`, and a penalty on the update.

    fisher_file: what `python -m espnet_blora.bin.fisher` has written for this base and at least
        these targets. It is read at the first step of training; decoding does not need it.
    strength: weight of the penalty against a loss per token; 0 is plain LoRA.
    """

    method: ClassVar[str] = "lora_ewc"

    fisher_file: str | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"adapter_conf of {self.method}"
        self._set("strength", checks.number(where, "strength", self.strength, 0.0))
        if not isinstance(self.fisher_file, str) or not self.fisher_file:
            raise ValueError(
                f"{where}: fisher_file is {self.fisher_file!r}; allowed: the path of a file that "
                "python -m espnet_blora.bin.fisher has written from the base and old data"
            )


class LoraEwcLayer(LoraLayer):
    """A LoRA layer that knows how much each weight of its base matters.

    fisher: (d_out, d_in), only while training: not in state dicts, since it can be read again and
    the update does not depend on it.
    """

    fisher: Tensor | None

    def start(self, config: LoraEwcConfig, context: Context, index: int) -> None:
        """Add the factors, and room for the Fisher information."""
        super().start(config, context, index)
        self.fisher = None


def weighted_square(layer: LoraEwcLayer) -> Tensor:
    """Return sum_ij F_ij (delta W_ij)^2, 0-dim, differentiable; F: `layer.fisher`.

    Backward forms delta W again instead of keeping it: memory is that of one layer at a time.
    """
    return checkpoint(_weighted_square, layer, use_reentrant=False, preserve_rng_state=False)


def _weighted_square(layer: LoraEwcLayer) -> Tensor:
    with exactly(layer.weight):
        delta = layer.delta_weight()
        return (layer.fisher.to(delta) * delta.square()).sum()


def ewc_term(adapter: "Adapter") -> tuple[Tensor, dict[str, Tensor]]:
    """Return strength / 2 * sum F (delta W)^2 and what to log: `Method.loss_term`.

    Raises FileNotFoundError and ValueError as `fisher.read_fisher`, at the first call.
    """
    config: LoraEwcConfig = adapter.config
    layers = list(adapter.layers.values())
    if any(layer.fisher is None for layer in layers):
        targets = {f"{name}.weight": layer.weight for name, layer in adapter.layers.items()}
        values = read_fisher(config.fisher_file, dict(adapter.model.named_parameters()), targets)
        for layer, value in zip(layers, values.values(), strict=True):
            layer.fisher = value
    term = 0.5 * config.strength * torch.stack([weighted_square(layer) for layer in layers]).sum()
    return term, logged(term, layers)
