"""SSVD (arXiv 2509.02830): shift a few singular values, rotate their right singular vectors.

W' = U (S + dS) G V^T, where dS and G - I are zero outside k of the singular triplets. Only their
block changes, so W' = W0 + U_k [(S_k + dS_k) G_k - S_k] V_k^T exactly: W0 is kept, the update has
rank k, and k vectors a side are stored instead of all.

The tail variant that rotates only (`subspace: tail`, `shift: false`) is CSSVD's, which retained
what plain SSVD forgot.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import AdapterConfig
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.methods.svd_layer import (
    SvdLayer,
    check_rank,
    singular_triplets,
    wide_enough,
)

if TYPE_CHECKING:
    from espnet_blora.adapters.adapter import Adapter

_SIZES = ("rank", "rotation_ratio", "rotation_divisor")


@dataclass(frozen=True)
class SsvdConfig(AdapterConfig):
    """Options of `ssvd`: W = U (S + dS) G V^T, k singular triplets of which are trained.

    rank: k itself; or rotation_ratio: k = floor(ratio * min(d_out, d_in)); or rotation_divisor:
        k = min(d_out, d_in) // divisor, as the published runs were set. One of the three; with
        none, rotation_ratio 0.4.
    rotation_map: `linear` (G = I - 2K, the published default), `cayley` (G = (I-K)(I+K)^-1, exactly
        orthogonal, O(k^3) a forward), `free` (any G, twice the parameters).
    subspace: `head` (the largest singular values) or `tail` (the smallest).
    orientation: `input` (the rotation is always on the input side) or `espnet` (on the output side
        of wide weights, d_out < d_in, as in the published program).
    shift: whether the singular values are trained (dS), or only the rotation.
    gate: dS is multiplied by the sigmoid of a trained number, 0 at the start, as in the published
        program; by default wherever there is a shift.
    log_every: micro-batches between two records of how far G is from a rotation.
    """

    method: ClassVar[str] = "ssvd"
    structural: ClassVar[tuple[str, ...]] = (
        *_SIZES, "rotation_map", "subspace", "orientation", "shift", "gate",
    )  # fmt: skip

    rank: int | None = None
    rotation_ratio: float | None = None
    rotation_divisor: float | None = None
    rotation_map: str = "linear"
    subspace: str = "head"
    orientation: str = "input"
    shift: bool = True
    gate: bool | None = None
    log_every: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"adapter_conf of {self.method}"
        given = [key for key in _SIZES if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{where}: {' and '.join(given)} are given; allowed: one of {', '.join(_SIZES)}"
            )
        if not given:
            self._set("rotation_ratio", 0.4)
        if self.rank is not None:
            checks.integer(where, "rank", self.rank, 1)
        elif self.rotation_divisor is not None:
            divisor = checks.number(where, "rotation_divisor", self.rotation_divisor, 1.0)
            self._set("rotation_divisor", divisor)
        else:
            ratio = self.rotation_ratio
            ratio = checks.number(where, "rotation_ratio", ratio, 0.0, 1.0, open_low=True)
            self._set("rotation_ratio", ratio)
        checks.one_of(where, "rotation_map", self.rotation_map, MAPS)
        checks.one_of(where, "subspace", self.subspace, ("head", "tail"))
        checks.one_of(where, "orientation", self.orientation, ("input", "espnet"))
        checks.flag(where, "shift", self.shift)
        if self.gate is None:
            self._set("gate", self.shift)
        checks.flag(where, "gate", self.gate)
        checks.integer(where, "log_every", self.log_every, 1)
        if self.gate and not self.shift:
            raise ValueError(
                f"{where}: gate is true, but shift is false and the gate acts on the shift alone; "
                "allowed: shift: true, or gate: false"
            )


def plan(
    model: nn.Module, linears: Mapping[str, nn.Linear], config: SsvdConfig
) -> dict[str, SsvdConfig]:
    """Return each Linear's own options: rank is its k.

    Raises ValueError, naming the Linear, when k is not between 1 and min(d_out, d_in).
    """
    where = f"adapter_conf of {config.method}"
    key, value = next((k, v) for k in _SIZES if (v := getattr(config, k)) is not None)
    plans = {}
    for name, linear in linears.items():
        size = min(linear.out_features, linear.in_features)
        k = rotated_count(size, config.rank, config.rotation_ratio, config.rotation_divisor)
        check_rank(where, name, linear, k, f"{key} {value:g}")
        plans[name] = replace(config, rank=k, rotation_ratio=None, rotation_divisor=None)
    return plans


class SsvdLayer(SvdLayer):
    """y = base(x) + U_k C V_k^T x, C = (S_k + dS_k) G_k - S_k.

    On the output side C = G_k^T (S_k + dS_k) - S_k.
    ssvd_K: (k (k - 1) / 2,), the skew entries of G's map above the diagonal, row by row; for the
    free map (k, k), G - I itself. ssvd_dS: (k,). ssvd_gate: (). Frozen: svd_U, svd_S, svd_Vh.
    """

    parameter_names = ("ssvd_K", "ssvd_dS", "ssvd_gate", "svd_U", "svd_S", "svd_Vh")
    mean_names = ("ssvd_K", "ssvd_dS", "ssvd_gate")

    rotation_map: str
    tail: bool
    output_side: bool

    def start(self, config: SsvdConfig, context: Context, index: int) -> None:
        """Add the rotation, the shift and room for the singular triplets."""
        super().start(config, context, index)
        self.rotation_map = config.rotation_map
        self.tail = config.subspace == "tail"
        wide = self.out_features < self.in_features
        self.output_side = wide and config.orientation == "espnet"
        self.add_frame(self.rank)
        self.register_buffer("svd_S", torch.zeros(self.rank, **self.new_kind()))
        self.declare_bases("svd_U", "svd_S", "svd_Vh")
        self.add_zeros("ssvd_K", *rotation_entries(self.rank, self.rotation_map))
        for name, used, shape in (
            ("ssvd_dS", config.shift, (self.rank,)),
            ("ssvd_gate", config.gate, ()),
        ):
            if used:
                self.add_zeros(name, *shape)
            else:
                self.register_parameter(name, None)

    def compute_basis(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the k singular triplets of the base."""
        u, s, vh = singular_triplets(weight, self.rank, self.tail)
        return {"svd_U": u, "svd_S": s, "svd_Vh": vh}

    def change(self) -> Tensor:
        """Return G_k - I, (k, k)."""
        return rotation_change(wide_enough(self.ssvd_K), self.rank, self.rotation_map)

    def core(self) -> Tensor:
        """Return C, (k, k)."""
        shift = None if self.ssvd_dS is None else wide_enough(self.ssvd_dS)
        if self.ssvd_gate is not None:
            shift = shift * torch.sigmoid(wide_enough(self.ssvd_gate))
        return rotated_core(self.change(), wide_enough(self.svd_S), shift, self.output_side)


@torch.no_grad()
def log_gap(adapter: "Adapter") -> tuple[Tensor, dict[str, Tensor]]:
    """Return nothing to add to the loss, and every log_every micro-batches what to log.

    orthogonality_gap: the largest Frobenius norm of G^T G - I of all layers: how far the linear
    and the free map have left the rotations. rotation: the largest one of G - I.
    """
    layers = list(adapter.layers.values())
    term = torch.zeros((), device=layers[0].weight.device)
    if (adapter.step - 1) % adapter.config.log_every:
        return term, {}
    changes = [layer.change() for layer in layers]
    return term, {
        "orthogonality_gap": torch.stack([orthogonality_gap(c) for c in changes]).max(),
        "rotation": torch.stack([torch.linalg.matrix_norm(c) for c in changes]).max(),
    }


MAPS = ("linear", "cayley", "free")


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
    one = torch.eye(k, dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.solve(one + matrix, -2.0 * matrix)


def orthogonality_gap(change: Tensor) -> Tensor:
    """Return the Frobenius norm of G^T G - I = E + E^T + E^T E, 0-dim, of E = G - I."""
    return torch.linalg.matrix_norm(change + change.T + change.T @ change)


def rotated_core(change: Tensor, values: Tensor, shift: Tensor | None, output_side: bool) -> Tensor:
    """Return C, (k, k), with which U_k C V_k^T is the change of the weight; zero at the start.

    input side: (S + dS) G - S, the rotation meets the right singular vectors (the inputs).
    output side: G^T (S + dS) - S, it meets the left ones.

    change: G - I; values: S, (k,), descending or not; shift: dS, (k,), None for a rotation only.
    """
    scaled = values if shift is None else values + shift
    core = change.T * scaled if output_side else scaled.unsqueeze(1) * change
    return core if shift is None else core + torch.diag(shift)


def rotated_count(size: int, rank: int | None, ratio: float | None, divisor: float | None) -> int:
    """Return k of `size` = min(d_out, d_in) singular triplets by the one of three that is given.

    rank: k itself. ratio: floor(ratio * size). divisor: size // divisor in floating point, as the
    published runs were configured (384 // 1.6 is 239: 1.6 is a little more than 1.6 in binary).
    """
    if rank is not None:
        return rank
    return math.floor(size * ratio) if ratio is not None else int(size // divisor)
