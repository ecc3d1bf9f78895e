"""A model that is moved between its base and its adapted self, by scale or by repair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from espnet_blora.adapters.moments import read_moments, warn_of_little
from espnet_blora.adapters.repair import FullRepair, Repair
from espnet_blora.decoding.recogniser import Recogniser, read_checkpoint
from espnet_blora.utils import atomic


@contextmanager
def interpolated(model: nn.Module, base: Mapping[str, Tensor], factor: float) -> Iterator[None]:
    """For a while, W = W_base + factor (W - W_base) for every parameter: 0 the base, 1 as trained.

    Args:
        model: a fully fine-tuned model; its weights are put back bit for bit at the end.
        base: the base model's state dict (every parameter of the model).
        factor: any finite number.

    Raises:
        ValueError: a parameter that `base` lacks.
    """
    missing = [name for name, _ in model.named_parameters() if name not in base]
    if missing:
        raise ValueError(
            f"the base model lacks {len(missing)} parameters of this one, the first "
            f"{missing[0]!r}: give the base that this model was trained from"
        )
    trained = {name: p.detach().clone() for name, p in model.named_parameters()}
    try:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.lerp_(base[name].to(parameter), 1.0 - factor)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(trained[name])


def moved(
    recogniser: Recogniser, factor: float, base: Mapping[str, Tensor] | None = None
) -> AbstractContextManager:
    """Return a context in which the model's change is multiplied by `factor`.

    An adapter is scaled, the weights of a fully fine-tuned model are interpolated.

    For a low-rank adapter the two are the same thing, W0 + factor * delta W.

    Raises:
        ValueError: neither an adapter nor a base to interpolate from.
    """
    if recogniser.adapter is not None:
        return recogniser.adapter.scaled(factor)
    if base is None:
        if factor == 1.0:
            return nullcontext()
        raise ValueError(
            f"scale {factor}: this model has no adapter; interpolation needs the base model"
        )
    return interpolated(recogniser.as_trained(), base, factor)


def open_repair(
    recogniser: Recogniser,
    keep: str | Path,
    new: str | Path,
    base: Mapping[str, Tensor] | None = None,
) -> Repair:
    """Return the repair of an opened experiment's adapter, or of all its weights.

    Args:
        recogniser: Opened with `merge=False, packed=False`.
        keep: File of moments of old audio, heard by the base.
        new: File of moments of new-domain audio.
        base: The weights before training, where all were trained.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: The adapter cannot be repaired, or there is neither adapter nor base; a file
            does not fit the model.
    """
    adapter, model = recogniser.adapter, recogniser.as_trained()
    weights = dict(model.named_parameters())
    if adapter is None and base is None:
        raise ValueError(f"{recogniser.name} has no adapter: a repair needs the base's weights")
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    chosen = linears if adapter is None else list(adapter.layers)
    known = weights if base is None else base
    files = [read_moments(path, known, chosen, recogniser.pad_to) for path in (keep, new)]
    for file in files:
        warn_of_little(file.path, file.seconds)
    if adapter is None:
        return FullRepair(weights, known, linears, *files)
    return Repair(adapter.method, adapter.layers, *files)


def write_repaired(checkpoint: Path, output: Path, repair: Repair, strength: float) -> None:
    """Write a checkpoint in which the update is repaired, whole or not at all.

    Args:
        checkpoint: The file that the model was opened from.
        output: The new file.
        repair: Of that model.
        strength: mu.
    """
    state = read_checkpoint(checkpoint)
    for name, value in repair.tensors(strength).items():
        state[name] = value.to(state[name])
    with atomic.writing(output) as file:
        torch.save(state, file)
