"""LoRA-XS (arXiv 2405.17604): an r x r matrix between the base's own leading singular vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from espnet_blora.adapters.config import LoraConfig
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.methods.svd_layer import (
    SvdLayer,
    check_rank,
    singular_triplets,
    wide_enough,
)


@dataclass(frozen=True)
class LoraXsConfig(LoraConfig):
    """Options of `lora_xs`: W = W0 + (alpha / rank) * U_r S_r R V_r^T, only R (r, r) is trained.

    rank, alpha, dropout_rate, target_modules: as of `lora`.
    """

    method: ClassVar[str] = "lora_xs"


def plan(
    model: nn.Module, linears: Mapping[str, nn.Linear], config: LoraXsConfig
) -> dict[str, LoraXsConfig]:
    """Return the options for each Linear; ValueError, naming it, when it is smaller than rank."""
    for name, linear in linears.items():
        check_rank(f"adapter_conf of {config.method}", name, linear, config.rank, "rank")
    return dict.fromkeys(linears, config)


class LoraXsLayer(SvdLayer):
    """y = base(x) + (alpha / r) * (U_r S_r) R V_r^T x.

    lora_R: (r, r), zeros (the paper draws it with a standard deviation of 1e-5), so that a fresh
    layer equals its base; it learns from there, as its gradient does not vanish. Frozen: svd_U
    (d_out, r), here U_r S_r, and svd_Vh (r, d_in).
    """

    parameter_names = ("lora_R", "svd_U", "svd_Vh")
    mean_names = ("lora_R",)

    def start(self, config: LoraXsConfig, context: Context, index: int) -> None:
        """Add R and room for the singular vectors."""
        super().start(config, context, index)
        self.add_frame(self.rank)
        self.declare_bases("svd_U", "svd_Vh")
        self.add_zeros("lora_R", self.rank, self.rank)

    def compute_basis(self, weight: Tensor) -> dict[str, Tensor]:
        """Return U_r S_r and V_r^T of the base."""
        u, s, vh = singular_triplets(weight, self.rank)
        return {"svd_U": u * s, "svd_Vh": vh}

    def core(self) -> Tensor:
        """Return R, (r, r)."""
        return wide_enough(self.lora_R)
