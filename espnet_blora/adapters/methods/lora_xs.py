"""LoRA-XS (arXiv 2405.17604): an r x r matrix between the base's own leading singular vectors."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from espnet_blora.adapters.context import Context
from espnet_blora.adapters.layer import wide
from espnet_blora.adapters.methods.svd_layer import SvdLayer, SvdLoraConfig, singular_triplets


@dataclass(frozen=True)
class LoraXsConfig(SvdLoraConfig):
    """Options of `lora_xs`: W = W0 + (alpha / rank) * U_r S_r R V_r^T, only R (r, r) is trained."""

    method: ClassVar[str] = "lora_xs"


class LoraXsLayer(SvdLayer):
    """y = base(x) + (alpha / r) * (U_r S_r) R V_r^T x.

    Attributes:
        lora_R: (r, r), zeros (the paper draws it with a standard deviation of 1e-5), so that a
            fresh layer equals its base; it learns from there, as its gradient does not vanish.
        svd_U: (d_out, r), frozen, here U_r S_r.
        svd_Vh: (r, d_in), frozen.
    """

    parameter_names = ("lora_R", "svd_U", "svd_Vh")
    mean_names = ("lora_R",)

    lora_R: Tensor

    def start(self, config: Any, context: Context, index: int) -> None:
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
        return wide(self.lora_R)
