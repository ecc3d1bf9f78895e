r"""Scores of given texts: likelihood, confidence per token and word, and uncertainty in its parts.

With S draws W_s from the posterior (S = 1 without sampling), p_s the distribution of the next token
under W_s and p their mean, the doubt at a token has two parts (nats; H[p] = -sum_v p(v) log p(v)):

.. math:: H[p] = \frac{1}{S} \sum_s H[p_s] + I

`total` is H[p]. `data`, the mean over draws, is what the sound itself leaves open. `model` is
I, the mutual information of token and weights: where the draws disagree; 0 with one draw.

Sources: for the parts Depeweg et al. 2018 (arXiv 1710.07283) and Houlsby et al. 2011 (arXiv
1112.5745); for the temperature Guo et al. 2017 (arXiv 1706.04599).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from whisper.model import AudioEncoder, TextDecoder

from espnet_blora.decoding.words import Split, word_spans
from espnet_blora.whisper.decoder import forward, logits_of, states
from espnet_blora.whisper.encoder import encode
from espnet_blora.whisper.vocabulary import Vocabulary

COMBINE: dict[str, Callable] = {"product": np.sum, "min": np.min, "mean": np.mean}
"""Of the log probabilities of a word's tokens: their joint probability, the smallest one, or their
geometric mean."""

CHUNK = 2**23
"""Logits computed at once, samples x positions x vocabulary."""


@dataclass(frozen=True, eq=False)
class TokenScores:
    """What a model says of the L >= 1 tokens of a text, each after the text before it.

    Attributes:
        ids: the tokens.
        log_prob: (L,) log p(token), nats, p the mean over draws.
        total: (L,) H[p], nats.
        data: (L,) mean of H[p_s], nats.
    """

    ids: tuple[int, ...]
    log_prob: np.ndarray
    total: np.ndarray
    data: np.ndarray

    @property
    def model(self) -> np.ndarray:
        """(L,) total - data, nats; rounding below 0 is taken for 0."""
        return np.maximum(self.total - self.data, 0.0)

    @property
    def confidence(self) -> float:
        """The geometric mean of the tokens' probabilities."""
        return math.exp(self.log_prob.mean())

    def mean_uncertainty(self) -> dict[str, float]:
        """Return `total`, `data` and `model` in nats per token (times L: of the text)."""
        parts = {"total": self.total, "data": self.data, "model": self.model}
        return {name: float(values.mean()) for name, values in parts.items()}


@dataclass(frozen=True)
class WordConfidence:
    """A word, and the probability, as the model has it, that it is right."""

    word: str
    confidence: float


@torch.inference_mode()
def token_scores(
    decoder: TextDecoder,
    memory: Tensor,
    memory_lengths: Tensor,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    n_samples: int = 1,
    temperature: float = 1.0,
) -> list[TokenScores]:
    """Score given texts by one pass of the decoder over all of them (teacher forcing).

    Logits are formed for a few positions at a time; never of all. No filter is applied: a token
    that a search was forbidden has its probability here.

    Args:
        decoder: a `whisper.model.TextDecoder`; inside `Adapter.sampling_batch` for S > 1.
        memory: encoder output, (S * B, T, n_state), sample-major: row s * B + b.
        memory_lengths: real positions of each row, (S * B,).
        prompts: B prompts of one length, given and not scored.
        texts: B lists of at least one id, end of text among them where the model wrote it.
        n_samples: S.
        temperature: the logits of every draw are divided by it.

    Raises:
        ValueError: a text that the decoder has no positions for; a model whose output is no number.
    """
    if not texts:
        return []
    # one pass of the decoder over all texts
    device, n_prompt = memory.device, len(prompts[0])
    read = [torch.tensor([*p, *text[:-1]]) for p, text in zip(prompts, texts, strict=True)]
    tokens = nn.utils.rnn.pad_sequence(read, batch_first=True).to(device)
    hidden = states(decoder, tokens.repeat(n_samples, 1), memory, memory_lengths)
    hidden = hidden.unflatten(0, (n_samples, -1))[:, :, n_prompt - 1 :]  # (S, B, L, n_state)
    # only real positions, side by side
    lengths = torch.tensor([len(text) for text in texts])
    real = (torch.arange(hidden.shape[2]) < lengths.unsqueeze(1)).to(device)
    hidden = hidden[:, real]  # (S, positions of all texts, n_state)
    ids = torch.tensor([token for text in texts for token in text], device=device)
    # logits of a few positions at a time
    at_once = max(1, CHUNK // (n_samples * decoder.token_embedding.weight.shape[0]))
    parts = [
        _score(logits_of(decoder, part), some, temperature)
        for part, some in zip(hidden.split(at_once, dim=1), ids.split(at_once), strict=True)
    ]
    figures = torch.cat(parts, dim=1).double().cpu().numpy()
    if not np.isfinite(figures).all():
        raise ValueError(
            "a log probability is not finite; check the checkpoint and the audio, and use float32"
        )
    cuts = np.split(figures, np.cumsum(lengths.numpy())[:-1], axis=1)
    return [TokenScores(tuple(text), *cut) for text, cut in zip(texts, cuts, strict=True)]


def word_confidences(
    vocabulary: Vocabulary, scores: TokenScores, split: Split, word_confidence: str = "product"
) -> list[WordConfidence]:
    """Return the words of a scored text with their confidences.

    A token counts for every word that it has a byte of; see `word_spans`.

    Args:
        vocabulary: the vocabulary.
        scores: of a text.
        split: text to words, `espnet_blora.text.tokens.mixed_tokens` for example.
        word_confidence: one of `COMBINE`.

    Raises:
        ValueError: a split that changes the words.
    """
    combine = COMBINE[word_confidence]
    return [
        WordConfidence(word, math.exp(combine(scores.log_prob[first:last])))
        for word, first, last in word_spans(vocabulary, scores.ids, split)
    ]


def text_nll(
    encoder: AudioEncoder,
    decoder: TextDecoder,
    wave: Tensor,
    prompt: Sequence[int],
    text: Sequence[int],
    eot: int,
    pad_to: str = "batch",
    sampler: torch.Generator | None = None,
) -> tuple[Tensor, int]:
    """Return -log p(text and end of text | wave, prompt) in nats, 0-dim, and how many tokens.

    Args:
        encoder: a `whisper.model.AudioEncoder`.
        decoder: a `whisper.model.TextDecoder`.
        wave: (S,) samples at 16 kHz.
        prompt: ids that are given, not predicted.
        text: text ids.
        eot: id of end of text, which is predicted too.
        pad_to: `batch` or `30s`.
        sampler: if given, the log likelihood is of tokens drawn from the model, each after the
            text so far, instead of the text's own.

    Raises:
        ValueError: a wave longer than 30 s, or more ids than the decoder has positions.
    """
    device = decoder.token_embedding.weight.device
    lengths = torch.tensor([len(wave)], device=device)
    memory, memory_lengths = encode(encoder, wave.to(device).unsqueeze(0), lengths, pad_to)
    read = torch.tensor([[*prompt, *text]], device=device)
    logits = forward(decoder, read, memory, memory_lengths)[0, len(prompt) - 1 :]
    target = torch.tensor([*text, eot], device=device)
    if sampler is not None:
        chances = logits.detach().softmax(-1).to(sampler.device)
        target = torch.multinomial(chances, 1, generator=sampler).squeeze(1).to(device)
    return nn.functional.cross_entropy(logits, target, reduction="sum"), len(target)


def _score(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """Logits (S, P, n_vocab) and P ids -> (3, P): log p(id), H[p] and the mean of H[p_s]."""
    each = torch.log_softmax(logits / temperature, dim=-1)
    if len(each) == 1:
        mean, data = each[0], _entropy(each[0])
        total = data
    else:
        mean = each.logsumexp(0) - math.log(len(each))
        total, data = _entropy(mean), _entropy(each).mean(0)
    chosen = mean.gather(1, ids.unsqueeze(1)).squeeze(1).clamp_max(0.0)  # rounding may leave more
    return torch.stack([chosen, total, data])


def _entropy(log_prob: Tensor) -> Tensor:
    """(..., n_vocab) -> (...), nats."""
    return -(log_prob.exp() * log_prob).sum(-1)
