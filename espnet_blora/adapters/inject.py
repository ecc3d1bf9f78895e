"""Put an adapter on a model: freeze it, extend its target Linears, register the state and hooks."""

import logging
from collections.abc import Mapping

from torch import nn

from espnet_blora.adapters.adapter import Adapter, get_adapter
from espnet_blora.adapters.config import AdapterConfig
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.fingerprint import base_names
from espnet_blora.adapters.layer import AdapterLayer, extend
from espnet_blora.adapters.load_hooks import advance_step, check_load, refresh_state
from espnet_blora.adapters.registry import METHODS, parse_config
from espnet_blora.adapters.state import STATE_NAME, AdapterState
from espnet_blora.adapters.targets import find_targets

logger = logging.getLogger(__name__)


def add_adapter(model: nn.Module, method: str, **conf) -> Adapter:
    """Put a fresh adapter on `model`, in place, and freeze everything else.

    The model computes what it computed before, bit for bit, until the adapter is trained. `conf`
    takes the keys of the yaml's adapter_conf: for `lora` rank, alpha, dropout_rate and
    target_modules; of any method, the fields of its `METHODS[method].config`.

    Call the wrapped model itself in training (`model(...)`), once per micro-batch: that is what
    moves the noise and the schedule on. A loop that calls parts of the model instead calls
    `adapter.advance()` once per micro-batch.

    Raises ValueError for an unknown method, key, value or target, a target that is not a Linear,
    and a model that already carries an adapter; the model is then unchanged.
    """
    config = parse_config(method, conf)
    check_fresh(model)
    return inject(model, method, config, plan_layers(model, method, config))


def plan_layers(
    model: nn.Module, method: str, config: AdapterConfig
) -> dict[str, tuple[nn.Linear, AdapterConfig]]:
    """Return {name: (target Linear, its own options)} in model order.

    Raises ValueError when a target names nothing, or the method finds no place for the layers.
    """
    linears = find_targets(model, config.target_modules)
    configs = METHODS[method].plan(model, linears, config)
    return {name: (linear, configs[name]) for name, linear in linears.items() if name in configs}


def check_fresh(model: nn.Module) -> None:
    """Raise ValueError when `model` already carries an adapter."""
    present = get_adapter(model)
    if present is not None:
        raise ValueError(
            f"this model already carries an adapter ('{present.method}' on "
            f"{len(present.layers)} Linears); a second one would be trained on top of it. "
            "Add it to a freshly built model"
        )
    inside = [n for n, m in model.named_modules() if isinstance(m, (AdapterState, AdapterLayer))]
    if inside or hasattr(model, STATE_NAME):
        raise ValueError(
            f"a part of this model already carries an adapter ({(inside or [STATE_NAME])[0]}); "
            "add adapters to the whole model, once"
        )


def inject(
    model: nn.Module,
    method: str,
    config: AdapterConfig,
    plan: Mapping[str, tuple[nn.Linear, AdapterConfig]],
) -> Adapter:
    """Extend the Linears of `plan_layers`; all checks are done by the caller."""
    context = Context(seed=getattr(config, "seed", 0))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    layer_class = METHODS[method].layer
    layers = {
        name: extend(linear, layer_class, own, context, index)
        for index, (name, (linear, own)) in enumerate(plan.items())
    }
    state = AdapterState(method, config, context, layers)
    first = next(iter(layers.values())).weight.device
    if first.type != "meta":
        state.to(first)
    state.base_names = base_names(model, layers)
    model.add_module(STATE_NAME, state)
    state.refresh(model)
    model.register_state_dict_pre_hook(refresh_state)
    model.register_load_state_dict_pre_hook(check_load)
    model.register_forward_pre_hook(advance_step)
    _ignore_in_ddp(model, layers)
    adapter = Adapter(model)
    logger.info("%s", adapter.report())
    return adapter


def _ignore_in_ddp(model: nn.Module, layers: Mapping[str, AdapterLayer]) -> None:
    """Keep the adapter's buffers, equal on every rank, out of DDP's broadcast at every forward.

    DDP then leaves them alone when it starts, too: `prepare_layers` makes ranks agree on bases.
    """
    own = [f"{STATE_NAME}.{name}" for name, _ in getattr(model, STATE_NAME).named_buffers()]
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, AdapterLayer):
            buffers = dict(module.named_buffers()).keys() - module.base_names
            own += [f"{name}.{kind}" for kind in sorted(buffers)]
    merged = [f"{name}.merged_weight" for name in layers]
    before = list(getattr(model, "_ddp_params_and_buffers_to_ignore", []))
    names = dict.fromkeys([*before, *own, *merged])
    model._ddp_params_and_buffers_to_ignore = list(names)
