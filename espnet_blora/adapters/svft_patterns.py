"""Which entries of SVFT's (n, n) matrix M are trained: a band, random or best aligned ones."""

import torch
from torch import Tensor

PATTERNS = ("banded", "random", "top_k")


def band_count(n: int, width: int) -> int:
    """Return the entries of an (n, n) band |i - j| <= width: n (2 w + 1) - w (w + 1), w < n."""
    width = min(width, n - 1)
    return n * (2 * width + 1) - width * (width + 1)


def banded(n: int, width: int) -> Tensor:
    """Return the places i * n + j of the band |i - j| <= width, (count,) int64, ascending."""
    near = torch.arange(-width, width + 1)
    rows = torch.arange(n).unsqueeze(1)
    columns = rows + near
    inside = (columns >= 0) & (columns < n)
    return (rows * n + columns)[inside]


def random_places(n: int, count: int, seed: int) -> Tensor:
    """Return `count` different places of (n, n), (count,) int64, ascending, by `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n * n, generator=generator)[:count].sort().values


def best_aligned(u: Tensor, vh: Tensor, count: int) -> Tensor:
    """Return the `count` places (i, j) of largest |u_i . v_j|, (count,) int64, ascending.

    u: (d, n), vh: (n, d): the singular vectors of a square matrix, else they cannot be compared.
    """
    flat = (u.T @ vh.T).abs().flatten()
    return torch.topk(flat, count, sorted=False).indices.sort().values


def scattered(entries: Tensor, places: Tensor, n: int) -> Tensor:
    """Return M, (n, n), with `entries` at `places` and zeros elsewhere."""
    return entries.new_zeros(n * n).index_put((places,), entries).view(n, n)
