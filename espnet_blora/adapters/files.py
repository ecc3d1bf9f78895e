"""Adapter files: one safetensors file with the factors, and JSON metadata inside it.

Nothing in it runs code when loaded. The metadata holds method, options, base fingerprint, step,
versions and a checksum of the tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from espnet_blora.utils import atomic
from espnet_blora.version import __version__

METADATA_KEY = "espnet_blora"
FORMAT = 1


@dataclass(frozen=True)
class AdapterFile:
    """The content of an adapter file.

    Attributes:
        path: The file.
        description: Its metadata: format, method, config, step, layers (names), base ({name:
            fingerprint}), sha256, versions.
        tensors: The factors, {layer.factor: tensor}.
    """

    path: Path
    description: dict[str, Any]
    tensors: dict[str, Tensor]


def write_adapter_file(
    path: str | Path, tensors: dict[str, Tensor], description: Mapping[str, Any]
) -> None:
    """Write an adapter file, whole or not at all.

    Args:
        path: The file.
        tensors: The factors, on the CPU.
        description: Method, config, step, layers and base; the rest is added here.

    Raises:
        OSError: It cannot be written (disk full, no permission).
    """
    metadata = {
        "format": FORMAT,
        **description,
        "sha256": checksum(tensors),
        "versions": {"torch": str(torch.__version__), "espnet_blora": __version__},
    }
    text = {"format": "pt", METADATA_KEY: json.dumps(metadata, sort_keys=True)}
    atomic.write(path, to_bytes(tensors, metadata=text))


def read_adapter_file(path: str | Path) -> AdapterFile:
    """Read and check an adapter file without a model.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is truncated, damaged or not an adapter file of this package.
    """
    # The bytes: metadata and tensors.
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"adapter file {path} does not exist; give a file of Adapter.save")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is truncated, damaged or not a safetensors file ({error}); copy it again, or "
            "save the adapter again from its checkpoint"
        ) from error

    # What they say of themselves.
    if METADATA_KEY not in metadata:
        raise ValueError(
            f"{path} is not an adapter file of espnet_blora; give a file of Adapter.save"
        )
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


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
