"""The adapter methods this package knows: their options, their layer and their hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import AdapterConfig, BloraConfig, LoraConfig
from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.adapters.methods import lora_ewc, lora_l2sp, lora_xs, ssvd, sumra, svft
from espnet_blora.adapters.methods.blora import BloraLayer
from espnet_blora.adapters.methods.blora_dama import BloraDamaConfig, BloraDamaLayer
from espnet_blora.adapters.methods.dama import DamaConfig, DamaLayer, plan_by_depth
from espnet_blora.adapters.methods.hf import adalora
from espnet_blora.adapters.methods.hf import config as hf
from espnet_blora.adapters.methods.hf import methods as hf_methods
from espnet_blora.adapters.methods.lora import LoraLayer

if TYPE_CHECKING:
    from espnet_blora.adapters.adapter import Adapter


def alike(
    model: nn.Module, linears: Mapping[str, nn.Linear], config: AdapterConfig
) -> dict[str, AdapterConfig]:
    """Give every target Linear the options as they are."""
    return dict.fromkeys(linears, config)


@dataclass(frozen=True)
class Method:
    """One adapter method.

    config: its checked options. layer: what each target Linear becomes.
    bayesian: there is a posterior over the factors, and so a KL (the layer is a BloraLayer).
    identity: a fresh adapter in eval() computes what its base computes, bit for bit.
    merges: W0 + `delta_weight()` computes what the factored forward computes.
    plan: (model, {name: target Linear}, config) -> {name: that layer's own config}; a Linear left
        out of the result gets no adapter. It reads names and sizes only, never weights.
    after_step: (adapter, count of steps) -> None, run after each step of the optimiser, while
        gradients are still there; see `Adapter.follow`.
    loss_term: adapter -> (term, logs): what is added to a loss per token in training, and what is
        logged. Without one it is the ELBO's KL where the method is Bayesian, else nothing.
    logs_only: the term is always zero, so any loss will do, not only one per token.
    """

    config: type[AdapterConfig]
    layer: type[AdapterLayer]
    bayesian: bool = False
    identity: bool = True
    merges: bool = True
    plan: Callable[[nn.Module, Mapping[str, nn.Linear], Any], dict[str, Any]] = alike
    after_step: Callable[[Adapter, int], None] | None = None
    loss_term: Callable[[Adapter], tuple[Tensor, dict[str, Tensor]]] | None = None
    logs_only: bool = False

    @property
    def adds_to_loss(self) -> bool:
        """Whether training descends more than the model's own loss."""
        return not self.logs_only and (self.bayesian or self.loss_term is not None)


METHODS: dict[str, Method] = {
    "lora": Method(LoraConfig, LoraLayer),
    "blora": Method(BloraConfig, BloraLayer, bayesian=True),
    "dama": Method(DamaConfig, DamaLayer, plan=plan_by_depth),
    "blora_dama": Method(BloraDamaConfig, BloraDamaLayer, bayesian=True, plan=plan_by_depth),
    "ssvd": Method(
        ssvd.SsvdConfig, ssvd.SsvdLayer, plan=ssvd.plan, loss_term=ssvd.log_gap, logs_only=True
    ),
    "svft": Method(svft.SvftConfig, svft.SvftLayer, plan=svft.plan),
    "lora_xs": Method(lora_xs.LoraXsConfig, lora_xs.LoraXsLayer, plan=lora_xs.plan),
    "sumra": Method(sumra.SumraConfig, sumra.SumraLayer, plan=sumra.plan),
    "lora_l2sp": Method(lora_l2sp.LoraL2spConfig, LoraLayer, loss_term=lora_l2sp.l2sp_term),
    "lora_ewc": Method(lora_ewc.LoraEwcConfig, lora_ewc.LoraEwcLayer, loss_term=lora_ewc.ewc_term),
    # From Hugging Face PEFT, which the extra `peft` installs.
    "dora": Method(hf.DoraConfig, hf_methods.DoraLayer),
    "pissa": Method(hf.PissaConfig, hf_methods.PissaLayer, plan=hf.plan_svd),
    "lora_fa": Method(hf.LoraFaConfig, hf_methods.LoraFaLayer),
    "mica": Method(hf.MicaConfig, hf_methods.MicaLayer, plan=hf.plan_svd),
    "vera": Method(hf.VeraConfig, hf_methods.VeraLayer, plan=hf.plan_vera),
    "vblora": Method(hf.VbLoraConfig, hf_methods.VbLoraLayer, identity=False, plan=hf.plan_vblora),
    "osf": Method(hf.OsfConfig, hf_methods.OsfLayer, plan=hf.plan_osf),
    "adalora": Method(
        hf.AdaLoraConfig,
        adalora.AdaLoraLayer,
        after_step=adalora.allocate,
        loss_term=adalora.penalty,
    ),
}


def parse_config(method: str, conf: Mapping[str, Any]) -> AdapterConfig:
    """Return the checked options of `method`.

    Raises ValueError for an unknown method or key (naming near misses) and for a bad value.
    """
    if method not in METHODS:
        near = checks.near_misses(str(method), METHODS)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise ValueError(f"adapter {method!r} is unknown{hint}; known: {', '.join(METHODS)}")
    if not isinstance(conf, Mapping):
        raise ValueError(f"adapter_conf is {conf!r}; allowed: a mapping of option to value")
    return METHODS[method].config.parse(conf)


def factor_names() -> frozenset[str]:
    """Return the components by which keys of an adapter layer in a state dict are known."""
    names = {name for m in METHODS.values() for name in m.layer.parameter_names}
    return frozenset(names | {"basis_ready"})
