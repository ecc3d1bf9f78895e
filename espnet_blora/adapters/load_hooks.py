"""Hooks of the adapted model, most of all checks on everything loaded into it, strict or not.

The checks run before torch copies anything, so a refused load leaves the model as it was.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from espnet_blora.adapters import fingerprint as fp
from espnet_blora.adapters.layer import AdapterLayer, prepare_layers
from espnet_blora.adapters.registry import factor_names
from espnet_blora.adapters.state import STATE_NAME, AdapterState, decode_signature

log = logging.getLogger(__name__)
_DDP = "_ddp_params_and_buffers_to_ignore"


def refresh_state(model: nn.Module, prefix: str, keep_vars: bool) -> None:
    """State-dict pre-hook: bring the adapter's buffers up to date."""
    getattr(model, STATE_NAME).refresh(model)


def advance_step(model: nn.Module, args: tuple) -> None:
    """Forward pre-hook of the model: one more micro-batch in training, bases before the first."""
    if model.training:
        state = getattr(model, STATE_NAME)
        state.count_step()
        if not state.bases_agreed:
            prepare_layers(state.layers)
            state.bases_agreed = True


def end_step(model: nn.Module, args: tuple, output: Any) -> None:
    """Forward hook of the model: the first training step is over."""
    state = getattr(model, STATE_NAME)
    if state.context.called is not None:
        state.name_uncalled()


def add_hooks(model: nn.Module) -> None:
    """Hook into what torch and the training loop do with `model`, whose adapter is in place.

    DDP leaves the adapter's buffers alone, which are equal on every rank, at its start and at every
    forward: `prepare_layers` makes ranks agree on bases.
    """
    model.register_state_dict_pre_hook(refresh_state)
    model.register_load_state_dict_pre_hook(check_load)
    model.register_forward_pre_hook(advance_step)
    model.register_forward_hook(end_step)

    state: AdapterState = getattr(model, STATE_NAME)
    names = [f"{STATE_NAME}.{name}" for name, _ in state.named_buffers()]
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, AdapterLayer):
            buffers = dict(module.named_buffers()).keys() - module.base_names
            names += [f"{name}.{buffer}" for buffer in sorted(buffers)]
    names += [f"{name}.merged_weight" for name in state.layers]
    before = list(getattr(model, _DDP, []))
    state.ignored = [name for name in dict.fromkeys(names) if name not in before]
    setattr(model, _DDP, [*before, *state.ignored])


def remove_hooks(model: nn.Module) -> None:
    """Undo `add_hooks`."""
    ignored = set(getattr(model, STATE_NAME).ignored)
    setattr(model, _DDP, [name for name in getattr(model, _DDP, []) if name not in ignored])
    ours = {refresh_state, advance_step, end_step, check_load}
    for hooks in (
        model._state_dict_pre_hooks,
        model._load_state_dict_pre_hooks,
        model._forward_pre_hooks,
        model._forward_hooks,
    ):
        for key, hook in list(hooks.items()):
            if getattr(hook, "hook", hook) in ours:  # torch wraps hooks of a load
                del hooks[key]


def check_load(
    model: nn.Module,
    state_dict: dict[str, Tensor],
    prefix: str,
    local_metadata: dict,
    strict: bool,
    missing_keys: list,
    unexpected_keys: list,
    error_msgs: list,
) -> None:
    """Load-state-dict pre-hook: refuse what does not fit this adapter and this base.

    Logs how many keys matched. The arguments are those of torch's hook; `state_dict` is torch's own
    copy of the caller's dict.

    Raises:
        ValueError: There is no adapter key at all; another method, rank or alpha; missing or
            unexpected adapter keys; another shape; a factor that is not finite; another base.
    """
    # The adapter's keys: on the model, in the state dict, in both.
    state: AdapterState = getattr(model, STATE_NAME)
    if any(layer.merged for layer in state.layers.values()):
        raise ValueError("the adapter is merged; call adapter.unmerge() before loading")
    tensors = adapter_tensors(model, prefix)
    expected = tensors.keys()
    given = {key for key in state_dict if key.startswith(prefix) and is_adapter_key(key, prefix)}
    matched = expected & given
    missing, unexpected = sorted(expected - given), sorted(given - expected)
    base = {prefix + name for name, _ in model.named_parameters()} - expected
    log.info(
        "loading adapter '%s': %d adapter keys matched, %d missing, %d unexpected; "
        "%d of %d base weights come with it",
        state.method,
        len(matched),
        len(missing),
        len(unexpected),
        len(base & state_dict.keys()),
        len(base),
    )

    # What does not fit is refused, the most telling difference first.
    if not matched:
        raise ValueError(
            f"this state dict holds none of the model's {len(expected)} adapter keys "
            f"({len(state_dict)} keys in all, such as {_some(sorted(state_dict)) or 'none'}); "
            f"expected keys such as {_some(sorted(expected))}. Load a checkpoint of this adapter; "
            "to load a base model, do so before the adapter is added"
        )
    description = _check_signature(state, state_dict, prefix)
    _check_ranks(model, state_dict, prefix)
    if missing or unexpected:
        raise ValueError(
            f"this state dict does not fit the adapter '{state.method}' on "
            f"{', '.join(state.config.target_modules)}: {len(matched)} adapter keys match, "
            f"{len(missing)} are missing ({_some(missing) or '-'}), {len(unexpected)} are "
            f"unexpected ({_some(unexpected) or '-'}). Use the target_modules and options that "
            "it was trained with"
        )
    _check_factors(tensors, state_dict, prefix)
    _check_base(model, state, state_dict, prefix, description)


def adapter_tensors(model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Return what the adapter of `model` has in its state dict, by key."""
    tensors: dict[str, Tensor] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        added: dict[str, Tensor] = {}
        if isinstance(module, AdapterState):
            added = dict(module.named_buffers())
        elif isinstance(module, AdapterLayer):
            added = module.factors()
        tensors.update((f"{prefix}{name}.{key}", tensor) for key, tensor in added.items())
    return tensors


def is_adapter_key(key: str, prefix: str = "") -> bool:
    """Return whether a state-dict key looks like an adapter's, of whatever method."""
    inner = key[len(prefix) :]
    return inner.startswith(f"{STATE_NAME}.") or not factor_names().isdisjoint(inner.split("."))


def _check_signature(state: AdapterState, state_dict: dict, prefix: str) -> dict[str, Any]:
    """Compare method and structural options; give torch a signature of our size to copy."""
    key = f"{prefix}{STATE_NAME}.signature"
    if key not in state_dict:
        return {}
    description = decode_signature(state_dict[key])
    if description["method"] != state.method:
        raise ValueError(
            f"this state dict is of adapter '{description['method']}', the model carries "
            f"'{state.method}'; use the same adapter for both"
        )
    loaded, present = description["config"], state.config.as_dict()
    for option in state.config.structural:
        if option in loaded and loaded[option] != present.get(option):
            there, here = (_plain(value) for value in (loaded[option], present.get(option)))
            raise ValueError(
                f"this state dict was trained with {option} {there}, the model's adapter has "
                f"{option} {here}; set {option}: {there} in adapter_conf"
            )
    # An option that is newer than the state dict had its default there.
    newer = {key: getattr(type(state.config), key, None) for key in present.keys() - loaded.keys()}
    loaded = {**loaded, **newer}
    changed = sorted(key for key, value in loaded.items() if value != present.get(key))
    if changed:
        log.info(
            "adapter options differ from those of the state dict: %s",
            ", ".join(f"{k} {present.get(k)!r} (there {loaded.get(k)!r})" for k in changed),
        )
    state_dict[key] = state.signature
    return description


def _check_ranks(model: nn.Module, state_dict: dict, prefix: str) -> None:
    """Name both ranks before torch complains about sizes (a state dict may lack a signature)."""
    for name, layer in getattr(model, STATE_NAME).layers.items():
        factor = state_dict.get(f"{prefix}{name}.lora_A")
        if isinstance(factor, Tensor) and factor.dim() == 2 and factor.shape[0] != layer.rank:
            raise ValueError(
                f"{name}: this state dict has rank {factor.shape[0]}, the model's adapter has rank "
                f"{layer.rank}; give adapter_conf the ranks that it was trained with"
            )


def _check_factors(tensors: dict[str, Tensor], state_dict: dict, prefix: str) -> None:
    """Check shapes and values of the factors."""
    for key in sorted(tensors):
        if key.startswith(f"{prefix}{STATE_NAME}."):
            continue
        value, shape = state_dict[key], tensors[key].shape
        if value.shape != shape:
            raise ValueError(
                f"{key} has shape {tuple(value.shape)} in this state dict, {tuple(shape)} in "
                "the model: it was trained on a base of another size"
            )
        if not value.is_meta and not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"{key} holds NaN or inf in this state dict: training diverged or the file is "
                "damaged; load an earlier checkpoint"
            )


def _check_base(
    model: nn.Module, state: AdapterState, state_dict: dict, prefix: str, description: dict
) -> None:
    """Compare the base that the factors were trained on with the one they will act on.

    That is the base in the state dict where it brings one, else the model's. A state dict of this
    very model with other base weights put into it is a replaced base (ESPnet's init_param), and
    passes: its fingerprint is that of the model before the load.
    """
    # The fingerprint of the base that the factors were trained on.
    key = f"{prefix}{STATE_NAME}.fingerprint"
    bits = state_dict[key]
    state_dict[key] = state.fingerprint
    names = description.get("base_names", [])
    if len(names) != len(bits):
        raise ValueError(
            f"the base fingerprint in this state dict has {len(bits)} rows for {len(names)} "
            "weights: it is damaged; use an undamaged copy of the checkpoint"
        )
    rows = fp.unpack(bits)
    if not bool((rows[:, -1] > 0).any()):
        return  # saved from the meta device: there was no base to describe

    # The base after this load, and if that is another one, the base before it.
    stored = dict(zip(names, rows, strict=True))
    weights = dict(model.named_parameters())
    known = stored.keys() & weights.keys()
    brought = {name: state_dict[prefix + name] for name in known if prefix + name in state_dict}
    after = fp.difference(stored, {**weights, **brought})
    if after is None or after[0] <= fp.TOLERANCE:
        return
    before = fp.difference(stored, weights) if brought else None
    if before is not None and before[0] <= fp.TOLERANCE:
        state.base_replaced = True
        log.info("the base under the adapter is replaced: %s differs by %.2g", after[1], after[0])
        return
    raise ValueError(wrong_base(*after))


def wrong_base(distance: float, where: str) -> str:
    """Return the message for factors that meet a base they were not trained on."""
    return (
        f"wrong base: {where} differs by {distance:.2g} (relative) from the weight this adapter "
        f"was trained on (allowed: {fp.TOLERANCE:g}); load the adapter on the base model that it "
        "was trained with"
    )


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
