"""Dimensions of a Whisper without its weights, and empty modules of these dimensions.

openai-whisper ships the dimensions only inside its checkpoints, so the published ones are repeated
here; a test compares them with the alignment-head tables that the package does ship.

Source: Radford et al. 2022 (arXiv:2212.04356), table 1 (layers, width, heads); the large-v3 and
large-v3-turbo release notes in openai-whisper's model card (128 mels, Cantonese; 4 decoder layers).
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder

from espnet_blora.whisper.checkpoint import dims_of_file, hub_name

log = logging.getLogger(__name__)


def _dims(width: int, heads: int, layers: int, **changed: int) -> ModelDimensions:
    dims = ModelDimensions(
        n_mels=80,
        n_audio_ctx=1500,
        n_audio_state=width,
        n_audio_head=heads,
        n_audio_layer=layers,
        n_vocab=51865,
        n_text_ctx=448,
        n_text_state=width,
        n_text_head=heads,
        n_text_layer=layers,
    )
    return replace(dims, **changed)


_BY_WIDTH = {
    "tiny": _dims(384, 6, 4),
    "base": _dims(512, 8, 6),
    "small": _dims(768, 12, 12),
    "medium": _dims(1024, 16, 24),
}
_LARGE = _dims(1280, 20, 32)
_LARGE_V3 = replace(_LARGE, n_mels=128, n_vocab=51866)
_TURBO = replace(_LARGE_V3, n_text_layer=4)

PUBLISHED: dict[str, ModelDimensions] = {
    **_BY_WIDTH,
    **{f"{name}.en": replace(dims, n_vocab=51864) for name, dims in _BY_WIDTH.items()},
    "large-v1": _LARGE,
    "large-v2": _LARGE,
    "large-v3": _LARGE_V3,
    "large": _LARGE_V3,
    "large-v3-turbo": _TURBO,
    "turbo": _TURBO,
}
"""Every name of `whisper.available_models()` and its dimensions."""


def dims_of(spec: str | os.PathLike) -> ModelDimensions:
    """Dimensions of a published size (no file needed) or of a local checkpoint.

    Raises:
        FileNotFoundError: neither a published size nor a file.
        ValueError: a file that is not a Whisper checkpoint.
    """
    spec = os.fspath(spec)
    if spec in PUBLISHED:
        return PUBLISHED[spec]
    found = os.stat(spec) if os.path.isfile(spec) else None
    return _dims_of_file(spec, (found.st_mtime_ns, found.st_size) if found else None)


@lru_cache(maxsize=16)
def _dims_of_file(spec: str, version: tuple[int, int] | None) -> ModelDimensions:
    return dims_of_file(spec)


def empty_modules(
    dims: ModelDimensions, device: str | torch.device = "meta"
) -> tuple[AudioEncoder, TextDecoder]:
    """An encoder and a decoder without trained weights; on "meta" they take no memory.

    `whisper.model.Whisper` itself cannot be made on the meta device (it converts its alignment
    heads to a sparse tensor), these two can.
    """
    with torch.device(device):
        encoder = AudioEncoder(
            dims.n_mels, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head, dims.n_audio_layer
        )
        decoder = TextDecoder(
            dims.n_vocab, dims.n_text_ctx, dims.n_text_state, dims.n_text_head, dims.n_text_layer
        )
    return encoder, decoder


def usable(spec: str) -> bool:
    """Tell whether `spec` is a published size or a file that exists."""
    return spec in PUBLISHED or os.path.isfile(spec)


def beside(spec: str, config: Path) -> str:
    """Return `spec`, or where a file of that name lies from an experiment's config.yaml.

    A packed model has it in the same folder; a recipe is run from the folder that its exp/ is in,
    and names files from there.
    """
    if usable(spec):
        return spec
    folder = config.resolve().parent
    places = [folder / Path(spec).name, *(above / spec for above in (folder, *folder.parents))]
    return next((str(place) for place in places if place.is_file()), spec)


def same_whisper(one: str, other: str) -> bool:
    """Tell whether two specs name the same Whisper: one size or file, by whatever name or path."""
    if os.path.isfile(one) and os.path.isfile(other):
        return os.path.samefile(one, other)
    return one == other or "" != hub_name(one) == hub_name(other)  # turbo is large-v3-turbo


def in_use(trained: str, given: str, what: str) -> str:
    """Return the Whisper to load: the one a model was trained with, or another that is given.

    The trained model decides; the other counts only when that file has gone (a packed
    model, moved). Warns, naming both; `what` is the half or the model that is loaded.
    """
    chosen = trained if usable(trained) else given
    log.warning(
        "%s: trained with Whisper %r, but %r is asked for; using %r", what, trained, given, chosen
    )
    return chosen
