"""The adapter methods by name: their options, their layer and their hooks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from espnet_blora.adapters.config import AdapterConfig
from espnet_blora.adapters.elbo import ElboConfig
from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.adapters.methods import (
    lora_ewc,
    lora_keep,
    lora_l2sp,
    lora_xs,
    ssvd,
    sumra,
    svft,
)
from espnet_blora.adapters.methods.blora import BloraConfig, BloraLayer
from espnet_blora.adapters.methods.blora_dama import BloraDamaConfig, BloraDamaLayer
from espnet_blora.adapters.methods.dama import DamaConfig, DamaLayer
from espnet_blora.adapters.methods.hf import adalora
from espnet_blora.adapters.methods.hf import config as hf
from espnet_blora.adapters.methods.hf import methods as hf_methods
from espnet_blora.adapters.methods.lora import LoraConfig, LoraLayer
from espnet_blora.utils.mistakes import did_you_mean


@dataclass(frozen=True)
class Method:
    """One adapter method.

    Attributes:
        config: Class of its checked options; an `ElboConfig` where there is a posterior over the
            factors.
        layer: What each target Linear becomes.
        identity: Whether a fresh adapter in eval() computes what its base computes, bit for bit.
        merges: Whether W0 + `delta_weight()` computes what the factored forward computes.
        after_step: (layers, config, count of steps) -> None, run after each step of the optimiser,
            while gradients are still there; see `Adapter.follow`.
        loss_term: (model, layers, config, step) -> (term, logs): what is added to a loss per token
            in training, and what is logged. Without one it is the ELBO's KL where there is a
            posterior, else nothing.
        logs_only: Whether the term is always zero, so that any loss will do, not only one per
            token.
    """

    config: type[AdapterConfig]
    layer: type[AdapterLayer]
    identity: bool = True
    merges: bool = True
    after_step: Callable[[Mapping[str, Any], Any, int], None] | None = None
    loss_term: (
        Callable[[nn.Module, Mapping[str, Any], Any, int], tuple[Tensor, dict[str, Tensor]]] | None
    ) = None
    logs_only: bool = False

    @property
    def bayesian(self) -> bool:
        """Whether there is a posterior over the factors, and so a KL."""
        return issubclass(self.config, ElboConfig)

    @property
    def adds_to_loss(self) -> bool:
        """Whether training descends more than the model's own loss."""
        return not self.logs_only and (self.bayesian or self.loss_term is not None)


METHODS: dict[str, Method] = {
    "lora": Method(LoraConfig, LoraLayer),
    "blora": Method(BloraConfig, BloraLayer),
    "dama": Method(DamaConfig, DamaLayer),
    "blora_dama": Method(BloraDamaConfig, BloraDamaLayer),
    "ssvd": Method(ssvd.SsvdConfig, ssvd.SsvdLayer, loss_term=ssvd.log_gap, logs_only=True),
    "svft": Method(svft.SvftConfig, svft.SvftLayer),
    "lora_xs": Method(lora_xs.LoraXsConfig, lora_xs.LoraXsLayer),
    "sumra": Method(sumra.SumraConfig, sumra.SumraLayer),
    "lora_l2sp": Method(lora_l2sp.LoraL2spConfig, LoraLayer, loss_term=lora_l2sp.l2sp_term),
    "lora_ewc": Method(lora_ewc.LoraEwcConfig, lora_ewc.LoraEwcLayer, loss_term=lora_ewc.ewc_term),
    "lora_keep": Method(
        lora_keep.LoraKeepConfig, lora_keep.LoraKeepLayer, loss_term=lora_keep.keep_term
    ),
    # From Hugging Face PEFT, which the extra `peft` installs.
    "dora": Method(hf.DoraConfig, hf_methods.DoraLayer),
    "pissa": Method(hf.PissaConfig, hf_methods.PissaLayer),
    "lora_fa": Method(hf.LoraFaConfig, hf_methods.LoraFaLayer),
    "mica": Method(hf.MicaConfig, hf_methods.MicaLayer),
    "vera": Method(hf.VeraConfig, hf_methods.VeraLayer),
    "vblora": Method(hf.VbLoraConfig, hf_methods.VbLoraLayer, identity=False),
    "osf": Method(hf.OsfConfig, hf_methods.OsfLayer),
    "adalora": Method(
        hf.AdaLoraConfig,
        adalora.AdaLoraLayer,
        after_step=adalora.allocate,
        loss_term=adalora.penalty,
    ),
}
"""Every method by its name, which is `adapter` in the yaml."""


def parse_config(method: str, conf: Mapping[str, Any]) -> AdapterConfig:
    """Return the checked options of `method`.

    >>> parse_config("lora", {"rank": 8, "alpha": 16}).scaling
    2.0

    Raises:
        ValueError: The method or a key is unknown (names near misses), or a value is bad.
    """
    if method not in METHODS:
        hint = did_you_mean(method, METHODS)
        raise ValueError(f"adapter {method!r} is unknown{hint}; known: {', '.join(METHODS)}")
    if not isinstance(conf, Mapping):
        raise ValueError(f"adapter_conf is {conf!r}; allowed: a mapping of option to value")
    return METHODS[method].config.parse(conf)


def factor_names() -> frozenset[str]:
    """Return the components by which keys of an adapter layer in a state dict are known."""
    names = {name for method in METHODS.values() for name in method.layer.parameter_names}
    return frozenset(names | {"basis_ready"})
