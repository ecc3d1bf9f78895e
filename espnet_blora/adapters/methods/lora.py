"""LoRA (Hu et al. 2021, arXiv 2106.09685) on a frozen Linear, without merging in eval()."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import AdapterConfig, option
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.layer import AdapterLayer, wide


@dataclass(frozen=True)
class LoraConfig(AdapterConfig):
    """Options of `lora`: W = W0 + (alpha / rank) * lora_B @ lora_A, with W0 frozen.

    Attributes:
        rank: r, the number of rows of lora_A and of columns of lora_B.
        alpha: The update is scaled by alpha / rank; by default twice the rank, so by 2.
        dropout_rate: Dropout on the adapter's input, in training.
    """

    method: ClassVar[str] = "lora"
    structural: ClassVar[tuple[str, ...]] = ("rank", "alpha")
    alpha_of_rank: ClassVar[float] = 2.0  # what alpha is by default, over the rank

    rank: int = option(32, checks.integer, low=1)
    alpha: float = option(None, checks.number, low=0.0, open_low=True)
    dropout_rate: float = option(0.0, checks.number, low=0.0, high=1.0, open_high=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is None:
            self._set("alpha", self.alpha_of_rank * self.rank)

    def scaling_at(self, rank: int) -> float:
        """Return alpha / rank."""
        return self.alpha / rank


class LoraLayer(AdapterLayer):
    """y = base(x) + (alpha / r) * (x lora_A^T) lora_B^T.

    (Papers that write W0 + A B call lora_B "A" and lora_A "B".)

    Attributes:
        lora_A: (r, d_in), Kaiming-uniform with a = sqrt(5), that is U(-1/sqrt(d_in), 1/sqrt(d_in)).
        lora_B: (d_out, r), zeros, so that a fresh layer equals its base.
    """

    parameter_names: tuple[str, ...] = ("lora_A", "lora_B")
    mean_names: tuple[str, ...] = ("lora_A", "lora_B")
    right_names = ("lora_A",)

    lora_A: Tensor
    lora_B: Tensor

    def start(self, config: Any, context: Context, index: int) -> None:
        """Add the factors, in fp32 (fp64 on an fp64 base)."""
        super().start(config, context, index)
        self.lora_A = nn.Parameter(torch.empty(self.rank, self.in_features, **self.new_kind()))
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, self.rank, **self.new_kind()))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def update(self, x: Tensor) -> Tensor:
        """Return (x lora_A^T) lora_B^T, with dropout on x in training."""
        low = F.linear(self._dropout(x), self.lora_A.to(x.dtype))  # (..., r)
        return F.linear(low, self.lora_B.to(low.dtype))  # (..., d_out)

    def delta_weight(self) -> Tensor:
        """Return factor * (alpha / r) * lora_B lora_A, (d_out, d_in), fp32 or better."""
        return (self.scaling * self.context.factor) * (wide(self.lora_B) @ wide(self.lora_A))
