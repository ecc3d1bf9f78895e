"""One load for two halves: ESPnet builds the encoder, then the decoder, of one checkpoint."""

from __future__ import annotations

from argparse import Namespace
from typing import NamedTuple

import torch
from torch import Tensor
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder

from espnet_blora.plugin.settings import Settings
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.sizes import dims_of, empty_modules, in_use, same_whisper


class Parts(NamedTuple):
    """A Whisper taken apart; `alignment_heads` (layers, heads) bool is None on the meta device."""

    spec: str
    device: str
    dims: ModelDimensions
    encoder: AudioEncoder
    decoder: TextDecoder
    alignment_heads: Tensor | None


_left_over: list[Parts] = []
"""At most one: what the encoder's constructor left for the decoder's."""


def _load(spec: str) -> Parts:
    device = torch.empty(0).device  # the default device: "meta" under torch.device("meta")
    if device.type == "meta":
        dims = dims_of(spec)
        return Parts(spec, device.type, dims, *empty_modules(dims), None)
    model = load_whisper(spec)
    heads = model.alignment_heads.to_dense()
    return Parts(spec, device.type, model.dims, model.encoder, model.decoder, heads)


def parts_for_encoder(spec: str) -> Parts:
    """Load `spec` and keep it for the decoder that is built next."""
    forget()
    _left_over.append(_load(spec))
    return _left_over[0]


def parts_for_decoder(spec: str) -> Parts:
    """What the encoder left if it is of the same Whisper, else a load of its own."""
    kept = _left_over.pop() if _left_over else None
    if kept is not None and (kept.spec, kept.device) == (spec, torch.empty(0).device.type):
        return kept
    return _load(spec)


def forget() -> None:
    """Drop what no decoder has taken."""
    _left_over.clear()


def fill_whisper_model(args: Namespace, trained: bool = False) -> str | None:
    """Put the launcher's `--whisper` into `encoder_conf` and `decoder_conf` where they name none.

    Args:
        args: the task's arguments; changed in place.
        trained: the arguments are the `config.yaml` of a trained model, which decides itself; the
            launcher's is used only when the file named there has gone (a packed model, moved).

    Returns:
        The Whisper in use, None when neither half is one.

    Raises:
        ValueError: none is named anywhere, or two different ones are.
    """
    launcher = Settings.current().whisper
    named = None
    for part in ("encoder", "decoder"):
        if getattr(args, part, None) != "whisper":
            continue
        conf = dict(getattr(args, f"{part}_conf", None) or {})
        given = conf.get("whisper_model")
        if given is None and launcher is None:
            raise ValueError(
                f"{part}: whisper, but which? Give --whisper SIZE_OR_FILE to the launcher (before "
                f"-m) or {part}_conf: {{whisper_model: ...}} in the yaml"
            )
        if given is not None and launcher is not None and not same_whisper(given, launcher):
            if not trained:
                raise ValueError(
                    f"{part}_conf.whisper_model is {given!r} in the yaml but the launcher was "
                    f"given --whisper {launcher!r}: remove one, or make them equal"
                )
            given = in_use(given, launcher, part)
        conf["whisper_model"] = given or launcher
        setattr(args, f"{part}_conf", conf)
        if named is not None and not same_whisper(named, conf["whisper_model"]):
            raise ValueError(
                f"encoder of Whisper {named!r} with a decoder of {conf['whisper_model']!r}: "
                "both halves must come from one model"
            )
        named = conf["whisper_model"]
    return named
