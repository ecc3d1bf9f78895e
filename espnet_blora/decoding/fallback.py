"""Fallback: whether a text is to be believed, and what is tried where it is not.

As openai-whisper's `transcribe`: a text that repeats itself or is improbable is sampled again at
rising temperatures. Where none is believed, the one that does not repeat itself, and of several the
most probable one, is taken; openai-whisper takes the last, at temperature 1, which for a small
model is the worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from whisper.utils import compression_ratio

from espnet_blora.decoding.batch import best_texts
from espnet_blora.decoding.beam import Hypothesis
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.decoding.search import Filter

FORGETS = 0.5
"""Temperature above which a text is no prompt for the next piece, openai-whisper's figure."""


@dataclass(frozen=True)
class Try:
    """A text that was found at a temperature.

    Attributes:
        temperature: 0 of the search's best.
        hypothesis: What was found.
        tokens: Its tokens to be scored, end of text among them where it came by itself.
        text: Its text.
        logprob: Of all its tokens, in nats, end of text included where it came by itself.
    """

    temperature: float
    hypothesis: Hypothesis
    tokens: tuple[int, ...]
    text: str
    logprob: float

    @property
    def avg_logprob(self) -> float:
        """Nats per token, end of text included."""
        return self.logprob / (len(self.hypothesis.ids) + 1)

    @property
    def no_speech_prob(self) -> float:
        """Probability that nobody speaks."""
        return self.hypothesis.no_speech_prob

    @property
    def compression_ratio(self) -> float:
        """How many times shorter zlib makes the text."""
        return compression_ratio(self.text.strip())

    def improbable(self, options: DecodingOptions) -> bool:
        """Tell whether the text is less probable than is allowed."""
        return self.avg_logprob < options.logprob_threshold

    def repeats(self, options: DecodingOptions) -> bool:
        """Tell whether the text repeats itself more than is allowed."""
        return self.compression_ratio > options.compression_ratio_threshold

    def silent(self, options: DecodingOptions) -> bool:
        """Tell whether this is silence that was taken for speech."""
        return self.improbable(options) and self.no_speech_prob > options.no_speech_threshold

    def doubtful(self, options: DecodingOptions) -> bool:
        """Tell whether another temperature is to be tried."""
        doubts = self.improbable(options) or self.repeats(options)
        return doubts and not self.silent(options)


def temperatures(options: DecodingOptions) -> list[float]:
    """Return the temperatures to be tried, in order.

    >>> temperatures(DecodingOptions())
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    first, step = options.temperature, options.temperature_increment_on_fallback
    more = int((1 - first) / step + 1e-6) if step else 0
    return [round(first + number * step, 6) for number in range(more + 1)]


def find_texts(
    recogniser: Recogniser,
    encoded: tuple[Tensor, Tensor],
    prompts: Sequence[Sequence[int]],
    options: DecodingOptions,
    filters: Sequence[Filter],
) -> list[Try]:
    """Search a batch inside `drawing`, and what is doubtful again at higher temperatures.

    Args:
        recogniser: As of `best_texts`, like all others.
        encoded: Memory (S * B, T', n_state) and lengths (S * B,).
        prompts: B of them.
        options: How to search, and what is doubtful.
        filters: Of the search.

    Returns:
        What is taken of each utterance.
    """
    memory, lengths = encoded
    vocabulary, n_samples, n = recogniser.vocabulary, options.samples or 1, len(prompts)
    tries: list[list[Try]] = [[] for _ in prompts]
    waiting = list(range(n))
    for temperature in temperatures(options):
        how = replace(options, temperature=temperature)
        if temperature:  # one text is drawn
            how = replace(how, beam_size=1, patience=1.0)
        rows = [sample * n + row for sample in range(n_samples) for row in waiting]
        all_rows = len(waiting) == n
        best, tokens = best_texts(
            recogniser,
            memory if all_rows else memory[rows],
            lengths if all_rows else lengths[rows],
            [prompts[row] for row in waiting],
            how,
            filters,
        )
        for row, found, ids in zip(waiting, best, tokens, strict=True):
            text = vocabulary.decode(found.ids)
            added = how.penalty * (len(found.ids) + found.ended) if how.rule == "espnet" else 0.0
            tries[row].append(Try(temperature, found, ids, text, found.score - added))
        waiting = [row for row in waiting if tries[row][-1].doubtful(options)]
        if not waiting:
            break
    return [_taken(each, options) for each in tries]


def _taken(tries: Sequence[Try], options: DecodingOptions) -> Try:
    """Return the try that is believed, else the best of those that are not."""
    if not tries[-1].doubtful(options):
        return tries[-1]
    return max(tries, key=lambda one: (not one.repeats(options), one.avg_logprob))
