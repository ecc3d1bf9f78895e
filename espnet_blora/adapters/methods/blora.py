"""BLoRA (arXiv 2510.18723): LoRA whose factors are mean-field Gaussians.

The means are `lora_A` and `lora_B` themselves, so the posterior mean is a LoRA; the scales
sigma = softplus(rho) stand beside them as `rho_A` and `rho_B`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import option
from espnet_blora.adapters.context import Context, Draws, mix, noise_generator, seeded
from espnet_blora.adapters.elbo import ElboConfig
from espnet_blora.adapters.methods.lora import LoraConfig, LoraLayer
from espnet_blora.adapters.sampling import SAMPLERS, by_sample, normal_like, softplus_sigma

Rho = float | tuple[float, float]
"""Start of rho: a number, or (low, high) of a uniform distribution."""

# sigma = softplus(rho) lies in [0.0041, 0.0110] at the start, mean 0.0070 (prior 0.01)
RHO_INIT = (-5.5, -4.5)
# sigma = 2e-22: the factor is a point, not a distribution
RHO_POINT = -50.0
# below this rho, sigma < 1e-12 is far below the resolution of the means
RHO_DRAWN = -27.6
# below this rho, d sigma / d rho = sigmoid(rho) < 5e-5 and no optimiser moves sigma
RHO_TRAINABLE = -10.0

# What BLoRA (arXiv 2510.18723) reports. Its alpha and dropout are not in the paper; the authors'
# program has alpha 64, twice the rank, which is the default here. beta is the weight of the
# per-matrix-mean KL against a per-token loss.
_PAPER = {
    "target_modules": ["query", "key"],
    "rank": 32,
    "dropout_rate": 0.0,
    "sampling": "flipout",
    "prior_std": 0.01,
    "beta": 0.5,
    "kl_reduction": "per_matrix_mean",
    "schedule": "constant",
}
# What the authors' program can do: query and value, never key. Its command line starts from a KL
# weight of 1e-4; the paper's 0.5 is kept here.
_CODE = {**_PAPER, "target_modules": ["query", "value"], "dropout_rate": 0.05}
# The prior acts on the update as a penalty of k ||B A||_* (nuclear norm; the least of
# k/2 (||A||^2 + ||B||^2) over its factors), with k = beta * (weight per element) / prior_std^2.
# Where k exceeds scaling * ||d loss / d W||_2, zero is a minimum of the loss. A mean per matrix
# makes k fall with rank and width. Here k is 0.002 at every size, what tuning chose on mini_cs.
_ANY_SIZE = {
    "target_modules": ["query", "key"],
    "rank": 32,
    "prior_std": 0.05,
    "beta": 1.0,
    "kl_reduction": "sum_over_tokens",
    "num_tokens": 200_000,
}
PRESETS: dict[str, dict[str, Any]] = {"any_size": _ANY_SIZE, "paper": _PAPER, "code": _CODE}


def trained_rho(where: str, key: str, value: Any, otherwise: str = "") -> Rho:
    """Return the start of a trained rho, checked as the functions of `checks` do.

    Raises:
        ValueError: It is not a start of rho, or so low that sigma would stand still.
    """
    rho = rho_start(where, key, value)
    if (rho[0] if isinstance(rho, tuple) else rho) < RHO_TRAINABLE:
        raise ValueError(
            f"{where}: {key} is {rho!r} and trained, but there d sigma / d rho vanishes; "
            f"allowed: >= {RHO_TRAINABLE:g}{otherwise}"
        )
    return rho


def rho_start(where: str, key: str, value: Any) -> Rho:
    """Return the start of a rho, checked as the functions of `checks` do.

    Raises:
        ValueError: It is neither a number in [-80, 20] nor a [low, high] pair of them.
    """
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ValueError(f"{where}: {key} is {value!r}; allowed: a number or [low, high]")
        low, high = (checks.number(where, key, v, -80.0, 20.0) for v in value)
        if low > high:
            raise ValueError(f"{where}: {key} is {value!r}; allowed: [low, high] with low <= high")
        return (low, high)
    return checks.number(where, key, value, -80.0, 20.0)


@dataclass(frozen=True)
class BloraConfig(LoraConfig, ElboConfig):
    """Options of `blora`: a LoRA with a Gaussian posterior over its factors, trained by the ELBO.

    Attributes:
        preset: `any_size` (a KL that trains at any width and rank: the recipes' default), `paper`
            (what arXiv 2510.18723 reports; it collapses on small models) or `code` (what the
            authors' program does); options given beside it override it.
        bayesian_factors: `AB`, or `A` (lora_B is then an ordinary weight without a KL, as in BLoB).
        sampling: How a training forward draws: `weight` (one draw per forward: the cheapest),
            `flipout` (one draw, signs per position: what the authors' program and its presets
            use), `flipout_by_utterance` (one draw, signs per utterance: nearly as cheap as
            `weight`) or `local` (local reparameterisation: noise on the outputs).
        rho_init_A: Start of rho of lora_A, with sigma = softplus(rho): a number, or [low, high] for
            a uniform start.
        rho_init_B: The same of lora_B; by default as `rho_init_A`'s default where sigma of lora_B
            is trained, else a point.
        train_sigma_B: Whether sigma of lora_B is trained; false keeps it where `rho_init_B` puts it
            (a buffer).
        seed: Of the noise.
    """

    method: ClassVar[str] = "blora"
    structural: ClassVar[tuple[str, ...]] = (*LoraConfig.structural, "bayesian_factors")

    preset: str | None = option(None, checks.one_of, allowed=PRESETS)
    bayesian_factors: str = option("AB", checks.one_of, allowed=("A", "AB"))
    sampling: str = option("weight", checks.one_of, allowed=SAMPLERS)
    rho_init_A: float | tuple[float, float] = option(RHO_INIT, trained_rho)
    rho_init_B: Rho | None = None
    train_sigma_B: bool = option(False, checks.flag)
    seed: int = option(0, checks.integer, low=0)

    @classmethod
    def parse(cls, conf: Mapping[str, Any]) -> Self:
        """Return the options; keys given beside `preset` override it.

        Raises:
            ValueError: A key is unknown, or a value is bad.
        """
        checks.reject_unknown(f"adapter_conf of {cls.method}", conf, cls.options())
        preset = conf.get("preset")
        values = {**PRESETS.get(preset, {})} if isinstance(preset, str) else {}
        if conf.get("kl_reduction") not in (None, "sum_over_tokens"):
            values.pop("num_tokens", None)  # it belongs to the preset's reduction
        return cls(**{**values, **conf})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bayesian_factors == "A":
            if self.train_sigma_B or self.rho_init_B is not None:
                raise ValueError(
                    f"{self.where}: train_sigma_B and rho_init_B need bayesian_factors: AB; "
                    "with A, lora_B has no sigma: remove them"
                )
            return
        if self.rho_init_B is None:
            self._set("rho_init_B", RHO_INIT if self.train_sigma_B else RHO_POINT)
        if self.train_sigma_B:
            self._check(trained_rho, "rho_init_B", otherwise=", or train_sigma_B: false")
        else:
            self._check(rho_start, "rho_init_B")

    @property
    def noisy_B(self) -> bool:
        """Whether lora_B is drawn: its sigma is trained, or not negligible (>= 1e-12)."""
        if self.rho_init_B is None:
            return False
        high = self.rho_init_B[1] if isinstance(self.rho_init_B, tuple) else self.rho_init_B
        return self.train_sigma_B or high > RHO_DRAWN


class BloraLayer(LoraLayer):
    """y = base(x) + (alpha / r) * (x A^T) B^T, A ~ N(lora_A, sigma_A^2), B ~ N(lora_B, sigma_B^2).

    train(): one draw per forward, by `sampling`. eval(): the posterior mean. Inside
    `adapter.sampling()` eval() uses one draw of the weights that lasts as long as that context, and
    inside `adapter.sampling_batch()` one for each of S equal parts of the rows.

    Attributes:
        rho_A: (r, d_in); None where lora_A is a frozen basis.
        rho_B: (d_out, r), a buffer when sigma_B is not trained; None when lora_B has no sigma.
        noisy_B: Whether B is drawn. A frozen sigma_B under 1e-12 is not.
    """

    parameter_names = ("lora_A", "lora_B", "rho_A", "rho_B")

    rho_A: Tensor | None
    rho_B: Tensor | None
    sampling: str
    noisy_B: bool

    def start(self, config: Any, context: Context, index: int) -> None:
        """Add the factors with their scales."""
        super().start(config, context, index)
        self.sampling = config.sampling
        self.noisy_B = config.noisy_B
        self.rho_A = nn.Parameter(self._rho(self.lora_A, config.rho_init_A, 0))
        if config.rho_init_B is None:
            self.register_buffer("rho_B", None)
        elif config.train_sigma_B:
            self.rho_B = nn.Parameter(self._rho(self.lora_B, config.rho_init_B, 1))
        else:
            self.register_buffer("rho_B", self._rho(self.lora_B, config.rho_init_B, 1))
        self._mark()

    def _rho(self, mean: Tensor, init: Rho, factor: int) -> Tensor:
        """Return the start of rho: constant or uniform, the same on every rank and device."""
        if not isinstance(init, tuple):
            return torch.full_like(mean, init, requires_grad=False)
        if mean.is_meta:
            return torch.empty_like(mean, requires_grad=False)
        generator = torch.Generator().manual_seed(mix(self.context.seed, -1 - factor, self.index))
        rho = torch.empty(mean.shape, dtype=mean.dtype).uniform_(*init, generator=generator)
        return rho.to(mean.device)

    def _mark(self) -> None:
        for name in ("rho_A", "rho_B"):
            rho = self._parameters.get(name)
            if rho is not None:  # decay would pull sigma towards softplus(0) = 0.69
                rho._no_weight_decay = True  # type: ignore[attr-defined]

    def sigma_A(self) -> Tensor | None:
        """Return the posterior scale of lora_A, (r, d_in); None when lora_A has none."""
        return None if self.rho_A is None else softplus_sigma(self.rho_A)

    def sigma_B(self) -> Tensor | None:
        """Return the posterior scale of lora_B, (d_out, r); None when lora_B has none."""
        return None if self.rho_B is None else softplus_sigma(self.rho_B)

    def _posterior(self) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]:
        """Return (mean, sigma) of A and of B; sigma is None where the factor is not drawn."""
        sigma_B = self.sigma_B() if self.noisy_B else None
        return (self.lora_A, self.sigma_A()), (self.lora_B, sigma_B)

    def update(self, x: Tensor) -> Tensor:
        """Return (x A^T) B^T with drawn factors, or with their means in eval()."""
        if self.context.draws is not None:
            return self._drawn_update(x, self.context.draws)
        if not self.training:
            return super().update(x)
        draw = SAMPLERS[self.sampling]
        generator = noise_generator(self.context, self.index, x.device)
        output = self._dropout(x)  # (..., d_in), then (..., r), then (..., d_out)
        for mean, sigma in self._posterior():
            if sigma is None:
                output = F.linear(output, mean.to(output.dtype))
            else:
                output = draw(output, mean, sigma, generator)
        return output

    def _drawn_update(self, x: Tensor, draws: Draws) -> Tensor:
        """Return (x A_s^T) B_s^T, with s = row // M for the S * M rows of x."""
        if self.training:
            raise ValueError(
                "drawn weights are for evaluation, and this model is in train(), which draws its "
                "own: call model.eval(), or leave adapter.sampling()"
            )
        key = self.index, x.dtype, x.device
        if key not in draws.kept:
            draws.kept[key] = self._draw(draws, x)
        down, up = draws.kept[key]  # (S, r, d_in), (S, d_out, r)
        return by_sample(by_sample(x, down), up)

    @torch.inference_mode(False)  # so that what is kept serves any forward
    @torch.no_grad()
    def _draw(self, draws: Draws, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (S, r, d_in) and B (S, d_out, r) as x is; a factor not drawn is (1, ...).

        The CPU draws, so that a seed means the same numbers on every device.
        """
        generators = [seeded(torch.device("cpu"), seed, self.index) for seed in draws.seeds]
        drawn = []
        for mean, sigma in self._posterior():
            if sigma is None:
                drawn.append(mean.unsqueeze(0).to(x.dtype))
            else:
                like = sigma.cpu()
                noise = torch.stack([normal_like(like, generator) for generator in generators])
                noise = noise.to(sigma.device)
                drawn.append((mean + draws.spread * sigma * noise).to(x.dtype))
        return drawn[0], drawn[1]
