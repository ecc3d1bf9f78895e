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
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from espnet_blora.adapters.methods.lora import LoraLayer
from espnet_blora.adapters.registry import METHODS, parse_config
from espnet_blora.report.experiments import Sparsity

THRESHOLD = 1e-3
ADAPTIVE = 0.5
PARTS = ("delta W", "lora_A", "lora_B")


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
    adaptive_mean, adaptive_std, top_energy, hoyer = table[:, 1:].mean(dim=0).tolist()
    return Sparsity(below, adaptive_mean, adaptive_std, top_energy, hoyer, len(rows))


def read_factors(path: str | Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Read `{layer: (lora_A (r, d_in), lora_B (d_out, r))}` from a checkpoint or adapter file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read or holds no such pair.
    """
    return _pairs(_read_state(Path(path)), Path(path))


def _read_state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise ValueError(f"{path}: cannot be read as a checkpoint ({error!r})") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path}: holds {type(state).__name__}, expected names and tensors")
    return state


def _pairs(state: Mapping[str, Tensor], path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    pairs = {}
    for key, down in state.items():
        layer, dot, name = key.rpartition(".")
        if name == "lora_A" and f"{layer}{dot}lora_B" in state:
            pairs[layer] = (down, state[f"{layer}{dot}lora_B"])
    if not pairs:
        raise ValueError(f"{path}: holds no lora_A with its lora_B")
    return pairs


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


def of_checkpoint(path: str | Path, method: str, conf: Mapping) -> dict[str, Sparsity]:
    """Return the measures of delta W = alpha / rank * B A and of both factors, by `PARTS`."""
    pairs = read_factors(path)
    scales = {a.shape[0]: scaling_of(method, conf, a.shape[0]) for a, _ in pairs.values()}
    return {
        "delta W": of_matrices(
            scales[a.shape[0]] * (b.float() @ a.float()) for a, b in pairs.values()
        ),
        "lora_A": of_matrices(a for a, _ in pairs.values()),
        "lora_B": of_matrices(b for _, b in pairs.values()),
    }


def sizes(path: str | Path) -> tuple[int, int]:
    """Return the bytes of all factors (means and scales), and of the means alone.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read or holds no such pair.
    """
    state = _read_state(Path(path))
    layers = _pairs(state, Path(path))
    means = sum(t.nbytes for pair in layers.values() for t in pair)
    scales = [f"{layer}.{name}" for layer in layers for name in ("rho_A", "rho_B")]
    return means + sum(state[key].nbytes for key in scales if key in state), means


def mean_over(runs: Iterable[Mapping[str, Sparsity]]) -> dict[str, Sparsity]:
    """Return part -> the mean of each measure over the runs that have it."""
    by_part: dict[str, list[Sparsity]] = {}
    for run in runs:
        for part, sparsity in run.items():
            by_part.setdefault(part, []).append(sparsity)
    names = [f.name for f in fields(Sparsity) if f.name != "matrices"]
    return {
        part: Sparsity(
            **{n: statistics.fmean(getattr(s, n) for s in parts) for n in names},
            matrices=parts[0].matrices,
        )
        for part, parts in by_part.items()
    }
