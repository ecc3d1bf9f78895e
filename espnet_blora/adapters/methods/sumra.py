"""SumRA (Kwok et al., ICLR 2026): LoRA whose A is frozen, each row a sum of singular vectors.

Rows made of many right singular vectors of the base let the update see far more of the inputs than
as many leading ones. Only the paper's abstract was available: how the vectors are shared out
(evenly, none twice, strong with weak) and the scale of the rows (orthonormal) are choices made
here.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import option
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.methods.lora import LoraConfig, LoraLayer
from espnet_blora.adapters.methods.svd_layer import svd


@dataclass(frozen=True)
class SumraConfig(LoraConfig):
    """Options of `sumra`: W = W0 + (alpha / rank) * lora_B @ lora_A, lora_A frozen.

    Attributes:
        vectors: Right singular vectors summed in each row of lora_A; by default as many as there
            are.
        skip: Leading singular vectors left out.
    """

    method: ClassVar[str] = "sumra"
    structural: ClassVar[tuple[str, ...]] = (*LoraConfig.structural, "vectors", "skip")

    vectors: int | None = option(None, checks.integer, low=1)
    skip: int = option(0, checks.integer, low=0)

    def of_linear(self, name: str, linear: nn.Linear) -> Self:
        """Return the options of one Linear: how many vectors a row is the sum of.

        Raises:
            ValueError: The Linear has too few singular vectors; names it.
        """
        size = min(linear.out_features, linear.in_features)
        most = (size - self.skip) // self.rank
        vectors = most if self.vectors is None else self.vectors
        if not 1 <= vectors <= most:
            raise ValueError(
                f"{self.where}: skip {self.skip} and rank {self.rank} "
                f"rows of {max(vectors, 1)} singular vectors are more than the {size} of {name} "
                f"({linear.out_features} x {linear.in_features}); allowed: skip + rank * vectors "
                f"<= {size}"
            )
        return replace(self, vectors=vectors)


def summed_rows(vh: Tensor, rank: int, vectors: int, skip: int) -> Tensor:
    """Return (rank, d_in), orthonormal: row i is the sum of `vectors` rows of vh / sqrt(vectors).

    The rows of vh are taken from `skip` on in blocks of `rank`, forwards and backwards in turn, so
    that a row with a strong vector of one block gets a weak one of the next.

    Args:
        vh: (n, d_in), right singular vectors in order of descending singular values.
        rank: Rows of the result.
        vectors: Rows of vh per row of the result.
        skip: Leading rows of vh left out.
    """
    blocks = vh[skip : skip + rank * vectors].view(vectors, rank, -1).clone()
    blocks[1::2] = blocks[1::2].flip(1)
    return blocks.sum(0) / vectors**0.5


class SumraLayer(LoraLayer):
    """y = base(x) + (alpha / r) * (x lora_A^T) lora_B^T; lora_B (d_out, r) is trained, from zero.

    Attributes:
        lora_A: (r, d_in), a buffer: `summed_rows` of the base's right singular vectors.
    """

    mean_names = ("lora_B",)

    vectors: int
    skip: int

    def start(self, config: Any, context: Context, index: int) -> None:
        """Add lora_B and room for lora_A."""
        super().start(config, context, index)
        self.vectors, self.skip = config.vectors, config.skip
        room = torch.zeros_like(self.lora_A, requires_grad=False)
        del self.lora_A
        self.register_buffer("lora_A", room)
        self.declare_bases("lora_A")

    def compute_basis(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the summed rows."""
        _, _, vh = svd(weight)
        return {"lora_A": summed_rows(vh, self.rank, self.vectors, self.skip)}
