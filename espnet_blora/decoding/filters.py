"""Filters of a search: they set the logits of forbidden tokens to -inf before the softmax.

A filter is called with `logits` (N, n_vocab) fp32, which it changes in place, and `texts`
(N, step) int64 on the CPU, the ids chosen since the prompt: step 0 at the first call. Rules and
option names are openai-whisper's (`whisper/decoding.py`), the n-gram rule HF transformers'
`no_repeat_ngram_size`. All of them work on the whole batch at once, and what depends on texts
alone is decided on the CPU, without waiting for an accelerator.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.search import Filter
from espnet_blora.whisper.vocabulary import Vocabulary

NEVER = -torch.inf


class Suppress:
    """These ids never."""

    def __init__(self, ids: Iterable[int]):
        """Take the ids that are forbidden."""
        self.ids = torch.tensor(sorted(set(ids)), dtype=torch.int64)

    def __call__(self, logits: Tensor, texts: Tensor) -> None:
        """Set the columns of the ids to -inf."""
        if self.ids.device != logits.device:
            self.ids = self.ids.to(logits.device)
        logits.index_fill_(1, self.ids, NEVER)


class SuppressBlank(Suppress):
    """No blank and no end of text as the first token."""

    def __init__(self, vocabulary: Vocabulary):
        """Take the vocabulary."""
        super().__init__([*vocabulary.encode(" "), vocabulary.eot])

    def __call__(self, logits: Tensor, texts: Tensor) -> None:
        """Set blank and end of text to -inf at step 0."""
        if texts.shape[1] == 0:
            super().__call__(logits, texts)


class MinTokens(Suppress):
    """No end of text before a number of tokens."""

    def __init__(self, count: int, eot: int):
        """Take the least number of tokens, and the id of end of text."""
        super().__init__([eot])
        self.count = count

    def __call__(self, logits: Tensor, texts: Tensor) -> None:
        """Set end of text to -inf while a text is shorter."""
        if texts.shape[1] < self.count:
            super().__call__(logits, texts)


class NoRepeatNgram:
    """No n-gram of tokens twice in a text (the prompt does not count)."""

    def __init__(self, size: int):
        """Take n, at least 1."""
        self.size = size

    def __call__(self, logits: Tensor, texts: Tensor) -> None:
        """Set to -inf whatever followed an earlier occurrence of the last n - 1 tokens."""
        if texts.shape[1] < self.size:
            return
        ngrams = texts.unfold(1, self.size, 1)  # (N, step - n + 1, n)
        last = texts[:, texts.shape[1] - self.size + 1 :]
        met = (ngrams[..., :-1] == last.unsqueeze(1)).all(-1)
        rows, places = met.nonzero(as_tuple=True)
        if len(rows):
            banned = ngrams[rows, places, -1]
            logits[rows.to(logits.device), banned.to(logits.device)] = NEVER


def suppressed(vocabulary: Vocabulary, suppress_tokens: str) -> list[int]:
    """Return the ids that openai-whisper suppresses for its option `suppress_tokens`.

    Args:
        vocabulary: the vocabulary.
        suppress_tokens: ids with commas between them; -1 stands for the symbols that are not spoken
            (brackets, notes, quotes: `Tokenizer.non_speech_tokens`). The tokens that stand in
            prompts only (start, task, previous text, no speech) are added, except where there is
            nothing to suppress: "".

    Raises:
        ValueError: an id that this vocabulary lacks.
    """
    allowed = (
        f"ids from 0 to {vocabulary.n_vocab - 1}, with commas between them; -1 for the symbols "
        'that are not spoken; "" for none'
    )
    if not suppress_tokens.strip():
        return []
    try:
        ids = {int(part) for part in suppress_tokens.split(",")}
    except ValueError as error:
        raise ValueError(f"suppress_tokens {suppress_tokens!r}; allowed: {allowed}") from error
    if wrong := sorted(i for i in ids if not -1 <= i < vocabulary.n_vocab):
        raise ValueError(
            f"suppress_tokens: {', '.join(map(str, wrong))} not in {vocabulary.stamp}; "
            f"allowed: {allowed}"
        )
    tokenizer = vocabulary.tokenizer
    if -1 in ids:
        ids = (ids - {-1}) | set(tokenizer.non_speech_tokens)
    ids |= {vocabulary.transcribe, vocabulary.translate, vocabulary.sot}
    return sorted(ids | {tokenizer.sot_prev, tokenizer.sot_lm, tokenizer.no_speech})


def build_filters(vocabulary: Vocabulary, options: DecodingOptions) -> list[Filter]:
    """Return the filters of a user's options.

    Args:
        vocabulary: Of the model.
        options: `suppress_tokens`, `suppress_blank`, `min_tokens` and `no_repeat_ngram_size` count;
            the first two are openai-whisper's under rule `whisper` unless they are given.

    Raises:
        ValueError: An option out of its range; the message says what is allowed.
    """
    as_whisper = options.rule == "whisper"
    blank, tokens = options.suppress_blank, options.suppress_tokens
    filters: list[Filter] = []
    if as_whisper if blank is None else blank:
        filters.append(SuppressBlank(vocabulary))
    if ids := suppressed(vocabulary, ("-1" if as_whisper else "") if tokens is None else tokens):
        filters.append(Suppress(ids))
    if options.min_tokens:
        filters.append(MinTokens(options.min_tokens, vocabulary.eot))
    if options.no_repeat_ngram_size:
        filters.append(NoRepeatNgram(options.no_repeat_ngram_size))
    return filters
