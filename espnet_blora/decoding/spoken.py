"""From the tokens of a piece of audio to its words, and from words to segments."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from espnet_blora.decoding.confidence import WordConfidence
from espnet_blora.decoding.segments import into_segments
from espnet_blora.decoding.timing import WordTime
from espnet_blora.decoding.transcript import Segment, Word
from espnet_blora.decoding.words import Split, word_spans
from espnet_blora.whisper.vocabulary import Layout

_OPENING = ("Ps", "Pi")


def with_punctuation(split: Split) -> Split:
    """Make a split that leaves punctuation at its neighbour: "(" at what follows, "," before it."""

    def divided(text: str) -> list[str]:
        spans: list[tuple[int, int]] = []
        end, waiting = 0, None  # where punctuation began that waits for the next word
        for token in split(text):
            begin = text.index(token, end)
            end = begin + len(token)
            if any(char.isalnum() for char in token):
                spans.append((begin if waiting is None else waiting, end))
                waiting = None
            elif spans and waiting is None and unicodedata.category(token[0]) not in _OPENING:
                spans[-1] = spans[-1][0], end
            elif waiting is None:
                waiting = begin
        if waiting is not None:
            spans[-1:] = [(spans[-1][0] if spans else waiting, end)]
        return [text[begin:end] for begin, end in spans]

    return divided


def spoken_words(
    text: str,
    times: Sequence[WordTime] | None,
    confidences: Sequence[WordConfidence] | None,
    begin: float = 0.0,
) -> list[Word]:
    """The words of a piece with all that is known of them, each with the blank before it.

    Args:
        text: of the piece (NFC).
        times: of its words, in seconds from the piece's beginning; or None.
        confidences: of the same words; or None.
        begin: of the piece, in seconds.
    """
    found, end = [], 0
    for number, known in enumerate(times if times is not None else confidences or ()):
        at = text.index(known.word, end)
        blank = " " if at > end else ""
        end = at + len(known.word)
        word = Word(blank + known.word)
        if times is not None:
            word = replace(
                word,
                start=begin + times[number].start,
                end=begin + times[number].end,
                probability=times[number].probability,
            )
        if confidences is not None:
            word = replace(word, confidence=confidences[number].confidence)
        found.append(word)
    return found


def divided(whole: Segment, words: Sequence[Word], layout: Layout, split: Split) -> list[Segment]:
    """Cut a piece's segment where its words (with times) say; tokens go where their word begins."""
    if not words:
        return [replace(whole, words=())]
    firsts = [first for _, first, _ in word_spans(layout, whole.tokens, split)]
    groups = into_segments(words)
    counts, places = 0, []
    for group in groups:
        places.append(firsts[counts])
        counts += len(group)
    bounds = [0, *places[1:], len(whole.tokens)]
    return [
        replace(
            whole,
            start=group[0].start,
            end=group[-1].end,
            text="".join(word.word for word in group),
            tokens=whole.tokens[first:last],
            words=tuple(group),
        )
        for group, (first, last) in zip(groups, pairwise(bounds), strict=True)
    ]
