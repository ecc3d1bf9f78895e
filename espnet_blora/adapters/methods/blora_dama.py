"""BLoRA with DAMA's ranks by depth: a posterior over all that is trained, and nothing else.

Early and late layers are those of `blora`: Gaussians over lora_A and lora_B. In the middle layers
lora_A is a frozen basis, a point without a prior, and the posterior is over lora_B alone, whose
scale is trained there: it is the only place where that layer can be uncertain. The KL is reduced
over what has a posterior, so with `per_matrix_mean` a middle layer adds the mean over its lora_B.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from torch import nn

from espnet_blora.adapters.config import PER_LAYER, option
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.methods.blora import RHO_INIT, BloraConfig, BloraLayer, trained_rho
from espnet_blora.adapters.methods.dama import DamaConfig, DamaLayer


@dataclass(frozen=True)
class BloraDamaConfig(DamaConfig, BloraConfig):
    """Options of `blora_dama`: those of `dama` and those of `blora`, without its rank and presets.

    Attributes:
        bayesian_factors: As of `blora`, in early and late layers.
        train_sigma_B: As of `blora`, in early and late layers.
        rho_init_B: As of `blora`, in early and late layers.
        rho_init_mid: Start of the trained scale of lora_B in the middle layers, as `rho_init_A`.
    """

    method: ClassVar[str] = "blora_dama"
    structural: ClassVar[tuple[str, ...]] = (*DamaConfig.structural, "bayesian_factors")

    preset: str | None = field(default=None, metadata=PER_LAYER)
    rho_init_mid: float | tuple[float, float] = option(RHO_INIT, trained_rho)

    def at(self, rank: int, middle: bool) -> Self:
        """Return the options of one Linear; on a frozen lora_A, a scale of lora_B is trained."""
        config = super().at(rank, middle)
        if not middle or self.train_mid_A:
            return config
        return replace(
            config, bayesian_factors="AB", train_sigma_B=True, rho_init_B=self.rho_init_mid
        )


class BloraDamaLayer(DamaLayer, BloraLayer):
    """A BLoRA layer; on a frozen lora_A the posterior is over lora_B alone."""

    def start(self, config: Any, context: Context, index: int) -> None:
        """Add the factors with their scales."""
        super().start(config, context, index)
        if not isinstance(self.lora_A, nn.Parameter):
            del self.rho_A
            self.register_buffer("rho_A", None)
