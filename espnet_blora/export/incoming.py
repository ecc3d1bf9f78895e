"""Models of others, on their way in: a LoRA of any rank and scaling, or all weights.

All names are openai-whisper's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from whisper.model import Whisper

from espnet_blora.adapters.targets import find_targets
from espnet_blora.whisper.checkpoint import open_safetensors
from espnet_blora.whisper.safe_torch_load import checked_loader

LINEARS = ("query", "key", "value", "out", "mlp.0", "mlp.2")
"""Ends of the names of all Linears of a Whisper."""


@dataclass(frozen=True)
class Incoming:
    """What becomes an experiment.

    Attributes:
        method: `lora` or `dora`; None for a model of which all weights were trained.
        options: Of the method.
        tensors: Its factors, {layer.factor: tensor}; of a whole model its state dict.
        notes: What a user should know, a line each.
    """

    method: str | None
    options: dict[str, Any]
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """The LoRA of one Linear: its update is scaling * up @ down.

    Attributes:
        down: A, (r, d_in).
        up: B, (d_out, r).
        scaling: Such as alpha / r.
        magnitude: Of DoRA, (d_out,).
    """

    down: Tensor
    up: Tensor
    scaling: float
    magnitude: Tensor | None = None


def as_lora(parts: Mapping[str, Part], plain: Whisper, notes: tuple[str, ...] = ()) -> Incoming:
    """Return an adapter of one rank and one scaling, whose updates are those of the parts.

    Lower ranks are filled up with zeros; where scalings differ, they go into B.

    Args:
        parts: Linear -> its LoRA.
        plain: The base.
        notes: As of `Incoming`.

    Raises:
        ValueError: There is none; a name, a shape or a value does not fit; names the Linear.
    """
    if not parts:
        raise ValueError("there is no LoRA on a Linear of a Whisper in it")
    linears = find_targets(plain, LINEARS)
    for name, part in parts.items():
        _check_part(name, part, linears.get(name))
    rank = max(len(part.down) for part in parts.values())
    scalings = {part.scaling for part in parts.values()}
    scaling = scalings.pop() if len(scalings) == 1 else 1.0
    with_magnitude = [name for name, part in parts.items() if part.magnitude is not None]
    if len(with_magnitude) not in (0, len(parts)):
        raise ValueError(f"{with_magnitude[0]} has DoRA's magnitude, others have none")

    tensors: dict[str, Tensor] = {}
    for name, part in parts.items():
        r, d_in = part.down.shape
        down, up = torch.zeros(rank, d_in), torch.zeros(len(part.up), rank)
        down[:r], up[:, :r] = part.down, part.up * (part.scaling / scaling)
        tensors |= {f"{name}.lora_A": down, f"{name}.lora_B": up}
        if part.magnitude is not None:
            tensors[f"{name}.lora_magnitude"] = part.magnitude.float()
    options = {"rank": rank, "alpha": scaling * rank, "target_modules": _targets(parts, plain)}
    return Incoming("dora" if with_magnitude else "lora", options, tensors, notes)


def _check_part(name: str, part: Part, linear: nn.Linear | None) -> None:
    """Check that the LoRA of a Linear is whole, finite, and of its size."""
    if linear is None:
        raise ValueError(f"{name} is not a Linear of this Whisper")
    shapes = tuple(part.down.shape), tuple(part.up.shape)
    wanted = (len(part.down), linear.in_features), (linear.out_features, len(part.down))
    if shapes != wanted or (
        part.magnitude is not None and part.magnitude.shape != (linear.out_features,)
    ):
        raise ValueError(
            f"{name}: A and B have the shapes {shapes[0]} and {shapes[1]}, a Linear of "
            f"{linear.in_features} inputs and {linear.out_features} outputs needs (r, "
            f"{linear.in_features}) and ({linear.out_features}, r): of a base of another size?"
        )
    found = [t for t in (part.down, part.up, part.magnitude) if t is not None]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found):
        raise ValueError(f"{name} holds NaN or inf: its training diverged, or it is damaged")
    if not part.scaling > 0:
        raise ValueError(f"{name}: alpha / r is {part.scaling:g}; it must be above 0")


def _targets(parts: Mapping[str, Part], plain: Whisper) -> list[str]:
    """Return ends of names that name these Linears and no other, else their names in ESPnet."""
    ends = sorted({end for end in LINEARS for name in parts if name.endswith(f".{end}")})
    if find_targets(plain, ends).keys() == parts.keys():
        return ends
    return sorted(nested(name) for name in parts)


def nested(name: str) -> str:
    """Return the name that a part of a Whisper has in ESPnet's model."""
    return re.sub(r"^(en|de)coder\.", r"\1coder.\1coders.", name)


def factored(state: Mapping[str, Tensor], plain: Whisper, rank: int) -> Incoming:
    """Return the best LoRA of a rank for each Linear of a wholly trained model, by its SVD.

    Args:
        state: The model's weights.
        plain: Its base.
        rank: At most the smaller side of each Linear.

    Raises:
        ValueError: The rank is out of range, or no Linear was trained.
    """
    base = plain.state_dict()
    linears = find_targets(plain, LINEARS)
    most = min(min(linear.weight.shape) for linear in linears.values())
    if not 1 <= rank <= most:
        raise ValueError(f"--rank {rank}: 1 to {most} is possible on this Whisper")
    parts, whole, lost = {}, 0.0, 0.0
    for name in linears:
        delta = state[f"{name}.weight"] - base[f"{name}.weight"]
        left, values, right = torch.linalg.svd(delta.double(), full_matrices=False)
        root = values[:rank].sqrt()
        parts[name] = Part(
            (root[:, None] * right[:rank]).float(), (left[:, :rank] * root).float(), 1.0
        )
        whole += values.square().sum().item()
        lost += values[rank:].square().sum().item()
    if whole == 0:
        raise ValueError("no Linear differs from the base: was it trained, and from this base?")
    others = base.keys() - {f"{name}.weight" for name in linears}
    square = sum((state[name] - base[name]).double().square().sum().item() for name in others)
    notes = (
        f"rank {rank} holds {1 - lost / whole:.1%} of the Linears' change (sum of squares); the "
        f"relative error is {(lost / whole) ** 0.5:.3f}",
        "norms, biases, embeddings and convolutions stay the base's: "
        f"{square / (square + whole):.1%} of the whole change",
    )
    return as_lora(parts, plain, notes)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON ({error}): copy it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a mapping is expected, found {type(content).__name__}")
    return content


def read_weights(folder: Path, stem: str) -> dict[str, Tensor]:
    """Read the tensors of `STEM.safetensors`, its shards, or `STEM.bin`; nothing in them is run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is truncated, damaged or of another kind.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        files = read_json(index).get("weight_map")
        if not isinstance(files, dict):
            raise ValueError(f"{index}: no weight_map: copy it again")
        tensors: dict[str, Tensor] = {}
        for name in sorted(set(files.values())):
            tensors |= _read_safetensors(folder / Path(name).name)
        if gone := files.keys() - tensors.keys():
            raise ValueError(f"{index}: its files lack {len(gone)} tensors, such as {min(gone)}")
        return tensors
    if (folder / f"{stem}.safetensors").is_file():
        return _read_safetensors(folder / f"{stem}.safetensors")
    pickled = folder / ("pytorch_model.bin" if stem == "model" else f"{stem}.bin")
    if not pickled.is_file():
        raise FileNotFoundError(f"{folder}: no {stem}.safetensors, nor {pickled.name}")
    load = checked_loader(partial(torch.load, weights_only=True))
    return _tensors(pickled, load(pickled, map_location="cpu"))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with open_safetensors(path) as file:
        return _tensors(path, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def _tensors(path: Path, found: Any) -> dict[str, Tensor]:
    """Check that a file held tensors of floats, and return them in fp32."""
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path}: holds no tensors by name")
    for name, tensor in found.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"{path}: {name} is {kind}, a tensor of floats is expected")
    return {name: tensor.float() for name, tensor in found.items()}
