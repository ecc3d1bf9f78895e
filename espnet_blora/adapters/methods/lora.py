"""LoRA (Hu et al. 2021, arXiv 2106.09685) on a frozen Linear, without merging in eval()."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_blora.adapters.config import LoraConfig
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.layer import AdapterLayer


class LoraLayer(AdapterLayer):
    """y = base(x) + (alpha / r) * (x lora_A^T) lora_B^T.

    lora_A: (r, d_in), Kaiming-uniform with a = sqrt(5), that is U(-1/sqrt(d_in), 1/sqrt(d_in)).
    lora_B: (d_out, r), zeros, so that a fresh layer equals its base.
    (Papers that write W0 + A B call lora_B "A" and lora_A "B".)
    """

    parameter_names = ("lora_A", "lora_B")
    mean_names = ("lora_A", "lora_B")

    def start(self, config: LoraConfig, context: Context, index: int) -> None:
        """Add the factors, in fp32 (fp64 on an fp64 base)."""
        super().start(config, context, index)
        weight = self.weight
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        kind = {"device": weight.device, "dtype": dtype}
        self.lora_A = nn.Parameter(torch.empty(config.rank, self.in_features, **kind))
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, config.rank, **kind))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def update(self, x: Tensor) -> Tensor:
        """Return (x lora_A^T) lora_B^T, with dropout on x in training."""
        low = F.linear(self._dropout(x), self.lora_A.to(x.dtype))
        return F.linear(low, self.lora_B.to(low.dtype))

    def delta_weight(self) -> Tensor:
        """Return factor * (alpha / r) * lora_B lora_A, (d_out, d_in), fp32 or better."""
        down, up = self.lora_A, self.lora_B
        if down.dtype != torch.float64:
            down, up = down.float(), up.float()
        return (self.scaling * self.context.factor) * (up @ down)
