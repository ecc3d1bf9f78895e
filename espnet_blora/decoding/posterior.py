"""Recognise with draws from an adapter's posterior, or with its mean, and say how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from espnet_blora.decoding.batch import by_length, encode_batch
from espnet_blora.decoding.beam import Hypothesis, SearchOptions
from espnet_blora.decoding.confidence import (
    TokenScores,
    WordConfidence,
    token_scores,
    word_confidences,
)
from espnet_blora.decoding.search import Filter, search
from espnet_blora.decoding.words import Split

if TYPE_CHECKING:
    from espnet_blora.decoding.recogniser import Recogniser


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
        """Return a line of `words.jsonl`: confidences are probabilities, uncertainties nats a
        token, `tokens` their number."""
        return {
            "utterance": utterance,
            "text": self.text,
            "words": [asdict(word) for word in self.words],
            "confidence": self.scores.confidence,
            **self.scores.mean_uncertainty(),
            "tokens": len(self.scores.ids),
        }


def decode_posterior(
    recogniser: Recogniser,
    waves: Mapping[str, Tensor],
    prompts: Mapping[str, Sequence[int]],
    split: Split,
    options: SearchOptions | None = None,
    samples: int = 0,
    seed: int = 0,
    temperatures: Sequence[float] = (1.0,),
    rule: str = "product",
    filters: Sequence[Filter] = (),
    batch_size: int = 16,
    spread: float = 1.0,
) -> dict[float, dict[str, Recognition]]:
    """Find the texts of a set and score them; neither order nor batch size changes anything.

    With S draws the search averages their probabilities at every step, and all utterances see the
    same draws: S rows are encoded and searched for each.

    Args:
        recogniser: the opened model; with `merge=False` for draws.
        waves: utterance id -> (n,) samples at 16 kHz, fp32, at most 30 s.
        prompts: utterance id -> prompt ids.
        split: text to words, whose confidences are wanted.
        options: how to search; the best hypothesis is scored.
        samples: S, draws from the posterior; 0: its mean.
        seed: of the draws.
        temperatures: the texts are scored at each of them (they are found at 1).
        rule: how a word's confidence comes from its tokens', see `confidence.RULES`.
        filters: what the search may not say.
        batch_size: utterances at once, with S rows each.
        spread: factor on the posterior's scales.

    Returns:
        Temperature -> utterance id -> what was recognised, in the order of `waves`.

    Raises:
        ValueError: draws from a model without posterior or with a merged one; an utterance over
            30 s or without prompt; a model whose output is no number.
    """
    if samples and recogniser.adapter is None:
        raise ValueError(
            f"{recogniser.name}: {samples} samples of a posterior, but this model has no adapter "
            "layers: open one of a Bayesian method (blora) with merge=False"
        )
    drawing = recogniser.adapter.sampling_batch(samples, seed, spread) if samples else nullcontext()
    n, layout = max(samples, 1), recogniser.layout
    found: dict[float, dict[str, Recognition]] = {t: {} for t in temperatures}
    with drawing:
        for ids in by_length(waves, prompts, batch_size):
            given = [prompts[uid] for uid in ids]
            memory, lengths = encode_batch(recogniser, [waves[uid] for uid in ids] * n, ids * n)
            hypotheses = [
                best[0] if best else Hypothesis((), 0.0, True)
                for best in search(
                    recogniser.decoder, memory, lengths, given, layout.eot, options, filters, n
                )
            ]
            said = [
                (*h.ids, layout.eot) if h.ended or not h.ids else h.ids for h in hypotheses
            ]  # a text that was cut off has no end to be sure of
            for t, of in found.items():
                scored = token_scores(recogniser.decoder, memory, lengths, given, said, n, t)
                for uid, hypothesis, scores in zip(ids, hypotheses, scored, strict=True):
                    text = " ".join(layout.decode(hypothesis.ids).split())
                    words = tuple(word_confidences(layout, scores, split, rule))
                    of[uid] = Recognition(text, words, scores, hypothesis)
    return {t: {uid: of[uid] for uid in waves} for t, of in found.items()}
