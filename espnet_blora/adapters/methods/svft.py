"""SVFT (arXiv 2405.19597): a sparse matrix between all singular vectors of the base weight.

W' = U (S + M) V^T = W0 + U M V^T; U and V are frozen, M has few trained entries. The update is
cheap in parameters but not in storage: U and V together are larger than the weight.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import AdapterConfig, option
from espnet_blora.adapters.context import Context, mix
from espnet_blora.adapters.layer import wide
from espnet_blora.adapters.methods.svd_layer import SvdLayer, singular_triplets

PATTERNS = ("banded", "random", "top_k")


# ---- which entries of M are trained ----


def band_count(n: int, width: int) -> int:
    """Return the entries of an (n, n) band |i - j| <= width.

    >>> band_count(n=4, width=1)
    10
    """
    width = min(width, n - 1)
    return n * (2 * width + 1) - width * (width + 1)


def banded(n: int, width: int) -> Tensor:
    """Return the places i * n + j of the band |i - j| <= width, (count,) int64, ascending."""
    near = torch.arange(-width, width + 1)
    rows = torch.arange(n).unsqueeze(1)
    columns = rows + near  # (n, 2 width + 1)
    inside = (columns >= 0) & (columns < n)
    return (rows * n + columns)[inside]


def random_places(n: int, count: int, seed: int) -> Tensor:
    """Return `count` different places of (n, n), (count,) int64, ascending, by `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n * n, generator=generator)[:count].sort().values


def best_aligned(u: Tensor, vh: Tensor, count: int) -> Tensor:
    """Return the `count` places (i, j) of largest |u_i . v_j|, (count,) int64, ascending.

    Args:
        u: (d, n), the left singular vectors.
        vh: (n, d), the right ones: the matrix is square, else they cannot be compared.
        count: How many.
    """
    flat = (u.T @ vh.T).abs().flatten()
    return torch.topk(flat, count, sorted=False).indices.sort().values


def scattered(entries: Tensor, places: Tensor, n: int) -> Tensor:
    """Return M, (n, n), with `entries` at `places` and zeros elsewhere."""
    return entries.new_zeros(n * n).index_put((places,), entries).view(n, n)


# ---- the method ----


@dataclass(frozen=True)
class SvftConfig(AdapterConfig):
    """Options of `svft`: W = U (S + M) V^T, n = min(d_out, d_in) singular vectors per side.

    Attributes:
        pattern: Which entries of M are trained: `banded` (|i - j| <= width), `random` (drawn by
            `seed`) or `top_k` (the largest |u_i . v_j|; square weights only).
        width: Diagonals on each side of the main one; 0 trains the singular values alone.
        entries: Trained entries of each matrix, for `random` and `top_k`; by default as many as the
            band of this width has.
        gate: Whether M is multiplied by the sigmoid of a trained number, 0 at the start, as in the
            published program.
        seed: Of the random places.
    """

    method: ClassVar[str] = "svft"
    structural: ClassVar[tuple[str, ...]] = ("width", "pattern", "entries", "gate")

    pattern: str = option("banded", checks.one_of, allowed=PATTERNS)
    width: int = option(0, checks.integer, low=0)
    entries: int | None = option(None, checks.integer, low=1)
    gate: bool = option(False, checks.flag)
    seed: int = option(0, checks.integer, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.entries is not None and self.pattern == "banded":
            raise ValueError(
                f"{self.where}: entries is {self.entries}, but pattern is 'banded', whose entries "
                "are set by width; allowed with pattern: random or top_k"
            )

    def of_linear(self, name: str, linear: nn.Linear) -> Self:
        """Return the options of one Linear: rank is its n, all singular vectors.

        Raises:
            ValueError: M has fewer entries than asked for or, for top_k, the weight is not square;
                names the Linear.
        """
        shape = f"{linear.out_features} x {linear.in_features}"
        n = min(linear.out_features, linear.in_features)
        if self.pattern == "top_k" and linear.out_features != linear.in_features:
            raise ValueError(
                f"{self.where}: pattern top_k compares left with right singular vectors, so the "
                f"weight must be square; {name} is {shape}. Leave it out of target_modules, or use "
                "pattern: banded or random"
            )
        if self.entries is not None and self.entries > n * n:
            raise ValueError(
                f"{self.where}: entries is {self.entries}, but M of {name} ({shape}) has "
                f"{n * n}; allowed: 1 to {n * n}"
            )
        return replace(self, rank=n)


class SvftLayer(SvdLayer):
    """y = base(x) + U M V^T x.

    Attributes:
        svft_M: The trained entries of M, (count,).
        svft_gate: (), or None without a gate.
        svft_places: (count,) int64, i * n + j of each entry; None when M is diagonal.
    """

    parameter_names = ("svft_M", "svft_gate", "svd_U", "svd_Vh", "svft_places")
    mean_names = ("svft_M", "svft_gate")

    svft_M: Tensor
    svft_gate: Tensor | None
    svft_places: Tensor | None
    pattern: str
    width: int
    seed: int

    def start(self, config: Any, context: Context, index: int) -> None:
        """Add the entries of M and room for the singular vectors."""
        super().start(config, context, index)
        self.pattern, self.width, self.seed = config.pattern, config.width, config.seed
        count = config.entries
        if count is None:
            count = band_count(self.rank, self.width)
        self.add_frame(self.rank)
        has_places = self.pattern != "banded" or self.width > 0
        places = torch.zeros(count, dtype=torch.int64, device=self.weight.device)
        self.register_buffer("svft_places", places if has_places else None)
        self.declare_bases("svd_U", "svd_Vh", *["svft_places"] * has_places)
        self.add_zeros("svft_M", count)
        self.add_zeros("svft_gate", used=config.gate)

    def compute_basis(self, weight: Tensor) -> dict[str, Tensor]:
        """Return all singular vectors of the base, and the places of M's entries."""
        u, _, vh = singular_triplets(weight, self.rank)
        values = {"svd_U": u, "svd_Vh": vh}
        if self.svft_places is not None:
            values["svft_places"] = self._places(u, vh, len(self.svft_places))
        return values

    def _places(self, u: Tensor, vh: Tensor, count: int) -> Tensor:
        if self.pattern == "banded":
            return banded(self.rank, self.width)
        if self.pattern == "random":
            return random_places(self.rank, count, mix(self.seed, self.index))
        return best_aligned(u, vh, count)

    def core(self) -> Tensor:
        """Return M, (n, n), or its diagonal, (n,)."""
        entries = wide(self.svft_M)
        if self.svft_gate is not None:
            entries = entries * torch.sigmoid(wide(self.svft_gate))
        if self.svft_places is None:
            return entries
        return scattered(entries, self.svft_places, self.rank)
