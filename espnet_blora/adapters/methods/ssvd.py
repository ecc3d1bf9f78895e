"""SSVD (arXiv 2509.02830): shift a few singular values, rotate their right singular vectors.

W' = U (S + dS) G V^T, where dS and G - I are zero outside k of the singular triplets. Only their
block changes, so W' = W0 + U_k [(S_k + dS_k) G_k - S_k] V_k^T exactly: W0 is kept, the update has
rank k, and k vectors per side are stored instead of all.

The tail variant that rotates only (`subspace: tail`, `shift: false`) is CSSVD's, which retained
what plain SSVD forgot.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import AdapterConfig, option
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.layer import wide
from espnet_blora.adapters.methods.svd_layer import SvdLayer, check_rank, singular_triplets

MAPS = ("linear", "cayley", "free")
_SIZES = ("rank", "rotation_ratio", "rotation_divisor")


# ---- rotations: all functions return G - I, not G ----
# It is exactly zero at the start, so a fresh layer adds exactly nothing, and small rotations keep
# their digits.


def skew_size(k: int) -> int:
    """Return k (k - 1) / 2, the free entries of a skew (k, k) matrix."""
    return k * (k - 1) // 2


def skew(entries: Tensor, k: int) -> Tensor:
    """Return K = -K^T, (k, k), whose part above the diagonal is `entries`, row by row."""
    rows, columns = torch.triu_indices(k, k, offset=1, device=entries.device)
    upper = entries.new_zeros(k, k).index_put((rows, columns), entries)
    return upper - upper.T


def rotation_entries(k: int, rotation_map: str) -> tuple[int, ...]:
    """Return the shape of what is trained: (k (k - 1) / 2,), or (k, k) for the free map."""
    return (k, k) if rotation_map == "free" else (skew_size(k),)


def rotation_change(entries: Tensor, k: int, rotation_map: str) -> Tensor:
    """Return E = G - I, (k, k), of `entries` shaped as `rotation_entries` says.

    cayley: G = (I - K)(I + K)^-1, exactly orthogonal, O(k^3).
    linear: G = I - 2 K, its first-order term, O(k^2); G^T G = I - 4 K^2.
    free: G = I + entries, any matrix.
    """
    if rotation_map == "free":
        return entries
    matrix = skew(entries, k)
    if rotation_map == "linear":
        return -2.0 * matrix
    identity = torch.eye(k, dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.solve(identity + matrix, -2.0 * matrix)


def orthogonality_gap(change: Tensor) -> Tensor:
    """Return the Frobenius norm of G^T G - I = E + E^T + E^T E, 0-dim, of E = G - I."""
    return torch.linalg.matrix_norm(change + change.T + change.T @ change)


def rotated_core(change: Tensor, values: Tensor, shift: Tensor | None, output_side: bool) -> Tensor:
    """Return C, (k, k), with which U_k C V_k^T is the change of the weight; zero at the start.

    Args:
        change: G - I, (k, k).
        values: S, (k,), in whatever order.
        shift: dS, (k,); None for a rotation only.
        output_side: False: C = (S + dS) G - S, the rotation meets the right singular vectors (the
            inputs). True: C = G^T (S + dS) - S, it meets the left ones.
    """
    scaled = values if shift is None else values + shift
    core = change.T * scaled if output_side else scaled.unsqueeze(1) * change
    return core if shift is None else core + torch.diag(shift)


def rotated_count(size: int, rank: int | None, ratio: float | None, divisor: float | None) -> int:
    """Return how many of `size` singular triplets are trained, by the one option that is given.

    Args:
        size: min(d_out, d_in).
        rank: The count itself.
        ratio: The count is floor(ratio * size).
        divisor: The count is size // divisor in floating point, as the published runs were
            configured (384 // 1.6 is 239: 1.6 is a little more than 1.6 in binary).
    """
    if rank is not None:
        return rank
    if ratio is not None:
        return math.floor(size * ratio)
    assert divisor is not None  # one of the three is set
    return int(size // divisor)


# ---- the method ----


@dataclass(frozen=True)
class SsvdConfig(AdapterConfig):
    """Options of `ssvd`: W = U (S + dS) G V^T, k singular triplets of which are trained.

    Attributes:
        rank: k itself. One of `rank`, `rotation_ratio` and `rotation_divisor` is given; without
            any, `rotation_ratio` is 0.4.
        rotation_ratio: k = floor(ratio * min(d_out, d_in)).
        rotation_divisor: k = min(d_out, d_in) // divisor, as the published runs were set.
        rotation_map: `linear` (G = I - 2K, the published default), `cayley` (G = (I-K)(I+K)^-1,
            exactly orthogonal, O(k^3) per forward) or `free` (any G, twice the parameters).
        subspace: `head` (the largest singular values) or `tail` (the smallest).
        orientation: `input` (the rotation is always on the input side) or `espnet` (on the output
            side of wide weights, d_out < d_in, as in the published program).
        shift: Whether the singular values are trained (dS), or only the rotation.
        gate: Whether dS is multiplied by the sigmoid of a trained number, 0 at the start, as in the
            published program; by default wherever there is a shift.
        log_every: Micro-batches between two records of how far G is from a rotation.
    """

    method: ClassVar[str] = "ssvd"
    structural: ClassVar[tuple[str, ...]] = (
        *_SIZES, "rotation_map", "subspace", "orientation", "shift", "gate",
    )  # fmt: skip

    rank: int | None = option(None, checks.integer, low=1)
    rotation_ratio: float | None = option(None, checks.number, low=0.0, high=1.0, open_low=True)
    rotation_divisor: float | None = option(None, checks.number, low=1.0)
    rotation_map: str = option("linear", checks.one_of, allowed=MAPS)
    subspace: str = option("head", checks.one_of, allowed=("head", "tail"))
    orientation: str = option("input", checks.one_of, allowed=("input", "espnet"))
    shift: bool = option(True, checks.flag)
    gate: bool | None = option(None, checks.flag)
    log_every: int = option(100, checks.integer, low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [key for key in _SIZES if getattr(self, key) is not None]
        if len(given) > 1:
            sizes = " and ".join(given)
            raise ValueError(
                f"{self.where}: {sizes} are given; allowed: one of {', '.join(_SIZES)}"
            )
        if not given:
            self._set("rotation_ratio", 0.4)
        if self.gate is None:
            self._set("gate", self.shift)
        if self.gate and not self.shift:
            raise ValueError(
                f"{self.where}: gate is true, but shift is false and the gate acts on the shift "
                "alone; allowed: shift: true, or gate: false"
            )

    def of_linear(self, name: str, linear: nn.Linear) -> Self:
        """Return the options of one Linear: rank is its k, from 1 to min(d_out, d_in)."""
        key, value = next((k, v) for k in _SIZES if (v := getattr(self, k)) is not None)
        size = min(linear.out_features, linear.in_features)
        k = rotated_count(size, self.rank, self.rotation_ratio, self.rotation_divisor)
        check_rank(self.where, name, linear, k, f"{key} {value:g}")
        return replace(self, rank=k, rotation_ratio=None, rotation_divisor=None)


class SsvdLayer(SvdLayer):
    """y = base(x) + U_k C V_k^T x, C = (S_k + dS_k) G_k - S_k.

    On the output side C = G_k^T (S_k + dS_k) - S_k.

    Attributes:
        ssvd_K: (k (k - 1) / 2,), the skew entries of G's map above the diagonal, row by row; for
            the free map (k, k), G - I itself.
        ssvd_dS: (k,), or None without a shift.
        ssvd_gate: (), or None without a gate.
        svd_S: (k,), a buffer beside svd_U and svd_Vh.
    """

    parameter_names = ("ssvd_K", "ssvd_dS", "ssvd_gate", "svd_U", "svd_S", "svd_Vh")
    mean_names = ("ssvd_K", "ssvd_dS", "ssvd_gate")

    ssvd_K: Tensor
    ssvd_dS: Tensor | None
    ssvd_gate: Tensor | None
    svd_S: Tensor
    rotation_map: str
    tail: bool
    output_side: bool

    def start(self, config: Any, context: Context, index: int) -> None:
        """Add the rotation, the shift and room for the singular triplets."""
        super().start(config, context, index)
        self.rotation_map = config.rotation_map
        self.tail = config.subspace == "tail"
        is_wide = self.out_features < self.in_features
        self.output_side = is_wide and config.orientation == "espnet"
        self.add_frame(self.rank)
        self.register_buffer("svd_S", torch.zeros(self.rank, **self.new_kind()))
        self.declare_bases("svd_U", "svd_S", "svd_Vh")
        self.add_zeros("ssvd_K", *rotation_entries(self.rank, self.rotation_map))
        self.add_zeros("ssvd_dS", self.rank, used=config.shift)
        self.add_zeros("ssvd_gate", used=config.gate)

    def compute_basis(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the k singular triplets of the base."""
        u, s, vh = singular_triplets(weight, self.rank, self.tail)
        return {"svd_U": u, "svd_S": s, "svd_Vh": vh}

    def change(self) -> Tensor:
        """Return G_k - I, (k, k)."""
        return rotation_change(wide(self.ssvd_K), self.rank, self.rotation_map)

    def core(self) -> Tensor:
        """Return C, (k, k)."""
        shift = None if self.ssvd_dS is None else wide(self.ssvd_dS)
        if shift is not None and self.ssvd_gate is not None:
            shift = shift * torch.sigmoid(wide(self.ssvd_gate))
        return rotated_core(self.change(), wide(self.svd_S), shift, self.output_side)


@torch.no_grad()
def log_gap(
    model: nn.Module, layers: Mapping[str, SsvdLayer], config: SsvdConfig, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return nothing to add to the loss, and every log_every micro-batches what to log.

    orthogonality_gap: the largest Frobenius norm of G^T G - I of all layers, that is, how far the
    linear and the free map have left the rotations. rotation: the largest norm of G - I.
    """
    term = torch.zeros((), device=next(iter(layers.values())).weight.device)
    if (step - 1) % config.log_every:
        return term, {}
    changes = [layer.change() for layer in layers.values()]
    return term, {
        "orthogonality_gap": torch.stack([orthogonality_gap(c) for c in changes]).max(),
        "rotation": torch.stack([torch.linalg.matrix_norm(c) for c in changes]).max(),
    }
