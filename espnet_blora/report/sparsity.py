r"""How concentrated an update is: sparsity of delta W and of its factors.

For one matrix with n entries w:

* `below`: share of entries with :math:`|w| < 10^{-3}`;
* `adaptive_mean`, `adaptive_std`: share with :math:`|w| < c\,m`, c = 0.5, where m is the mean
  of :math:`|w|` or the standard deviation of w (the BLoRA paper does not say which; both are
  given);
* `top_energy`: share of :math:`\sum w^2` in the largest 1 % of the entries;
* `hoyer`: :math:`(\sqrt n - \lVert w\rVert_1 / \lVert w\rVert_2) / (\sqrt n - 1)`, 0 for equal
  entries, 1 for a single one (Hoyer, JMLR 2004).

Over many matrices `below` is the share of all entries, the others are plain means over the
matrices. The paper (arXiv 2510.18723) gives 99.7 % below, top-1 % energy 37.5 % (LoRA 9.2 %) and
Hoyer 0.45 (LoRA 0.22); delta W of a random LoRA has about 8.7 % and 0.205, so delta W is most
likely what it measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from pathlib import Path

import torch
from torch import Tensor

from espnet_blora.adapters.methods.lora import LoraLayer
from espnet_blora.adapters.registry import METHODS, parse_config
from espnet_blora.report.experiments import Sparsity

THRESHOLD = 1e-3
ADAPTIVE = 0.5
MEANS = ("lora_A", "lora_B")


def of_matrix(w: Tensor) -> tuple[float, float, float, float, float]:
    """Return below, adaptive_mean, adaptive_std, top_energy, hoyer of one tensor of any shape.

    Of an all-zero tensor every share "below" is 1, its energy and Hoyer index are 0.

    Raises:
        ValueError: An empty tensor, NaN or infinity.
    """
    w = w.detach().flatten().double().abs()
    n = w.numel()
    if n == 0 or not torch.isfinite(w).all():
        raise ValueError(f"sparsity of a tensor of {n} entries that is empty, or holds NaN or inf")
    energy = (w * w).sum()
    below = (w < THRESHOLD).double().mean().item()
    if energy == 0:
        return below, 1.0, 1.0, 0.0, 0.0
    top = torch.topk(w, max(1, round(n / 100)), sorted=False).values
    # the spread around zero: the mean of w itself is close to 0 in all of these matrices
    std = (energy / n).sqrt()
    hoyer = (n**0.5 - w.sum() / energy.sqrt()) / (n**0.5 - 1) if n > 1 else torch.tensor(1.0)
    return (
        below,
        (w < ADAPTIVE * w.mean()).double().mean().item(),
        (w < ADAPTIVE * std).double().mean().item(),
        ((top * top).sum() / energy).item(),
        hoyer.item(),
    )


def of_matrices(matrices: Iterable[Tensor]) -> Sparsity:
    """Return the measures over many matrices, which may come one by one (memory of one).

    Raises:
        ValueError: There is none.
    """
    rows, sizes = [], []
    for matrix in matrices:
        rows.append(of_matrix(matrix))
        sizes.append(matrix.numel())
    if not rows:
        raise ValueError("sparsity of no matrix at all")
    table, weight = torch.tensor(rows, dtype=torch.float64), torch.tensor(sizes).double()
    below = ((table[:, 0] * weight).sum() / weight.sum()).item()
    return Sparsity(below, *table[:, 1:].mean(dim=0).tolist())


def read_factors(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read the factors of each layer from a checkpoint.

    Returns:
        Layer -> `lora_A` (r, d_in) and `lora_B` (d_out, r), with `rho_A` and `rho_B` of their
        shapes where there are any.

    Raises:
        ValueError: The file cannot be read, or holds no `lora_A` with its `lora_B`.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path}: cannot be read as a checkpoint ({error!r})") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path}: holds {type(state).__name__}, expected names and tensors")
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        layer, _, name = key.rpartition(".")
        if name in (*MEANS, "rho_A", "rho_B"):
            layers.setdefault(layer, {})[name] = tensor
    layers = {layer: factors for layer, factors in layers.items() if {*MEANS} <= factors.keys()}
    if not layers:
        raise ValueError(f"{path}: holds no lora_A with its lora_B")
    return layers


def scaling_of(method: str, conf: Mapping, rank: int) -> float:
    """Return what B A of a layer of this rank is multiplied by, as the experiment's settings say.

    Raises:
        ValueError: A method whose update is not a multiple of B A.
    """
    if method not in METHODS:
        return float(conf.get("alpha", rank)) / float(conf.get("rank", rank))
    if METHODS[method].layer.delta_weight is not LoraLayer.delta_weight:
        raise ValueError(f"the update of {method} is not a multiple of lora_B lora_A")
    return parse_config(method, conf).scaling_at(rank)


def of_factors(
    layers: Mapping[str, Mapping[str, Tensor]], method: str, conf: Mapping
) -> dict[str, Sparsity]:
    """Return the measures of delta W = alpha / rank * B A and of both factors, by name."""
    pairs = [(factors["lora_A"], factors["lora_B"]) for factors in layers.values()]
    scales = {a.shape[0]: scaling_of(method, conf, a.shape[0]) for a, _ in pairs}
    return {
        "delta W": of_matrices(scales[a.shape[0]] * (b.float() @ a.float()) for a, b in pairs),
        "lora_A": of_matrices(a for a, _ in pairs),
        "lora_B": of_matrices(b for _, b in pairs),
    }


def sizes(layers: Mapping[str, Mapping[str, Tensor]]) -> tuple[int, int]:
    """Return the bytes of all factors (means and scales), and of the means alone."""
    tensors = [item for factors in layers.values() for item in factors.items()]
    means = sum(tensor.nbytes for name, tensor in tensors if name in MEANS)
    return sum(tensor.nbytes for _, tensor in tensors), means


def mean_over(runs: Iterable[Mapping[str, Sparsity]]) -> dict[str, Sparsity]:
    """Return part -> the mean of each measure over the runs that have it."""
    by_part: dict[str, list[Sparsity]] = {}
    for run in runs:
        for part, sparsity in run.items():
            by_part.setdefault(part, []).append(sparsity)
    return {
        part: Sparsity(*map(statistics.fmean, zip(*map(astuple, measures), strict=True)))
        for part, measures in by_part.items()
    }
