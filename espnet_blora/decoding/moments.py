"""Second moments of a Whisper's layer inputs, over audio without text.

A model transcribes the audio, then reads its own transcripts, and x x^T of each Linear's input x is
summed over positions of the audio: in the encoder and for the memory those that hold audio, not the
padding behind it (most of a 30 s window, which C would otherwise be made of), in the decoder those
of prompt and text. Pieces in which the model hears nothing, or whose text does not end (loops), are
left out and counted; silence, of which a model may write anything, is left out, and named.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import batched

import torch
from torch import Tensor, nn

from espnet_blora.adapters.moments import Sums
from espnet_blora.data.audio import loudness
from espnet_blora.data.unlabelled import Clips
from espnet_blora.decoding.batch import encode_batch
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.decoding.silence import is_silent
from espnet_blora.decoding.transcriber import Piece, Transcriber
from espnet_blora.whisper.attention import padding_mask
from espnet_blora.whisper.decoder import states
from espnet_blora.whisper.encoder import memory_lengths

MEMORY = "memory"
BLOCK = 64
"""Utterances between two points at which the sums can be saved."""

log = logging.getLogger(__name__)


def inputs_of(linears: Iterable[str]) -> dict[str, str]:
    """Return {Linear: the name of its input} for Linears of a Whisper, by their names.

    Query, key and value of self-attention read the same; keys and values of all cross-attentions
    read the memory; any other Linear has an input of its own.

    >>> list(inputs_of(["b.0.attn.key", "b.1.cross_attn.value", "b.1.cross_attn.query"]).values())
    ['b.0.attn', 'memory', 'b.1.cross_attn.query']
    """
    inputs = {}
    for name in linears:
        attention, _, part = name.rpartition(".")
        kind = attention.rpartition(".")[2]
        if kind == "cross_attn" and part in ("key", "value"):
            inputs[name] = MEMORY
        elif kind == "attn" and part in ("query", "key", "value"):
            inputs[name] = attention
        else:
            inputs[name] = name
    return inputs


class Listener(Transcriber):
    """A transcriber that adds up x x^T of what it hears.

    Attributes:
        sums: What has been heard.
        spoken: Names of what holds more than silence.
    """

    def __init__(self, recogniser: Recogniser, sums: Sums, options: DecodingOptions) -> None:
        """Take the model and the sums to add to; `sums.layers` are its Linears.

        All of the audio is heard, pauses included, as in stage 12, and nothing is sampled again.
        """
        once = replace(options, drop_quiet=False, temperature_increment_on_fallback=0.0)
        super().__init__(recogniser, once)
        self.sums = sums
        self.spoken: set[str] = set()
        self.first: dict[str, nn.Module] = {}  # of the Linears that read an input
        model = recogniser.as_trained()
        for name, key in sums.layers.items():
            self.first.setdefault(key, model.get_submodule(name))

    def _recognise(self, batch: list[Piece]) -> None:
        super()._recognise(batch)
        sound = [piece for piece in batch if not is_silent(loudness(piece.wave.numpy()))]
        self.spoken.update(piece.file.name for piece in sound)
        texts = {
            row: segment.tokens
            for row, piece in enumerate(sound)
            for segment in piece.file.segments[piece.begin]  # one; none of silence
            if segment.tokens and segment.complete
        }
        if texts:
            pieces = [sound[row] for row in texts]
            for name, (product, count) in self._products(pieces, list(texts.values())).items():
                self.sums.add(name, product, count)
        self.sums.left_out += len(sound) - len(texts)

    @torch.inference_mode()
    def _products(
        self, pieces: list[Piece], texts: list[tuple[int, ...]]
    ) -> dict[str, tuple[Tensor, int]]:
        """Return {input: (sum of x x^T, positions)} while the model reads its own texts."""
        # Which positions count: of the audio, and of prompt and text.
        prompts = [self._prompt(str(piece.file.language)) for piece in pieces]
        read = [torch.tensor([*p, *text]) for p, text in zip(prompts, texts, strict=True)]
        tokens = nn.utils.rnn.pad_sequence(read, batch_first=True)  # (B, L)
        samples = torch.tensor([len(piece.wave) for piece in pieces])
        heard = memory_lengths(samples, "batch")  # (B,)
        written = torch.tensor([len(ids) for ids in read])
        products: dict[str, tuple[Tensor, int]] = {}

        def take(name: str, x: Tensor) -> None:
            audible = name == MEMORY or name.startswith("encoder.")
            mask = padding_mask(heard if audible else written, x.shape[1], x.device)
            rows = x.flatten(0, 1) if mask is None else x[mask.to(x.device)]  # (positions, d)
            products[name] = (rows.float().T @ rows.float(), len(rows))

        # One pass, with an ear at the first Linear that reads an input.
        hooks = [
            linear.register_forward_pre_hook(lambda _, given, name=name: take(name, given[0]))
            for name, linear in self.first.items()
        ]
        try:
            names = [piece.file.name for piece in pieces]
            memory, lengths = encode_batch(self.recogniser, [p.wave for p in pieces], names)
            states(self.recogniser.decoder, tokens.to(memory.device), memory, lengths)
        finally:
            for hook in hooks:
                hook.remove()
        return products


def listen(
    recogniser: Recogniser,
    sources: Mapping[str, Clips],
    sums: Sums,
    options: DecodingOptions,
    done: Callable[[Sums], None],
) -> None:
    """Add what is heard in `sources` to `sums`, except what they hold already.

    Utterances go through in blocks, so that an interrupted run that goes on from the last block
    gives the same bits.

    Args:
        recogniser: The opened model, with its layers as they are (`merge=False, packed=False`).
        sources: Audio by the name of its source; a block never spans two.
        sums: What is added to.
        options: How to transcribe.
        done: Called after every block.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: Audio cannot be used (empty, damaged, NaN), or gives NaN; names the utterance.
            No transcript of a source ends.
    """
    listener = Listener(recogniser, sums, options)
    for source, clips in sources.items():
        for block in batched(clips, BLOCK):
            fresh = {uid: clips.places[uid] for uid in block if uid not in sums.heard}
            for transcript in listener.transcribe(Clips(fresh)):
                if transcript.error:
                    raise ValueError(transcript.error)
                if transcript.name in listener.spoken:
                    sums.heard[transcript.name] = transcript.duration
                else:
                    log.warning("%s: silence; not counted", transcript.name)
            if fresh:
                done(sums)
                log.info("%s: %d utterances heard", source, len(sums.heard))
