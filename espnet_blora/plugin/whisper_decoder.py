"""Whisper's text decoder as an ESPnet decoder and batch scorer (`decoder: whisper`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from espnet2.legacy.nets.scorer_interface import BatchScorerInterface
from torch import Tensor

from espnet_blora.plugin.loading import parts_for_decoder
from espnet_blora.plugin.vocabulary import check_vocabulary
from espnet_blora.plugin.whisper_encoder import check_dropout
from espnet_blora.whisper import decoder as whisper_decoder
from espnet_blora.whisper import new_tokens
from espnet_blora.whisper.cache import KVCache
from espnet_blora.whisper.vocabulary import Vocabulary

NEVER = -1.0e10
"""Score of a token that must not come: finite (also in fp16), so that sums never become NaN."""


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
    ):
        """Take the decoder of the Whisper that the encoder has loaded.

        Args:
            vocab_size: length of the token list.
            encoder_output_size: width of the memory.
            whisper_model: published size or checkpoint file.
            dropout_rate: 0.0, kept for ESPnet's yaml files.
            use_cache: False recomputes every prefix at every step (the baseline to compare with).
            new_languages: codes of languages added to this Whisper's; the token list says them.
            new_language_init: what their embeddings start from: `mean` of all languages', or the
                code of one that the Whisper has.

        Raises:
            ValueError: token list or memory of another Whisper, or an option out of range.
        """
        super().__init__()
        check_dropout(dropout_rate, "decoder_conf")
        parts = parts_for_decoder(str(whisper_model))
        layout = Vocabulary.of(parts.dims.n_vocab, new_languages)
        if vocab_size != layout.size:
            check_vocabulary(Vocabulary.of(vocab_size), parts.dims.n_vocab, str(whisper_model))
        if encoder_output_size != parts.dims.n_text_state:
            raise ValueError(
                f"encoder output of width {encoder_output_size}, but Whisper {whisper_model!r} "
                f"takes {parts.dims.n_text_state}: no postencoder, and both halves of one model"
            )
        self.decoders = parts.decoder
        new_tokens.extend(self.decoders, layout.new_languages, new_language_init)
        self.n_new = len(layout.new_languages)
        self.alignment_heads = parts.alignment_heads
        self.eot = layout.eot
        self.n_text_ctx = parts.dims.n_text_ctx
        self.use_cache = use_cache
        self._cache: KVCache | None = None
        self._search = 0

    def forward(
        self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, ys_in_lens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Memory (B, T, n_state) and token ids (B, L) -> logits (B, L, n_vocab) fp32, lengths.

        The logits are those of the checkpoint's tokens: new languages are prompts only.
        """
        return whisper_decoder.forward(self.decoders, ys_in_pad, hs_pad, hlens), ys_in_lens

    # -- one hypothesis at a time: ESPnet's plain BeamSearch ------------------------------------

    def init_state(self, x: Tensor) -> KVCache | None:
        """A cache of one row over the memory `x` (T, n_state)."""
        return KVCache(self.decoders, x.unsqueeze(0)) if self.use_cache else None

    def score(self, y: Tensor, state: KVCache | None, x: Tensor) -> tuple[Tensor, Any]:
        """Log probabilities (vocab_size,) after the prefix `y` (L,), and the next state."""
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
        """Log probabilities (N, vocab_size) after the prefixes `ys` (N, L), and N next states.

        `xs` (N, T, n_state) and `xs_mask` (N, 1, T) are needed only without the cache.

        Raises:
            RuntimeError: a state of an earlier search (two searches on one decoder at once).
        """
        n = ys.shape[0]
        if not self.use_cache:
            if not self._room(ys):
                return self._only_eot(ys), [None] * n
            lengths = None if xs_mask is None else xs_mask.reshape(n, -1).sum(1)
            logits = whisper_decoder.forward(self.decoders, ys, xs, lengths)[:, -1]
            return self._log_probabilities(ys, logits), [None] * n
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
        return ys.shape[1] <= self.n_text_ctx

    def _never(self) -> float:
        return max(NEVER, torch.finfo(self.decoders.ln.weight.dtype).min / 4)

    def _only_eot(self, ys: Tensor) -> Tensor:
        size = self.decoders.token_embedding.num_embeddings + self.n_new
        scores = torch.full((ys.shape[0], size), self._never(), device=ys.device)
        scores[:, self.eot] = 0.0
        return scores

    def _log_probabilities(self, ys: Tensor, logits: Tensor) -> Tensor:
        scores = torch.log_softmax(logits, dim=-1)
        if self.n_new:  # padding copies, even by nothing
            scores = torch.nn.functional.pad(scores, (0, self.n_new), value=self._never())
        if ys.shape[1] < self.n_text_ctx:
            return scores
        forced = torch.full_like(scores, self._never())  # the positions end: only the end fits
        forced[:, self.eot] = scores[:, self.eot]
        return forced
