"""Adapter files: one safetensors file with the factors, and JSON metadata inside it.

Nothing in it runs code when loaded. The metadata holds method, options, base fingerprint, step,
versions and a checksum of the tensors.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from espnet_blora.adapters import fingerprint as fp
from espnet_blora.adapters.adapter import Adapter, get_adapter
from espnet_blora.adapters.config import AdapterConfig
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.inject import inject, plan_layers
from espnet_blora.adapters.layer import AdapterLayer, extend
from espnet_blora.adapters.load_hooks import wrong_base
from espnet_blora.adapters.registry import METHODS, parse_config
from espnet_blora.utils import atomic
from espnet_blora.version import __version__

logger = logging.getLogger(__name__)

METADATA_KEY = "espnet_blora"
FORMAT = 1


@dataclass(frozen=True)
class AdapterFile:
    """What an adapter file holds: `description` (method, config, layers, base, ...), `tensors`."""

    path: Path
    description: dict
    tensors: dict[str, Tensor]


def factors(adapter: Adapter) -> dict[str, Tensor]:
    """Return {layer.factor: tensor} of all factors, trained or frozen, as they are."""
    return {
        f"{name}.{factor}": tensor
        for name, layer in adapter.layers.items()
        for factor, tensor in layer.factors().items()
    }


def save_adapter(adapter: Adapter, path: str | Path) -> None:
    """Write `adapter` to `path`, atomically: after a failure the old file is still there.

    Raises ValueError when the model is on the meta device or a factor holds NaN or inf, OSError
    (disk full, no permission) with the path in its message.
    """
    rows = adapter.state.current_fingerprint(adapter.model)
    adapter.prepare()
    own = {} if rows is None else factors(adapter)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in own.items()}
    if rows is None or any(t.is_meta for t in tensors.values()):
        raise ValueError(
            f"cannot save the adapter to {path}: the model is on the meta device and has no "
            "values; build it on a real device"
        )
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"cannot save the adapter to {path}: {name} holds NaN or inf")
    names = adapter.state.base_names
    description = {
        "format": FORMAT,
        "method": adapter.method,
        "config": adapter.config.as_dict(),
        "step": adapter.step,
        "layers": list(adapter.layers),
        "base": {name: row.tolist() for name, row in zip(names, rows, strict=True)},
        "sha256": checksum(tensors),
        "versions": {"torch": str(torch.__version__), "espnet_blora": __version__},
    }
    metadata = {"format": "pt", METADATA_KEY: json.dumps(description, sort_keys=True)}
    atomic.write(Path(path), to_bytes(tensors, metadata=metadata))


def load_adapter(model: nn.Module, path: str | Path) -> Adapter:
    """Put the adapter of file `path` on `model`, or into the same adapter already on it.

    Raises FileNotFoundError, and ValueError for a damaged file, another base, rank, method or
    other options; nothing is loaded and no adapter added then.
    """
    file = read_adapter_file(path)
    method = file.description["method"]
    config = parse_config(method, file.description["config"])
    present = get_adapter(model)
    if present is None:
        plan = plan_layers(model, method, config)
        layers = _templates(method, plan)
    else:
        _check_same(present, method, config, path)
        layers = present.layers
    _check_layers(file, layers)
    _check_base(file, model)
    adapter = inject(model, method, config, plan) if present is None else present
    own = factors(adapter)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(file.tensors[name])
    for layer in adapter.layers.values():
        layer.read_ready()
    adapter.state.context.step = int(file.description["step"])
    logger.info("loaded adapter '%s' from %s: %d tensors", method, path, len(own))
    return adapter


def read_adapter_file(path: str | Path) -> AdapterFile:
    """Read and check an adapter file without a model.

    Raises FileNotFoundError, or ValueError when it is truncated, damaged or no adapter of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"adapter file {path} does not exist; give a file of Adapter.save")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is truncated, damaged or no safetensors file ({error}); copy it again, or "
            "save the adapter again from its checkpoint"
        ) from error
    if METADATA_KEY not in metadata:
        raise ValueError(f"{path} is no adapter file of espnet_blora; give a file of Adapter.save")
    try:
        description = json.loads(metadata[METADATA_KEY])
    except ValueError as error:
        raise ValueError(f"{path}: its description is damaged; save the adapter again") from error
    needed = {"format", "method", "config", "step", "layers", "base", "sha256"}
    if not isinstance(description, dict) or not needed <= description.keys():
        raise ValueError(f"{path}: its description is incomplete; save the adapter again")
    if description["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {description['format']!r}, this version of espnet_blora reads "
            f"{FORMAT}; use the version that wrote it ({description.get('versions')})"
        )
    if checksum(tensors) != description["sha256"]:
        raise ValueError(
            f"{path} is damaged: its tensors do not match their checksum; copy it again, or save "
            "the adapter again from its checkpoint"
        )
    return AdapterFile(path, description, tensors)


def checksum(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_same(present: Adapter, method: str, config, path) -> None:
    if present.method != method:
        raise ValueError(f"{path} is of adapter '{method}', the model carries '{present.method}'")
    if present.merged:
        raise ValueError("the adapter is merged; call adapter.unmerge() before loading")
    theirs, ours = config.as_dict(), present.config.as_dict()
    for key in (*config.structural, "target_modules"):
        if theirs.get(key) != ours.get(key):
            raise ValueError(
                f"{path} was trained with {key} {theirs.get(key)}, the model's adapter has {key} "
                f"{ours.get(key)}; load it on a model without an adapter"
            )


def _templates(
    method: str, plan: Mapping[str, tuple[nn.Linear, AdapterConfig]]
) -> dict[str, AdapterLayer]:
    """Return what `inject` would put on the planned Linears, on the meta device: sizes only."""
    return {
        name: extend(
            nn.Linear(linear.in_features, linear.out_features, device="meta"),
            METHODS[method].layer,
            config,
            Context(),
            index,
        )
        for index, (name, (linear, config)) in enumerate(plan.items())
    }


def _check_layers(file: AdapterFile, layers: Mapping[str, AdapterLayer]) -> None:
    """The file's layers must be the model's targets, and its factors fit their sizes."""
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
            found = file.tensors.get(f"{name}.{factor}")
            if found is None:
                raise ValueError(f"{file.path}: {name}.{factor} is missing; save it again")
            if found.shape != tensor.shape:
                raise ValueError(
                    f"{file.path}: {name}.{factor} has shape {tuple(found.shape)}, rank "
                    f"{layer.rank} on this model needs {tuple(tensor.shape)}; load it on the base "
                    "it was trained on"
                )


def _check_base(file: AdapterFile, model: nn.Module) -> None:
    """Compare the base in the file's fingerprint with `model`'s weights."""
    weights = dict(model.named_parameters())
    rows = {name: torch.tensor(row, dtype=torch.float64) for name, row in
            file.description["base"].items()}  # fmt: skip
    known = [name for name in rows if name in weights]
    current = fp.fingerprint(weights[name] for name in known)
    if current is None:
        raise ValueError(
            f"cannot load {file.path}: the model is on the meta device and has no values"
        )
    distance, where = fp.worst_difference(rows, dict(zip(known, current, strict=True)))
    if not distance <= fp.TOLERANCE:
        raise ValueError(f"{file.path}: {wrong_base(distance, where)}")
