"""Whisper's two halves as ESPnet's encoder and decoder, from one load of one checkpoint."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.legacy.nets.scorer_interface import BatchScorerInterface
from torch import Tensor
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder

from espnet_blora.plugin.memory_cache import MemoryCache
from espnet_blora.plugin.settings import Settings
from espnet_blora.plugin.vocabulary import check_vocabulary
from espnet_blora.whisper import decoder as whisper_decoder
from espnet_blora.whisper import new_tokens
from espnet_blora.whisper.attention import padding_mask
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.decoder import KVCache
from espnet_blora.whisper.encoder import PAD_TO, encode_features, log_mel
from espnet_blora.whisper.sizes import beside, dims_of, empty_modules, in_use, same_whisper
from espnet_blora.whisper.vocabulary import Vocabulary

NEVER = -1.0e10
"""Score of a token that must not come: finite (also in fp16), so that sums never become NaN."""


class Parts(NamedTuple):
    """A Whisper taken apart.

    Attributes:
        spec: Published size or checkpoint file.
        device: Type of the device that it was loaded on.
        dims: Its sizes.
        encoder: Its audio encoder.
        decoder: Its text decoder.
    """

    spec: str
    device: str
    dims: ModelDimensions
    encoder: AudioEncoder
    decoder: TextDecoder


_left_over: list[Parts] = []
"""At most one: what the encoder's constructor left for the decoder's."""


def _load(spec: str) -> Parts:
    """Load a Whisper on the default device; on `meta` only its shapes."""
    device = torch.empty(0).device  # the default device: "meta" under torch.device("meta")
    if device.type == "meta":
        dims = dims_of(spec)
        return Parts(spec, device.type, dims, *empty_modules(dims))
    model = load_whisper(spec)
    return Parts(spec, device.type, model.dims, model.encoder, model.decoder)


def parts_for_encoder(spec: str) -> Parts:
    """Load `spec` and keep it for the decoder that is built next."""
    forget()
    _left_over.append(_load(spec))
    return _left_over[0]


def parts_for_decoder(spec: str) -> Parts:
    """Return what the encoder left if it is of the same Whisper, else load it."""
    parts = _left_over.pop() if _left_over else None
    if parts is not None and (parts.spec, parts.device) == (spec, torch.empty(0).device.type):
        return parts
    return _load(spec)


def forget() -> None:
    """Drop the parts that no decoder has taken."""
    _left_over.clear()


def fill_whisper_model(args: Namespace, trained: Path | None = None) -> str | None:
    """Put the launcher's `--whisper` into `encoder_conf` and `decoder_conf` where they name none.

    Args:
        args: The task's arguments; changed in place.
        trained: The `config.yaml` of a trained model that the arguments are of. It decides itself;
            the launcher's is used only when the file named there has gone, beside it too.

    Returns:
        The Whisper in use, None when neither half is one.

    Raises:
        ValueError: None is named anywhere, or two different ones are.
    """
    launcher = Settings.current().whisper
    spec = None
    for part in ("encoder", "decoder"):
        if getattr(args, part, None) != "whisper":
            continue
        # What the yaml or the launcher says; both must say the same in a new training.
        conf = dict(getattr(args, f"{part}_conf", None) or {})
        given = conf.get("whisper_model")
        if given is not None and trained is not None:
            given = beside(str(given), trained)
        if given is None and launcher is None:
            raise ValueError(
                f"{part}: whisper, but which? Give --whisper SIZE_OR_FILE to the launcher (before "
                f"-m) or {part}_conf: {{whisper_model: ...}} in the yaml"
            )
        if given is not None and launcher is not None and not same_whisper(given, launcher):
            if trained is None:
                raise ValueError(
                    f"{part}_conf.whisper_model is {given!r} in the yaml but the launcher was "
                    f"given --whisper {launcher!r}: remove one, or make them equal"
                )
            given = in_use(given, launcher, part)
        conf["whisper_model"] = given or launcher
        setattr(args, f"{part}_conf", conf)

        # Both halves of one Whisper.
        if spec is not None and not same_whisper(spec, conf["whisper_model"]):
            raise ValueError(
                f"encoder of Whisper {spec!r} with a decoder of {conf['whisper_model']!r}: "
                "both halves must come from one model"
            )
        spec = conf["whisper_model"]
    return spec


def check_dropout(rate: float, where: str) -> None:
    """Refuse a dropout inside Whisper.

    Raises:
        ValueError: `rate` is not 0.
    """
    if rate != 0:
        raise ValueError(
            f"{where}.dropout_rate is {rate}, allowed is 0.0: Whisper has no dropout; "
            "adapter_conf.dropout_rate drops the adapter's input"
        )


class WhisperEncoder(AbsEncoder):
    """Waves at 16 kHz to Whisper's memory; an utterance's memory does not depend on its batch.

    `encoders` is openai-whisper's `AudioEncoder` (adapter targets: `encoder.encoders.blocks...`).
    """

    def __init__(
        self,
        input_size: int = 1,
        whisper_model: str = "small",
        pad_to: str = "30s",
        dropout_rate: float = 0.0,
        use_specaug: bool = False,
        specaug_conf: dict | None = None,
        activation_checkpointing: bool = False,
        memory_cache: bool | str = False,
        memory_cache_ram: float = 4.0,
        memory_cache_disk: float = 50.0,
    ):
        """Load the encoder.

        Args:
            input_size: Unused; ESPnet passes 1 for raw waves.
            whisper_model: Published size or checkpoint file.
            pad_to: "30s" (Whisper's own window, exact for published models) or "batch" (only to
                the longest utterance, masked: faster, and what a fine-tuned model can be used to).
            dropout_rate: 0.0, kept for ESPnet's yaml files.
            use_specaug: Mask the log-mel features in training.
            specaug_conf: Arguments of ESPnet's `SpecAug`.
            activation_checkpointing: Compute each block again in the backward pass instead of
                keeping its activations: the same gradients, much less memory, more time.
            memory_cache: Keep what a frozen encoder makes of each utterance: true, false, or "auto"
                (where it can be).
            memory_cache_ram: GB of RAM for it per process.
            memory_cache_disk: GB of files for what is over, beside the experiment.

        Raises:
            ValueError: An option out of range, or no such Whisper.
        """
        super().__init__()
        check_dropout(dropout_rate, "encoder_conf")
        if pad_to not in PAD_TO:
            raise ValueError(f"encoder_conf.pad_to is {pad_to!r}; allowed: {', '.join(PAD_TO)}")
        parts = parts_for_encoder(str(whisper_model))
        self.encoders = parts.encoder
        self.n_mels = parts.dims.n_mels
        self.pad_to = pad_to
        self.activation_checkpointing = activation_checkpointing
        self.specaug = SpecAug(**(specaug_conf or {})) if use_specaug else None
        if memory_cache not in (True, False, "auto"):
            raise ValueError(
                f"encoder_conf.memory_cache is {memory_cache!r}; allowed: true, false, auto"
            )
        self.memory_cache = memory_cache
        self.memory_cache_ram, self.memory_cache_disk = memory_cache_ram, memory_cache_disk
        self.cache: MemoryCache | None = None

    def output_size(self) -> int:
        """Return the width of the memory."""
        return self.encoders.ln_post.normalized_shape[-1]

    def forward(
        self, xs_pad: Tensor, ilens: Tensor, prev_states: Tensor | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """Return the memory (B, T', n_state) of waves (B, S), its lengths (B,), and None.

        Audio of any length down to nothing is accepted (padded to one frame), so ESPnet's
        `TooShortUttError` never arises.

        Raises:
            ValueError: Several channels, or more than 30 s.
        """
        if xs_pad.dim() != 2:
            raise ValueError(
                f"speech of shape {tuple(xs_pad.shape)}: Whisper takes one channel, (batch, "
                "samples); make the audio mono in stage 1"
            )
        encode = self.encode if self.cache is None else self.cache.memory_of
        return *encode(xs_pad, ilens), None

    def encode(self, xs_pad: Tensor, ilens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memory (B, T', n_state) of waves (B, S), and its lengths (B,)."""
        # Mel power overflows half precision.
        with torch.autocast(xs_pad.device.type, enabled=False):
            features, frames = log_mel(xs_pad, ilens, self.n_mels, self.pad_to)
        if self.specaug is not None and self.training:
            # SpecAug takes (B, frames, mels) and may write into the padding.
            features = self.specaug(features.transpose(1, 2), frames)[0].transpose(1, 2)
            mask = padding_mask(frames, features.shape[-1], features.device)
            if mask is not None:
                features = features.masked_fill(~mask.unsqueeze(1), 0.0)
        recomputed = self.activation_checkpointing and self.training
        return encode_features(self.encoders, features, frames, recomputed)


class WhisperDecoder(AbsDecoder, BatchScorerInterface):
    """Next-token scores given a memory; in a search keys and values are computed once.

    `decoders` is openai-whisper's `TextDecoder` (adapter targets: `decoder.decoders.blocks...`).
    The state of a hypothesis in ESPnet's batch search is (search number, row in this object's
    cache): hypotheses that have ended keep such a pair and pin no tensor.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        whisper_model: str = "small",
        dropout_rate: float = 0.0,
        use_cache: bool = True,
        new_languages: Sequence[str] = (),
        new_language_init: str = new_tokens.MEAN,
        activation_checkpointing: bool = False,
    ):
        """Take the decoder of the Whisper that the encoder has loaded.

        Args:
            vocab_size: Length of the token list.
            encoder_output_size: Width of the memory.
            whisper_model: Published size or checkpoint file.
            dropout_rate: 0.0, kept for ESPnet's yaml files.
            use_cache: False recomputes every prefix at every step (the baseline to compare with).
            new_languages: Codes of languages added to this Whisper's; the token list says them.
            new_language_init: What their embeddings start from: `mean` of all languages', or the
                code of one that the Whisper has.
            activation_checkpointing: As of the encoder.

        Raises:
            ValueError: Token list or memory of another Whisper, or an option out of range.
        """
        super().__init__()
        check_dropout(dropout_rate, "decoder_conf")
        parts = parts_for_decoder(str(whisper_model))
        vocabulary = Vocabulary.of(parts.dims.n_vocab, new_languages)
        if vocab_size != vocabulary.size:
            check_vocabulary(Vocabulary.of(vocab_size), parts.dims.n_vocab, str(whisper_model))
        if encoder_output_size != parts.dims.n_text_state:
            raise ValueError(
                f"encoder output of width {encoder_output_size}, but Whisper {whisper_model!r} "
                f"takes {parts.dims.n_text_state}: no postencoder, and both halves of one model"
            )
        self.decoders = parts.decoder
        new_tokens.extend(self.decoders, vocabulary.new_languages, new_language_init)
        self.n_new = len(vocabulary.new_languages)
        self.eot = vocabulary.eot
        self.n_text_ctx = parts.dims.n_text_ctx
        self.use_cache = use_cache
        self.activation_checkpointing = activation_checkpointing
        self._cache: KVCache | None = None
        self._search = 0

    def forward(
        self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, ys_in_lens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (B, L, n_vocab) fp32 of token ids (B, L), and their lengths (B,).

        The logits are those of the checkpoint's tokens: new languages are prompts only.
        """
        return whisper_decoder.forward(self.decoders, ys_in_pad, hs_pad, hlens), ys_in_lens

    def logits_at(self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, wanted: Tensor) -> Tensor:
        """Return the logits (N, n_vocab) fp32 of the N positions where `wanted` (B, L) is true.

        Rows of `forward`'s, in its order; the product with the vocabulary is theirs alone.
        """
        recomputed = self.activation_checkpointing and self.training
        states = whisper_decoder.states(self.decoders, ys_in_pad, hs_pad, hlens, recomputed)
        return whisper_decoder.logits_of(self.decoders, states[wanted])

    # -- one hypothesis at a time: ESPnet's plain BeamSearch ------------------------------------

    def init_state(self, x: Tensor) -> KVCache | None:
        """Return a cache of one row over the memory `x` (T, n_state)."""
        return KVCache(self.decoders, x.unsqueeze(0)) if self.use_cache else None

    def score(self, y: Tensor, state: KVCache | None, x: Tensor) -> tuple[Tensor, Any]:
        """Return log probabilities (vocab_size,) after the prefix `y` (L,), and the next state."""
        ys = y.unsqueeze(0)
        if not self._room(ys):
            return self._only_eot(ys).squeeze(0), state
        if state is None:
            logits = whisper_decoder.forward(self.decoders, ys, x.unsqueeze(0))[:, -1]
        else:
            state = state.fork()
            logits = state.step(ys[:, state.length :])
        return self._log_probabilities(ys, logits).squeeze(0), state

    # -- all hypotheses of several utterances: BatchBeamSearch ----------------------------------

    def batch_init_state(self, x: Tensor, xs_lengths: Tensor | None = None) -> Any:
        """Start a search over the memory (T, n_state) or (B, T, n_state), not yet replicated."""
        if not self.use_cache:
            return None
        memory = x.unsqueeze(0) if x.dim() == 2 else x
        self._cache = KVCache(self.decoders, memory, xs_lengths)
        self._search += 1
        return (self._search, 0)

    def batch_score(
        self, ys: Tensor, states: list[Any], xs: Tensor, xs_mask: Tensor | None = None
    ) -> tuple[Tensor, list[Any]]:
        """Return log probabilities (N, vocab_size) after prefixes `ys` (N, L), and N states.

        `xs` (N, T, n_state) and `xs_mask` (N, 1, T) are needed only without the cache.

        Raises:
            RuntimeError: A state of an earlier search (two searches on one decoder at once).
        """
        n = ys.shape[0]
        # Without a cache every prefix is computed anew.
        if not self.use_cache:
            if not self._room(ys):
                return self._only_eot(ys), [None] * n
            lengths = None if xs_mask is None else xs_mask.reshape(n, -1).sum(1)
            logits = whisper_decoder.forward(self.decoders, ys, xs, lengths)[:, -1]
            return self._log_probabilities(ys, logits), [None] * n
        # With it only the last token: the rows follow the hypotheses that survived.
        if self._cache is None or {number for number, _ in states} != {self._search}:
            raise RuntimeError(
                "a hypothesis of another search: one decoder serves one batch search at a time"
            )
        self._cache.select([row for _, row in states])
        new_states = [(self._search, row) for row in range(n)]
        if not self._room(ys):
            return self._only_eot(ys), new_states
        logits = self._cache.step(ys[:, self._cache.length :])
        return self._log_probabilities(ys, logits), new_states

    def release_cache(self) -> None:
        """Free the keys and values of the last search."""
        self._cache = None

    # -- the end of the positions ---------------------------------------------------------------

    def _room(self, ys: Tensor) -> bool:
        """Tell whether the prefixes (N, L) fit the positions."""
        return ys.shape[1] <= self.n_text_ctx

    def _never(self) -> float:
        """Return the score of a token that must not come, in the model's precision."""
        return max(NEVER, torch.finfo(self.decoders.ln.weight.dtype).min / 4)

    def _only_eot(self, ys: Tensor) -> Tensor:
        """Return scores (N, vocab_size) that allow end-of-text alone."""
        size = self.decoders.token_embedding.num_embeddings + self.n_new
        scores = torch.full((ys.shape[0], size), self._never(), device=ys.device)
        scores[:, self.eot] = 0.0
        return scores

    def _log_probabilities(self, ys: Tensor, logits: Tensor) -> Tensor:
        """Return scores (N, vocab_size) of logits (N, n_vocab); only the end fits last."""
        scores = torch.log_softmax(logits, dim=-1)
        if self.n_new:  # padding copies, even by nothing
            scores = torch.nn.functional.pad(scores, (0, self.n_new), value=self._never())
        if ys.shape[1] < self.n_text_ctx:
            return scores
        forced = torch.full_like(scores, self._never())  # the positions end: only the end fits
        forced[:, self.eot] = scores[:, self.eot]
        return forced
