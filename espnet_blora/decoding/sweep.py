"""Decode the same sets while a model is moved between its base and its adapted self."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from espnet_blora.adapters import get_adapter
from espnet_blora.decoding.greedy import greedy


@contextmanager
def interpolated(model: nn.Module, base: Mapping[str, Tensor], factor: float) -> Iterator[None]:
    """For a while, W = W_base + factor (W - W_base) for every parameter: 0 the base, 1 as trained.

    Args:
        model: a fully fine-tuned model; its weights are put back bit for bit at the end.
        base: the base model's state dict (every parameter of the model).
        factor: any finite number.

    Raises:
        ValueError: a parameter that ``base`` lacks.
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
    model: nn.Module, factor: float, base: Mapping[str, Tensor] | None = None
) -> AbstractContextManager:
    """The model with its change turned to ``factor``: an adapter's scale, or interpolated weights.

    For a low-rank adapter the two are the same thing, W0 + factor * delta W.

    Raises:
        ValueError: neither an adapter nor a base to interpolate from.
    """
    adapter = get_adapter(model)
    if adapter is not None:
        return adapter.scaled(factor)
    if base is None:
        if factor == 1.0:
            return nullcontext()
        raise ValueError(
            f"scale {factor}: this model has no adapter; interpolation needs the base model"
        )
    return interpolated(model, base, factor)


def transcribe(
    encoder: nn.Module,
    decoder: nn.Module,
    waves: Mapping[str, Tensor],
    prompts: Mapping[str, Sequence[int]],
    eot: int,
    batch_size: int = 50,
    pad_to: str = "batch",
    maxlenratio: float = 0.0,
) -> dict[str, list[int]]:
    """Greedy text ids of every utterance of a set, by utterance id, batched by length.

    Args:
        encoder: a ``whisper.model.AudioEncoder``.
        decoder: a ``whisper.model.TextDecoder``.
        waves: utterance id -> (S,) samples at 16 kHz.
        prompts: utterance id -> prompt ids.
        eot: id of end of text.
        batch_size: utterances decoded together.
        pad_to: ``batch`` or ``30s``.
        maxlenratio: see :func:`espnet_blora.decoding.greedy.search`.

    Raises:
        ValueError: an utterance without prompt.
    """
    missing = sorted(set(waves) - set(prompts))
    if missing:
        raise ValueError(f"no prompt (language) for {len(missing)} utterances, first {missing[0]}")
    order = sorted(waves, key=lambda uid: (len(waves[uid]), uid))
    found: dict[str, list[int]] = {}
    for first in range(0, len(order), batch_size):
        ids = order[first : first + batch_size]
        texts = greedy(
            encoder,
            decoder,
            [waves[uid] for uid in ids],
            [prompts[uid] for uid in ids],
            eot,
            pad_to,
            maxlenratio,
        )
        found.update(zip(ids, texts, strict=True))
    return {uid: found[uid] for uid in sorted(found)}
