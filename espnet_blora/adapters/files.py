"""Safetensors files with a JSON description inside, most of all adapter files.

Nothing in them runs code when loaded. The description of an adapter file holds method, options,
base fingerprint, step, versions, and checksums of the tensors and of itself.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
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
_NEEDED = {"method", "config", "step", "layers", "base", "sha256"}
_OWN_SUM = "description_sha256"  # of the description; files up to version 0.2.0 have none


@dataclass(frozen=True)
class AdapterFile:
    """The content of an adapter file.

    Attributes:
        path: The file.
        description: Its metadata: format, method, config, step, layers (names), base ({name:
            fingerprint}), sha256 (of the tensors), versions, description_sha256; of a file that was
            made of an experiment also training, what decoding has to know of it.
        tensors: The factors, {layer.factor: tensor}.
    """

    path: Path
    description: dict[str, Any]
    tensors: dict[str, Tensor]


# ---- any file with a description ----


def write_tensors(
    path: str | Path, tensors: dict[str, Tensor], key: str, description: Mapping[str, Any]
) -> int:
    """Write tensors (on the CPU) and a description, whole or not at all.

    Args:
        path: The file.
        tensors: By name.
        key: Where the description stands in the metadata.
        description: JSON values; format and checksums are added.

    Returns:
        The size in bytes.

    Raises:
        OSError: It cannot be written (disk full, no permission).
    """
    whole = {"format": FORMAT, **description, "sha256": checksum(sorted(tensors.items()))}
    whole[_OWN_SUM] = _own_checksum(whole)
    text = json.dumps(whole, sort_keys=True)
    data = to_bytes(tensors, metadata={"format": "pt", key: text})
    atomic.write(path, data)
    return len(data)


@contextmanager
def open_tensors(
    path: Path, key: str, needed: Collection[str], kind: str, remedy: str, compare: bool = True
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a file of `write_tensors`; yield the safetensors handle and the checked description.

    Args:
        path: The file.
        key: Where the description stands in the metadata.
        needed: What the description must hold.
        kind: What the file is expected to be, for messages.
        remedy: What the user can do about a file that is not.
        compare: Compare all tensors with their checksum; False where that has been done.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is truncated, damaged or not such a file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{kind} {path} does not exist; {remedy}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            description = _description(path, file.metadata() or {}, key, needed, kind, remedy)
            # Files of earlier versions may lack a sum; what they have is compared.
            if description.get(_OWN_SUM, own := _own_checksum(description)) != own:
                raise ValueError(
                    f"{path}: its description does not match its checksum; copy it again, or "
                    f"{remedy}"
                )
            if compare and "sha256" in description:
                tensors = ((name, file.get_tensor(name)) for name in sorted(file.keys()))
                if description["sha256"] != checksum(tensors):
                    raise ValueError(
                        f"{path}: its tensors do not match their checksum; copy it again, or "
                        f"{remedy}"
                    )
            yield file, description
    except (SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is truncated, damaged or not a safetensors file ({error}); copy it again, or "
            f"{remedy}"
        ) from error


def _description(
    path: Path, metadata: dict[str, str], key: str, needed: Collection[str], kind: str, remedy: str
) -> dict[str, Any]:
    """Return the JSON beside the tensors, checked; see `open_tensors`."""
    if key not in metadata:
        raise ValueError(f"{path} is not of espnet_blora ({kind}); {remedy}")
    try:
        description = json.loads(metadata[key])
    except ValueError as error:
        raise ValueError(f"{path}: its description is damaged; {remedy}") from error
    if isinstance(description, dict) and description.get("format", FORMAT) != FORMAT:
        raise ValueError(
            f"{path} has format {description['format']!r}, this version of espnet_blora reads "
            f"{FORMAT}; use the version that wrote it ({description.get('versions')}), or {remedy}"
        )
    if not isinstance(description, dict) or not {"format", *needed} <= description.keys():
        raise ValueError(f"{path}: its description is incomplete; {remedy}")
    return description


# ---- adapter files ----


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
    versions = {"torch": str(torch.__version__), "espnet_blora": __version__}
    write_tensors(path, tensors, METADATA_KEY, {**description, "versions": versions})


def read_adapter_file(path: str | Path) -> AdapterFile:
    """Read and check an adapter file without a model.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is truncated, damaged or not an adapter file of this package.
    """
    path = Path(path)
    remedy = "save the adapter again with Adapter.save"
    with open_tensors(path, METADATA_KEY, _NEEDED, "adapter file", remedy) as (file, description):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    return AdapterFile(path, description, tensors)


def _own_checksum(description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description, as JSON, without its own checksum and the format."""
    rest = {key: value for key, value in description.items() if key not in (_OWN_SUM, "format")}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def checksum(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes; names in order."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
