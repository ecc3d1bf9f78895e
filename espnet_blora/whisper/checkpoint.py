"""Checkpoints of a Whisper: published sizes and files (.pt, .safetensors)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.error import URLError

import torch
import whisper
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from whisper.model import ModelDimensions, Whisper, sinusoids

from espnet_blora.utils import atomic
from espnet_blora.whisper.safe_torch_load import damaged_entry

POSITIONS = "encoder.positional_embedding"
"""The encoder's positions. Where a .safetensors file has none they are Whisper's sinusoids."""


def is_published(spec: str) -> bool:
    """Whether `spec` names a published size (`tiny` ... `large-v3-turbo`)."""
    return spec in whisper.available_models()


def hub_name(spec: str | None) -> str:
    """Return a published size's name on the Hugging Face hub; "" for a file or nothing."""
    if spec is None or not is_published(spec):
        return ""
    size = {"large": "large-v3", "turbo": "large-v3-turbo"}.get(spec, spec)
    return f"openai/whisper-{size}"


def _check_file(spec: str) -> Path:
    path = Path(spec)
    if not path.is_file():
        sizes = [name for name in whisper.available_models() if not name.endswith(".en")]
        raise FileNotFoundError(
            f"Whisper {spec!r} is neither a file nor a published size; sizes: "
            f"{', '.join(sizes)}; files: openai-whisper's .pt or .safetensors"
        )
    return path


def _dims(path: Path, found: dict) -> ModelDimensions:
    names = {f.name for f in fields(ModelDimensions)}
    if set(found) != names:
        raise ValueError(
            f"{path}: dimensions {sorted(found)} are not those of a Whisper ({sorted(names)})"
        )
    return ModelDimensions(**found)


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file, as `safe_open` does.

    Raises:
        ValueError: It is truncated, corrupted or of another kind; also while it is read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a readable safetensors file ({error}); truncated or corrupted: fetch it "
            "anew"
        ) from error


def _read_safetensors(path: Path, weights: bool) -> tuple[ModelDimensions, dict[str, torch.Tensor]]:
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
        if "dims" not in metadata:
            raise ValueError(
                f"{path}: no 'dims' in the metadata, so this is not a Whisper checkpoint of "
                "this project; write one with espnet_blora.whisper.checkpoint.save_whisper"
            )
        dims = _dims(path, json.loads(metadata["dims"]))
        state = {k: file.get_tensor(k) for k in file.keys()} if weights else {}  # noqa: SIM118
    digest = metadata.get("sha256")  # files up to version 0.2.0 have none
    if weights and digest and digest != _checksum(metadata["dims"], state):
        raise ValueError(
            f"{path}: damaged, its tensors or dimensions do not match their checksum: fetch it anew"
        )
    return dims, {name: tensor.float() for name, tensor in state.items()}


def _checksum(dims: str, state: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the dimensions (JSON), and of names, types, shapes and bytes."""
    digest = hashlib.sha256(dims.encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _read_pt(path: Path) -> tuple[ModelDimensions, dict[str, torch.Tensor]]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, UnpicklingError) as error:
        raise ValueError(
            f"{path}: not a readable torch checkpoint of tensors ({error}); truncated, corrupted "
            "or holding code, which is never run: fetch it anew"
        ) from error
    if not isinstance(checkpoint, dict) or not {"dims", "model_state_dict"} <= set(checkpoint):
        raise ValueError(
            f"{path}: not an openai-whisper checkpoint (a dict with 'dims' and 'model_state_dict')"
        )
    return _dims(path, dict(checkpoint["dims"])), checkpoint["model_state_dict"]


def _load_published(name: str, device: str | torch.device) -> Whisper:
    """Let openai-whisper find a published size in its cache, or fetch it there."""
    try:
        return whisper.load_model(name, device=device)
    except URLError as error:
        raise FileNotFoundError(not_fetched(name, error.reason)) from error


def cache_folder() -> str:
    """Return the folder in which openai-whisper keeps the published sizes."""
    default = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(os.getenv("XDG_CACHE_HOME", default), "whisper")


def not_fetched(name: str, reason: object) -> str:
    """Say that a published size is not at hand, and what to do."""
    return (
        f"Whisper {name!r} is not in {cache_folder()} and could not be fetched ({reason}). Remedy: "
        "fetch it once where there is a network, with espnet-blora fetch_whisper "
        f"{name}, or from {whisper._MODELS[name]}, and copy the file there, or give --whisper FILE"
    )


class _NoStart(TorchFunctionMode):
    """Leaves out what torch.nn.init fills new weights with: all of them are about to be loaded."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def load_whisper(
    spec: str | os.PathLike, device: str | torch.device = "cpu", start: bool = True
) -> Whisper:
    """Load a Whisper with its weights in fp32.

    Args:
        spec: a published size (found in openai-whisper's cache, else fetched by openai-whisper,
            which checks its SHA-256), or a file: openai-whisper's `.pt` or a `.safetensors`
            of `save_whisper`.
        device: where to put it.
        start: let torch draw the weights first that are then replaced, as openai-whisper does.
            Without (in decoding), the small Whisper is there in 0.1 s instead of 4 s, and torch's
            generator is not moved on; training draws an adapter's start from where it stands.

    Raises:
        FileNotFoundError: neither a size nor a file, or a size that cannot be fetched.
        ValueError: a file that is not such a checkpoint, or whose tensors do not fit its dims.
    """
    with nullcontext() if start else _NoStart():
        return _load(os.fspath(spec), device)


def _load(spec: str, device: str | torch.device) -> Whisper:
    if is_published(spec):
        return _load_published(spec, device).float()
    path = _check_file(spec)
    if path.suffix != ".safetensors" and (entry := damaged_entry(path)):
        raise ValueError(f"{path}: damaged, {entry} does not match its checksum: fetch it anew")
    dims, state = _read_safetensors(path, True) if path.suffix == ".safetensors" else _read_pt(path)
    if POSITIONS not in state:
        state[POSITIONS] = sinusoids(dims.n_audio_ctx, dims.n_audio_state)
    model = Whisper(dims)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: tensors do not fit its dimensions {asdict(dims)}: {error}"
        ) from error
    return model.float().to(device)


def dims_of_file(spec: str | os.PathLike) -> ModelDimensions:
    """Dimensions of a local checkpoint (for .safetensors without reading the weights)."""
    path = _check_file(os.fspath(spec))
    if path.suffix == ".safetensors":
        return _read_safetensors(path, False)[0]
    return _read_pt(path)[0]


def save_whisper(
    model: Whisper,
    path: str | os.PathLike,
    dtype: torch.dtype = torch.float16,
    notes: dict[str, str] | None = None,
) -> None:
    """Write a Whisper as .safetensors (atomically): openai-whisper's names, dims, SHA-256, notes.

    Args:
        model: what to write; the encoder's positions only where they are not the sinusoids.
        path: the target, replaced in one step.
        dtype: stored precision.
        notes: free text metadata (figures, how it was made).
    """
    path = Path(path)
    state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in model.state_dict().items()}
    if torch.equal(state[POSITIONS], sinusoids(*state[POSITIONS].shape).to(dtype)):
        del state[POSITIONS]
    dims = json.dumps(asdict(model.dims))
    metadata = {"dims": dims, "sha256": _checksum(dims, state), **(notes or {})}
    with atomic.replacing(path) as part:
        save_file(state, part, metadata=metadata)
