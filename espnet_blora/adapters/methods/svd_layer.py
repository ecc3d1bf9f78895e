"""Updates U C V^T between frozen singular vectors of the base, as SSVD, SVFT and LoRA-XS share."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_blora.adapters.layer import AdapterLayer, wide
from espnet_blora.adapters.methods.lora import LoraConfig


def svd(weight: Tensor, full: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (m, k), S (k,), Vh (k, n) with weight = U diag(S) Vh, S descending, k = min(m, n).

    At least fp32. Of each pair of vectors the sign is such that the entry of the right one that is
    largest in size is positive; vectors of equal singular values are still any basis of their
    space, so that another machine may find others: store them.

    Args:
        weight: (m, n).
        full: Whether Vh is (n, n): the rows beyond k span the null space.

    Raises:
        ValueError: The weight holds NaN or inf.
    """
    if not bool(torch.isfinite(weight).all()):
        raise ValueError(
            "the base weight holds NaN or inf, so it has no singular vectors; load a sound base"
        )
    u, s, vh = torch.linalg.svd(wide(weight), full_matrices=full)
    count = s.numel()
    signs = vh.gather(1, vh.abs().argmax(dim=1, keepdim=True)).sign()  # (k or n, 1)
    return u[:, :count] * signs[:count].T, s, vh * signs


def singular_triplets(weight: Tensor, k: int, tail: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (d_out, k), S (k,) descending, V^T (k, d_in) of the k largest (tail: smallest).

    Raises:
        ValueError: The weight holds NaN or inf.
    """
    u, s, vh = svd(weight)
    part = slice(s.numel() - k, None) if tail else slice(k)
    return u[:, part], s[part], vh[part]


class SvdLayer(AdapterLayer):
    """y = base(x) + scaling * (((x V) C^T) U^T); U, V frozen, C small and trained.

    Attributes:
        svd_U: (d_out, k), a buffer computed once from the loaded base.
        svd_Vh: (k, d_in), likewise.
    """

    right_names = ("svd_Vh",)

    svd_U: Tensor
    svd_Vh: Tensor

    def core(self) -> Tensor:
        """Return C, (k, k), or its diagonal alone, (k,); fp32 or better; zero at the start."""
        raise TypeError(f"{type(self).__name__} defines no core")

    def add_frame(self, k: int) -> None:
        """Add room for U and V^T."""
        self.register_buffer("svd_U", torch.zeros(self.out_features, k, **self.new_kind()))
        self.register_buffer("svd_Vh", torch.zeros(k, self.in_features, **self.new_kind()))

    def add_zeros(self, name: str, *shape: int, used: bool = True) -> None:
        """Add a trained factor of zeros; None in its place where it is not `used`."""
        value = nn.Parameter(torch.zeros(shape, **self.new_kind())) if used else None
        self.register_parameter(name, value)

    def update(self, x: Tensor) -> Tensor:
        """Return ((x V) C^T) U^T, with dropout on x in training."""
        low = F.linear(self._dropout(x), self.svd_Vh.to(x.dtype))  # (..., k)
        core = self.core().to(low.dtype)
        low = low * core if core.dim() == 1 else F.linear(low, core)  # (..., k)
        return F.linear(low, self.svd_U.to(low.dtype))  # (..., d_out)

    def delta_weight(self) -> Tensor:
        """Return factor * scaling * U C V^T, (d_out, d_in), fp32 or better."""
        core = self.core()
        left = self.svd_U.to(core.dtype)
        left = left * core if core.dim() == 1 else left @ core  # (d_out, k)
        return (self.scaling * self.context.factor) * (left @ self.svd_Vh.to(core.dtype))


def check_rank(where: str, name: str, linear: nn.Linear, k: int, key: str) -> None:
    """Check that the Linear `name` has k singular vectors.

    Raises:
        ValueError: k is not between 1 and min(d_out, d_in); `where` and `key` say whose option
            asks for so many.
    """
    size = min(linear.out_features, linear.in_features)
    if not 1 <= k <= size:
        raise ValueError(
            f"{where}: {key} gives {k} singular vectors of {name}, whose weight is "
            f"{linear.out_features} x {linear.in_features}; allowed: 1 to {size} "
            "(change it, or leave this Linear out of target_modules)"
        )


@dataclass(frozen=True)
class SvdLoraConfig(LoraConfig):
    """Options of a LoRA that starts from `rank` singular vectors of the base weight."""

    def of_linear(self, name: str, linear: nn.Linear) -> Self:
        """Return the options, where the Linear has as many singular vectors as `rank`."""
        check_rank(self.where, name, linear, self.rank, "rank")
        return self
