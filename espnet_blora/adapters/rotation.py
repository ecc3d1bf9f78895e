"""Rotations of a few singular vectors: skew matrices, three maps to G, and how far G is from one.

All functions return G - I, not G: it is exactly zero at the start, so a fresh layer adds exactly
nothing, and small rotations keep their digits.
"""

import math

import torch
from torch import Tensor

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
