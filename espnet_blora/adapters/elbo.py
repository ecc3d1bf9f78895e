"""The ELBO: its options, the KL divergence of the posterior, and its weight over training.

The KL is that of mean-field Gaussian posteriors from the prior N(0, p^2), in nats. Per element,
with sigma = softplus(rho):

    KL = mean^2 / (2 p^2)  +  [log p - log sigma + sigma^2 / (2 p^2) - 1/2]

The first part depends on the mean only, the second on the scale only. A frozen sigma makes the
second part a constant (+45 nats per element at rho = -50, p = 0.01), which trains nothing and would
hide the rest in every plot: it is left out unless asked for.

With `prior_std: auto` p^2 = floor^2 + mean(mean^2 + sigma^2) over a factor matrix, anew at every
step: where the ELBO, with a hyperprior exp(-n floor^2 / (2 p^2)) on the p of its n elements, has
its maximum over p (type II maximum likelihood; MacKay, Neural Computation 4, 1992). By the envelope
theorem the slope of that ELBO is the KL's at this p, so p passes no gradient. Without the floor the
KL of a point is (n / 2) log mean(mean^2) + const: minus infinity at lora_B = 0, where it starts.

Matrices of one size are computed together: a few kernels for the whole model, not per layer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import AdapterConfig, option
from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.adapters.moments import Kept, kept_moments
from espnet_blora.adapters.sampling import softplus_sigma

AUTO = "auto"
PRIORS = ("isotropic", "moments")
REDUCTIONS = ("per_matrix_mean", "global_mean", "sum_over_tokens")
SCHEDULES = ("constant", "linear", "cyclic")


def std_or_auto(where: str, key: str, value: Any) -> float | str:
    """Return the standard deviation of a prior, or `auto`, checked as the functions of `checks` do.

    Raises:
        ValueError: It is neither a number > 0 nor `auto`.
    """
    if isinstance(value, str):
        return checks.one_of(where, key, value, (AUTO, "a number > 0"))
    return checks.number(where, key, value, low=0.0, open_low=True)


@dataclass(frozen=True)
class ElboConfig(AdapterConfig):
    """Options of the ELBO, which every method with a posterior has.

    Attributes:
        prior_std: Standard deviation p of the prior N(0, p^2) of every element; `auto`: each factor
            matrix has its own, p^2 = `prior_floor`^2 + the mean of mean^2 + sigma^2 in it.
        prior_std_A: The same for lora_A alone; by default `prior_std`.
        prior_std_B: The same for lora_B alone; by default `prior_std`.
        prior_floor: For `prior_std: auto`: p of a matrix of zeros.
        beta: Weight of the KL in the loss. What is right depends on `kl_reduction`, and so on rank
            and widths.
        prior: `isotropic`, or `moments`: lora_A's prior N(0, p^2 P^-1) with P = I + prior_tau * C /
            (mean eigenvalue of C) is narrow where old inputs lie (`espnet_blora.adapters.moments`).
        keep_file: For `prior: moments`: the file that `espnet-blora moments` has written for this
            base and at least these targets. Read at the first step of training only.
        prior_tau: For `prior: moments`: how narrow it is there; 0 is isotropic.
        kl_reduction: `per_matrix_mean` (mean over each factor matrix, summed over matrices: the
            BLoRA paper's), `global_mean` (mean over all elements) or `sum_over_tokens` (sum /
            `num_tokens`: with beta 1 a true ELBO per token).
        num_tokens: Number of target tokens in the training set, for `sum_over_tokens`; another
            number weighs the KL as a training set of that size would.
        kl_dtype: `float64` or `float32`, in which the KL is computed.
        schedule: Of beta: `constant`; `linear` (0 to beta over `warmup_steps`); `cyclic` (in every
            `cycle_steps`, 0 to beta over the first part `cycle_ramp`). Steps are micro-batches.
        warmup_steps: Length of the warm-up, for `linear`.
        cycle_steps: Length of a cycle, for `cyclic`.
        cycle_ramp: Share of a cycle in which beta rises.
        log_every: Steps between two records of the statistics of the posterior.
    """

    prior_std: float | str = option(0.01, std_or_auto)
    prior_std_A: float | str | None = option(None, std_or_auto)
    prior_std_B: float | str | None = option(None, std_or_auto)
    prior_floor: float = option(0.05, checks.number, low=0.0, open_low=True)
    beta: float = option(0.5, checks.number, low=0.0)
    prior: str = option("isotropic", checks.one_of, allowed=PRIORS)
    keep_file: str | None = None
    prior_tau: float = option(3.0, checks.number, low=0.0)
    kl_reduction: str = option("per_matrix_mean", checks.one_of, allowed=REDUCTIONS)
    num_tokens: int | None = option(None, checks.integer, low=1)
    kl_dtype: str = option("float64", checks.one_of, allowed=("float32", "float64"))
    schedule: str = option("constant", checks.one_of, allowed=SCHEDULES)
    warmup_steps: int | None = option(None, checks.integer, low=1)
    cycle_steps: int | None = option(None, checks.integer, low=1)
    cycle_ramp: float = option(0.5, checks.number, low=0.0, high=1.0, open_low=True)
    log_every: int = option(100, checks.integer, low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("prior_std_A", "prior_std_B"):
            if getattr(self, key) is None:
                self._set(key, self.prior_std)
        if self.prior == "moments":
            self._check(checks.written_file, "keep_file", program="moments")
        elif self.keep_file is not None:
            raise ValueError(
                f"{self.where}: keep_file is {self.keep_file!r}, but prior is {self.prior!r}; it "
                "is used with prior: moments only: remove it"
            )
        self._check_length("kl_reduction", "sum_over_tokens", "num_tokens")
        self._check_length("schedule", "linear", "warmup_steps")
        self._check_length("schedule", "cyclic", "cycle_steps")

    def _check_length(self, key: str, choice: str, length: str) -> None:
        """Check that `length` is given with `key: choice`, and only then."""
        value = getattr(self, length)
        if getattr(self, key) == choice:
            if value is None:
                raise ValueError(
                    f"{self.where}: {key}: {choice} needs {length} (a whole number >= 1)"
                )
        elif value is not None:
            raise ValueError(
                f"{self.where}: {length} is {value!r}, but {key} is {getattr(self, key)!r}; "
                f"{length} is used with {key}: {choice} only: remove it"
            )


# ---- a prior that knows old inputs ----


class PriorRoot(NamedTuple):
    """P^1/2 of one layer, and a view through it: the KL from N(0, p^2 P^-1) is the isotropic one.

    P = D + W^T W with D diagonal and W (k, d) of low rank, so that P = R R^T with
    R = D^1/2 (I + Q diag(gain) Q^T), where Q diag(w^2) Q^T = D^-1/2 W^T W D^-1/2 and
    gain = sqrt(1 + w^2) - 1.

    Attributes:
        diagonal: Of D^1/2, (d,).
        basis: Q, (d, k).
        gain: (k,).
        columns: sqrt(P_jj), (d,).
    """

    diagonal: Tensor
    basis: Tensor
    gain: Tensor
    columns: Tensor

    @classmethod
    def of(cls, kept: Kept, tau: float) -> "PriorRoot":
        """Return the root for C of a layer's input."""
        factor, rest = kept.factor.double(), kept.rest.double()
        norms = factor.square().sum(0)  # of V's columns
        times = tau / float((norms + rest).mean())
        diagonal = (1.0 + times * rest).sqrt()
        _, scales, rows = torch.linalg.svd(times**0.5 * factor / diagonal, full_matrices=False)
        gain = (1.0 + scales.square()).sqrt() - 1.0
        columns = (1.0 + times * (norms + rest)).sqrt()
        parts = (diagonal, rows.T.contiguous(), gain, columns)
        return cls(*(part.to(kept.rest) for part in parts))

    def mean(self, mean: Tensor) -> Tensor:
        """Return mean R, as large under N(0, p^2) as `mean`, (r, d), is under N(0, p^2 P^-1)."""
        scaled = mean * self.diagonal.to(mean)
        basis = self.basis.to(mean)
        return scaled + ((scaled @ basis) * self.gain.to(mean)) @ basis.T

    def rho(self, rho: Tensor) -> Tensor:
        """Return softplus^-1(sigma sqrt(P_jj)): what KL is left of a scale, up to a constant."""
        sigma = softplus_sigma(rho) * self.columns
        return sigma + (-torch.expm1(-sigma)).log()


def load_prior(model: nn.Module, layers: Mapping[str, AdapterLayer], config: ElboConfig) -> None:
    """Give the layers whose lora_A has a posterior their `prior_root`, unless they have it.

    Raises:
        FileNotFoundError: The file of moments is not there.
        ValueError: It does not fit.
    """
    lacking: Any = {  # BloraLayers
        name: layer
        for name, layer in layers.items()
        if getattr(layer, "rho_A", None) is not None and getattr(layer, "prior_root", None) is None
    }
    if lacking:
        for name, kept in kept_moments(str(config.keep_file), model, lacking).items():
            lacking[name].prior_root = PriorRoot.of(kept, config.prior_tau)


# ---- the KL ----


Std = float | Tensor
"""Standard deviation of the prior: of all elements, or (n,) of each."""


def mean_part(mean: Tensor, prior_std: Std) -> Tensor:
    """Return the sum of mean^2 / (2 p^2) over all elements (n,)."""
    if isinstance(prior_std, Tensor):
        mean, prior_std = mean / prior_std, 1.0
    return mean.dot(mean) / (2.0 * prior_std**2)


class ScalePart(torch.autograd.Function):
    """The sum of log p - log sigma + sigma^2 / (2 p^2) - 1/2 over all elements rho (n,).

    Its slope, (sigma / p^2 - 1 / sigma) (1 - exp(-sigma)), is written out: half the passes in fp64,
    which are what the KL costs. Finite with a finite slope for any finite rho; exact where sigma is
    a normal number (rho >= -87 in fp32, -708 in fp64).
    """

    @staticmethod
    def forward(ctx: Any, rho: Tensor, prior_std: Std) -> Tensor:
        """Return the sum, 0-dim."""
        sigma = F.softplus(rho).clamp_min_(torch.finfo(rho.dtype).tiny)
        ctx.save_for_backward(sigma)
        ctx.prior_std = prior_std
        if isinstance(prior_std, Tensor):
            scaled = sigma / prior_std
            return 0.5 * scaled.dot(scaled) - scaled.log().sum() - 0.5 * len(rho)
        constant = len(rho) * (math.log(prior_std) - 0.5)
        return constant - sigma.log().sum() + sigma.dot(sigma) / (2.0 * prior_std**2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of rho, (n,)."""
        (sigma,) = ctx.saved_tensors
        if isinstance(ctx.prior_std, Tensor):
            slope = sigma.reciprocal().sub_(sigma * ctx.prior_std**-2)
        else:
            slope = sigma.reciprocal().sub_(sigma, alpha=ctx.prior_std**-2)
        return slope.mul_((-sigma).expm1_()).mul_(gradient), None


def kl_terms(
    layers: Sequence[AdapterLayer], config: ElboConfig, constants: bool = False
) -> dict[str, Tensor]:
    """Return {"kl_A", "kl_B"}: 0-dim, nats, reduced as configured, differentiable.

    Args:
        layers: All layers of the adapter. A factor without a scale (lora_B with
            `bayesian_factors: A`, a frozen basis) is not part of the posterior.
        config: The options of the ELBO.
        constants: Also count what no parameter can change, the scale part of a frozen sigma_B
            (infinite in the limit of a point; here log p + 50 per element at the default rho).
    """
    # The matrices that count, by factor: means (the scale exists), scales (it is trained).
    dtype = torch.float64 if config.kl_dtype == "float64" else torch.float32
    means, scales = {}, {}
    for letter in ("A", "B"):
        rho, std = f"rho_{letter}", getattr(config, f"prior_std_{letter}")
        seen: Any = [
            (
                _seen(layer, f"lora_{letter}"),
                _seen(layer, rho),
                constants or rho in layer._parameters,
            )
            for layer in layers
            if getattr(layer, rho) is not None
        ]
        stds = [_own_std(m, r, config.prior_floor) if std == AUTO else std for m, r, _ in seen]
        means[letter] = [(mean, p) for (mean, _, _), p in zip(seen, stds, strict=True)]
        scales[letter] = [(r, p) for (_, r, counts), p in zip(seen, stds, strict=True) if counts]
    total = sum(mean.numel() for group in means.values() for mean, _ in group)

    # Each part of each factor, reduced and added up.
    terms = {}
    for letter in ("A", "B"):
        term = torch.zeros((), dtype=dtype, device=layers[0].weight.device)
        for matrices, part in ((means[letter], mean_part), (scales[letter], ScalePart.apply)):
            term = term + _reduced(matrices, part, config, total, dtype)
        terms[f"kl_{letter}"] = term
    return terms


@torch.no_grad()
def _own_std(mean: Tensor, rho: Tensor, floor: float) -> Tensor:
    """Return p of one matrix, 0-dim: the root of floor^2 + mean(mean^2 + sigma^2)."""
    square = mean.double().square().mean() + softplus_sigma(rho).double().square().mean()
    return (floor**2 + square).sqrt()


def _seen(layer: AdapterLayer, name: str) -> Tensor:
    """Return a mean or rho as an isotropic prior is to see it."""
    value: Tensor = getattr(layer, name)
    root: PriorRoot | None = getattr(layer, "prior_root", None)
    if root is None or not name.endswith("A"):
        return value
    return root.rho(value) if name == "rho_A" else root.mean(value)


def _reduced(
    matrices: Sequence[tuple[Tensor, Std]],
    part: Callable[[Tensor, Std], Tensor],
    config: ElboConfig,
    total: int,
    dtype: torch.dtype,
) -> Tensor | float:
    """Return the sum over matrices, with their p, of weight(matrix) * `part`."""
    by_size: dict[int, list[tuple[Tensor, Std]]] = {}
    for matrix, std in matrices:
        by_size.setdefault(matrix.numel(), []).append((matrix.flatten(), std))
    result: Tensor | float = 0.0
    for size, group in by_size.items():
        elements = torch.cat([matrix for matrix, _ in group]).to(dtype)  # (of this size * size,)
        own = [std for _, std in group if isinstance(std, Tensor)]  # all of them, or none
        std = torch.stack(own).to(dtype).repeat_interleave(size) if own else group[0][1]
        result = result + part(elements, std) * _weight(config, size, total)
    return result


def _weight(config: ElboConfig, size: int, total: int) -> float:
    """Return the weight of one element of a matrix of `size` elements, of `total` in the model."""
    if config.kl_reduction == "per_matrix_mean":
        return 1.0 / size
    if config.kl_reduction == "global_mean":
        return 1.0 / total
    assert config.num_tokens is not None  # checked with kl_reduction
    return 1.0 / config.num_tokens


# ---- its weight ----


def beta_at(config: ElboConfig, step: int) -> float:
    """Return beta_t at micro-batch `step` (the first one trained on is 1).

    constant: beta. linear: beta * min(1, step / warmup_steps). cyclic (Fu et al. 2019,
    arXiv 1903.10145): with p = (step - 1) mod cycle_steps + 1,
    beta * min(1, p / (cycle_ramp * cycle_steps)).

    >>> config = ElboConfig(beta=0.4, schedule="linear", warmup_steps=4)
    >>> [beta_at(config, step) for step in (0, 1, 2, 4, 5)]
    [0.0, 0.1, 0.2, 0.4, 0.4]
    """
    if config.warmup_steps is not None:  # given with the linear schedule only
        return config.beta * min(1.0, step / config.warmup_steps)
    if config.cycle_steps is not None:  # given with the cyclic schedule only
        place = (step - 1) % config.cycle_steps + 1 if step > 0 else 0
        return config.beta * min(1.0, place / (config.cycle_ramp * config.cycle_steps))
    return config.beta
