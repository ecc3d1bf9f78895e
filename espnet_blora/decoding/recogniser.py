"""Open a Whisper for decoding: a trained experiment of ESPnet's, or a plain one with an adapter.

Nothing of ESPnet is imported, which takes seconds: the modules are openai-whisper's under the names
that they have in ESPnet's model, so the adapter, the checkpoint and their checks are the same.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from whisper.audio import CHUNK_LENGTH
from whisper.model import AudioEncoder, TextDecoder, Whisper

from espnet_blora.adapters import (
    METHODS,
    Adapter,
    add_adapter,
    get_adapter,
    load_adapter,
)
from espnet_blora.adapters.layer import bake_layers
from espnet_blora.decoding.checked_load import apply_scale, check_loads
from espnet_blora.decoding.training_config import (
    DATA,
    TrainedLengths,
    TrainingConfig,
    find_checkpoint,
    for_decoding,
    read_training_config,
)
from espnet_blora.whisper import new_tokens
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.encoder import PAD_TO
from espnet_blora.whisper.packed import WORTH, pack
from espnet_blora.whisper.safe_torch_load import checked_loader
from espnet_blora.whisper.sizes import beside, in_use, same_whisper, usable
from espnet_blora.whisper.vocabulary import Vocabulary

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
log = logging.getLogger(__name__)


@dataclass
class Recogniser:
    """A Whisper that is ready to decode: evaluation mode, nothing to train.

    Attributes:
        encoder: With the adapter's update in its weights, or, opened with `merge=False`, with the
            adapter's layers inside.
        decoder: The same.
        vocabulary: The vocabulary: which id is which token.
        pad_to: How waves are padded ("batch" or "30s").
        alignment_heads: (layer, head) of the decoder's cross-attention heads that follow time.
        name: Where it came from, for messages.
        language: Code of the language of all, if the training's configuration names one.
        languages: Codes of the languages that were trained on, as far as known.
        adapter: Its handle, of a model opened with `merge=False` (or of a method that cannot be
            merged); None when the update is in the weights, and without an adapter.
        lengths: How long the training's utterances were; None where no configuration says it.
    """

    encoder: AudioEncoder
    decoder: TextDecoder
    vocabulary: Vocabulary
    pad_to: str
    alignment_heads: list[tuple[int, int]]
    name: str
    language: str | None = None
    languages: tuple[str, ...] = ()
    adapter: Adapter | None = None
    lengths: TrainedLengths | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.token_embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in; norms, positions and logits are fp32 whatever it is."""
        return self.decoder.token_embedding.weight.dtype

    def as_trained(self) -> nn.Module:
        """Return the same modules as one model, under the names of an experiment's checkpoint."""
        return _Model(self.encoder, self.decoder)


class _Model(nn.ModuleDict):
    """`encoder.encoders` and `decoder.decoders`, as in ESPnet's model of a Whisper."""

    is_encoder_whisper = True  # a checkpoint's unexpected keys are an error

    def __init__(self, encoder: AudioEncoder, decoder: TextDecoder):
        halves = {"encoder": {"encoders": encoder}, "decoder": {"decoders": decoder}}
        super().__init__({name: nn.ModuleDict(half) for name, half in halves.items()})


def open_experiment(
    asr_exp: str | os.PathLike,
    model_file: str | os.PathLike | None = None,
    whisper: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    adapter_scale: float | None = None,
    merge: bool = True,
    packed: bool = True,
) -> Recogniser:
    """Open what a recipe has trained: its config.yaml, its Whisper, its adapter, its checkpoint.

    Args:
        asr_exp: the experiment's folder, or a config.yaml.
        model_file: a checkpoint, by its name in that folder or by its path; by default the best
            epoch's, else the mark of the unadapted base.
        whisper: a published size or a file; used when config.yaml names none, or one that has gone.
        device: where to decode.
        dtype: float32, float16 or bfloat16, of the weights of linear layers, convolutions and
            embeddings; they are loaded, merged and only then rounded.
        adapter_scale: factor on the adapter's update (0: the base, 1: as trained).
        merge: put the mean update into the weights, once, from the base as it is stored; the layers
            are plain Linears then and `adapter` is None. False keeps the layers factored, as
            posterior sampling needs them.
        packed: on the CPU in fp32, where no adapter is left inside, lay the weights out for oneDNN,
            once: much faster, and the last bits differ; the state dict then lacks their weights.
            False keeps openai-whisper's Linears.

    Raises:
        FileNotFoundError: no config.yaml, no checkpoint or no Whisper there.
        ValueError: a model that is not a Whisper or has an adapter of ESPnet's own, a damaged
            checkpoint, or one that does not fit (base, method, rank, keys).
    """
    config = _config_of(asr_exp)
    place = _place(device, dtype, config.pad_to)
    file = find_checkpoint(config.path.parent, model_file)
    base = _base_of(config, whisper)
    model = check_loads(_Model(base.encoder, base.decoder))
    if config.adapter is not None:
        method, options = config.adapter
        add_adapter(model, method, **options).state.trained_on = for_decoding(config.values)
    _load(model, file)
    heads = _heads(base)
    recogniser = Recogniser(
        base.encoder, base.decoder, config.vocabulary, config.pad_to, heads, os.fspath(asr_exp),
        config.language, config.languages, lengths=config.lengths,
    )  # fmt: skip
    return _ready(recogniser, model, place, adapter_scale, merge, packed)


def open_model(
    asr_exp: str | None = None,
    adapter: str | None = None,
    whisper: str | None = None,
    model_file: str | None = None,
    pad_to: str | None = None,
    device: str | None = None,
    **how: Any,
) -> Recogniser:
    """Open an experiment, else a Whisper, with an adapter or without.

    Args:
        asr_exp: the experiment's folder, or a checkpoint in it.
        adapter: an adapter's file, on `whisper`.
        whisper: as of `open_experiment` or `open_whisper`.
        model_file: as of `open_experiment`.
        pad_to: as of `open_whisper`.
        device: by default an accelerator where there is one.
        how: more arguments of both.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: options that contradict each other or the model.
    """
    how["device"] = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if asr_exp is None:
        if whisper is None:
            raise ValueError(
                "which model? --asr_exp EXPERIMENT, --adapter FILE.safetensors --whisper SIZE, or "
                "--whisper SIZE"
            )
        return open_whisper(whisper, adapter, pad_to=pad_to, **how)
    for name, value in (("pad_to", pad_to), ("adapter", adapter)):
        if value is not None:
            raise ValueError(f"--{name}: {asr_exp} has its own, of its training; leave it out")
    if model_file is None and Path(asr_exp).is_file() and asr_exp.endswith(".pth"):
        asr_exp, model_file = os.path.split(asr_exp)
    return open_experiment(asr_exp, model_file, whisper, **how)


def base_state(
    asr_exp: str | os.PathLike, whisper: str | os.PathLike | None = None
) -> dict[str, torch.Tensor]:
    """Return the weights of an experiment's model before training, by its checkpoint's names.

    Args:
        asr_exp: as of `open_experiment`.
        whisper: as of `open_experiment`.
    """
    base = _base_of(_config_of(asr_exp), whisper)
    return _Model(base.encoder, base.decoder).state_dict()


def base_spec(asr_exp: str | os.PathLike, whisper: str | os.PathLike | None = None) -> str:
    """Return the published size or the file of the Whisper that an experiment starts from.

    Args:
        asr_exp: as of `open_experiment`.
        whisper: as of `open_experiment`.
    """
    return whisper_of(_config_of(asr_exp), whisper)


def _config_of(asr_exp: str | os.PathLike) -> TrainingConfig:
    """Read the config.yaml of an experiment, given by its folder or by that file."""
    path = Path(asr_exp)
    if path.suffix == ".zip":
        raise ValueError(
            f"{path} is a packed model: unpack it (unzip {path.name} -d FOLDER), then give the "
            "folder in it that holds config.yaml"
        )
    return read_training_config(path if path.suffix in (".yaml", ".yml") else path / "config.yaml")


def _base_of(config: TrainingConfig, whisper: str | os.PathLike | None) -> Whisper:
    """Build the Whisper that an experiment starts from, with its new languages."""
    spec = whisper_of(config, whisper)
    base = load_whisper(spec, start=False)
    if base.dims.n_vocab != config.vocabulary.n_vocab:
        raise ValueError(
            f"{config.path}: token list with {config.vocabulary.n_vocab} tokens, but Whisper "
            f"{spec!r} has {base.dims.n_vocab}: it was trained with another size. Remedy: name "
            "that one (--whisper)."
        )
    start = config.part("decoder").get("new_language_init", new_tokens.MEAN)
    new_tokens.extend(base.decoder, config.vocabulary.new_languages, start)
    return base


def open_whisper(
    spec: str | os.PathLike,
    adapter_file: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    adapter_scale: float | None = None,
    merge: bool = True,
    pad_to: str | None = None,
    packed: bool = True,
) -> Recogniser:
    """Open a Whisper, with an adapter or without.

    Args:
        spec: published size or checkpoint file.
        adapter_file: a file of `Adapter.save`, of an adapter trained on this very Whisper, in
            ESPnet or on openai-whisper's own model.
        device: as of `open_experiment`.
        dtype: as of `open_experiment`.
        adapter_scale: as of `open_experiment`.
        merge: as of `open_experiment`.
        pad_to: "30s" (Whisper's own window) or "batch"; by default as the adapter was trained,
            where its file says it, else "30s".
        packed: as of `open_experiment`.

    Raises:
        FileNotFoundError: no such Whisper, no such adapter file.
        ValueError: an English-only or damaged Whisper, an adapter that is damaged or of another.
    """
    place = _place(device, dtype, pad_to or "30s")
    base = load_whisper(spec, start=False)
    vocabulary = Vocabulary.of(base.dims.n_vocab)
    if adapter_file is not None:
        adapter = load_adapter(base, Path(adapter_file))
        trained = TrainingConfig(Path(adapter_file), adapter.state.trained_on, vocabulary)
    else:
        whole = dict.fromkeys(("median", "most", "longest"), float(CHUNK_LENGTH))
        trained = TrainingConfig(Path(spec), {DATA: {"seconds": whole}}, vocabulary)
    recogniser = Recogniser(
        base.encoder, base.decoder, vocabulary, pad_to or trained.pad_to, _heads(base),
        os.fspath(adapter_file or spec), trained.language, trained.languages,
        lengths=trained.lengths,
    )  # fmt: skip
    return _ready(recogniser, base, place, adapter_scale, merge, packed)


def set_threads(threads: int | None) -> None:
    """Set torch's number of CPU threads, if one is given.

    Raises:
        ValueError: The number is below 1.
    """
    if threads is not None:
        if threads < 1:
            raise ValueError(f"--threads {threads}: 1 or more is needed")
        torch.set_num_threads(threads)


def _place(
    device: str | torch.device, dtype: str | torch.dtype, pad_to: str
) -> tuple[torch.device, torch.dtype]:
    """Check where and how to compute, before anything is read."""
    if pad_to not in PAD_TO:
        raise ValueError(f"pad_to is {pad_to!r}; allowed: {', '.join(PAD_TO)}")
    kind = DTYPES.get(str(dtype).removeprefix("torch."))
    if kind is None:
        raise ValueError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
    try:
        there = torch.device(device)
        torch.empty(0, device=there)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"device is {str(device)!r}, which cannot be used here ({reason}); cpu always can"
        ) from error
    return there, kind


def whisper_of(config: TrainingConfig, given: str | os.PathLike | None) -> str:
    """Return the Whisper to build: the trained one, here or beside the experiment, else `given`.

    Raises:
        FileNotFoundError: it is neither a published size nor a file.
        ValueError: config.yaml names none, and none is given.
    """
    other = None if given is None else os.fspath(given)
    named = config.whisper or other
    if named is None:
        raise ValueError(
            f"{config.path} names no Whisper: say which it was trained with (--whisper)"
        )
    named = beside(named, config.path)
    if other is not None and not same_whisper(named, other):
        return in_use(named, other, str(config.path))
    if not usable(named):
        raise FileNotFoundError(
            f"{config.path}: trained with Whisper {named!r}, which is neither a published size nor "
            "a file, here or in a folder above config.yaml; say where it is now (--whisper)"
        )
    return named


def read_checkpoint(file: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's state dict, on the CPU.

    Raises:
        ValueError: It cannot be read; names it.
    """
    return checked_loader(partial(torch.load, weights_only=True))(file, map_location="cpu")


def _load(model: nn.Module, file: Path) -> None:
    """Load a checkpoint into the model, checked.

    Raises:
        ValueError: it cannot be read or does not fit; names it.
    """
    state = read_checkpoint(file)
    try:
        # as ESPnet loads; the hooks of `check_loads` and of the adapter refuse what does not fit
        model.load_state_dict(state, strict=False)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{file}: {error}") from error


def _heads(base: Whisper) -> list[tuple[int, int]]:
    """Return the (layer, head) of the decoder's heads that follow time."""
    return [(layer, head) for layer, head in base.alignment_heads.to_dense().nonzero().tolist()]


def _ready(
    recogniser: Recogniser,
    model: nn.Module,
    place: tuple[torch.device, torch.dtype],
    scale: float | None,
    merge: bool,
    packed: bool,
) -> Recogniser:
    """Scale, merge, round and move a loaded model."""
    model.eval().requires_grad_(False)
    apply_scale(model, scale)
    adapter = get_adapter(model)
    if adapter is not None and merge:
        if METHODS[adapter.method].merges:
            adapter.merge()
            bake_layers(adapter.layers)
            adapter = None
        else:
            log.info("adapter '%s' cannot be merged: decoded factored", adapter.method)
    for half in (recogniser.encoder, recogniser.decoder):
        _round(half, place[1])
    model.to(place[0])
    if packed and adapter is None and place == (torch.device("cpu"), torch.float32):
        pack(recogniser.encoder)
        pack(recogniser.decoder, WORTH)
    recogniser.adapter = adapter
    return recogniser


def _round(half: nn.Module, dtype: torch.dtype) -> None:
    """Round what a half multiplies by; norms, positions and an adapter's factors stay fp32."""
    if dtype == torch.float32:
        return
    for module in half.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Embedding)):
            for name in ("weight", "bias", new_tokens.TABLE):
                parameter = getattr(module, name, None)
                if parameter is not None:
                    parameter.data = parameter.data.to(dtype)
