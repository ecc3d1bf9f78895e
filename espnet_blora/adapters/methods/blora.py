"""BLoRA (arXiv 2510.18723): LoRA whose factors are mean-field Gaussians.

The means are `lora_A` and `lora_B` themselves, so the posterior mean is a LoRA; the scales
sigma = softplus(rho) stand beside them as `rho_A` and `rho_B`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_blora.adapters.config import BloraConfig
from espnet_blora.adapters.context import Context, Draws, mix, noise_generator, seeded
from espnet_blora.adapters.methods.lora import LoraLayer
from espnet_blora.adapters.sampling import SAMPLERS, by_sample, normal_like, softplus_sigma


class BloraLayer(LoraLayer):
    """y = base(x) + (alpha / r) * (x A^T) B^T, A ~ N(lora_A, sigma_A^2), B ~ N(lora_B, sigma_B^2).

    train(): one draw per forward, by `sampling`. eval(): the posterior mean. Inside
    `adapter.sampling()` eval() uses one draw of the weights that lasts as long as that context, and
    inside `adapter.sampling_batch()` one for each of S equal parts of the rows.
    rho_A: (r, d_in); rho_B: (d_out, r), a buffer when sigma_B is not trained. A frozen sigma_B
    under 1e-12 is not drawn: it is far below the resolution of the means.
    """

    parameter_names = ("lora_A", "lora_B", "rho_A", "rho_B")

    sampling: str
    noisy_B: bool

    def start(self, config: BloraConfig, context: Context, index: int) -> None:
        """Add the factors with their scales."""
        super().start(config, context, index)
        self.sampling = config.sampling
        self.noisy_B = config.noisy_B
        self.rho_A = nn.Parameter(self._rho(self.lora_A, config.rho_init_A, 0))
        if config.rho_init_B is None:
            self.register_buffer("rho_B", None)
        else:
            rho_b = self._rho(self.lora_B, config.rho_init_B, 1)
            if config.train_sigma_B:
                self.rho_B = nn.Parameter(rho_b)
            else:
                self.register_buffer("rho_B", rho_b)
        self._mark()

    def _rho(self, mean: Tensor, init: float | tuple[float, float], factor: int) -> Tensor:
        """Return the start of rho: constant or uniform, the same on every rank and device."""
        if isinstance(init, float):
            return torch.full_like(mean, init, requires_grad=False)
        if mean.is_meta:
            return torch.empty_like(mean, requires_grad=False)
        generator = torch.Generator().manual_seed(mix(self.context.seed, -1 - factor, self.index))
        rho = torch.empty(mean.shape, dtype=mean.dtype).uniform_(*init, generator=generator)
        return rho.to(mean.device)

    def _mark(self) -> None:
        for name in ("rho_A", "rho_B"):
            rho = self._parameters.get(name)
            if rho is not None:
                rho._no_weight_decay = True  # decay would pull sigma towards softplus(0) = 0.69

    def sigma_A(self) -> Tensor | None:
        """Return the posterior scale of lora_A, (r, d_in); None when lora_A has none."""
        return None if self.rho_A is None else softplus_sigma(self.rho_A)

    def sigma_B(self) -> Tensor | None:
        """Return the posterior scale of lora_B, (d_out, r); None when lora_B has none."""
        return None if self.rho_B is None else softplus_sigma(self.rho_B)

    def update(self, x: Tensor) -> Tensor:
        """Return (x A^T) B^T with drawn factors, or with their means in eval()."""
        if self.context.draws is not None:
            return self._drawn_update(x, self.context.draws)
        if not self.training:
            return super().update(x)
        draw = SAMPLERS[self.sampling]
        generator = noise_generator(self.context, self.index, x.device)
        x = self._dropout(x)
        if self.rho_A is None:
            low = F.linear(x, self.lora_A.to(x.dtype))
        else:
            low = draw(x, self.lora_A, self.sigma_A(), generator)
        if self.noisy_B:
            return draw(low, self.lora_B, self.sigma_B(), generator)
        return F.linear(low, self.lora_B.to(low.dtype))

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
        down, up = draws.kept[key]
        return by_sample(by_sample(x, down), up)

    @torch.inference_mode(False)  # so that what is kept serves any forward
    @torch.no_grad()
    def _draw(self, draws: Draws, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (S, r, d_in) and B (S, d_out, r), as x is; one without a scale is (1, ...)."""
        generators = [seeded(x.device, seed, self.index) for seed in draws.seeds]
        drawn = []
        for mean, sigma in (
            (self.lora_A, self.sigma_A()),
            (self.lora_B, self.sigma_B() if self.noisy_B else None),
        ):
            if sigma is None:
                drawn.append(mean.unsqueeze(0).to(x.dtype))
            else:
                noise = torch.stack([normal_like(sigma, generator) for generator in generators])
                drawn.append((mean + draws.spread * sigma * noise).to(x.dtype))
        return drawn[0], drawn[1]
