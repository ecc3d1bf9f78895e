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

from espnet_blora.adapters.config import BloraConfig
from espnet_blora.adapters.methods.blora import BloraLayer


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
    (infinite in the limit of a point; here log p + 50 an element at the default rho). A factor
    without a scale (lora_B with `bayesian_factors: A`, a frozen basis) is no part of the posterior.
    """
    dtype = torch.float64 if config.kl_dtype == "float64" else torch.float32
    means, scales = {}, {}
    for letter in ("A", "B"):
        bayesian = [layer for layer in layers if getattr(layer, f"rho_{letter}") is not None]
        means[letter] = [getattr(layer, f"lora_{letter}") for layer in bayesian]
        counted = [la for la in bayesian if constants or f"rho_{letter}" in la._parameters]
        scales[letter] = [getattr(layer, f"rho_{letter}") for layer in counted]
    total = sum(mean.numel() for group in means.values() for mean in group)
    terms = {}
    for letter, prior_std in (("A", config.prior_std_A), ("B", config.prior_std_B)):
        term = torch.zeros((), dtype=dtype, device=layers[0].weight.device)
        for matrices, part in ((means[letter], mean_part), (scales[letter], scale_part)):
            if matrices:
                term = term + _reduced(matrices, part, prior_std, config, total, dtype)
        terms[f"kl_{letter}"] = term
    return terms


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


def beta_at(config: BloraConfig, step: int) -> float:
    """Return beta_t at micro-batch `step` (the first one trained on is 1).

    constant: beta. linear: beta * min(1, step / warmup_steps). cyclic (Fu et al. 2019,
    arXiv 1903.10145): with p = (step - 1) mod cycle_steps + 1,
    beta * min(1, p / (cycle_ramp * cycle_steps)).
    """
    if config.schedule == "linear":
        return config.beta * min(1.0, step / config.warmup_steps)
    if config.schedule == "cyclic":
        place = (step - 1) % config.cycle_steps + 1 if step > 0 else 0
        return config.beta * min(1.0, place / (config.cycle_ramp * config.cycle_steps))
    return config.beta
