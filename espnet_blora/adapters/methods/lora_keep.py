"""LoRA with a penalty on what it does to old inputs, of which only unlabelled audio is known.

loss = loss per token + strength * sum over Linears of tr(dW C dW^T) / tr(W0 C W0^T)

with C = E[x x^T] of the Linear's input on old audio (`espnet_blora.adapters.moments`): the relative
change of its mean squared output there. With dW = s B A only r x r matrices are formed:
tr(dW C dW^T) = s^2 tr((B^T B)(A C A^T)). C enters by its 64 leading eigenpairs and the rest of its
diagonal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import option
from espnet_blora.adapters.layer import full_precision, wide
from espnet_blora.adapters.methods.lora import LoraConfig, LoraLayer
from espnet_blora.adapters.moments import Kept, kept_moments


@dataclass(frozen=True)
class LoraKeepConfig(LoraConfig):
    """Options of `lora_keep`: those of `lora`, and a penalty on what the update does to old inputs.

    Attributes:
        keep_file: The file that `espnet-blora moments` has written for this base and at least
            these targets. It is read at the first step of training; decoding does not need it.
        strength: Weight of the penalty against a loss per token; 0 is plain LoRA.
    """

    method: ClassVar[str] = "lora_keep"

    keep_file: str | None = option(None, checks.written_file, needed=True, program="moments")
    strength: float = option(1.0, checks.number, low=0.0)


class LoraKeepLayer(LoraLayer):
    """A LoRA layer that knows what old inputs look like.

    Attributes:
        kept: Only while training: not in state dicts, since it can be read again and the update
            does not depend on it.
    """

    kept: Kept | None = None


def changes(layer: LoraKeepLayer) -> tuple[Tensor, Tensor]:
    """Return tr(dW C dW^T) / tr(W0 C W0^T), differentiable, and ||dW||_F^2, detached, 0-dim."""
    assert layer.kept is not None
    down, up = wide(layer.lora_A), wide(layer.lora_B)
    times = (layer.scaling * layer.context.factor) ** 2
    with full_precision(down):
        gram = up.T @ up  # (r, r)
        change = times * (gram * layer.kept.form(down)).sum() / layer.kept.output
        with torch.no_grad():
            return change, times * (gram * (down @ down.T)).sum()


def keep_term(
    model: nn.Module, layers: Mapping[str, LoraKeepLayer], config: LoraKeepConfig, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return strength * sum of `changes` and what to log, as `lora_l2sp`: `Method.loss_term`.

    Raises:
        FileNotFoundError: At the first call, as `moments.read_moments`.
        ValueError: At the first call, as `moments.read_moments`.
    """
    if any(layer.kept is None for layer in layers.values()):
        file = str(config.keep_file)  # checked by the options: it is one
        for name, kept in kept_moments(file, model, layers).items():
            layers[name].kept = kept
    relative, squares = (
        torch.stack(each).sum() for each in zip(*map(changes, layers.values()), strict=True)
    )
    term = config.strength * relative
    return term, {"penalty": term.detach(), "delta_norm": squares.clamp_min(0.0).sqrt()}
