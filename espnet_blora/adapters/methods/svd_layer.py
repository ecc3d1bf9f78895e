"""Updates U C V^T between frozen singular vectors of the base: what SSVD, SVFT, LoRA-XS share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_blora.adapters.layer import AdapterLayer


def svd(weight: Tensor, full: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (m, k), S (k,), Vh (k, n) with weight = U diag(S) Vh, S descending, k = min(m, n).

    At least fp32. Of each pair of vectors the sign is such that the entry of the right one that is
    largest in size is positive; vectors of equal singular values are still any basis of their
    space, so that another machine may find others: store them. With `full`, Vh is (n, n): the rows
    beyond k span the null space.

    Raises ValueError when the weight holds NaN or inf.
    """
    if not bool(torch.isfinite(weight).all()):
        raise ValueError(
            "the base weight holds NaN or inf, so it has no singular vectors; load a sound base"
        )
    wide = weight if weight.dtype == torch.float64 else weight.float()
    u, s, vh = torch.linalg.svd(wide, full_matrices=full)
    count = s.numel()
    signs = vh.gather(1, vh.abs().argmax(dim=1, keepdim=True)).sign()
    return u[:, :count] * signs[:count].T, s, vh * signs


def singular_triplets(weight: Tensor, k: int, tail: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (d_out, k), S (k,) descending, V^T (k, d_in) of the k largest (tail: smallest).

    Raises ValueError when the weight holds NaN or inf.
    """
    u, s, vh = svd(weight)
    part = slice(s.numel() - k, None) if tail else slice(k)
    return u[:, part], s[part], vh[part]


class SvdLayer(AdapterLayer):
    """y = base(x) + scaling * (((x V) C^T) U^T); U, V frozen, C small and trained.

    svd_U: (d_out, k) and svd_Vh: (k, d_in), buffers computed once from the loaded base.
    """

    def core(self) -> Tensor:
        """Return C, (k, k), or its diagonal alone, (k,); fp32 or better; zero at the start."""
        raise TypeError(f"{type(self).__name__} defines no core")

    def new_kind(self) -> dict:
        """Return device and dtype of a new factor: fp32, or fp64 on an fp64 base."""
        wide = self.weight.dtype == torch.float64
        dtype = torch.float64 if wide else torch.float32
        return {"device": self.weight.device, "dtype": dtype}

    def add_frame(self, k: int) -> None:
        """Add room for U and V^T."""
        kind = self.new_kind()
        self.register_buffer("svd_U", torch.zeros(self.out_features, k, **kind))
        self.register_buffer("svd_Vh", torch.zeros(k, self.in_features, **kind))

    def add_zeros(self, name: str, *shape: int) -> None:
        """Add a trained factor of zeros."""
        setattr(self, name, nn.Parameter(torch.zeros(shape, **self.new_kind())))

    def update(self, x: Tensor) -> Tensor:
        """Return ((x V) C^T) U^T, with dropout on x in training."""
        low = F.linear(self._dropout(x), self.svd_Vh.to(x.dtype))
        core = self.core().to(low.dtype)
        low = low * core if core.dim() == 1 else F.linear(low, core)
        return F.linear(low, self.svd_U.to(low.dtype))

    def delta_weight(self) -> Tensor:
        """Return factor * scaling * U C V^T, (d_out, d_in), fp32 or better."""
        core = self.core()
        left = self.svd_U.to(core.dtype)
        left = left * core if core.dim() == 1 else left @ core
        return (self.scaling * self.context.factor) * (left @ self.svd_Vh.to(core.dtype))


def wide_enough(tensor: Tensor) -> Tensor:
    """Return `tensor` in fp32, or as it is in fp64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_rank(where: str, name: str, linear: nn.Linear, k: int, key: str) -> None:
    """Raise ValueError unless 1 <= k <= min(d_out, d_in) of the Linear `name`."""
    size = min(linear.out_features, linear.in_features)
    if not 1 <= k <= size:
        raise ValueError(
            f"{where}: {key} gives {k} singular vectors of {name}, whose weight is "
            f"{linear.out_features} x {linear.in_features}; allowed: 1 to {size} "
            "(change it, or leave this Linear out of target_modules)"
        )
