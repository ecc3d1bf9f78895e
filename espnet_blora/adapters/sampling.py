"""Linear maps whose weight is Gaussian: four unbiased ways to draw their output.

With W ~ N(mean, sigma^2) elementwise, all of them give an output of mean x mean^T and variance
x^2 (sigma^2)^T at each position; they differ in how positions are correlated.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from espnet_blora.adapters.layer import full_precision, wide


def softplus_sigma(rho: Tensor) -> Tensor:
    """Return sigma = log(1 + exp(rho)), kept > 0; at least fp32, whatever rho is stored in.

    The floor has no part in the backward pass, where it would be three kernels more per factor: the
    slope under it is softplus's own, less than the floor.
    """
    sigma = F.softplus(wide(rho))
    with torch.no_grad():
        return sigma.clamp_min_(torch.finfo(sigma.dtype).tiny)


def weight_sample(
    x: Tensor, mean: Tensor, sigma: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Return x W^T with one W = mean + sigma * eps for all positions (Blundell et al. 2015).

    Args:
        x: (..., d_in).
        mean: (d_out, d_in).
        sigma: (d_out, d_in).
        generator: Of eps.

    Returns:
        (..., d_out).
    """
    return F.linear(x, (mean + sigma * normal_like(sigma, generator)).to(x.dtype))


def flipout(x: Tensor, mean: Tensor, sigma: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return x mean^T + ((x * s) (sigma * eps)^T) * t (Wen et al. 2018, arXiv 1803.04386).

    One eps for all positions; s (..., d_in) and t (..., d_out) are random signs of each position,
    which makes positions uncorrelated at the price of one more matrix product. The arguments are
    those of `weight_sample`.
    """
    noise = (sigma * normal_like(sigma, generator)).to(x.dtype)
    signs_in = _signs(x.shape, x, generator)
    signs_out = _signs((*x.shape[:-1], mean.shape[0]), x, generator)
    spread = F.linear(x * signs_in, noise)
    return F.linear(x, mean.to(x.dtype)).add_(spread.mul_(signs_out.to(spread.dtype)))


def flipout_by_utterance(
    x: Tensor, mean: Tensor, sigma: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Return x_b W_b^T with W_b = mean + (sigma * eps) * (t_b s_b^T) for each utterance b.

    Wen et al. 2018 as they write it, with signs s_b (d_in) and t_b (d_out) per example: utterances
    are uncorrelated, the positions of one share their weight. The weights of all are small,
    (B, d_out, d_in) with d_out or d_in the rank, and one batched product takes x as it is.

    Args:
        x: (B, ..., d_in).
        mean: (d_out, d_in).
        sigma: (d_out, d_in).
        generator: Of eps and signs.

    Returns:
        (B, ..., d_out).
    """
    rows = max(1, x.shape[0]) if x.dim() > 1 else 1
    noise = sigma * normal_like(sigma, generator)
    signs_in = _signs((rows, 1, x.shape[-1]), noise, generator)
    signs_out = _signs((rows, len(mean), 1), noise, generator)
    weights = mean + noise * signs_in * signs_out  # (B, d_out, d_in)
    return by_sample(x, weights.to(x.dtype))


def local(x: Tensor, mean: Tensor, sigma: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return x mean^T + sqrt(x^2 (sigma^2)^T) * eps, eps per output (Kingma et al. 2015).

    The variance is formed in fp32 or better, outside autocast: x^2 overflows half precision.
    The floor under the root keeps the gradient finite where x is all zeros. The arguments are those
    of `weight_sample`.
    """
    centre = F.linear(x, mean.to(x.dtype))
    with full_precision(x):
        square = wide(x).square()
        variance = F.linear(square, sigma.square().to(square.dtype))
        spread = variance.clamp_min(1e-24).sqrt() * normal_like(variance, generator)
    return centre + spread.to(centre.dtype)


SAMPLERS = {
    "weight": weight_sample,
    "flipout": flipout,
    "flipout_by_utterance": flipout_by_utterance,
    "local": local,
}


def normal_like(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return standard normal noise of the shape, device and dtype of `like`."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def by_sample(x: Tensor, weights: Tensor) -> Tensor:
    """Return x W_s^T, a different weight for each of S equal parts of the rows, in one product.

    Args:
        x: (S * M, ..., d_in), sample-major.
        weights: (S, d_out, d_in), or (1, d_out, d_in) for all rows.

    Returns:
        (S * M, ..., d_out).

    Raises:
        ValueError: The leading axis of x cannot be cut into S equal parts.
    """
    samples = len(weights)
    if samples == 1:
        return F.linear(x, weights[0])
    if x.dim() < 2 or x.shape[0] % samples:
        raise ValueError(
            f"an input of shape {tuple(x.shape)} under {samples} posterior samples: the leading "
            "axis must hold the rows of every sample, S * M of them, sample by sample"
        )
    product = torch.bmm(x.reshape(samples, -1, x.shape[-1]), weights.mT)  # (S, rows, d_out)
    return product.view(*x.shape[:-1], weights.shape[1])


def _signs(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return independent -1 / +1 with equal probability: each bit of a random number gives one."""
    size = math.prod(shape)
    words = torch.empty(-(-size // 64), dtype=torch.int64, device=like.device)
    words.random_(-(2**63), None, generator=generator)  # all 64 bits
    table = _byte_signs(like.device, like.dtype)
    signs = table.index_select(0, words.view(torch.uint8).int())  # (bytes, 8), copied row by row
    return signs.flatten()[:size].view(*shape)


def _byte_signs(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the signs that the eight bits of each byte stand for, (256, 8)."""
    table = _tables.get((device, dtype))
    if table is None:
        with torch.inference_mode(False):
            bits = torch.arange(256).unsqueeze(1) >> torch.arange(8) & 1
            table = (1 - 2 * bits).to(device, dtype)
        if type(table) is Tensor:  # a fake tensor would be of use inside its own mode only
            _tables[device, dtype] = table
    return table


_tables: dict[tuple[torch.device, torch.dtype], Tensor] = {}
