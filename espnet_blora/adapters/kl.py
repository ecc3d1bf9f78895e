"""KL divergence, in nats, of mean-field Gaussian posteriors from N(0, prior_std^2).

Per element, with sigma = softplus(rho):
    KL = mean^2 / (2 p^2)  +  [log p - log sigma + sigma^2 / (2 p^2) - 1/2]
The first part depends on the mean only, the second on the scale only. A frozen sigma makes the
second a constant (+45 nats an element at rho = -50, p = 0.01), which trains nothing and would
drown the rest in every plot: it is left out unless asked for.

Matrices of one size are computed together: a few kernels for the whole model, not per layer.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from espnet_blora.adapters.blora import BloraLayer
from espnet_blora.adapters.config import BloraConfig


def log_softplus(rho: Tensor) -> Tensor:
    """Return log(log(1 + exp(rho))), finite with finite gradients for every finite rho.

    Below -18, log(1 + e) = e - e^2/2 + ... with e = exp(rho), so the result is rho - e/2 up to
    1e-16.
    """
    low = rho < -18.0
    safe = torch.where(low, torch.zeros_like(rho), rho)
    return torch.where(low, rho - 0.5 * rho.clamp_max(0.0).exp(), F.softplus(safe).log())


def mean_part(mean: Tensor, prior_std: float) -> Tensor:
    """Return mean^2 / (2 p^2), elementwise."""
    return mean.square() / (2.0 * prior_std**2)


def scale_part(rho: Tensor, prior_std: float) -> Tensor:
    """Return log p - log sigma + sigma^2 / (2 p^2) - 1/2, elementwise, sigma = softplus(rho)."""
    sigma = F.softplus(rho)
    constant = math.log(prior_std) - 0.5
    return constant - log_softplus(rho) + sigma.square() / (2.0 * prior_std**2)


def kl_terms(
    layers: Sequence[BloraLayer], config: BloraConfig, constants: bool = False
) -> dict[str, Tensor]:
    """Return {"kl_A", "kl_B"}: 0-dim, nats, reduced as configured, differentiable.

    constants: also count what no parameter can change, the scale part of a frozen sigma_B
    (infinite in the limit of a point; here log p + 50 an element at the default rho). With
    `bayesian_factors: A`, kl_B is 0.
    """
    dtype = torch.float64 if config.kl_dtype == "float64" else torch.float32
    downs = [layer.lora_A for layer in layers]
    ups = [layer.lora_B for layer in layers] if config.bayesian_factors == "AB" else []
    scales_a = [layer.rho_A for layer in layers]
    scales_b = [layer.rho_B for layer in layers] if ups else []
    if not (config.train_sigma_B or constants):
        scales_b = []
    total = sum(m.numel() for m in (*downs, *ups))
    kl_a = _reduced(downs, mean_part, config.prior_std_A, config, total, dtype)
    kl_a = kl_a + _reduced(scales_a, scale_part, config.prior_std_A, config, total, dtype)
    kl_b = torch.zeros((), dtype=dtype, device=kl_a.device)
    for matrices, part in ((ups, mean_part), (scales_b, scale_part)):
        if matrices:
            kl_b = kl_b + _reduced(matrices, part, config.prior_std_B, config, total, dtype)
    return {"kl_A": kl_a, "kl_B": kl_b}


def _reduced(matrices, part, prior_std: float, config: BloraConfig, total: int, dtype) -> Tensor:
    """Return the sum over matrices of weight(matrix) * sum over elements of `part`."""
    by_size: dict[int, list[Tensor]] = {}
    for matrix in matrices:
        by_size.setdefault(matrix.numel(), []).append(matrix.flatten())
    result = None
    for size, group in by_size.items():
        value = part(torch.cat(group).to(dtype), prior_std).sum() * _weight(config, size, total)
        result = value if result is None else result + value
    return result


def _weight(config: BloraConfig, size: int, total: int) -> float:
    if config.kl_reduction == "per_matrix_mean":
        return 1.0 / size
    if config.kl_reduction == "global_mean":
        return 1.0 / total
    return 1.0 / config.num_tokens
