"""The diagonal of the Fisher information: how much the data depend on each weight of a model.

F_ij = sum over utterances u of (d log p(y_u | x_u) / d W_ij)^2 / (number of tokens in all)

with one gradient per utterance (of the sum over its tokens), squared entry by entry: the diagonal
of the Fisher information per token, in nats. With y_u drawn from the model, cross terms of
different tokens vanish in expectation (the score of an autoregressive model is a martingale), so
that this is the mean over tokens of their squared gradients; with y_u from the transcripts it is
the empirical Fisher, which is common, but not the same (Kunstner et al. 2019, arXiv 1905.12558).
Source of its use: Kirkpatrick et al. 2017, arXiv 1612.00796.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from espnet_blora.adapters import fingerprint as fp
from espnet_blora.adapters.files import open_tensors, write_tensors

log = logging.getLogger(__name__)

METADATA_KEY = "espnet_blora_fisher"
_NEEDED = {"utterances", "tokens", "base"}
REMEDY = "make it with espnet-blora fisher"


class Fisher(NamedTuple):
    """Fisher information.

    Attributes:
        values: {weight name: F, of its shape, fp32}.
        utterances: How many it was taken from.
        tokens: How many it was taken from.
    """

    values: dict[str, Tensor]
    utterances: int
    tokens: int


def diagonal_fisher[Utterance](
    weights: Mapping[str, Tensor],
    utterances: Iterable[Utterance],
    nll: Callable[[Utterance], tuple[Tensor, int]],
) -> Fisher:
    """Return the diagonal Fisher information per token of `weights`.

    Args:
        weights: {name: parameter}; memory is two more copies of them.
        utterances: The data, in whatever form `nll` takes.
        nll: utterance -> (negative log likelihood of its tokens, a sum in nats, 0-dim; how many
            tokens they are).

    Raises:
        ValueError: There is no utterance, a gradient is NaN or inf, or a weight has none.
    """
    # Sum the squared gradients, with only these weights requiring one.
    parameters = list(weights.values())
    before = [p.requires_grad for p in parameters]
    sums: dict[str, Tensor] = {}
    count, tokens = 0, 0
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for utterance in utterances:
            with torch.enable_grad():
                loss, length = nll(utterance)
            value = -float(loss.detach())
            if not math.isfinite(value):
                raise ValueError(f"utterance {count + 1}: its log likelihood is {value}")
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    if name not in sums:
                        sums[name] = torch.zeros_like(gradient, dtype=torch.float32)
                    sums[name].addcmul_(gradient.float(), gradient.float())
            count, tokens = count + 1, tokens + length
            if count % 100 == 0:
                log.info("%d utterances, %d tokens", count, tokens)
    finally:
        for parameter, flag in zip(parameters, before, strict=True):
            parameter.requires_grad_(flag)

    # Divide by the tokens, and check that every weight was used.
    if not count or not tokens:
        raise ValueError(f"{count} utterances with {tokens} tokens: there is nothing to learn from")
    values = {name: sums[name] / tokens for name in weights if name in sums}
    for name in weights:
        used = name in values
        if not used or not bool(torch.isfinite(values[name]).all()):
            what = "has gradients with NaN or inf" if used else "is not used by the likelihood"
            raise ValueError(f"{name} {what}; leave it out of the targets, or compute in float32")
    return Fisher(values, count, tokens)


def save_fisher(
    path: str | Path,
    fisher: Fisher,
    base: Mapping[str, Tensor],
    about: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> int:
    """Write a safetensors file, whole or not at all; return its size in bytes.

    Args:
        path: The file.
        fisher: What is written.
        base: {name: weight} to know the base by again (`fingerprint.base_names`).
        about: Plain values kept beside, such as the sets.
        dtype: float32, or bfloat16 for half the size at 3 digits.

    Raises:
        ValueError: A weight of the base is on the meta device.
        OSError: The file cannot be written.
    """
    rows = fp.fingerprint(base.values())
    if rows is None:
        raise ValueError(f"{path}: the base is on the meta device and has no values")
    description = {
        "utterances": fisher.utterances,
        "tokens": fisher.tokens,
        "base": {name: row.tolist() for name, row in zip(base, rows, strict=True)},
        "about": dict(about),
    }
    tensors = {name: value.to(dtype).cpu().contiguous() for name, value in fisher.values.items()}
    return write_tensors(path, tensors, METADATA_KEY, description)


def read_fisher(
    path: str | Path, weights: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return {name: F} for every one of `targets`, in their order, each on its weight's device.

    Args:
        path: A file of `save_fisher`.
        weights: {name: parameter} of the whole model, to compare the base with the file's.
        targets: {name: weight} of those that are wanted.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: The file is damaged or not one of `save_fisher`, was made from another base, or
            lacks a target.
    """
    # Read, with checks of base, names, shapes and values.
    path = Path(path)
    with open_tensors(path, METADATA_KEY, _NEEDED, "fisher_file", REMEDY) as (file, description):
        fp.check_same_base(path, description["base"], weights, REMEDY)
        present = set(file.keys())
        missing = [name for name in targets if name not in present]
        if missing:
            raise ValueError(
                f"{path} lacks {len(missing)} of {len(targets)} targets, such as {missing[0]}; "
                "make it again with --target_modules as in adapter_conf"
            )
        values = {
            name: _checked(path, name, file.get_tensor(name), weight)
            for name, weight in targets.items()
        }

    # Say what is in memory now.
    size = sum(v.numel() * v.element_size() for v in values.values())
    log.info(
        "Fisher information of %d matrices from %s: %d utterances, %d tokens; %.1f MB in memory; "
        "mean %.3g per weight",
        len(values), path, description["utterances"], description["tokens"], size / 1e6,
        sum(float(v.double().sum()) for v in values.values())
        / sum(v.numel() for v in values.values()),
    )  # fmt: skip
    return values


def _checked(path: Path, name: str, value: Tensor, weight: Tensor) -> Tensor:
    """Return F of one weight on its device, with shape and values checked."""
    if value.shape != weight.shape:
        raise ValueError(
            f"{path}: {name} has shape {tuple(value.shape)}, the weight {tuple(weight.shape)}; "
            f"{REMEDY}, from this model's base"
        )
    if not bool((torch.isfinite(value) & (value >= 0)).all()):
        raise ValueError(f"{path}: {name} holds NaN, inf or a negative number; {REMEDY}")
    return value.to(weight.device)
