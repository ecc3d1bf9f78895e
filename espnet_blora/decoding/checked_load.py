"""load_state_dict hooks that refuse checkpoints with missing, foreign or misshapen keys.

ESPnet loads with strict=False and reports nothing, so that an empty file decodes with rc 0. The
hooks below sit on the model itself and therefore see every load: inference, resume, init_param.
Models with one of our adapters are checked by the adapter's own hooks; the embeddings of new
languages, which are trained beside it, here.
"""

import logging

import torch

from espnet_blora.adapters import get_adapter
from espnet_blora.whisper.new_tokens import check_table

log = logging.getLogger(__name__)

MARKER = "espnet_blora.base"
_TOLERANCE = 1e-5


def fingerprint(model: torch.nn.Module) -> torch.Tensor:
    """Summarise a model's weights: [number of values, sum_i m_i, sum_i i m_i], m_i = mean |w_i|.

    Returns:
        Tensor of shape (3,), float64; equal up to rounding on every device.
    """
    count, total, ordered = 0, 0.0, 0.0
    for index, (_, parameter) in enumerate(sorted(model.named_parameters()), 1):
        value = parameter.detach()
        size = value.abs().mean(dtype=torch.float64).item() if value.numel() else 0.0
        count, total, ordered = count + value.numel(), total + size, ordered + index * size
    return torch.tensor([count, total, ordered], dtype=torch.float64)


def base_marker(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the checkpoint that stands for "this base model, unchanged": only its fingerprint."""
    return {MARKER: fingerprint(model)}


def check_loads(model: torch.nn.Module) -> torch.nn.Module:
    """Put the checks on a model; every later load_state_dict of it raises ValueError when unfit."""
    model.register_load_state_dict_pre_hook(_before)
    model.register_load_state_dict_post_hook(_after)
    return model


def _before(module, state, prefix, metadata, strict, missing, unexpected, errors) -> None:
    """Check shapes and take the base marker out, before torch loads anything."""
    module.__dict__["_espnet_blora_base"] = MARKER in state
    if MARKER in state:
        _check_marker(module, state.pop(MARKER))
        return
    check_table(module, state)
    if get_adapter(module) is not None:
        return
    own = module.state_dict()
    wrong = [
        f"{key}: {tuple(state[key].shape)} in the checkpoint, {tuple(value.shape)} in the model"
        for key, value in own.items()
        if torch.is_tensor(state.get(key)) and state[key].shape != value.shape
    ]
    if wrong:
        raise ValueError(
            f"the checkpoint is of another model: {len(wrong)} tensors differ in shape "
            f"({'; '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}). Remedy: use the "
            "config.yaml that was written with this checkpoint, and the same --whisper."
        )


def _check_marker(module: torch.nn.Module, found: torch.Tensor) -> None:
    """Make sure that a base marker speaks of the weights that this model has.

    Raises:
        ValueError: It is of another base, or the model has an adapter to be loaded.
    """
    if get_adapter(module) is not None:
        raise ValueError(
            "the checkpoint is the mark of an unadapted base model (--adapter none), but "
            "config.yaml asks for an adapter. Remedy: give the adapter's own checkpoint "
            "(valid.*.best.pth), or decode with the config.yaml of the base."
        )
    own = fingerprint(module)
    if not torch.is_tensor(found) or found.shape != own.shape:
        raise ValueError(f"the base marker {MARKER!r} is damaged; write it again (base_model)")
    if not torch.allclose(found.double().cpu(), own, rtol=_TOLERANCE, atol=0.0):
        raise ValueError(
            f"the checkpoint stands for another base model: its fingerprint is {found.tolist()}, "
            f"this model's is {own.tolist()}. Remedy: pass the same --whisper as when it was "
            "written, or write it again (python3 -m espnet_blora.bin.base_model)."
        )


def _after(module: torch.nn.Module, keys) -> None:
    """Judge what torch found missing and unexpected."""
    if module.__dict__.pop("_espnet_blora_base", False):
        keys.missing_keys.clear()
        keys.unexpected_keys.clear()
        log.info("loaded the unadapted base model: its weights are those of the Whisper file")
        return
    if get_adapter(module) is not None:
        return
    total = len(module.state_dict())
    missing, unexpected = list(keys.missing_keys), list(keys.unexpected_keys)
    matched = total - len(missing)
    log.info(
        "checked load: %d keys matched, %d missing, %d unexpected",
        matched,
        len(missing),
        len(unexpected),
    )
    # ESPnet's own adapters save a part of the model: that part must be there.
    partial = getattr(module, "_espnet_adapter", None)
    if partial and matched:
        missing = [key for key in missing if "adapter" in key or "lora_" in key]
    whisper = getattr(module, "is_encoder_whisper", False)
    if missing or not matched or (unexpected and whisper and not partial):
        raise ValueError(
            f"the checkpoint does not fit the model: {matched} of {total} keys matched, "
            f"{len(missing)} missing{_some(missing)}, {len(unexpected)} unexpected"
            f"{_some(unexpected)}. Remedy: use the config.yaml that was written with this "
            "checkpoint; if the file was cut short, copy it again or use another epoch's."
        )
    if unexpected:
        log.warning("keys of the checkpoint not used%s", _some(unexpected))


def _some(names: list[str]) -> str:
    """Show the first three names of a list in brackets."""
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def apply_scale(model: torch.nn.Module, scale: float | None) -> None:
    """Set the launcher's --adapter-scale on a model loaded for decoding.

    Raises:
        ValueError: A scale is asked for, but the model has no adapter.
    """
    if scale is None:
        return
    adapter = get_adapter(model)
    if adapter is None:
        raise ValueError(
            f"--adapter-scale {scale}: this model has no adapter of ours to be scaled. Remedy: "
            "leave the option out, or decode an experiment with adapter: lora or blora."
        )
    adapter.set_scale(scale)
    log.info("the adapter's update is multiplied by %s", scale)
