"""Decoding of whole sets: batches of about one length, by the posterior's mean or by its draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import batched

import torch
from torch import Tensor

from espnet_blora.decoding.beam import Hypothesis
from espnet_blora.decoding.confidence import (
    TokenScores,
    WordConfidence,
    token_scores,
    word_confidences,
)
from espnet_blora.decoding.filters import build_filters
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.decoding.search import Filter, search
from espnet_blora.text.tokens import mixed_tokens
from espnet_blora.whisper.encoder import encode


@dataclass(frozen=True, eq=False)
class Recognition:
    """One utterance: the best text found, and how far it is to be believed.

    Attributes:
        text: words with one blank between, as ESPnet writes it.
        words: each with its confidence.
        scores: of the tokens, end of text among them where it came by itself.
        hypothesis: what the search found.
    """

    text: str
    words: tuple[WordConfidence, ...]
    scores: TokenScores
    hypothesis: Hypothesis

    def as_json(self, utterance: str) -> dict:
        """Return a line of `words.jsonl`.

        Confidences are probabilities, uncertainties nats per token; `tokens` is their number.
        """
        return {
            "utterance": utterance,
            "text": self.text,
            "words": [asdict(word) for word in self.words],
            "confidence": self.scores.confidence,
            **self.scores.mean_uncertainty(),
            "tokens": len(self.scores.ids),
        }


def pad(waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Waves of unequal length -> (B, S) zero-padded and their lengths (B,)."""
    lengths = torch.tensor([len(wave) for wave in waves])
    return torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True), lengths


def by_length(
    waves: Mapping[str, Tensor], prompts: Mapping[str, Sequence[int]], batch_size: int
) -> Iterator[list[str]]:
    """Yield batches of ids: prompts of one length, waves of about one length, longest first.

    The longest first, so that memory that does not suffice is known at once.

    Raises:
        ValueError: an utterance without prompt.
    """
    missing = sorted(set(waves) - set(prompts))
    if missing:
        raise ValueError(f"no prompt (language) for {len(missing)} utterances, first {missing[0]}")
    groups: dict[int, list[str]] = {}
    for uid in sorted(waves, key=lambda uid: (-len(waves[uid]), uid)):
        groups.setdefault(len(prompts[uid]), []).append(uid)
    for ids in groups.values():
        yield from map(list, batched(ids, batch_size))


@torch.inference_mode()
def encode_batch(
    recogniser: Recogniser, waves: Sequence[Tensor], names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Waves of at most 30 s, each (S_i,) -> memory (B, T', n_state) and lengths (B,).

    Raises:
        ValueError: a wave over 30 s; an output that is not finite, naming the utterance.
    """
    wave, lengths = pad(waves)
    device = recogniser.device
    memory, lengths = encode(
        recogniser.encoder, wave.to(device), lengths.to(device), recogniser.pad_to
    )
    check_finite(memory, names)
    return memory, lengths


def check_finite(memory: Tensor, names: Sequence[str]) -> None:
    """Check what the encoder made of a batch, (B, T', n_state).

    Raises:
        ValueError: It holds NaN or infinite numbers; names the utterance.
    """
    finite = torch.isfinite(memory).flatten(1).all(1).tolist()
    bad = [name for name, good in zip(names, finite, strict=True) if not good]
    if bad:
        raise ValueError(
            f"utterance {bad[0]}: the encoder's output is not finite; check the audio and the "
            "checkpoint, and use float32"
        )


def too_large(name: str, wave: Tensor, device: torch.device | str) -> RuntimeError:
    """Return the error of an utterance that does not fit the memory by itself."""
    return RuntimeError(
        f"utterance {name} ({len(wave)} samples) does not fit the memory of {device} even alone; "
        "lower beam_size or decode on the CPU"
    )


def decode(
    recogniser: Recogniser,
    waves: Mapping[str, Tensor],
    prompts: Mapping[str, Sequence[int]],
    options: DecodingOptions | None = None,
) -> dict[str, list[Hypothesis]]:
    """Find the texts of a set; neither order nor batch size changes them.

    A batch that does not fit the accelerator's memory is halved and tried again.

    Args:
        recogniser: The opened model.
        waves: Utterance id -> (S,) samples at 16 kHz, fp32, at most 30 s.
        prompts: Utterance id -> prompt ids.
        options: How to search.

    Returns:
        Utterance id -> hypotheses, best first, in the order of `waves`.

    Raises:
        ValueError: An utterance over 30 s or without prompt; a model whose output is not a number.
        RuntimeError: An utterance that does not fit the memory even alone.
    """
    options = options or DecodingOptions()
    filters = build_filters(recogniser.vocabulary, options)
    nbest: dict[str, list[Hypothesis]] = {}
    waiting = list(by_length(waves, prompts, options.batch_size))[::-1]
    while waiting:
        ids = waiting.pop()
        try:
            texts = _decode_batch(recogniser, waves, prompts, ids, options, filters)
        except torch.OutOfMemoryError as error:
            if len(ids) == 1:
                raise too_large(ids[0], waves[ids[0]], recogniser.device) from error
            half = (len(ids) + 1) // 2
            waiting += [ids[half:], ids[:half]]
            continue
        except ValueError as error:
            error.add_note(f"while decoding the utterances {', '.join(ids)}")
            raise
        nbest.update(zip(ids, texts, strict=True))
    return {uid: nbest[uid] for uid in waves}


def _decode_batch(
    recogniser: Recogniser,
    waves: Mapping[str, Tensor],
    prompts: Mapping[str, Sequence[int]],
    ids: Sequence[str],
    options: DecodingOptions,
    filters: Sequence[Filter],
) -> list[list[Hypothesis]]:
    """Search one batch; a function of its own, so that nothing of a failed one stays in memory."""
    memory, lengths = encode_batch(recogniser, [waves[uid] for uid in ids], ids)
    given = [prompts[uid] for uid in ids]
    return search(
        recogniser.decoder, memory, lengths, given, recogniser.vocabulary.eot, options, filters
    )


def drawing(recogniser: Recogniser, options: DecodingOptions) -> AbstractContextManager:
    """Return a context in which the adapter computes with the draws that the options ask for.

    Raises:
        ValueError: Draws from a model without a posterior, or from a merged one.
    """
    if not options.samples:
        return nullcontext()
    adapter = recogniser.adapter
    if adapter is None or not adapter.bayesian:
        raise ValueError(
            f"{recogniser.name}: {options.samples} samples of a posterior, but this model has "
            "none: open one of a Bayesian method (blora) with merge=False"
        )
    return adapter.sampling_batch(options.samples, options.seed, options.spread)


def best_texts(
    recogniser: Recogniser,
    memory: Tensor,
    lengths: Tensor,
    prompts: Sequence[Sequence[int]],
    options: DecodingOptions,
    filters: Sequence[Filter],
) -> tuple[list[Hypothesis], list[tuple[int, ...]]]:
    """Search a batch inside `drawing`; return its best hypotheses, and their ids to be scored.

    Args:
        recogniser: The opened model.
        memory: Encoder output, (S * B, T', n_state), sample-major.
        lengths: Real positions of each row, (S * B,).
        prompts: B prompts of one length.
        options: How to search.
        filters: What may not be said.
    """
    eot, no_speech = recogniser.vocabulary.eot, recogniser.vocabulary.tokenizer.no_speech
    n = options.samples or 1
    nbest = search(
        recogniser.decoder, memory, lengths, prompts, eot, options, filters, n, no_speech
    )
    best = [hypotheses[0] if hypotheses else Hypothesis((), 0.0, True) for hypotheses in nbest]
    # a text that was cut off has no end to be sure of
    return best, [(*h.ids, eot) if h.ended or not h.ids else h.ids for h in best]


def decode_posterior(
    recogniser: Recogniser,
    waves: Mapping[str, Tensor],
    prompts: Mapping[str, Sequence[int]],
    options: DecodingOptions | None = None,
    temperatures: Sequence[float] = (1.0,),
) -> dict[float, dict[str, Recognition]]:
    """Find the texts of a set and score them; neither order nor batch size changes anything.

    With S draws the search averages their probabilities at every step, and all utterances see the
    same draws: S rows are encoded and searched for each.

    Args:
        recogniser: The opened model; with `merge=False` for draws.
        waves: Utterance id -> (n,) samples at 16 kHz, fp32, at most 30 s.
        prompts: Utterance id -> prompt ids.
        options: How to search; the best hypothesis is scored. `samples`, `seed` and `spread` say
            which draws (0: the posterior's mean).
        temperatures: The texts are scored at each of them (they are found at 1).

    Returns:
        Temperature -> utterance id -> what was recognised, in the order of `waves`.

    Raises:
        ValueError: Draws from a model without posterior or from a merged one; an utterance over
            30 s or without prompt; a model whose output is not a number.
    """
    options = options or DecodingOptions()
    filters = build_filters(recogniser.vocabulary, options)
    n, vocabulary = options.samples or 1, recogniser.vocabulary
    recognised: dict[float, dict[str, Recognition]] = {t: {} for t in temperatures}
    with drawing(recogniser, options):
        for ids in by_length(waves, prompts, options.batch_size):
            # one search over all draws
            given = [prompts[uid] for uid in ids]
            memory, lengths = encode_batch(recogniser, [waves[uid] for uid in ids] * n, ids * n)
            best, tokens = best_texts(recogniser, memory, lengths, given, options, filters)
            # the texts found, scored at each temperature
            for t, results in recognised.items():
                scored = token_scores(recogniser.decoder, memory, lengths, given, tokens, n, t)
                for uid, hypothesis, scores in zip(ids, best, scored, strict=True):
                    words = word_confidences(
                        vocabulary, scores, mixed_tokens, options.word_confidence
                    )
                    text = vocabulary.line(hypothesis.ids)
                    results[uid] = Recognition(text, tuple(words), scores, hypothesis)
    return {t: {uid: results[uid] for uid in waves} for t, results in recognised.items()}
