"""A small sketch of the base weights, to tell one base from another.

Of every weight looked at, up to 4096 fixed elements are added up with fixed signs into 16 buckets
(a count sketch). For weights w and v the distance of two sketches over the norm estimates
||w - v|| / ||w||: about 1.4 for unrelated weights, 1.6e-3 after a round trip through bfloat16, 0
for the same bits on any device. Two bases that differ by less than the tolerance pass as one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

SAMPLES = 4096
BUCKETS = 16
WIDTH = BUCKETS + 1
OTHERS = 16
TOLERANCE = 6e-3

_STRIDE = 2654435761  # prime: visits distinct elements of any tensor


def sketch(weight: Tensor) -> Tensor:
    """Return (17,) float64 on the weight's device: 16 bucket sums and the norm of the sample."""
    # Fixed elements with fixed signs.
    flat = weight.detach().reshape(-1)
    size = flat.numel()
    index = torch.arange(min(size, SAMPLES), device=flat.device)
    if size > SAMPLES:
        index = (index * _STRIDE) % size
    signs = 1 - 2 * ((index * _STRIDE >> 16) & 1)
    values = flat[index].to(torch.float64)  # (at most SAMPLES,)
    padding = -values.numel() % BUCKETS
    sums = nn.functional.pad(values * signs, (0, padding)).view(BUCKETS, -1).sum(1)
    return torch.cat([sums, values.norm().view(1)])


def base_names(model: nn.Module, layer_names: Iterable[str]) -> list[str]:
    """Return the names of the weights to look at: targets, up to 16 other matrices, all vectors.

    The other matrices are frozen ones, evenly spread, so that a base whose targets alone agree is
    still told apart. Vectors are frozen biases and layer norms.
    """
    targets = [f"{name}.weight" for name in layer_names]
    taken = set(targets)
    frozen = {name: p.dim() for name, p in model.named_parameters() if not p.requires_grad}
    others = [name for name, dim in frozen.items() if dim >= 2 and name not in taken]
    step = max(1, -(-len(others) // OTHERS))
    return targets + others[::step] + [name for name, dim in frozen.items() if dim == 1]


def fingerprint(weights: Iterable[Tensor]) -> Tensor | None:
    """Return (n, 17) float64 on the CPU, or None when a weight is on the meta device."""
    tensors = list(weights)
    if any(tensor.is_meta for tensor in tensors):
        return None
    rows = [sketch(tensor) for tensor in tensors]
    return torch.stack(rows).cpu() if rows else torch.zeros(0, WIDTH, dtype=torch.float64)


def pack(rows: Tensor) -> Tensor:
    """Return the bits of float64 `rows` as int64: model.half() leaves integer buffers alone."""
    return rows.contiguous().view(torch.int64)


def unpack(bits: Tensor) -> Tensor:
    """Undo `pack`."""
    return bits.detach().cpu().contiguous().view(torch.float64)


def difference(
    stored: Mapping[str, Tensor | Sequence[float]], weights: Mapping[str, Tensor]
) -> tuple[float, str] | None:
    """Return how far a model's weights are from a fingerprint, and the weight that is farthest.

    Args:
        stored: {name: its row}.
        weights: {name: weight} of the whole model.

    Returns:
        The largest relative distance over the weights both know, infinite where one holds NaN or
        inf, and that weight's name; None when a weight is on the meta device.
    """
    known = [name for name in stored if name in weights]
    current = fingerprint(weights[name] for name in known)
    if current is None:
        return None
    worst, where = 0.0, ""
    for name, other in zip(known, current, strict=True):
        row = torch.as_tensor(stored[name], dtype=torch.float64)
        scale = float(torch.maximum(row[-1], other[-1]))
        gap = float((row[:-1] - other[:-1]).norm())
        distance = 0.0 if scale == 0.0 else gap / scale
        if not math.isfinite(distance):
            return math.inf, name
        if distance > worst:
            worst, where = distance, name
    return worst, where


def check_same_base(
    path: Path, stored: Mapping[str, Sequence[float]], weights: Mapping[str, Tensor], remedy: str
) -> None:
    """Compare the base that a file of figures was made from with a model's weights.

    Args:
        path: The file, for messages.
        stored: {name: its row}, as the file has it.
        weights: {name: weight} of the whole model.
        remedy: What the user can do about another base.

    Raises:
        ValueError: It is another base, or the model is on the meta device.
    """
    if stored.keys().isdisjoint(weights):
        raise ValueError(
            f"{path} is of a model with weights such as {next(iter(stored), '(none)')}, which this "
            f"model lacks; {remedy}, from this model's base"
        )
    apart = difference(stored, weights)
    if apart is None:
        raise ValueError(f"{path}: the model is on the meta device and has no values")
    distance, where = apart
    if not distance <= TOLERANCE:
        raise ValueError(
            f"{path}: wrong base: {where} differs by {distance:.2g} (relative; allowed: "
            f"{TOLERANCE:g}) from the model it was made from; {remedy}, from this model's base"
        )
