"""Putting an adapter on a model, fresh or from a file.

The model is frozen, its target Linears are extended, the adapter's state and hooks registered.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from espnet_blora.adapters import fingerprint as fp
from espnet_blora.adapters.adapter import Adapter, get_adapter
from espnet_blora.adapters.config import AdapterConfig
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.files import AdapterFile, read_adapter_file
from espnet_blora.adapters.layer import AdapterLayer, extend
from espnet_blora.adapters.load_hooks import add_hooks, wrong_base
from espnet_blora.adapters.named import room_beside
from espnet_blora.adapters.registry import METHODS, parse_config
from espnet_blora.adapters.state import STATE_NAME, AdapterState
from espnet_blora.adapters.targets import find_targets

log = logging.getLogger(__name__)

Plan = Mapping[str, tuple[nn.Linear, AdapterConfig]]
"""{name: (target Linear, its own options)} in model order."""


# ---- a fresh adapter ----


def add_adapter(model: nn.Module, method: str, name: str | None = None, **conf: Any) -> Adapter:
    """Put a fresh adapter on `model`, in place, and freeze everything else.

    With a name it may be one of several: the one that is on the model stands by from then on, see
    `set_adapter`.

    The model computes what it computed before, bit for bit, until the adapter is trained (but for
    `vblora`, which starts near its base).

    Call the adapted model itself in training (`model(...)`), once per micro-batch: that is what
    moves the noise and the schedule on. A loop that calls parts of the model instead calls
    `adapter.advance()` once per micro-batch.

    Args:
        model: Any torch model.
        method: Name of the method, a key of `METHODS`.
        name: What the adapter is called, where there are several.
        conf: The options, as in the yaml's `adapter_conf`: for `lora` rank, alpha, dropout_rate and
            target_modules; of any method, the fields of its `METHODS[method].config`.

    Raises:
        ValueError: A method, key, value or target is unknown, a target is not a Linear, or the
            model already carries an adapter and no other name is given; the model is unchanged.
    """
    config = parse_config(method, conf)
    if name is not None and get_adapter(model) is not None:
        with room_beside(model, name) as named:
            return inject(model, method, config, plan_layers(model, config), name, named)
    check_fresh(model)
    return inject(model, method, config, plan_layers(model, config), name)


def plan_layers(model: nn.Module, config: AdapterConfig) -> Plan:
    """Return which Linears get the adapter, with which options.

    Raises:
        ValueError: A target names nothing, or the method finds no place for the layers.
    """
    linears = find_targets(model, config.target_modules)
    return {name: (linears[name], own) for name, own in config.plan(model, linears).items()}


def check_fresh(model: nn.Module) -> None:
    """Check that `model` carries no adapter.

    Raises:
        ValueError: It carries one, or a part of it does.
    """
    present = get_adapter(model)
    if present is not None:
        raise ValueError(
            f"this model already carries an adapter ('{present.method}' on "
            f"{len(present.layers)} Linears); a second one would be trained on top of it. "
            "Add it to a freshly built model, or give it a name: the other one then stands by"
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
    plan: Plan,
    name: str | None = None,
    named: dict[str, AdapterState] | None = None,
) -> Adapter:
    """Extend the Linears of `plan_layers`; all checks are done by the caller.

    Args:
        model: As of `add_adapter`.
        method: As of `add_adapter`.
        config: The checked options.
        plan: As of `plan_layers`.
        name: As of `add_adapter`.
        named: The adapters that stand by.
    """
    # Freeze the model, then add what trains.
    context = Context(seed=getattr(config, "seed", 0))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    layers = _extend_all(method, plan, context)

    # The state beside the layers, on their device.
    counts_updates = METHODS[method].after_step is not None
    state = AdapterState(method, config, context, layers, counts_updates)
    device = next(iter(layers.values())).weight.device
    if device.type != "meta":
        state.to(device)
    state.base_names = fp.base_names(model, layers)
    state.name = name or state.name
    state.named = {} if named is None else named
    state.named[state.name] = state
    model.add_module(STATE_NAME, state)
    state.refresh(model)

    add_hooks(model)
    return Adapter(model)


def _extend_all(method: str, plan: Plan, context: Context) -> dict[str, AdapterLayer]:
    """Turn the planned Linears into adapter layers."""
    return {
        name: extend(linear, METHODS[method].layer, config, context, index)
        for index, (name, (linear, config)) in enumerate(plan.items())
    }


# ---- an adapter from a file ----


def load_adapter(model: nn.Module, path: str | Path, name: str | None = None) -> Adapter:
    """Put the adapter of file `path` on `model`, or into the same adapter already on it.

    With a name that no adapter of the model has yet it is one more; see `set_adapter`.

    A Whisper's halves may be called as in openai-whisper (`encoder.blocks`) or as in ESPnet's model
    (`encoder.encoders.blocks`), whichever of them the adapter was trained on.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: The file is damaged, or of another base, rank, method or other options; nothing
            is loaded and no adapter added then.
    """
    file = _under_names_of(model, read_adapter_file(path))
    present = get_adapter(model)
    if name is None or present is None or name == present.state.name:
        return _load(model, file, present, name)
    with room_beside(model, name) as named:
        return _load(model, file, None, name, named)


def _load(
    model: nn.Module,
    file: AdapterFile,
    adapter: Adapter | None,
    name: str | None,
    named: dict[str, AdapterState] | None = None,
) -> Adapter:
    """Load a file into an adapter, or into one that is put on for it.

    Args:
        model: As of `load_adapter`.
        file: Under the model's names.
        adapter: The one on the model; None where there is none.
        name: As of `inject`.
        named: As of `inject`.
    """
    # Check everything before the model is touched.
    method = file.description["method"]
    config = parse_config(method, file.description["config"])
    plan: Plan = {}
    if adapter is None:
        plan = plan_layers(model, config)
        layers = _templates(method, plan)
    else:
        _check_same(adapter, method, config, file.path)
        layers = adapter.layers
    _check_layers(file, layers)
    _check_base(file, model)

    # Then put it on, and the values in.
    if adapter is None:
        adapter = inject(model, method, config, plan, name, named)
    tensors = adapter.factors()
    with torch.no_grad():
        for key, tensor in tensors.items():
            tensor.copy_(file.tensors[key])
    for layer in adapter.layers.values():
        layer.read_ready()
    adapter.state.context.step = int(file.description["step"])
    adapter.state.trained_on = file.description.get("training") or {}
    log.info("loaded adapter '%s' from %s: %d tensors", method, file.path, len(tensors))
    return adapter


def _under_names_of(model: nn.Module, file: AdapterFile) -> AdapterFile:
    """Return the file with the names that its layers and base weights have in `model`."""
    known = {name for name, _ in model.named_modules()}
    known |= {name for name, _ in model.named_parameters()}

    def here(name: str) -> str:
        nested = re.sub(r"^(en|de)coder\.", r"\1coder.\1coders.", name)
        plain = re.sub(r"^(en|de)coder\.\1coders\.", r"\1coder.", name)
        return next((other for other in (name, nested, plain) if other in known), name)

    config = file.description["config"]
    if "target_modules" in config:
        config = {**config, "target_modules": [here(end) for end in config["target_modules"]]}
    description = {
        **file.description,
        "config": config,
        "layers": [here(layer) for layer in file.description["layers"]],
        "base": {here(name): row for name, row in file.description["base"].items()},
    }
    tensors = {}
    for key, tensor in file.tensors.items():
        layer = next(
            (name for name in file.description["layers"] if key.startswith(f"{name}.")), ""
        )
        tensors[here(layer) + key[len(layer) :]] = tensor
    return replace(file, description=description, tensors=tensors)


def _check_same(adapter: Adapter, method: str, config: AdapterConfig, path: str | Path) -> None:
    """Check that the adapter on the model is the one that the file is of."""
    if adapter.method != method:
        raise ValueError(f"{path} is of adapter '{method}', the model carries '{adapter.method}'")
    if adapter.merged:
        raise ValueError("the adapter is merged; call adapter.unmerge() before loading")
    in_file, on_model = config.as_dict(), adapter.config.as_dict()
    for key in (*config.structural, "target_modules"):
        if in_file.get(key) != on_model.get(key):
            raise ValueError(
                f"{path} was trained with {key} {in_file.get(key)}, the model's adapter has {key} "
                f"{on_model.get(key)}; load it on a model without an adapter"
            )


def _templates(method: str, plan: Plan) -> dict[str, AdapterLayer]:
    """Return what `inject` would put on the planned Linears, on the meta device: sizes only."""
    empty = {
        name: (nn.Linear(linear.in_features, linear.out_features, device="meta"), config)
        for name, (linear, config) in plan.items()
    }
    return _extend_all(method, empty, Context())


def _check_layers(file: AdapterFile, layers: Mapping[str, AdapterLayer]) -> None:
    """Check that the file's layers are the model's targets, and that its factors fit them."""
    named = file.description["layers"]
    odd = [name for name in named if name not in layers]
    odd += [name for name in layers if name not in set(named)]
    if odd:
        raise ValueError(
            f"{file.path} has factors for {len(named)} Linears, this model has {len(layers)} "
            f"targets; they differ in {len(odd)}, such as {odd[0]}. Load it on the base it was "
            "trained on"
        )
    for name, layer in layers.items():
        for factor, tensor in layer.factors().items():
            value = file.tensors.get(f"{name}.{factor}")
            if value is None:
                raise ValueError(f"{file.path}: {name}.{factor} is missing; save it again")
            if value.shape != tensor.shape:
                raise ValueError(
                    f"{file.path}: {name}.{factor} has shape {tuple(value.shape)}, rank "
                    f"{layer.rank} on this model needs {tuple(tensor.shape)}; load it on the base "
                    "it was trained on"
                )


def _check_base(file: AdapterFile, model: nn.Module) -> None:
    """Compare the base in the file's fingerprint with `model`'s weights."""
    difference = fp.difference(file.description["base"], dict(model.named_parameters()))
    if difference is None:
        raise ValueError(
            f"cannot load {file.path}: the model is on the meta device and has no values"
        )
    if not difference[0] <= fp.TOLERANCE:
        raise ValueError(f"{file.path}: {wrong_base(*difference)}")
